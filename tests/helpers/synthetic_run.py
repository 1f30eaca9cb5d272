"""Writes a small run folder as `train` would, with predictions drawn at random."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl

from sleeptools import store
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.recording.stages import HUMAN_STAGES

BOTH = ("leak-free", "best-on-test")


def night(rng, stages, epochs):
    """(epochs,) int8: stages that stay for a while, every one of them there."""
    turns = rng.integers(0, stages, epochs)
    turns[: 2 * stages] = np.repeat(np.arange(stages), 2)
    return np.repeat(turns, rng.integers(4, 30, epochs))[:epochs].astype(np.int8)


def probabilities(rng, truth, stages, skill):
    """(epochs, stages) float32 that lean to the truth."""
    logits = rng.normal(0, 1, (len(truth), stages))
    logits[np.arange(len(truth)), truth] += skill
    p = np.exp(1.5 * logits)
    return (p / p.sum(1, keepdims=True)).astype(np.float32)


def predict(rng, subject, nights, role, names, *, epochs, epoch_seconds, skill):
    tables = []
    for number in range(1, nights + 1):
        truth = night(rng, len(names), epochs)
        p = probabilities(rng, truth, len(names), skill)
        place = np.arange(epochs) + (np.arange(epochs) >= epochs // 2) * 6  # six epochs left out
        tables.append(
            pl.DataFrame(
                {
                    "recording": f"{subject}{number}",
                    "subject": subject,
                    "night": number,
                    "epoch": np.arange(epochs),
                    "onset": 1800.0 + place * epoch_seconds,
                    "role": role,
                    "stage": truth,
                    "predicted": p.argmax(1).astype(np.int8),
                }
                | {f"p_{name}": p[:, i] for i, name in enumerate(names)}
            )
        )
    return tables


def log(rng, protocol, passes):
    done = np.arange(1, passes + 1)
    rise = 0.8 * (1 - np.exp(-done / 3)) + rng.normal(0, 0.02, passes)
    chosen = int(rise.argmax())
    leak_free = protocol == "leak-free"
    empty = [None] * passes
    return pl.DataFrame(
        {
            "pass": done,
            "step": done * 12,
            "loss": 1.6 * np.exp(-done / 4) + 0.3 + rng.normal(0, 0.02, passes),
            "train_accuracy": np.clip(rise + 0.1, 0, 1),
            "val_accuracy": rise + 0.05 if leak_free else empty,
            "val_kappa": rise if leak_free else empty,
            "val_macro_f1": rise - 0.02 if leak_free else empty,
            "test_kappa": empty if leak_free else rise,
            "seconds": done * 1.5,
            "selected": done == chosen + 1,
        }
    )


def write(  # noqa: PLR0913 - every one of them is a case to test
    folder: Path,
    *,
    subjects=4,
    nights=1,
    folds=2,
    epochs=160,
    protocols=BOTH,
    seeds=(0,),
    names=HUMAN_STAGES,
    epoch_seconds=30.0,
    simulated=True,
    model="mmasleepnet",
    passes=8,
    prefix="SC4",
    preset="sleep-edf",
    unseen=(),
):
    """Write a run folder and return it; its final model was tested on the subjects `unseen`."""
    who = [f"{prefix}{i:02d}" for i in range(subjects)]
    tests = [part.tolist() for part in np.array_split(who, folds)]
    config = {
        "format": "sleeptools-run",
        "version": 1,
        "model": model,
        "folds": folds,
        "folds_from": "seed",
        "protocols": list(protocols),
        "seeds": list(seeds),
        "recipe": {"batch": 64, "passes": passes},
    }
    store.write_toml(folder / "config.toml", config)
    roles = []
    for protocol in protocols:
        for i, test in enumerate(tests):
            rest = [s for s in who if s not in test]
            validation = rest[:1] if protocol == "leak-free" else []
            role = dict.fromkeys(rest, "train") | dict.fromkeys(validation, "val")
            role |= dict.fromkeys(test, "test")
            roles += [(protocol, i, s, r) for s, r in sorted(role.items())]
            for seed in seeds:
                rng = np.random.default_rng([seed, i])
                skill = 1.8 if protocol == "leak-free" else 2.0
                how = {"epochs": epochs, "epoch_seconds": epoch_seconds, "skill": skill}
                parts = [predict(rng, s, nights, "test", names, **how) for s in test]
                parts += [predict(rng, s, nights, "val", names, **how) for s in validation]
                place = folder / protocol / f"seed-{seed}" / f"fold-{i:02d}"
                store.write_table(place / "predictions.parquet", pl.concat(itertools.chain(*parts)))
                store.write_text(place / "log.csv", log(rng, protocol, passes).write_csv())
                purposes = ["selection"] * (passes if protocol != "leak-free" else 0) + ["score"]
                lines = [f"{protocol},{i},{purpose}" for i, purpose in enumerate(purposes)]
                store.write_text(place / "audit.csv", "\n".join(["protocol,pass,purpose", *lines]))
                store.write_json(
                    place / "config.json",
                    {
                        "format": "sleeptools-model",
                        "version": 1,
                        "stages": list(names),
                        "epoch_seconds": epoch_seconds,
                        "simulated": simulated,
                        "simulators": [SIMULATOR] if simulated else [],
                        "preprocessing": {"preset": {"name": preset}},
                    },
                )
    if unseen:
        roles += [("held-out", 0, s, "train") for s in who]
        roles += [("held-out", 0, s, "test") for s in unseen]
        store.write_toml(
            folder / "config.toml", config | {"final": True, "hold_out": sorted(unseen)}
        )
        rng = np.random.default_rng(7)
        how = {"epochs": epochs, "epoch_seconds": epoch_seconds, "skill": 1.8}
        parts = [predict(rng, s, nights, "test", names, **how) for s in unseen]
        place = folder / "held-out/seed-0/fold-00"
        store.write_table(place / "predictions.parquet", pl.concat(itertools.chain(*parts)))
        store.write_text(place / "audit.csv", "protocol,pass,purpose\nheld-out,8,score\n")
    store.write_table(
        folder / "folds.parquet",
        pl.DataFrame(roles, schema=["protocol", "fold", "subject", "role"], orient="row"),
    )
    data = {
        "preset": {
            "name": preset,
            "rules": "R&K, stages 3 and 4 are N3",
            "trim": {"rule": "drop-then-trim", "margin_minutes": 30.0},
        },
        "montage": ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"],
        "sample_rate": 100.0,
        "epoch_seconds": epoch_seconds,
        "stages": list(names),
        "recordings": [f"{s}{n + 1}" for s in who for n in range(nights)],
        "subjects": who,
        "counts": dict.fromkeys(names, subjects * nights * epochs // len(names)),
        "excluded": {"unknown": 12, "movement": 7, "wake trimmed": 430},
        "simulated": simulated,
        "simulators": [SIMULATOR] if simulated else [],
    }
    facts = {
        "model": model,
        "parameters": 1581637,
        "montage": data["montage"],
        "stages": list(names),
        "sample_rate": 100.0,
        "epoch_seconds": epoch_seconds,
        "simulated": simulated,
        "data": data,
        "folds": folds,
        "protocols": list(protocols),
        "seeds": list(seeds),
        "device": "cpu",
        "selection": "validation kappa",
    }
    argv = ["/usr/bin/sleeptools", "train", "epochs", str(folder.name)]
    store.Manifest("sleeptools-run", facts=facts, argv=argv).write(folder)
    return folder


def explain(folder, *, names=HUMAN_STAGES, epochs=300, modalities=("EEG 1", "EEG 2", "EOG", "EMG")):
    """Write into every training of a run what `train` tells of its model."""
    for number, place in enumerate(sorted(folder.glob("*/seed-*/fold-*"))):
        rng = np.random.default_rng(number)
        stage = rng.integers(0, len(names), epochs).astype(np.int8)
        index = np.arange(epochs, dtype=np.int32)
        points = rng.normal(0, 1, (4, epochs, 2)) + np.stack([np.sin(stage), np.cos(stage)], 1)
        ways = ("before pca", "after pca", "before", "after")
        arrays = {
            "recording": np.zeros(epochs, np.int32),
            "epoch": index,
            "stage": stage,
            "predicted": stage,
            "modality recording": np.zeros(epochs, np.int32),
            "modality epoch": index,
            "modality stage": stage,
            "modality weights": rng.uniform(0, 1, (epochs, len(modalities))).astype(np.float32),
        } | dict(zip(ways, points.astype(np.float32), strict=True))
        facts = {
            "format": "sleeptools-explain",
            "version": 1,
            "recordings": ["SC4001"],
            "modalities": list(modalities),
            "before": "features of the branches",
            "after": "after the attention fusion",
        }
        store.write_arrays(place / "explain.safetensors", arrays, facts)
    return folder
