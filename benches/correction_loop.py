"""What correcting the least certain epochs of some nights is worth, and learning from it.

A weak model, `spectral` after little training, scores ten simulated nights as `score` does, from
one EEG lead. The simulated scorer corrects the quarter
of each night's epochs in which the model is least certain (by the margin between its two likeliest
stages), or a quarter at random; the corrected scorings are written as files, read back as one's own
recordings are, and the model is fine-tuned on the ten whole nights, the epochs that nobody looked
at by the model's own stages. Ten other nights show what that is worth. Seeds draw the random
quarter and the order of the training. Intervals are over nights.
`python benches/correction_loop.py` (some minutes of one core; what is trained is kept in --folder
and not trained again) writes benches/results/correction_loop.json and .md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np

import sleeptools
from fine_tuning import confusions, trained
from instruments import provenance
from instruments.laboratory import HOME, make_epochs, write_night
from sleeptools import store
from sleeptools.commands import preprocess
from sleeptools.evaluation import bootstrap, metrics
from sleeptools.formats.review import Review, write_review
from sleeptools.preprocessing import presets
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import UNSCORED

RESULTS = Path(__file__).parent / "results"
MODEL, LEAD = "spectral", "EEG Fpz-Cz"
SHARE = 0.25  # of a night's epochs that are corrected
ARMS = {
    "certain": "the least certain quarter",
    "random": "a quarter at random",
    "nothing": "nothing: the model learns from its own stages",
}
SEED = provenance.HELD_OUT_SEED + 3
TRAINED, CORRECTED, TESTED = 0, 20, 40  # first subject of each part
EDF_TOML = """
signals = "{subject}E0-PSG.edf"
hypnograms = "{subject}_events.tsv"
"""
GOALS = {"errors": 0.45, "corrected": 0.85, "gain": 0.03}


def preset_of(data_set: str) -> presets.Preset:
    """Give the preset of one EEG lead."""
    preset = presets.load("sleep-edf").model_dump(mode="json")
    return presets.resolve(
        preset | {"data_set": data_set, "montage": [LEAD]}, source="one lead of sleep-edf"
    )


class Night:
    """A night to be corrected: what the model says of it, and what the scorer does.

    Parameters
    ----------
    raw
        Folder of the night's files.
    subject
        Number of the subject.
    model
        Folder of the weak model.
    hours
        Length, h.
    """

    def __init__(self, raw: Path, subject: int, model: Path, hours: float) -> None:
        self.name = f"SC4{subject:02d}1"
        self.signals, scoring = write_night(raw, HOME, subject, hours=hours, seed=SEED)
        recording = sleeptools.read(self.signals)
        self.true = sleeptools.read_hypnogram(scoring).clipped(recording.seconds).stages
        scoring.unlink()  # what is learnt from is corrected, not scored from the start
        scored = sleeptools.score(recording, model)
        self.proposed = scored.hypnogram
        self.density = scored.hypnodensity
        density = np.sort(scored.hypnodensity, axis=1)
        self.margin = density[:, -1] - density[:, -2]
        count = min(len(self.true), len(self.proposed.stages))
        self.known = np.zeros(len(self.proposed.stages), bool)
        self.known[:count] = self.true[:count] != UNSCORED
        self.true = np.pad(
            self.true[:count], (0, len(self.known) - count), constant_values=UNSCORED
        )

    def chosen(self, arm: str, rng: np.random.Generator) -> np.ndarray:
        """Choose the epochs that are corrected: (epochs,) bool."""
        order = np.argsort(self.margin) if arm == "certain" else rng.permutation(len(self.margin))
        order = order[self.known[order]]
        mask = np.zeros(len(self.known), bool)
        if arm == "nothing":
            return mask
        mask[order[: round(SHARE * len(order))]] = True
        return mask

    def corrected(self, chosen: np.ndarray) -> Hypnogram:
        """Give these epochs the scorer's stage; the others keep the proposed one."""
        stages = np.where(chosen, self.true, self.proposed.stages).astype(np.int8)
        return replace(self.proposed, stages=stages, scorer="corrected")

    def write(self, chosen: np.ndarray) -> None:
        """Write the corrected night as `review` exports it: the file from which it is learnt."""
        review = Review(
            recording=self.name,
            sha256=store.sha256(self.signals),
            hypnogram=self.corrected(chosen),
            proposed=self.proposed,
            touched=chosen,
            artefact=np.zeros(len(chosen), bool),
            density=self.density,
            model="spectral",
        )
        write_review(review, self.signals.with_name(f"{self.name}_events.tsv"))

    def agreement(self, stages: np.ndarray) -> np.ndarray:
        """Confusion with the scorer."""
        return metrics.confusion_matrix(self.true[self.known], stages[self.known], 5)

    def errors_among(self, chosen: np.ndarray) -> tuple[int, int]:
        """Count the model's errors among some epochs, and all of them."""
        wrong = self.known & (self.proposed.stages != self.true)
        return int((wrong & chosen).sum()), int(wrong.sum())


def correct(
    folder: Path, nights: list[Night], arm: str, seed: int
) -> tuple[Path, np.ndarray, np.ndarray]:
    """Correct all nights and preprocess them with the corrected scorings.

    Returns
    -------
    epochs
        Folder of the epochs.
    agreement
        (nights, 5, 5) confusions of the corrected scorings with the scorer.
    errors
        (nights, 2) errors of the model among the corrected epochs, and all.
    """
    raw, epochs = folder / "raw", folder / f"{arm}-{seed}"
    rng = np.random.default_rng([seed, SEED])
    agreement, errors = [], []
    for night in nights:
        chosen = night.chosen(arm, rng)
        hypnogram = night.corrected(chosen)
        agreement.append(night.agreement(hypnogram.stages))
        errors.append(night.errors_among(chosen))
        night.write(chosen)
    store.write_text(raw / "edf.toml", EDF_TOML)
    if not (epochs / "manifest.json").exists():
        preprocess.preprocess(preset_of("edf"), raw, epochs)
    return epochs, np.array(agreement), np.array(errors)


def interval(statistic: Any, nights: int) -> dict[str, Any]:
    """Value and 95 % interval over nights of a statistic of weights (k, nights)."""
    value, low, high = bootstrap.bootstrap_interval(statistic, nights)
    return {"value": float(value[0]), "interval": [float(low[0]), float(high[0])]}


def kappa_of(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kappa of weighted nights, mean over seeds: counts (nights, seeds, S, S) to (k, 1)."""
    return metrics.kappa(np.tensordot(weights, counts, 1)).mean(-1)[:, None]


def share_of(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the errors among corrected epochs: errors (nights, seeds, 2) to (k, 1)."""
    found, total = np.moveaxis(np.tensordot(weights, errors, 1), -1, 0)
    return (found / total).mean(-1)[:, None]


def difference(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return kappa_of(first, weights) - kappa_of(second, weights)


def markdown(r: dict[str, Any]) -> str:
    def shown(entry: dict[str, Any], sign: str = "") -> str:
        low, high = entry["interval"]
        return f"{entry['value']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    met = {name: "yes" if done else "no" for name, done in r["met"].items()}
    lines = [
        "# Correcting the least certain epochs, and learning from it",
        "",
        f"`{MODEL}` from {r['subjects']} simulated subjects, {r['weak_passes']} passes: kappa "
        f"{shown(r['before'])} on {r['nights']} nights of {r['hours']:g} h of others, which are "
        f"corrected, and {shown(r['others'])} on {r['test_nights']} further nights. "
        f"{100 * SHARE:g} % of each night's epochs are corrected. Fine-tuned on the whole nights, "
        f"{r['passes']} passes, the recipe `fine-tuning`. Mean of {r['seeds']} seeds, intervals "
        f"over nights. {r['machine']}, {r['commit']}.",
        "",
        "| corrected | errors among them | kappa of the corrected nights | other nights, "
        "fine-tuned | gained |",
        "|---|---|---|---|---|",
        *(
            f"| {ARMS[arm]} | {shown(row['errors']) if row['errors'] else 'none'} | "
            f"{shown(row['corrected'])} | "
            f"{shown(row['tuned'])} | {shown(row['gain'], '+')} |"
            for arm, row in r["rows"].items()
        ),
        "",
        f"The least certain gain more than random ones by {shown(r['more'], '+')}, and more than "
        f"no correction at all by {shown(r['more_than_nothing'], '+')}.",
        "",
        "| goal | met |",
        "|---|---|",
        f"| the least certain quarter holds at least 45 % of the errors | {met['errors']} |",
        f"| corrected nights reach kappa 0.85 | {met['corrected']} |",
        f"| fine-tuning on them gains at least 0.03 on other nights | {met['gain']} |",
        f"| more than on a random quarter (lower end of the interval above 0) | {met['more']} |",
        "",
        "Kappa by seed on the other nights: "
        + "; ".join(
            f"{ARMS[arm]} {', '.join(f'{k:.3f}' for k in row['by_seed'])}"
            for arm, row in r["rows"].items()
        )
        + ".",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--test-nights", type=int, default=10)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--weak-passes", type=int, default=20)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the data and the runs here")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(options.folder or Path(temporary), options)
    print(markdown(result))
    if str(options.out) != "-":
        store.write_json(options.out / "correction_loop.json", result)
        store.write_text(options.out / "correction_loop.md", markdown(result))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    preset = preset_of("sleep-edf")
    make = partial(make_epochs, laboratory=HOME, hours=options.hours, seed=SEED, preset=preset)
    train = make(folder / "train", subjects=range(TRAINED, TRAINED + options.subjects))
    test = make(folder / "test", subjects=range(TESTED, TESTED + options.test_nights))
    runs = folder / "runs"
    weak = trained(runs / "weak", train, 0, options.weak_passes, model=MODEL)
    raw = folder / "raw"
    numbers = range(CORRECTED, CORRECTED + options.nights)
    nights = [Night(raw, subject, weak, options.hours) for subject in numbers]
    proposed = np.array([[n.agreement(n.proposed.stages)] for n in nights])
    unchanged = confusions(weak, test)[:, None]
    print(f"weak: {metrics.kappa(proposed.sum((0, 1))):.3f} on the nights to correct", flush=True)
    rows, tuned = {}, {}
    for arm in ARMS:
        counts, agreements, errors = [], [], []
        for seed in range(options.seeds):
            epochs, agreement, wrong = correct(folder, nights, arm, seed)
            run = runs / f"{arm}-{seed}"
            child = trained(run, epochs, seed, options.passes, parent=weak)
            counts.append(confusions(child, test))
            agreements.append(agreement)
            errors.append(wrong)
            print(f"{arm} seed {seed}: {metrics.kappa(counts[-1].sum(0)):.3f}", flush=True)
        tuned[arm] = np.stack(counts, 1)  # (nights, seeds, S, S)
        rows[arm] = {
            "errors": None
            if arm == "nothing"
            else interval(partial(share_of, np.stack(errors, 1)), options.nights),
            "corrected": interval(partial(kappa_of, np.stack(agreements, 1)), options.nights),
            "tuned": interval(partial(kappa_of, tuned[arm]), options.test_nights),
            "gain": interval(partial(difference, tuned[arm], unchanged), options.test_nights),
            "by_seed": metrics.kappa(tuned[arm].sum(0)).round(4).tolist(),
            "by_night": metrics.kappa(tuned[arm].sum(1)).round(4).tolist(),
        }
    more = interval(partial(difference, tuned["certain"], tuned["random"]), options.test_nights)
    nothing = interval(partial(difference, tuned["certain"], tuned["nothing"]), options.test_nights)
    certain = rows["certain"]
    return {k: v for k, v in vars(options).items() if k not in ("folder", "out")} | {
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "before": interval(partial(kappa_of, proposed), options.nights),
        "others": interval(partial(kappa_of, unchanged), options.test_nights),
        "rows": rows,
        "more": more,
        "more_than_nothing": nothing,
        "met": {
            "errors": certain["errors"]["value"] >= GOALS["errors"],
            "corrected": certain["corrected"]["value"] >= GOALS["corrected"],
            "gain": certain["gain"]["value"] >= GOALS["gain"],
            "more": more["interval"][0] > 0,
        },
    }


if __name__ == "__main__":
    main()
