"""Time a training step at batch 128, beside the error of its gradients.

`python benches/training.py [MODEL]` writes benches/results/training_MODEL.json and .md.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from instruments import contenders, material, peak, provenance, timing
from instruments.timing import Contender, Ready, Values
from sleeptools import native, registry, store
from sleeptools.native.threads import set_threads
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import make_optimiser

RESULTS = Path(__file__).parent / "results"
BATCH = 128
TURNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="mmasleepnet")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    facts = provenance.facts("torch", "numpy")
    network = material.model(options.model)
    flops = material.flops(network, backward=True)
    peaks = {threads: peak.measure(threads) for threads in options.threads}
    rows: list[dict[str, Any]] = []
    errors = gradient_errors(network, options.batch)
    for threads in options.threads:
        rows += race(network, options, threads, errors, flops, peaks[threads])
        print("\n".join(table(rows[-len(RACE) :])), flush=True)
    report = {
        "model": options.model,
        "batch": options.batch,
        **facts,
        "flops": flops,
        "peaks": peaks,
        "rows": rows,
    }
    name = f"training_{options.model.replace('-', '_')}"
    store.write_json(options.out / f"{name}.json", report)
    store.write_text(options.out / f"{name}.md", markdown(report))


def race(
    network: nn.Module,
    options: argparse.Namespace,
    threads: int,
    errors: dict[int, float],
    flops: float,
    peak: dict[str, float],
) -> list[dict[str, Any]]:
    """One case: a row for each contender, also for those that cannot run here."""
    torch.set_num_threads(threads)
    set_threads(threads)
    torch.compiler.reset()  # what was compiled for other threads
    ready, absent = timing.prepare(RACE, network, material.epochs(options.batch, network))
    timings = timing.in_turn(ready, options.turns)
    rows = timing.rows(
        RACE, absent, timings, threads=threads, batch=options.batch, flops=flops, peak=peak
    )
    for index in ready:
        rows[index]["error"] = errors[index]
    return rows


def gradient_errors(network: nn.Module, batch: int) -> dict[int, float]:
    """Length of a gradient's difference from plain PyTorch's, relative to its length, by index."""
    ready, _ = timing.prepare(
        RACE, material.without_dropout(network), material.epochs(batch, network)
    )
    gradients = {index: case.logits(case.run()) for index, case in ready.items()}
    length = np.linalg.norm(gradients[0])
    return {p: float(np.linalg.norm(g - gradients[0]) / length) for p, g in gradients.items()}


def step(network: nn.Module, x: Values, *, kind: str, autocast: bool) -> Ready:
    """Copy the network and give it its optimiser, by the model's recipe."""
    variant = contenders.best_variant() if kind == "native" else "reference"
    if kind == "compiled":
        contenders.need_compiler()
    trained = copy.deepcopy(network).train()
    recipe = registry.load("models", network.name).RECIPE
    optimiser = make_optimiser(list(trained.parameters()), recipe)
    weights = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    tensor = torch.from_numpy(x)
    forward = torch.compile(trained) if kind == "compiled" else trained

    def run() -> nn.Module:
        optimiser.zero_grad(set_to_none=True)
        with native.using_variant(variant):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits: Tensor = forward(tensor).flatten(0, -2)  # (epochs, stages)
            stages = torch.arange(len(logits)) % logits.shape[1]
            stage_loss(logits.float(), stages, weights, recipe.loss).backward()
        optimiser.step()
        return trained

    return Ready(run, gradient)


def gradient(network: nn.Module) -> Values:
    """All gradients of the last step in one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters()]).numpy()


RACE = [
    Contender("PyTorch eager", "fp32", partial(step, kind="eager", autocast=False)),
    Contender("PyTorch eager, autocast", "bf16", partial(step, kind="eager", autocast=True)),
    Contender("torch.compile", "fp32", partial(step, kind="compiled", autocast=False)),
    Contender("torch.compile, autocast", "bf16", partial(step, kind="compiled", autocast=True)),
    Contender("native", "fp32", partial(step, kind="native", autocast=False)),
    Contender("native, autocast", "bf16", partial(step, kind="native", autocast=True)),
]  # the first is the yardstick of all


def markdown(report: dict[str, Any]) -> str:
    lines = [
        f"# {report['model']}: training step",
        "",
        provenance.describe(report),
        "",
        f"One process, in turn, medians; forward, backward and Adam on {report['batch']} epochs, "
        f"with dropout; {report['flops'] / 1e6:.1f} MFLOP per epoch in the layers' products. "
        + " ".join(peak.describe(report["peaks"])),
        "Share of peak: fp32 of the FMA's; bf16 of the AVX-512 dot product's, so that more than "
        "100 % means AMX. Error: of the whole gradient without dropout, relative to its length. "
        "Cores: CPU time per wall time; below the threads, others had the machine and the times "
        "are too long.",
        "",
        *table(report["rows"]),
        "",
    ]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    return timing.table(["threads", "", "", *timing.TIMES, "error", "of peak"], [*map(cells, rows)])


def cells(row: dict[str, Any]) -> list[str]:
    start = [str(row["threads"]), row["contender"], row["precision"]]
    if "absent" in row:
        return [*start, row["absent"], *[""] * 6]
    return [
        *start,
        *timing.time_cells(row),
        f"{row['error']:.1e}",
        timing.percent(row["share_of_peak"]),
    ]


if __name__ == "__main__":
    main()
