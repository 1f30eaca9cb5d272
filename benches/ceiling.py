"""How near does MMASleepNet come to what the simulated scorer allows? Leak-free, 10 nights.

The true stages of the simulated nights, compared with the simulated scoring, give the kappa that a
perfect model would reach: the ceiling. `python benches/ceiling.py` simulates, trains
5 folds and writes benches/results/ceiling.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from instruments import provenance
from sleeptools import store
from sleeptools.commands import preprocess
from sleeptools.commands.evaluate import evaluate
from sleeptools.commands.simulate import simulate
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.evaluation import metrics
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.recording.simulators import SIMULATOR

RESULTS = Path(__file__).parent / "results"
GOAL = 0.9  # of the ceiling


def ceiling(epochs: EpochSet, hours: float, seed: int) -> np.ndarray:
    """Confusion of scored and true stages over the tested epochs: (5, 5)."""
    total = np.zeros((5, 5), np.int64)
    for file in epochs.files:
        subject, night = int(file.recording[3:5]), int(file.recording[5])
        truth = simulate_night(subject, night, hours=hours, seed=seed).truth
        place = np.rint(file.onset / epochs.epoch_seconds).astype(int)
        total += metrics.confusion_matrix(file.stages, truth[place], 5)
    return total


def run(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # before torch: as `sleeptools train` does
    from sleeptools.commands import train

    raw = simulate(
        "sleep-edf",
        folder / "raw",
        subjects=options.subjects,
        hours=options.hours,
        seed=options.seed,
    )
    epochs = preprocess.preprocess(presets.load("sleep-edf"), raw, folder / "epochs")
    recipe = {"batch": options.batch, "learning_rate": options.learning_rate}
    train_options = train.TrainOptions(
        folds=options.folds, passes=options.passes, settings={"recipe": recipe}
    )
    begun = time.monotonic()
    train.train(epochs, folder / "run", train_options)
    seconds = time.monotonic() - begun
    evaluation = evaluate(folder / "run")
    logs = {
        f.parent.name: [row["val_kappa"] for row in rows(f)]
        for f in sorted((folder / "run").rglob("log.csv"))
    }
    best = metrics.overall_metrics(ceiling(open_epochs(epochs), options.hours, options.seed))
    ours = evaluation.pooled["leak-free"].overall_metrics()
    return {
        "nights": options.subjects,
        "hours": options.hours,
        "seed": options.seed,
        "folds": options.folds,
        "passes": options.passes,
        "recipe": recipe,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "training_seconds": round(seconds),
        "ceiling": best,
        "leak_free": ours,
        "share_of_ceiling": ours["kappa"] / best["kappa"],
        "per_stage_f1": dict(
            zip(
                evaluation.run.stages,
                metrics.f1(evaluation.pooled["leak-free"].summed).tolist(),
                strict=True,
            )
        ),
        "subjects": {
            row["subject"]: row["kappa"] for row in evaluation.table("subjects").to_dicts()
        },
        "validation_kappa_per_pass": logs,
    }


def rows(path: Path) -> list[dict[str, float]]:
    import polars as pl

    return pl.read_csv(path).to_dicts()


def markdown(r: dict[str, object]) -> str:
    recipe, best, ours = r["recipe"], r["ceiling"], r["leak_free"]
    settings = f"batch {recipe['batch']}, learning rate {recipe['learning_rate']:g}"
    lines = [
        "# MMASleepNet against the simulated scorer's ceiling",
        "",
        f"{r['nights']} simulated nights of {r['hours']:g} h (seed {r['seed']}), {r['folds']} "
        f"folds by subject, leak-free, {r['passes']} passes, {settings}. {r['machine']}, "
        f"{r['commit']}; "
        f"training took "
        f"{r['training_seconds'] / 60:.0f} minutes.",
        "",
        "| | kappa | accuracy | macro-F1 |",
        "|---|---|---|---|",
        f"| ceiling: generating stages | {best['kappa']:.3f} | {best['accuracy']:.3f} | "
        f"{best['macro_f1']:.3f} |",
        f"| MMASleepNet, leak-free | {ours['kappa']:.3f} | {ours['accuracy']:.3f} | "
        f"{ours['macro_f1']:.3f} |",
        "",
        f"Share of the ceiling's kappa: {r['share_of_ceiling']:.3f} (goal: {GOAL}). F1 per stage: "
        + ", ".join(f"{k} {v:.2f}" for k, v in r["per_stage_f1"].items())
        + ". Kappa per subject: "
        + ", ".join(f"{v:.2f}" for v in r["subjects"].values())
        + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=provenance.HELD_OUT_SEED)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--folder", type=Path, help="keep the data and the run here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = run(options.folder or Path(temporary), options)
    store.write_json(RESULTS / "ceiling.json", results)
    store.write_text(RESULTS / "ceiling.md", markdown(json.loads(json.dumps(results))))
    print(markdown(results))


if __name__ == "__main__":
    main()
