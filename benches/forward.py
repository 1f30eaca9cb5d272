"""Time the forward pass of a network at three batch sizes, beside its error.

`python benches/forward.py [MODEL ...]` takes all models that have native inference if none is
named, and writes benches/results/forward_MODEL.json and .md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from instruments import contenders, material, peak, provenance, timing
from instruments.timing import Values
from sleeptools import registry, store
from sleeptools.native.threads import set_threads

RESULTS = Path(__file__).parent / "results"
TURNS = {1: 31, 8: 15, 32: 15, 256: 7}  # of each batch size
BATCHES = [1, 32, 256]
MOST_EPOCHS = 300  # in a batch
LIBRARIES = ("torch", "onnxruntime", "openvino", "onnxscript", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.names("networks"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--turns", type=int, help="for a quick look")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in options.models:
        report = measure(name, options)
        path = options.out / f"forward_{name.replace('-', '_')}"
        store.write_json(path.with_suffix(".json"), report)
        store.write_text(path.with_suffix(".md"), markdown(report))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    facts = provenance.facts(*LIBRARIES)
    network = material.model(name)
    flops = material.flops(network)
    peaks = {threads: peak.measure(threads) for threads in options.threads}
    rows: list[dict[str, Any]] = []
    few = [batch for batch in options.batch if batch * material.together(network) <= MOST_EPOCHS]
    for threads in options.threads:
        for batch in few or [1]:
            turns = options.turns or TURNS.get(batch, 7)
            rows += race(network, batch, threads, turns, flops, peaks[threads])
            print("\n".join([name, *table(rows[-len(contenders.FORWARD) :])]), flush=True)
    return {"model": name, **facts, "flops": flops, "peaks": peaks, "rows": rows}


def race(
    network: nn.Module, batch: int, threads: int, turns: int, flops: float, peak: dict[str, float]
) -> list[dict[str, Any]]:
    """One case: a row for each contender, also for those that cannot run here."""
    torch.set_num_threads(threads)
    set_threads(threads)
    torch.compiler.reset()  # what was compiled for other shapes and threads
    x = material.epochs(batch, network)
    ready, absent = timing.prepare(contenders.FORWARD, network, x, threads)
    logits = {index: centred(case.logits(case.run())) for index, case in ready.items()}
    timings = timing.in_turn(ready, turns)
    rows = timing.rows(
        contenders.FORWARD, absent, timings, threads=threads, batch=batch, flops=flops, peak=peak
    )
    for index in ready:
        rows[index] |= agreement(logits[index], logits[0])
    return rows


def centred(logits: Values) -> Values:
    """Logits are the same up to a constant for each epoch; so may be logarithms of probability."""
    logits = logits.reshape(-1, logits.shape[-1])
    return logits - logits.mean(1, keepdims=True)


def agreement(logits: Values, reference: Values) -> dict[str, Any]:
    """Largest error relative to the largest logit, and epochs of the same stage."""
    return {
        "error": float(np.abs(logits - reference).max() / np.abs(reference).max()),
        "same_stage": int((logits.argmax(1) == reference.argmax(1)).sum()),
        "epochs": len(logits),
    }


def markdown(report: dict[str, Any]) -> str:
    lines = [
        f"# {report['model']}: forward pass",
        "",
        provenance.describe(report),
        "",
        f"One process, in turn, medians; {report['flops'] / 1e6:.1f} MFLOP per input, an epoch or "
        "a window of them, in the layers' products. " + " ".join(peak.describe(report["peaks"])),
        "Share of peak: fp32 of the FMA's; bf16 of the AVX-512 dot product's, so that more than "
        "100 % means AMX. Error: largest difference of a logit from plain PyTorch's in float32, "
        "relative to the largest logit. Cores: CPU time per wall time; "
        "below the threads, others had the machine and the times are too long.",
        "",
        *table(report["rows"]),
        "",
    ]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    head = ["threads", "batch", "", "", *timing.TIMES, "error", "same stage", "of peak"]
    return timing.table(head, [*map(cells, rows)])


def cells(row: dict[str, Any]) -> list[str]:
    start = [str(row["threads"]), str(row["batch"]), row["contender"], row["precision"]]
    if "absent" in row:
        return [*start, row["absent"], *[""] * 7]
    return [
        *start,
        *timing.time_cells(row),
        f"{row['error']:.1e}",
        f"{row['same_stage']}/{row['epochs']}",
        timing.percent(row["share_of_peak"]),
    ]


if __name__ == "__main__":
    main()
