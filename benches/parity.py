"""Compare the stages of the native engine with those of PyTorch in double, over simulated nights.

`python benches/parity.py [MODEL ...]` takes all models that have native inference if none is named,
and writes benches/results/parity.json and .md. The models have random weights, the statistics that
training would settle on, and a last layer that is scaled and shifted until all stages occur: most
epochs lie closer to another stage than a trained model's do.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from instruments import contenders, material, provenance
from instruments.timing import Values, table
from sleeptools import native, registry, store
from sleeptools.inference.engine import Engine

RESULTS = Path(__file__).parent / "results"
GAIN = 2.0  # standard deviation of a stage's logits
CHUNK = 8  # windows at a time, of single epochs as many as a sequence has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.names("networks"))
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=960, help="of a night")
    parser.add_argument("--hours", type=float, default=8.5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    path, rows = options.out / "parity", []
    for name in options.models:
        for row in compare(name, options):
            rows.append(row)
            print(row, flush=True)
        report = {**provenance.facts("torch", "numpy"), "nights": options.nights, "rows": rows}
        store.write_json(path.with_suffix(".json"), report)
        store.write_text(path.with_suffix(".md"), markdown(report))


def compare(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Score all nights both ways: a row for each precision that the engine has here."""
    network = material.model(name)
    spread(network)
    double = copy.deepcopy(network).double()
    folder = contenders.model_folder(network)
    engines = {p: Engine.load(folder, precision=p) for p in native.PRECISIONS}
    used = {p: engine for p, engine in engines.items() if engine.precision == p}
    rows = {p: {"model": name, "precision": p, "epochs": 0, "same": 0, "error": 0.0} for p in used}
    stages: set[int] = set()
    for subject in range(1, options.nights + 1):
        x = windows(material.night(subject, options.hours), network, options.epochs)
        for start in range(0, len(x), CHUNK):
            chunk = x[start : start + CHUNK]
            expected = in_double(double, chunk)
            stages |= set(expected.argmax(-1).ravel().tolist())
            for p, engine in used.items():
                density = engine.network(chunk)
                rows[p]["epochs"] += expected[..., 0].size
                rows[p]["same"] += int((density.argmax(-1) == expected.argmax(-1)).sum())
                error = float(np.abs(density - expected).max())
                rows[p]["error"] = max(rows[p]["error"], error)
    for row in rows.values():
        row["stages"] = len(stages)
    return list(rows.values())


def windows(night: Values, network: nn.Module, count: int) -> Values:
    """Cut the first epochs of a night into inputs of the network, single ones in groups."""
    x, together = material.cut(night, network)[:count], material.together(network)
    if together == 1:
        return np.ascontiguousarray(x)
    step = together if network.config.input_span.sequence > 1 else 1
    starts = np.arange(0, len(x) - together + 1, step)
    return x[starts[:, None] + np.arange(together)]


def in_double(network: nn.Module, x: Values) -> Values:
    with torch.inference_mode(), native.using_variant("reference"):
        return network(torch.from_numpy(x).double()).softmax(-1).numpy()


def spread(network: nn.Module) -> None:
    """Scale and shift the last layer so that every stage is the likeliest of some epochs."""
    last = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d)][-1]
    x = torch.from_numpy(material.epochs(max(2, 128 // material.together(network)), network))
    with torch.no_grad(), native.using_variant("reference"):
        last.weight *= GAIN / network(x).flatten(0, -2).std(0).mean()
        last.bias -= network(x).flatten(0, -2).mean(0)


def markdown(report: dict[str, Any]) -> str:
    head = ["model", "precision", "epochs", "stages that occur", "same stage", "largest error"]
    rows = [
        [
            row["model"],
            row["precision"],
            f"{row['epochs']:,}",
            str(row["stages"]),
            f"{row['same'] / row['epochs']:.3%}",
            f"{row['error']:.1e}",
        ]
        for row in report["rows"]
    ]
    lines = [
        "# Native engine against PyTorch in double",
        "",
        provenance.describe(report),
        "",
        f"{report['nights']} simulated nights, weights as in benches/parity.py; the error is that "
        "of a probability.",
        "",
        *table(head, rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
