"""What a missing channel and another amplifier cost a model that was trained for them.

ULW-SleepNet learns from simulated nights in three ways: `plain`, `augmented` (modality dropout and
gain augmentation, in microvolts), and `scaled` (the same on robustly scaled recordings). Each is
tested on nights of other subjects: as they are; with every channel's amplifier at half or double
gain; with a gain that doubles in mid-night; and with modalities missing, zeros in their place.
Beside them stand models that never had those modalities: what the other signals tell at all.
Losses are of the same nights, mean over seeds, with intervals over nights.
`python benches/montage.py` (hours of one core; trained models are kept in --folder and not trained
again) writes benches/results/montage.json and .md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np

from instruments import provenance
from sleeptools import formats, store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.evaluation import bootstrap, metrics
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording import montage
from sleeptools.recording.recording import Signal

RESULTS = Path(__file__).parent / "results"
TRAINING_SEED = provenance.HELD_OUT_SEED + 1  # other simulated people than the tested ones


class Way(NamedTuple):
    """A way of training.

    Parameters
    ----------
    words
        What was done, for the table's head.
    augmentation
        Of the recipe.
    scaled
        Whether recordings are scaled.
    absent
        Modalities that the model never has.
    """

    words: str
    augmentation: Mapping[str, Any] = MappingProxyType({})
    scaled: bool = False
    absent: tuple[str, ...] = ()


DROPPED: dict[str, Any] = {"modality_dropout": 0.5, "always": ["eeg"]}
WAYS = {
    "plain": Way("nothing of the kind"),
    "augmented": Way(
        "EOG and EMG left out with probability 0.5 each, EEG never; gains 1/4 to 4",
        DROPPED | {"gain_factor": 4.0},
    ),
    "scaled": Way(
        "the same with gains 1/2 to 2, on robustly scaled recordings",
        DROPPED | {"gain_factor": 2.0},
        scaled=True,
    ),
    "never EOG": Way("plain, a network of EEG and EMG", absent=("eog",)),
    "EEG only": Way("plain, a network of EEG", absent=("emg", "eog")),
}
PLAIN_GOAL = 0.77  # kappa on the nights as they are
CONDITIONS: dict[str, tuple[str, tuple[str, ...], tuple[float, float | None] | None]] = {
    "whole": ("as it is", (), None),
    "gains": ("every channel x0.5 or x2", (), (0.01, 0.025)),
    "step": ("x2 from mid-night on", (), (0.01, 0.025)),
    "no emg": ("without EMG", ("emg",), (0.06, None)),
    "no eog": ("without EOG", ("eog",), (0.06, None)),
    "eeg": ("EEG alone", ("emg", "eog"), (0.12, None)),
}
"""In words, the modalities that are missing, and the largest loss with its upper bound."""


def conditions(way: str) -> list[str]:
    """List what a way is tested on: a model without some modalities on nights without them."""
    absent = WAYS[way].absent
    return [name for name, (_, lacks, _) in CONDITIONS.items() if not absent or lacks == absent]


def present(way: str) -> presets.Preset:
    """Give the preset of the channels that a way has."""
    preset = presets.changed(presets.load("sleep-edf"), robust_scale=WAYS[way].scaled)
    channels = [c for c in preset.montage if montage.modality(c.name) not in WAYS[way].absent]
    return preset.model_copy(update={"montage": tuple(channels)})


def amplified(signal: Signal, factors: tuple[float, float]) -> Signal:
    """Multiply the first and the second half of a signal."""

    def read() -> np.ndarray:
        samples = signal.samples()
        first, second = np.array_split(samples, 2)
        return np.concatenate([first * np.float32(factors[0]), second * np.float32(factors[1])])

    changed = {"gain": 1.0, "offset": 0.0, "dtype": np.float32, "stored_range": None}
    return replace(signal, read=read, **changed)


def factors(condition: str, channels: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Gain of each channel in the first and the second half of the night."""
    if condition == "gains":
        gains = rng.permutation(np.resize([0.5, 2.0], channels))  # never all alike
        return [(float(g), float(g)) for g in gains]
    return [(1.0, 2.0 if condition == "step" else 1.0)] * channels


def trained(folder: Path, way: str, epochs: Path, options: argparse.Namespace) -> list[Path]:
    """Train the final model of a way with every seed, or find them trained."""
    from sleeptools.commands.train import TrainOptions, train

    schedule = {"kind": "one_cycle"}
    recipe = {"batch": options.batch, "learning_rate": options.learning_rate, "schedule": schedule}
    runs = [folder / "runs" / f"{way}-{seed}" for seed in range(options.seeds)]
    for seed, run in enumerate(runs):
        wanted = TrainOptions(
            model="ulw-sleepnet",
            final=True,
            passes=options.passes,
            seeds=(seed,),
            explain=False,
            settings={
                "model": {"channels": len(present(way).montage)},
                "recipe": recipe | {"augmentation": dict(WAYS[way].augmentation)},
            },
        )
        since = time.monotonic()
        train(epochs, run, wanted)
        print(f"{way} seed {seed}: trained in {time.monotonic() - since:.0f} s", flush=True)
    return [run / "final" for run in runs]


def confusions(
    folder: Path, way: str, models: list[Path], options: argparse.Namespace
) -> np.ndarray:
    """Confusion of every night, condition and seed: (nights, conditions of a way, seeds, S, S)."""
    preset = present(way)
    epochs = open_epochs(folder / "epochs" / "test")
    engines = [Engine.load(model, calibrated=False) for model in models]
    nights = []
    for number, file in enumerate(epochs.files[: options.test_subjects]):
        recording = formats.read_any(folder / "recordings" / f"{file.recording}.safetensors")
        signals = montage.pick(recording, preset.montage, preset.assume_unit)
        rows = []
        cut: dict[str, Any] = {}
        for condition in conditions(way):
            absent = CONDITIONS[condition][1]
            gains = condition if condition in ("gains", "step") else "whole"
            if gains not in cut:
                drawn = factors(gains, len(signals), np.random.default_rng([number, 1]))
                changed = [amplified(s, f) for s, f in zip(signals, drawn, strict=True)]
                made = epoching.cut_epochs(preset, recording, changed, file.onset, folder)
                cut = {k: v for k, v in cut.items() if k == "whole"}  # one more in memory at most
                cut[gains] = made.values[:].copy()
            x = cut[gains].copy()
            x[:, [s.modality in absent for s in signals]] = 0  # a channel that a way has, if any
            rows.append(
                [
                    metrics.confusion_matrix(file.stages, e.hypnodensity(x).argmax(1), 5)
                    for e in engines
                ]
            )
        nights.append(rows)
        kappas = [metrics.kappa(np.sum(row, 0)) for row in rows]
        print(f"{way} {file.recording}: {' '.join(f'{k:.3f}' for k in kappas)}", flush=True)
    return np.array(nights)


def losses(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Kappa of each condition over all nights, mean over seeds, and what it lost, paired.

    The first of the conditions is the one that the others are compared with.
    """

    def statistic(weights: np.ndarray) -> np.ndarray:
        kappas = metrics.kappa(np.tensordot(weights, counts, 1)).mean(-1)  # (k, conditions)
        return np.concatenate([kappas, kappas[:, :1] - kappas], 1)

    bounds = bootstrap.bootstrap_interval(statistic, len(counts))
    size = counts.shape[1]
    rows = []
    for i, name in enumerate(names):
        goal = CONDITIONS[name][2]
        loss, *ends = (float(b[size + i]) for b in bounds)
        low, high = (loss if np.isnan(end) else end for end in ends)  # alike in all draws
        met = None
        if goal:
            met = bool(loss <= goal[0] and (goal[1] is None or high <= goal[1]))
            met = met and bool(bounds.value[0] >= PLAIN_GOAL)  # who knows nothing loses nothing
        kappa = float(bounds.value[i])
        rows.append({"condition": name, "kappa": kappa, "loss": loss, "interval": [low, high]})
        rows[-1]["met"] = bool(kappa >= PLAIN_GOAL) if name == "whole" else met
    return rows


def markdown(r: dict[str, Any]) -> str:
    lines = [
        "# A channel less, and another amplifier",
        "",
        f"ULW-SleepNet, {r['train_subjects']} simulated subjects, {r['passes']} passes, batch "
        f"{r['batch']}, learning rate {r['learning_rate']:g} in one cycle; tested on "
        f"{r['test_subjects']} nights of {r['hours']:g} h of as many other simulated subjects; "
        f"mean of {r['seeds']} seed(s), intervals over nights. Simulated signals: this compares "
        f"trainings, and does not say how a real night is staged. {r['machine']}, {r['commit']}.",
        "",
        *(f"- {way}: {WAYS[way].words}" for way in r["ways"]),
        "",
        "A model that never had a modality has no `whole`: its loss is that against `plain`. It is "
        "what the remaining signals tell such a network at all.",
        "",
        "| trained | tested | kappa | lost [95 % over nights] | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    for way, rows in r["ways"].items():
        for row in rows:
            words, _, goal = CONDITIONS[row["condition"]]
            low, high = row["interval"]
            lost = f"{row['loss']:+.3f} [{low:+.3f}, {high:+.3f}]" if goal else ""
            aim = f"kappa >= {PLAIN_GOAL:g}" if goal is None else f"<= {goal[0]:g}"
            aim += f", upper <= {goal[1]:g}" if goal and goal[1] else ""
            met = "yes" if row["met"] else "no"
            if way == "plain" or WAYS[way].absent:  # for comparison
                aim, met = "", ""
            lines.append(f"| {way} | {words} | {row['kappa']:.3f} | {lost} | {aim} | {met} |")
    return "\n".join([*lines, ""])


def data(folder: Path, options: argparse.Namespace) -> None:
    """Simulate, and preprocess, what is not there yet."""
    for part, seed in (("train", TRAINING_SEED), ("test", provenance.HELD_OUT_SEED)):
        subjects = getattr(options, f"{part}_subjects")
        raw = folder / "raw" / part
        simulate("sleep-edf", raw, subjects=subjects, hours=options.hours, seed=seed)
        if part == "test":
            convert.convert("sleep-edf", raw, folder / "recordings")
        preprocess.preprocess(presets.load("sleep-edf"), raw, folder / "epochs" / part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--train-subjects", type=int, default=20)
    parser.add_argument("--test-subjects", type=int, default=20)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--folder", type=Path, help="keep the data and the runs here")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    chosen = options.ways.split(",")
    if any(WAYS[way].absent for way in chosen) and chosen[0] != "plain":
        parser.error("a model that never had a modality is compared with plain: name that first")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data(folder, options)
        ways, plain = {}, np.empty(0)
        for way in chosen:
            epochs = folder / "epochs" / f"train-{way}".replace(" ", "-")
            if present(way) == presets.load("sleep-edf"):
                epochs = folder / "epochs" / "train"
            preprocess.preprocess(present(way), folder / "raw" / "train", epochs)
            models = trained(folder, way, epochs, options)
            counts, names = confusions(folder, way, models, options), conditions(way)
            if WAYS[way].absent:
                counts, names = np.concatenate([plain, counts], 1), ["whole", *names]
            elif way == "plain":
                plain = counts[:, :1]
            ways[way] = losses(counts, names)
            if WAYS[way].absent:
                del ways[way][0]
    settings = {k: v for k, v in vars(options).items() if k not in ("ways", "folder", "out")}
    facts = {
        "augmentation": {way: dict(WAYS[way].augmentation) for way in ways},
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
    }
    result = settings | facts | {"ways": ways}
    print(markdown(result))
    if str(options.out) != "-":
        store.write_json(options.out / "montage.json", result)
        store.write_text(options.out / "montage.md", markdown(result))


if __name__ == "__main__":
    main()
