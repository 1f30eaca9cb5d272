"""What fine-tuning on two subjects of another laboratory is worth.

MMASleepNet learns from simulated nights of one laboratory, the parent, and is judged on nights of
another (`instruments.laboratory`: other gains, spectra and habits of the scorer). Then two subjects
of the other laboratory are at hand: the parent fine-tuned on them, all of it or with its encoder
frozen, beside a model that learns from them alone in as many steps. Each seed has its own two
subjects; the tested nights are the same for all. Differences are of the same nights, mean over
seeds, with intervals over nights.
`python benches/fine_tuning.py` (half an hour of one core; what is trained is kept in --folder and
not trained again) writes benches/results/fine_tuning.json and .md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np

from instruments import provenance
from instruments.laboratory import AWAY, HOME, Laboratory, make_epochs
from sleeptools import store
from sleeptools.evaluation import bootstrap, metrics
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing.epochs import open_epochs

RESULTS = Path(__file__).parent / "results"
MODEL = "mmasleepnet"
SCRATCH_RATE = 1e-3  # in one cycle: ten times the recipe's, which learns faster in few steps
ARMS = {
    "parent": "the parent as it is",
    "scratch": "from scratch, as many steps",
    "tuned": "fine-tuned",
    "frozen": "fine-tuned, encoder frozen",
}
GOALS = {"scratch": 0.08, "parent": 0.0}
"""By how much the kappa of the fine-tuned model is to be above another's."""
LOST = (0.10, 0.25)
"""Range of what the other laboratory takes from the parent's kappa, by which it was chosen."""
PARENT_SUBJECTS, HOME_SUBJECTS, AWAY_SUBJECTS, FIRST_PAIR = 0, 20, 60, 40
AWAY_SEED = provenance.HELD_OUT_SEED + 2


def trained(run: Path, epochs: Path, seed: int, passes: int, **options: Any) -> Path:
    """Train a final model, or find it trained."""
    from sleeptools.commands.train import TrainOptions, train

    since = time.monotonic()
    train(
        epochs,
        run,
        TrainOptions(
            **{"model": MODEL} | options, final=True, passes=passes, seeds=(seed,), explain=False
        ),
    )
    print(f"{run.name}: trained in {time.monotonic() - since:.0f} s", flush=True)
    return run / "final"


def from_scratch() -> dict[str, Any]:
    recipe = {"batch": 32, "learning_rate": SCRATCH_RATE, "schedule": {"kind": "one_cycle"}}
    return {"recipe": recipe}


def confusions(model: Path, epochs: Path) -> np.ndarray:
    """Confusion of every night: (nights, S, S)."""
    engine, data = Engine.load(model, calibrated=False), open_epochs(epochs)
    return np.array(
        [
            metrics.confusion_matrix(f.stages, engine.hypnodensity(f.signals).argmax(1), 5)
            for f in data.files
        ]
    )


def models(folder: Path, parent: Path, pair: Path, seed: int, passes: int) -> dict[str, Path]:
    """Train what is to be compared on the epochs of two subjects."""
    runs = folder / "runs"
    frozen = {"recipe": {"freeze": ["encoder"]}}
    return {
        "parent": parent,
        "scratch": trained(runs / f"scratch-{seed}", pair, seed, passes, settings=from_scratch()),
        "tuned": trained(runs / f"tuned-{seed}", pair, seed, passes, parent=parent),
        "frozen": trained(
            runs / f"frozen-{seed}", pair, seed, passes, parent=parent, settings=frozen
        ),
    }


def compare(counts: np.ndarray) -> dict[str, Any]:
    """Kappa of each arm over all nights and how far the fine-tuned one is above it.

    Parameters
    ----------
    counts
        (nights, arms, seeds, S, S) confusions.
    """
    names = list(ARMS)
    tuned = names.index("tuned")

    def statistic(weights: np.ndarray) -> np.ndarray:
        kappas = metrics.kappa(np.tensordot(weights, counts, 1)).mean(-1)  # (k, arms)
        return np.concatenate([kappas, kappas[:, tuned : tuned + 1] - kappas], 1)

    bounds = bootstrap.bootstrap_interval(statistic, len(counts))
    rows = {}
    for i, name in enumerate(names):
        value, low, high = (np.asarray(bound, float) for bound in bounds)
        rows[name] = {
            "kappa": float(value[i]),
            "interval": [float(low[i]), float(high[i])],
            "tuned_above": float(value[len(names) + i]),
            "above_interval": [float(low[len(names) + i]), float(high[len(names) + i])],
            "kappa_by_seed": metrics.kappa(counts[:, i].sum(0)).round(4).tolist(),
            "kappa_by_night": metrics.kappa(counts[:, i].sum(1)).round(4).tolist(),
        }
    return rows


def markdown(r: dict[str, Any]) -> str:
    lines = [
        "# Fine-tuning on two subjects of another laboratory",
        "",
        f"MMASleepNet from {r['subjects']} simulated subjects, {r['parent_passes']} passes; one "
        f"night of {r['hours']:g} h each. Kappa against the simulated scorer: "
        f"{r['home']:.3f} on {r['home_subjects']} others of the same laboratory, "
        f"{r['rows']['parent']['kappa']:.3f} on {r['away_subjects']} of the other one, "
        f"{r['lost']:.3f} less (wanted: {LOST[0]:g} to {LOST[1]:g}). The other laboratory, fixed "
        f"before any fine-tuning: {r['laboratory']}.",
        "",
        f"{r['seeds']} seeds, each with two subjects of its own, {r['pair_hours']:g} h each, "
        f"{r['passes']} passes of batches of 32, about {r['steps']} steps; "
        "the nights that are tested are the same. From scratch: "
        f"learning rate {SCRATCH_RATE:g} in one cycle; fine-tuned: the recipe `fine-tuning`. Mean "
        f"over seeds, intervals over nights. {r['machine']}, {r['commit']}.",
        "",
        "| | kappa [95 %] | by seed | fine-tuned is above by [95 %] | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in r["rows"].items():
        low, high = row["interval"]
        seeds = ", ".join(f"{k:.3f}" for k in row["kappa_by_seed"])
        above = ""
        if name != "tuned":
            ends = row["above_interval"]
            above = f"{row['tuned_above']:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
        goal = f"> {GOALS[name]:+.2f}" if name in GOALS else ""
        met = ("yes" if row["tuned_above"] > GOALS[name] else "no") if name in GOALS else ""
        lines.append(
            f"| {ARMS[name]} | {row['kappa']:.3f} [{low:.3f}, {high:.3f}] | {seeds} | {above} | "
            f"{goal} | {met} |"
        )
    nights = zip(*(row["kappa_by_night"] for row in r["rows"].values()), strict=True)
    lines += [
        "",
        "Kappa of every tested night, seeds together:",
        "",
        "| night | " + " | ".join(ARMS[name] for name in r["rows"]) + " |",
        "|---|" + "---|" * len(r["rows"]),
        *(
            f"| {number} | " + " | ".join(f"{k:.3f}" for k in kappas) + " |"
            for number, kappas in enumerate(nights, 1)
        ),
    ]
    return "\n".join([*lines, ""])


def subjects_of(first: int, count: int) -> range:
    return range(first, first + count)


def data(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Make the epochs of every part."""
    parts: dict[str, tuple[Laboratory, range, int]] = {
        "train": (HOME, subjects_of(PARENT_SUBJECTS, options.subjects), provenance.HELD_OUT_SEED),
        "home": (HOME, subjects_of(HOME_SUBJECTS, options.home_subjects), provenance.HELD_OUT_SEED),
        "away": (AWAY, subjects_of(AWAY_SUBJECTS, options.away_subjects), AWAY_SEED),
    }
    for seed in range(options.seeds):
        parts[f"pair-{seed}"] = (AWAY, subjects_of(FIRST_PAIR + 2 * seed, 2), AWAY_SEED)
    hours = {name: options.pair_hours for name in parts if name.startswith("pair")}
    return {
        name: make_epochs(
            folder / name, laboratory, numbers, hours=hours.get(name, options.hours), seed=seed
        )
        for name, (laboratory, numbers, seed) in parts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--home-subjects", type=int, default=4)
    parser.add_argument("--away-subjects", type=int, default=8)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--pair-hours", type=float, default=4.0)
    parser.add_argument("--parent-passes", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the data and the runs here")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        epochs = data(folder, options)
        parent = trained(
            folder / "runs" / "parent",
            epochs["train"],
            0,
            options.parent_passes,
            settings=from_scratch(),
        )
        home = float(metrics.kappa(confusions(parent, epochs["home"]).sum(0)))
        print(f"parent at home: {home:.3f}", flush=True)
        by_seed = []
        for seed in range(options.seeds):
            arms = models(folder, parent, epochs[f"pair-{seed}"], seed, options.passes)
            by_seed.append([confusions(arms[name], epochs["away"]) for name in ARMS])
            kappas = [metrics.kappa(counts.sum(0)) for counts in by_seed[-1]]
            print(f"seed {seed}: {dict(zip(ARMS, np.round(kappas, 3), strict=True))}", flush=True)
        steps = options.passes * (len(open_epochs(epochs["pair-0"])) // 32 + 1)
    rows = compare(np.array(by_seed).transpose(2, 1, 0, 3, 4))
    settings = {k: v for k, v in vars(options).items() if k not in ("folder", "out")}
    result = settings | {
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "laboratory": asdict(AWAY),
        "home": home,
        "lost": home - rows["parent"]["kappa"],
        "steps": steps,
        "rows": rows,
    }
    print(markdown(result))
    if str(options.out) != "-":
        store.write_json(options.out / "fine_tuning.json", result)
        store.write_text(options.out / "fine_tuning.md", markdown(result))


if __name__ == "__main__":
    main()
