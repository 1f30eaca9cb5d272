"""What each model learns in the same time, leak-free, on simulated subjects and simulated mice.

Every model gets a budget of CPU seconds on one thread for five folds together (process time, which
a busy machine hardly changes). A few steps are measured first, and the number of passes chosen that
fits the budget. Where one pass does not fit, as for SalientSleepNet and SlumberNet with
convolutions at full length, it is a pass over a random part of the training epochs that does fit.
Batch, learning rate and schedule are those of the model's recipe.

`python benches/models.py --model attnsleep` trains one model and adds its row to
benches/results/models.json and .md; without `--model`, all of them, one after the other: with the
default budget of 240 s three quarters of an hour of one core. Finished folds are kept and not
trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from instruments import provenance, timing
from sleeptools import registry, store
from sleeptools.commands import evaluate, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.commands.train import TrainOptions, train
from sleeptools.evaluation import metrics
from sleeptools.models.folder import build_model
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.sequences import Windows
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.runs.folds import LEAK_FREE
from sleeptools.training import batches
from sleeptools.training.loop import Training
from sleeptools.training.plan import make_plan
from sleeptools.training.stop import Stop

RESULTS = Path(__file__).parent / "results"
FOLDS = 5
WARM, MEASURED = 2, 3  # steps
MARGIN = 0.95  # of the budget; the last files and the epochs' checks take a little
LEAST = 0.01  # of a pass


class Kind(NamedTuple):
    """Simulated subjects, and the models that learn from them."""

    title: str
    data_set: str
    subjects: int
    hours: float
    names: dict[str, dict[str, Any]]


MICE = ("mouse-cnn", "mouse-cnn-attention", "mouse-transformer", "slumbernet")
ALONE = "spectral"  # takes one channel, and is measured by train_spectral.py
ONE_SECOND = {"sample_rate": 512.0, "epoch_seconds": 1.0}
KINDS = {
    "human": Kind(
        "People: 30-s epochs, five stages",
        "sleep-edf",
        10,
        3.0,
        {name: {} for name in registry.names("models") if name not in (*MICE, ALONE)},
    ),
    "mouse": Kind(
        "Mice: 1-s epochs, three stages",
        "kjaerby",
        5,
        0.5,
        {name: ONE_SECOND if name == "slumbernet" else {} for name in MICE},
    ),
}


def data(kind: Kind, folder: Path) -> Path:
    """Simulate and preprocess, or take the folders of an earlier run."""
    raw = simulate(
        kind.data_set,
        folder / "raw",
        subjects=kind.subjects,
        hours=kind.hours,
        seed=provenance.HELD_OUT_SEED,
    )
    return preprocess.preprocess(presets.load(kind.data_set), raw, folder / "epochs")


def options(name: str, settings: dict[str, Any], **limits: Any) -> TrainOptions:
    return TrainOptions(
        model=name,
        folds=FOLDS,
        threads=1,
        device="cpu",
        explain=False,
        settings={"model": settings},
        **limits,
    )


class Cost(NamedTuple):
    """CPU seconds for all folds together: a pass's steps, judging it, scoring at the end."""

    steps: float
    judged: float
    scored: float


def cost(epochs: Path, name: str, settings: dict[str, Any]) -> Cost:
    with tempfile.TemporaryDirectory() as nowhere:  # nothing is written into it
        plan = make_plan(epochs, Path(nowhere), options(name, settings, passes=1000))
        tasks = list(plan.tasks())
        training = Training(tasks[0], batches.EpochSource(plan.data, torch.device("cpu")), Stop())

        def first() -> None:
            training.state.step = 0  # the last one of a pass may be short
            training.step()

        step = _seconds(first)
        epochs_timed = training.train[: min(len(training.train), 4 * batches.EVALUATED)]
        scored = _seconds(lambda: training.judge(epochs_timed), 1) / len(epochs_timed)
    steps = judged = all_scored = 0.0
    for task in tasks:
        sizes = {
            role: len(task.fold.numbers(role, plan.data.numbers_of)) for role in ("val", "test")
        }
        learned = len(plan.data) - sum(sizes.values())
        steps += step * learned * training.steps / len(training.train)
        judged += scored * sizes["val"]
        all_scored += scored * sum(sizes.values())
    return Cost(steps, judged, all_scored)


def passes(cost: Cost, budget: float) -> float:
    """Give the passes that fit: a whole number, or a part of one."""
    budget_left = MARGIN * budget - cost.scored
    complete = int(budget_left / (cost.steps + cost.judged))
    return complete or max(LEAST, (budget_left - cost.judged) / cost.steps)


def part_of_a_pass(share: float, seed: int) -> type[Training]:
    """Give a training that learns from a part of its windows of epochs, drawn by a seed."""

    class ShorterTraining(Training):
        def choose_windows(self) -> Windows:
            windows = super().choose_windows()
            count = max(1, round(share * len(windows)))
            drawn = np.random.default_rng(seed).permutation(len(windows))[:count]
            return windows.pick(np.sort(drawn))

    return ShorterTraining


def _seconds(work: Any, warm: int = WARM) -> float:
    for _ in range(warm):
        work()
    begun = time.process_time()
    for _ in range(MEASURED):
        work()
    return (time.process_time() - begun) / MEASURED


def macs(name: str, settings: dict[str, Any]) -> int:
    """Multiply-accumulates of an epoch, counted by the layers' shapes."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build_model(name, settings).train()
        config: Any = model.config
        sequence, context = config.input_span
        several = [sequence] if sequence > 1 else [1 + 2 * context] if context else []
        samples = round(config.sample_rate * config.epoch_seconds)
        model(torch.empty(2, *several, config.channels, samples))
    return counter.get_total_flops() // (2 * 2 * sequence)


def learn(epochs: Path, folder: Path, name: str, settings: dict[str, Any], row: dict) -> dict:
    """Train the missing folds of a model, and evaluate all of them."""
    if "passes" not in row:
        estimate = cost(epochs, name, settings)
        fits = passes(estimate, row["budget"])
        row |= {
            "passes": fits,
            "cost": estimate._asdict(),
            "cpu": {},
            "simulator": SIMULATOR,
            "commit": provenance.commit(),
        }
        store.write_json(folder / "row.json", row)
    complete = max(1, int(row["passes"]))
    share = min(1.0, row["passes"])
    for fold in range(FOLDS):
        if str(fold) not in row["cpu"]:
            begun = time.process_time()
            train_options = options(name, settings, fold=fold, passes=complete)
            train(epochs, folder / "run", train_options, trainer=part_of_a_pass(share, fold))
            row["cpu"][str(fold)] = time.process_time() - begun
            store.write_json(folder / "row.json", row)
            print(f"{name}: fold {fold}, {row['passes']:.3g} passes, {row['cpu'][str(fold)]:.0f} s")
    evaluation = evaluate.evaluate(folder / "run")
    pooled = evaluation.pooled[LEAK_FREE].overall_metrics()
    matrix = evaluation.pooled[LEAK_FREE].summed
    recipe = evaluation.run.recipe
    return {
        "model": name,
        "settings": settings,
        "passes": row["passes"],
        "commit": row["commit"],
        "seconds": sum(row["cpu"].values()),
        "batch": recipe["batch"],
        "learning_rate": recipe["learning_rate"],
        "optimiser": recipe["optimiser"],
        "parameters": evaluation.run.facts["parameters"],
        "macs": macs(name, settings),
        **{key: pooled[key] for key in ("accuracy", "kappa", "macro_f1")},
        "f1": dict(zip(evaluation.run.stages, metrics.f1(matrix).tolist(), strict=True)),
        "epochs": int(np.sum(matrix)),
    }


def markdown(report: dict) -> str:
    measured = {r["commit"] for rows in report["rows"].values() for r in rows.values()}
    commits = ", ".join(sorted(measured))
    lines = [
        "# What each model learns in the same time",
        "",
        f"{report['budget']:g} CPU seconds a model on one thread, {FOLDS} folds by subject "
        f"together, leak-free, seed {report['seed']} of the simulator. The passes are as many as "
        "were expected to fit, and where not even one does, a pass over that part of the training "
        "epochs; batch, learning rate and schedule are the recipe's, so a model that its recipe "
        "gives a hundred passes has hardly begun. Simulated signals: this compares how fast "
        f"models learn, not how well they stage sleep. {report['machine']}; measured at {commits}.",
        "",
    ]
    for key, kind in KINDS.items():
        rows = report["rows"].get(key, {})
        lines += [f"## {kind.title}", ""]
        lines += [f"{kind.subjects} subjects, {kind.hours:g} h each.", ""]
        head = [
            "model",
            "kappa",
            "macro-F1",
            "parameters",
            "MACs an epoch",
            "passes",
            "batch",
            "rate",
            "CPU s",
        ]
        cells = [
            [
                r["model"],
                f"{r['kappa']:.3f}",
                f"{r['macro_f1']:.3f}",
                f"{r['parameters']:,}",
                f"{r['macs'] / 1e6:,.1f} M",
                f"{r['passes']:.3g}",
                str(r["batch"]),
                f"{r['learning_rate']:g}",
                f"{r['seconds']:.0f}{' (over)' if r['seconds'] > report['budget'] else ''}",
            ]
            for r in sorted(rows.values(), key=lambda r: -r["kappa"])
        ]
        missing = [name for name in kind.names if name not in rows]
        cells += [[name, "not measured yet", *["-"] * (len(head) - 2)] for name in missing]
        lines += [*timing.table(head, cells), ""]
    return "\n".join(lines)


def load(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Read the results so far; none if they were measured with other settings."""
    report: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    unchanged = all(report.get(key) == value for key, value in head.items())
    return report if unchanged else {**head, "rows": {}}


def main() -> None:
    names = [name for kind in KINDS.values() for name in kind.names]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=names, help="all if left out")
    parser.add_argument("--budget", type=float, default=240.0, help="CPU seconds a model")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-models"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.out / "models.json"
    head = {
        "budget": args.budget,
        "folds": FOLDS,
        "seed": provenance.HELD_OUT_SEED,
        "simulator": SIMULATOR,
    }
    for key, kind in KINDS.items():
        chosen = [n for n in kind.names if n in (args.model or names)]
        epochs = data(kind, args.folder / key) if chosen else Path()
        for name in chosen:
            if name in load(path, head)["rows"].get(key, {}):
                continue
            folder = args.folder / f"{args.budget:g}" / name
            row_file = folder / "row.json"
            row = (
                json.loads(row_file.read_text()) if row_file.is_file() else {"budget": args.budget}
            )
            learnt = learn(epochs, folder, name, kind.names[name], row)
            print(learnt, flush=True)
            report = load(path, head)  # another process may have added a row meanwhile
            report["rows"].setdefault(key, {})[name] = learnt
            report["machine"] = provenance.machine("torch")
            store.write_json(path, report)
            store.write_text(args.out / "models.md", markdown(report))


if __name__ == "__main__":
    main()
