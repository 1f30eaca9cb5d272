"""MMASleepNet on the native ops against plain PyTorch: forward and training step, interleaved.

One process, the two in turn, medians and the ratio of the medians. `python benches/mmasleepnet.py`
writes benches/results/mmasleepnet.json and .md.
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import provenance
import torch

from sleeptools import native, store
from sleeptools.models.mmasleepnet import Config, Model

RESULTS = Path(__file__).parent / "results"
CASES = [(1, 60), (32, 16), (256, 6)]  # batch, turns
TRAINING = (128, 5)


def forward(model: Model, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return run


def training_step(model: Model, x: torch.Tensor) -> Callable[[], object]:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    stages = torch.randint(5, (len(x),))

    def run() -> object:
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), stages)
        loss.backward()
        optimiser.step()
        return loss

    return run


def step_without_dropout(model: Model, x: torch.Tensor) -> Callable[[], object]:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    return training_step(model, x)


def in_turn(run: Callable[[], object], turns: int, variant: str) -> dict[str, float]:
    """Median seconds of plain PyTorch and of the native variant."""
    taken: dict[str, list[float]] = {"reference": [], variant: []}
    for turn in range(turns + 1):
        for name, times in taken.items():
            native.set_variant(name)
            begun = time.perf_counter()
            run()
            if turn:  # the first warms up
                times.append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


def measure(variant: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = Model(Config())
        jobs = [("forward", b, turns, forward) for b, turns in CASES]
        jobs.append(("training step", *TRAINING, training_step))
        jobs.append(("training step without dropout", *TRAINING, step_without_dropout))
        for what, batch, turns, make in jobs:
            model.train(what.startswith("training"))
            x = 20 * torch.randn(batch, 4, 3000)
            found = in_turn(make(model, x), turns, variant)
            rows.append(
                {
                    "what": what, "threads": threads, "batch": batch,
                    "eager_ms": round(1e3 * found["reference"], 3),
                    "native_ms": round(1e3 * found[variant], 3),
                    "ratio": round(found["reference"] / found[variant], 2),
                    "native_epochs_per_second": round(batch / found[variant]),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def markdown(report: dict) -> str:
    lines = [
        "# MMASleepNet, native against plain PyTorch", "",
        f"float32, variant {report['variant']}, {report['machine']}, {report['commit']}; one "
        f"process, in turn, medians; load {report['load']} at the start. The last "
        "training step is without dropout, whose generator costs PyTorch much of the first.", "",
        "| | threads | batch | eager, ms | native, ms | ratio | epochs/s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['what']} | {r['threads']} | {r['batch']} | {r['eager_ms']:.2f} | "
            f"{r['native_ms']:.2f} | {r['ratio']:.2f} | {r['native_epochs_per_second']} |"
            for r in report["rows"]
        ), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    variant = native.variants()[-1]
    report = {
        "commit": provenance.commit(), "machine": provenance.machine("torch"),
        "variant": variant, "load": round(os.getloadavg()[0], 2), "rows": measure(variant),
    }  # fmt: skip
    store.write_json(RESULTS / "mmasleepnet.json", report)
    store.write_text(RESULTS / "mmasleepnet.md", markdown(report))


if __name__ == "__main__":
    main()
