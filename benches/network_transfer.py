"""What a network that has learnt from simulated nights is worth on others, and on a real one.

ULW-SleepNet and MMASleepNet learn from plain or randomised nights, scaled per night or not. Each is
judged on new nights of both kinds; on 300 s of real wake (Sleep-EDF SC4001; Kemp et al. 2000,
ODC-By) alone and laid into simulated nights; and on nights of other constants
(`instruments.other_constants`) by its agreement with the scorer, the default model and YASA.
`python benches/network_transfer.py`, half an hour on one core; networks of the same settings are
taken from `--networks`. Without the real piece or YASA, what they would judge stays empty.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from torch import nn
from torch.nn import functional

from instruments import provenance
from instruments.other_constants import moved_night
from sleeptools.commands.score.paths import DEFAULT, SHIPPED
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.formats import edf
from sleeptools.inference import leads
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity, hypnogram_from
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.preprocessing import presets
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording
from sleeptools.recording.signals import resampling, scaling
from sleeptools.recording.stages import HUMAN_STAGES, UNSCORED
from sleeptools.training.augmentation import vary_montage

HERE = Path(__file__).parent
PIECE = "sleep-edf/SC4001E0-PSG_first300s.edf"
PRESET = presets.load("sleep-edf")
MODALITIES = ("eeg", "eeg", "eog", "emg")
LAID = {"EEG and EMG real": [0, 1, 3], "all real": [0, 1, 2, 3]}  # channels of the montage
BATCH = 32
LEARNING_RATE = 3e-3  # at first; down to nothing along half a cosine
FIRST_TEST_SUBJECT, FIRST_WAKE_SUBJECT = 50, 80
WAKE_NIGHTS = 3
SCALINGS = {"robust": scaling.robust, "magnitude": scaling.magnitude}
SETTLED, SETTLING = "ulw-sleepnet", 4 * 960  # epochs of four nights

Epochs = NDArray[np.float32]  # (epochs, channels, samples)
Stages = NDArray[np.int8]  # (epochs,)


@dataclass(frozen=True)
class Training:
    """How a network is trained: on what nights, scaled per night or not, and with what gains."""

    label: str
    model: str = "ulw-sleepnet"
    kinds: tuple[str, ...] = ("plain",)  # of the nights, in turn
    scaling: str = "robust"
    gain_factor: float = 1.0


BOTH = ("plain", "randomised")
TRAININGS = {
    "plain": Training("plain nights, microvolts", scaling="none"),
    "plain-scaled": Training("plain nights, scaled"),
    "randomised": Training("randomised nights, scaled", kinds=("randomised",)),
    "both": Training("half of each, scaled", kinds=BOTH),
    "both-gains": Training(
        "half of each, scaled, channels times 1/2 to 2", kinds=BOTH, gain_factor=2.0
    ),
    "mma-both": Training("half of each, scaled", "mmasleepnet", BOTH),
    "mma-plain": Training("plain nights, scaled", "mmasleepnet"),
}

CHANGES = {
    "scaling per night": ("plain", "plain-scaled"),
    "randomised nights instead of plain ones": ("plain-scaled", "randomised"),
    "half of each instead of plain ones": ("plain-scaled", "both"),
    "half of each instead of randomised ones": ("randomised", "both"),
    "gains in training": ("both", "both-gains"),
    "half of each instead of plain ones, MMASleepNet": ("mma-plain", "mma-both"),
}
"""What is changed from one training to another."""


def cut(recording: Recording) -> Epochs:
    """Cut a recording into epochs (n, 4, 3000), uV, as the preset does."""
    chosen = montage.pick(recording, PRESET.montage)
    rate = PRESET.sample_rate
    size = round(rate * PRESET.epoch_seconds)
    channels = [resampling.resample(s.samples(), s.sample_rate, rate) for s in chosen]
    count = min(len(c) for c in channels) // size
    return np.stack([c[: count * size].reshape(count, size) for c in channels], 1)


@cache
def night(subject: int, kind: str, seed: int, hours: float) -> tuple[Epochs, Stages]:
    """Epochs, uV, and their stages; those without a stage are left out."""
    simulated = simulate_night(subject, 1, hours=hours, seed=seed, randomise=kind == "randomised")
    assert simulated.recording.hypnogram is not None
    stages = simulated.recording.hypnogram.stages
    scored = stages != UNSCORED
    return cut(simulated.recording)[scored], stages[scored]


def scaled(epochs: Epochs, how: str) -> Epochs:
    """Scale each channel over the night: as `scaling.robust` or `scaling.magnitude` do, or not."""
    if how == "none":
        return epochs
    channels = np.ascontiguousarray(epochs.swapaxes(0, 1)).reshape(epochs.shape[1], -1)
    values = SCALINGS[how](channels).reshape(epochs.shape[1], len(epochs), -1)
    return np.ascontiguousarray(values.swapaxes(0, 1))


def laid_in(epochs: Epochs, stages: Stages, piece: Epochs, channels: Sequence[int]) -> Epochs:
    """Lay channels of a piece over the last epochs of wake before sleep: epochs as they were."""
    sleep = int(np.flatnonzero(stages)[0])
    if sleep < len(piece):
        raise ValueError(f"{sleep} epochs of wake before sleep, for a piece of {len(piece)}")
    laid = epochs.copy()
    laid[sleep - len(piece) : sleep, channels] = piece[:, channels]
    return laid


def gather(training: Training, args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather the epochs of all training nights, as the network gets them, and their stages."""
    kinds = [training.kinds[s % len(training.kinds)] for s in range(args.subjects)]
    nights = [night(s, kind, args.seed, args.hours) for s, kind in enumerate(kinds)]
    x = torch.from_numpy(np.concatenate([scaled(e, training.scaling) for e, _ in nights]))
    y = torch.from_numpy(np.concatenate([stages for _, stages in nights]).astype(np.int64))
    return x, y


def learn(
    training: Training, x: torch.Tensor, y: torch.Tensor, args: argparse.Namespace
) -> nn.Module:
    torch.manual_seed(args.seed)
    model = build_model(training.model, {})
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.steps)
    augmentation = Augmentation(gain_factor=training.gain_factor)
    order: list[torch.Tensor] = []
    for step in range(args.steps):
        order = order or list(torch.randperm(len(y))[: len(y) // BATCH * BATCH].split(BATCH))
        batch = order.pop()
        seeds = (args.seed, step)
        signals = vary_montage(x[batch], batch.numpy(), augmentation, seeds, MODALITIES)
        loss = functional.cross_entropy(model(signals), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"  step {step + 1}: loss {loss.item():.3f}", flush=True)
    return model


def settle(model: nn.Module, x: torch.Tensor) -> None:
    """Take BatchNorm's statistics anew, without dropout, from batches that are spread over `x`.

    In training dropout adds to the variances, which it does not when a night is scored; after some
    hundred steps much is lost by that (Li et al. 2019, arXiv:1801.05134).
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        elif isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # the mean of all batches
    apart = len(x) // BATCH
    with torch.no_grad():
        for first in range(0, apart, 3):
            model(x[first::apart])


def trained(training: Training, args: argparse.Namespace) -> tuple[nn.Module, float]:
    """Return a network, and the seconds that its training took; trained before or now."""
    settings = asdict(training) | {"batch": BATCH, "learning_rate": LEARNING_RATE}
    settings |= {name: getattr(args, name) for name in ("seed", "subjects", "hours", "steps")}
    del settings["label"]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = args.networks / f"{training.model}-{key}.pt"
    if not path.is_file():
        began = time.perf_counter()
        x, y = gather(training, args)
        model = learn(training, x, y, args)
        if training.model == SETTLED:
            settle(model, x[:SETTLING])
        seconds = time.perf_counter() - began
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state": model.state_dict(), "seconds": seconds}, path)
    kept = torch.load(path, weights_only=True)
    model = build_model(training.model, {})
    model.load_state_dict(kept["state"])
    return model.eval(), kept["seconds"]


def predict(model: nn.Module, epochs: Epochs, *, how: str) -> Stages:
    """Score a whole night, scaled by itself as those that the network has learnt from."""
    x = torch.from_numpy(scaled(epochs, how))
    with torch.inference_mode():
        stages = torch.cat([model(batch).argmax(1) for batch in x.split(256)])
    return stages.numpy().astype(np.int8)


def kappa(pairs: Sequence[tuple[Stages, Stages]]) -> float:
    """Kappa of the epochs of all nights together."""
    ours, theirs = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return round(float(cohen_kappa_score(ours, theirs)), 4)


def judge(training: Training, judges: dict, args: argparse.Namespace) -> dict[str, object]:
    """Judge one network; a row of the table."""
    model, seconds = trained(training, args)
    score = partial(predict, model, how=training.scaling)
    row: dict[str, object] = {**asdict(training), "seconds": round(seconds)}
    test = range(FIRST_TEST_SUBJECT, FIRST_TEST_SUBJECT + args.test_subjects)
    for kind in BOTH:
        nights = [night(s, kind, args.seed, args.hours) for s in test]
        row[f"kappa, {kind}"] = kappa([(stages, score(epochs)) for epochs, stages in nights])
    piece = judges["piece"]
    if piece is not None:
        counts = {"alone": np.bincount(score(piece), minlength=5)}
        for name, channels in LAID.items():
            counts[name] = np.zeros(5, int)
            for subject in range(FIRST_WAKE_SUBJECT, FIRST_WAKE_SUBJECT + WAKE_NIGHTS):
                epochs, stages = night(subject, "plain", args.seed, args.hours)
                sleep = int(np.flatnonzero(stages)[0])
                of_night = score(laid_in(epochs, stages, piece, channels))
                of_piece = of_night[sleep - len(piece) : sleep]
                counts[name] += np.bincount(of_piece, minlength=5)
        row["piece"] = {name: values.tolist() for name, values in counts.items()}
    ours = [score(epochs) for epochs in judges["moved"]]
    row["agreement"] = agreement(ours, judges)
    print(row, flush=True)
    return row


def agreement(ours: Sequence[Stages], judges: dict) -> dict[str, float]:
    """Kappa with each of the others that stage the nights of other constants, where scored."""
    scored = [stages != UNSCORED for stages in judges["others"]["scorer"]]
    return {
        name: kappa(
            [(a[is_in], b[is_in]) for a, b, is_in in zip(ours, others, scored, strict=True)]
        )
        for name, others in judges["others"].items()
    }


def gather_judges(args: argparse.Namespace) -> dict:
    """Gather the real piece, the nights of other constants, and what others say of them."""
    nights = [moved_night(n, hours=args.hours) for n in range(args.moved_nights)]
    others = {
        "scorer": [n.recording.hypnogram.stages for n in nights],
        "truth": [n.truth for n in nights],
        "default": default_stages([n.recording for n in nights]),
    }
    if args.yasa.is_file():
        others["YASA"] = yasa_stages(args)
    piece = cut(edf.read(args.piece)) if args.piece.is_file() else None
    return {"piece": piece, "moved": [cut(n.recording) for n in nights], "others": others}


def default_stages(recordings: Sequence[Recording]) -> list[Stages]:
    """Stage recordings as `score default` does."""
    engine = Engine.load(SHIPPED[DEFAULT])
    preset = presets.of_model(engine.facts, DEFAULT)
    stages = []
    with tempfile.TemporaryDirectory() as folder:
        for recording in recordings:
            of_leads = leads.choose(engine.facts, preset, recording)
            density, _ = hypnodensity(engine, of_leads, recording, Path(folder))
            stages.append(hypnogram_from(engine, of_leads, recording, density).stages)
    return stages


def yasa_stages(args: argparse.Namespace) -> list[Stages]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stages.json"
        program = HERE / "network_transfer_yasa.py"
        command = [args.yasa, program, str(args.moved_nights), str(args.hours), out]
        paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths})
        return [np.array(stages, np.int8) for stages in json.loads(out.read_text())]


def markdown(report: dict) -> str:
    return "\n".join(
        [
            "# What makes a network transfer from simulated nights",
            "",
            f"{report['subjects']} subjects with one night of {report['hours']:g} h, seed "
            f"{report['seed']}; {report['steps']} steps of {BATCH} epochs, Adam {LEARNING_RATE:g} "
            f"down to nothing along half a cosine, the same for every row; of {SETTLED} "
            "BatchNorm's statistics anew, without dropout. New nights: "
            f"{report['test_subjects']} of each kind; {report['moved_nights']} of other constants "
            "(each rhythm's level and the background's slope moved as far as `randomise` moves "
            f"them, seed apart). {report['machine']}, {report['commit']}.",
            "",
            "Kappa is against the simulated scorer. W on the real piece: the epochs called W of "
            f"300 s of real wake alone (10), and laid into {WAKE_NIGHTS} plain simulated nights "
            "before sleep, before scaling (30); then what the others were called.",
            "",
            "| model | trained on | kappa, plain nights | kappa, randomised | W alone | "
            + " | ".join(f"W laid in, {name}" for name in LAID)
            + " | s |",
            "|---|---|" + "---|" * 6,
            *[transfer_line(row) for row in report["rows"].values()],
            "",
            "On the nights of other constants, kappa with",
            "",
            "| | " + " | ".join(report["others"]["scorer"]) + " |",
            "|---|" + "---|" * len(report["others"]["scorer"]),
            *[
                agreement_line(f"{row['model']}, {row['label']}", row["agreement"])
                for row in report["rows"].values()
            ],
            *[
                agreement_line(name, values)
                for name, values in report["others"].items()
                if name != "scorer"
            ],
            "",
            "What each change did to kappa, and to the epochs called W. Every row is one training, "
            "so that differences of some hundredths mean nothing:",
            "",
            "| change | plain nights | randomised | other constants | "
            + " | ".join(f"W laid in, {name}" for name in LAID)
            + " |",
            "|---|" + "---|" * 5,
            *[
                change_line(change, report["rows"][before], report["rows"][after])
                for change, (before, after) in CHANGES.items()
                if before in report["rows"] and after in report["rows"]
            ],
            "",
        ]
    )


def transfer_line(row: dict) -> str:
    pieces = row.get("piece", {})
    cells = [
        row["model"],
        row["label"],
        *[f"{row[f'kappa, {kind}']:.3f}" for kind in BOTH],
        *[counts(pieces[name]) if name in pieces else "-" for name in ("alone", *LAID)],
        str(row["seconds"]),
    ]
    return "| " + " | ".join(cells) + " |"


def change_line(change: str, before: dict, after: dict) -> str:
    values = [after[f"kappa, {kind}"] - before[f"kappa, {kind}"] for kind in BOTH]
    values.append(after["agreement"]["scorer"] - before["agreement"]["scorer"])
    cells = [change, *[f"{value:+.3f}" for value in values]]
    for name in LAID:
        both = "piece" in before and "piece" in after
        cells.append(f"{after['piece'][name][0] - before['piece'][name][0]:+d}" if both else "-")
    return "| " + " | ".join(cells) + " |"


def agreement_line(name: str, values: dict) -> str:
    return f"| {name} | " + " | ".join(f"{v:.3f}" for v in values.values()) + " |"


def counts(stages: Sequence[int]) -> str:
    """Such as "6/30 (N2 24)": how many are wake, and what the others are."""
    others = [f"{name} {n}" for name, n in zip(HUMAN_STAGES[1:], stages[1:], strict=True) if n]
    return f"{stages[0]}/{sum(stages)}" + (f" ({', '.join(others)})" if others else "")


def main() -> None:
    data = Path(os.environ.get("SLEEPTOOLS_TEST_DATA", ""))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(TRAININGS))
    parser.add_argument("--subjects", type=int, default=16)
    parser.add_argument("--test-subjects", type=int, default=6)
    parser.add_argument("--moved-nights", type=int, default=6)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=provenance.HELD_OUT_SEED)
    parser.add_argument("--piece", type=Path, default=data / PIECE)
    parser.add_argument("--yasa", type=Path, default=HERE.parent / ".venv-bench/bin/python")
    parser.add_argument("--networks", type=Path, default=HERE.parent / "build/network_transfer")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="'-' writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judges = gather_judges(args)
    report = {
        "seed": args.seed,
        "subjects": args.subjects,
        "hours": args.hours,
        "steps": args.steps,
        "test_subjects": args.test_subjects,
        "moved_nights": args.moved_nights,
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "others": {name: agreement(s, judges) for name, s in judges["others"].items()},
        "rows": {name: judge(TRAININGS[name], judges, args) for name in args.rows.split(",")},
    }
    print(markdown(report))
    if str(args.out) != "-":
        (args.out / "network_transfer.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "network_transfer.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
