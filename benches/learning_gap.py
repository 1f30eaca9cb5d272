"""Does a network gain from more simulated subjects, and from more passes? A judge of the simulator.

MMASleepNet learns from 2, 4 or 16 simulated subjects with the same number of optimiser steps and
is tested on subjects it has never seen. Subjects who differ too little would make two as good as
sixteen. `python benches/learning_gap.py` (about 8 minutes on two idle cores), or with
`--subjects 16` for one of the three.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, f1_score
from torch.nn import functional

from instruments import provenance
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.models.mmasleepnet import Config, Model
from sleeptools.recording.signals import resampling
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.recording.stages import HUMAN_STAGES, UNSCORED

RESULTS = Path(__file__).parent / "results"
SAMPLES = 3000  # of an epoch at 100 Hz
BATCH = 64
LEARNING_RATE = 1e-3
EVALUATIONS = 5
FIRST_TEST_SUBJECT = 50
GAP_GOAL = 0.05


def night(subject: int, *, seed: int, hours: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs (n, 4, 3000) uV, scored and true stages (n,), from a quarter hour before sleep."""
    simulated = simulate_night(subject, 1, hours=8.0, seed=seed)
    recording = simulated.recording
    assert recording.hypnogram is not None
    names = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
    channels = [recording.signal(name).samples() for name in names]
    muscle = recording.signal("EMG submental").samples()
    channels.append(resampling.resample(muscle, 1.0, 100.0))
    epochs = np.stack([c.reshape(-1, SAMPLES) for c in channels], axis=1)
    stages = recording.hypnogram.stages
    first = max(0, int(np.flatnonzero(stages > 0)[0]) - 30)
    numbers = np.arange(first, min(first + round(hours * 120), len(stages)))
    numbers = numbers[stages[numbers] != UNSCORED]
    return epochs[numbers], stages[numbers], simulated.truth[numbers]


def gather(
    subjects: range, *, seed: int, hours: float
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    nights = [night(s, seed=seed, hours=hours) for s in subjects]
    x, y, truth = (np.concatenate(column) for column in zip(*nights, strict=True))
    return torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)), truth


def predict(model: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        predictions = [model(batch).argmax(1) for batch in x.split(256)]
    model.train()
    return torch.cat(predictions).numpy()


def learn(subjects: int, test: tuple, args: argparse.Namespace) -> list[dict[str, object]]:
    """Train on so many subjects; a row per evaluation."""
    x, y, _ = gather(range(subjects), seed=args.seed, hours=args.hours)
    torch.manual_seed(args.seed)
    model = Model(Config())
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    order: list[torch.Tensor] = []
    rows: list[dict[str, object]] = []
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(1, args.steps + 1):
        order = order or list(torch.randperm(len(y)).split(BATCH))
        batch = order.pop()
        if len(batch) < 2:  # batch norm needs two
            batch = torch.randperm(len(y))[:BATCH]
        loss = functional.cross_entropy(model(x[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step % (args.steps // EVALUATIONS) == 0:
            predicted = predict(model, test[0])
            f1 = f1_score(test[1], predicted, labels=range(5), average=None, zero_division=0.0)
            row = {
                "subjects": subjects,
                "steps": step,
                "passes": round(step * BATCH / len(y), 1),
                "loss": round(float(np.mean(losses[-50:])), 4),
                "kappa": round(float(cohen_kappa_score(test[1], predicted)), 4),
                "f1": {n: round(float(v), 3) for n, v in zip(HUMAN_STAGES, f1, strict=True)},
                "seconds": round(time.perf_counter() - began),
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def last_kappa(rows: list[dict[str, object]]) -> float:
    """Mean of the last two evaluations; no evaluation is chosen by its result."""
    return float(np.mean([row["kappa"] for row in rows[-2:]]))


def markdown(report: dict) -> str:
    lines = [
        "# What more simulated subjects are worth",
        "",
        f"MMASleepNet, Adam {LEARNING_RATE:g}, batch {BATCH}, {report['steps']} steps whatever the "
        f"number of subjects; {report['hours']:g} h of one night each, seed {report['seed']}, "
        f"{report['test_subjects']} new subjects as test. {report['machine']}, "
        f"{report['commit']}. Kappa against the "
        f"simulated scorer; the stages that made the signals reach {report['ceiling']:.3f}.",
        "",
        "| subjects | passes | loss | kappa | "
        + " | ".join(f"F1 {n}" for n in HUMAN_STAGES)
        + " |",
        "|---|---|---|---|" + "---|" * 5,
    ]
    for rows in report["rows"].values():
        lines += [
            f"| {r['subjects']} | {r['passes']:g} | {r['loss']:.3f} | {r['kappa']:.3f} | "
            + " | ".join(f"{v:.2f}" for v in r["f1"].values())
            + " |"
            for r in rows
        ]
    if report["gap"] is not None:
        lines += [
            "",
            f"From 2 to 16 subjects, mean of the last two rows: {report['gap']:+.3f} kappa "
            f"(goal: at least {GAP_GOAL}).",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", default="2,4,16")
    parser.add_argument("--test-subjects", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=provenance.HELD_OUT_SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    test_subjects = range(FIRST_TEST_SUBJECT, FIRST_TEST_SUBJECT + args.test_subjects)
    test = gather(test_subjects, seed=args.seed, hours=args.hours)
    path = args.out / "learning_gap.json"
    settings = {
        "seed": args.seed,
        "hours": args.hours,
        "steps": args.steps,
        "test_subjects": args.test_subjects,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "ceiling": round(float(cohen_kappa_score(test[1], test[2])), 4),
    }
    print(settings, flush=True)
    rows: dict[str, list] = {n: learn(int(n), test, args) for n in args.subjects.split(",")}
    if path.is_file():  # sizes done before with the same settings are kept
        before = json.loads(path.read_text())
        if all(before[k] == v for k, v in settings.items()):
            rows = before["rows"] | rows
    rows = dict(sorted(rows.items(), key=lambda item: int(item[0])))
    comparable = "2" in rows and "16" in rows
    gap = round(last_kappa(rows["16"]) - last_kappa(rows["2"]), 4) if comparable else None
    report = {**settings, "gap": gap, "rows": rows}
    print(markdown(report))
    if str(args.out) != "-":
        path.write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "learning_gap.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
