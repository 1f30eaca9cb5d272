"""What a missing channel and another amplifier cost a model that was trained for them.

ULW-SleepNet learns from simulated nights in three ways: `plain`, `augmented` (modality dropout and
gain augmentation, in microvolts), and `scaled` (the same on robustly scaled recordings). Each is
tested on nights of other subjects: as they are; with every channel's amplifier at half or double
gain; with a gain that doubles in mid-night; and with modalities missing, zeros in their place.
Losses are of the same nights, mean over seeds, with intervals over nights.
`python benches/montage.py` (hours of one core; trained models are kept in --folder and not trained
again) writes benches/results/montage.json and .md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

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
WAYS: dict[str, tuple[dict[str, float], bool]] = {
    "plain": ({}, False),
    "augmented": ({"modality_dropout": 0.2, "gain_factor": 3.0}, False),
    "scaled": ({"modality_dropout": 0.2, "gain_factor": 2.0}, True),
}
"""Augmentation in training, and whether recordings are scaled."""
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
            settings={"recipe": recipe | {"augmentation": WAYS[way][0]}},
        )
        since = time.monotonic()
        train(epochs, run, wanted)
        print(f"{way} seed {seed}: trained in {time.monotonic() - since:.0f} s", flush=True)
    return [run / "final" for run in runs]


def confusions(
    folder: Path, way: str, models: list[Path], options: argparse.Namespace
) -> np.ndarray:
    """Confusion of every night, condition and seed: (nights, conditions, seeds, S, S)."""
    preset = presets.changed(presets.load("sleep-edf"), robust_scale=WAYS[way][1])
    epochs = open_epochs(folder / "epochs" / "test")
    engines = [Engine.load(model, calibrated=False) for model in models]
    nights = []
    for number, file in enumerate(epochs.files[: options.test_subjects]):
        recording = formats.read_any(folder / "recordings" / f"{file.recording}.safetensors")
        signals = montage.pick(recording, preset.montage, preset.assume_unit)
        rows = []
        cut: dict[str, Any] = {}
        for condition, (_, absent, _) in CONDITIONS.items():
            gains = condition if condition in ("gains", "step") else "whole"
            if gains not in cut:
                drawn = factors(gains, len(signals), np.random.default_rng([number, 1]))
                changed = [amplified(s, f) for s, f in zip(signals, drawn, strict=True)]
                made = epoching.cut_epochs(preset, recording, changed, file.onset, folder)
                cut = {k: v for k, v in cut.items() if k == "whole"}  # one more in memory at most
                cut[gains] = made.values[:].copy()
            x = cut[gains].copy()
            x[:, [s.modality in absent for s in signals]] = 0
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


def losses(counts: np.ndarray) -> list[dict[str, Any]]:
    """Kappa of each condition over all nights, mean over seeds, and what it lost, paired."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        kappas = metrics.kappa(np.tensordot(weights, counts, 1)).mean(-1)  # (k, conditions)
        return np.concatenate([kappas, kappas[:, :1] - kappas], 1)

    bounds = bootstrap.bootstrap_interval(statistic, len(counts))
    size = counts.shape[1]
    rows = []
    for i, (name, (_, _, goal)) in enumerate(CONDITIONS.items()):
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
        f"{r['test_subjects']} nights of {r['hours']:g} h of as many other subjects; mean of "
        f"{r['seeds']} seed(s), intervals over nights. {r['machine']}, {r['commit']}.",
        "",
        *(
            f"- {way}: modality dropout {varied['modality_dropout']:g}, gains "
            f"1/{varied['gain_factor']:g} to {varied['gain_factor']:g}"
            f"{', robustly scaled recordings' if WAYS[way][1] else ''}"
            for way, varied in r["augmentation"].items()
            if varied
        ),
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
            if way == "plain":  # shows what the training is for
                aim, met = "", ""
            lines.append(f"| {way} | {words} | {row['kappa']:.3f} | {lost} | {aim} | {met} |")
    return "\n".join([*lines, ""])


def data(folder: Path, options: argparse.Namespace) -> None:
    """Simulate, and preprocess in both ways, what is not there yet."""
    for part, seed in (("train", TRAINING_SEED), ("test", provenance.HELD_OUT_SEED)):
        subjects = getattr(options, f"{part}_subjects")
        raw = folder / "raw" / part
        simulate("sleep-edf", raw, subjects=subjects, hours=options.hours, seed=seed)
        if part == "test":
            convert.convert("sleep-edf", raw, folder / "recordings")
        preset = presets.load("sleep-edf")
        preprocess.preprocess(preset, raw, folder / "epochs" / part)
        if part == "train":
            scaled = presets.changed(preset, robust_scale=True)
            preprocess.preprocess(scaled, raw, folder / "epochs" / "train-scaled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--train-subjects", type=int, default=20)
    parser.add_argument("--test-subjects", type=int, default=20)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--folder", type=Path, help="keep the data and the runs here")
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data(folder, options)
        ways = {}
        for way in options.ways.split(","):
            epochs = folder / "epochs" / ("train-scaled" if WAYS[way][1] else "train")
            models = trained(folder, way, epochs, options)
            ways[way] = losses(confusions(folder, way, models, options))
    settings = {k: v for k, v in vars(options).items() if k not in ("ways", "folder", "out")}
    facts = {"commit": provenance.commit(), "machine": provenance.machine("torch")}
    result = settings | facts | {"augmentation": {way: WAYS[way][0] for way in ways}, "ways": ways}
    print(markdown(result))
    if str(options.out) != "-":
        store.write_json(options.out / "montage.json", result)
        store.write_text(options.out / "montage.md", markdown(result))


if __name__ == "__main__":
    main()
