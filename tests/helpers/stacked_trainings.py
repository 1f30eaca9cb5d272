"""Trainings of every model on few short epochs, for tests of what several do at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sleeptools import registry
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.training.batches import EpochSource
from sleeptools.training.loop import Training
from sleeptools.training.options import TrainOptions
from sleeptools.training.plan import make_plan
from sleeptools.training.stop import Stop
from synthetic_epochs import write_epochs

SMALL: dict[str, dict[str, Any]] = {
    "mmasleepnet": {},
    "masleepnet": {"sequence": 2},
    "ulw-sleepnet": {"channels": 2},
    "slumbernet": {"epoch_seconds": 0.5, "blocks": 5, "filters": 2, "dropout": 0.2},
    "mouse-cnn": {"sample_rate": 64},
    "mouse-cnn-attention": {"sample_rate": 64},
    "mouse-transformer": {"sample_rate": 64, "layers": 2},
    "attnsleep": {"channels": 2},
    "sleepprintnet": {"variant": "mmasleepnet", "electrodes": ["F3", "C3"]},
    "salientsleepnet": {"sequence": 11, "filters": 4},
    "spectral": {"sequence": 3},
}
"""Settings of each model that make a step short, and have dropout."""
RECIPE: dict[str, Any] = {
    "batch": 4,
    "passes": 30,
    "augmentation": {"gains": [0.3], "shift": 0.5, "noise": 0.05, "gain_factor": 2.0},
}


def epochs_of(name: str, folder: Path, **facts: Any) -> Path:
    """Write epochs as a model takes them."""
    config = registry.load("models", name).Config(**SMALL[name])
    size = {
        "channels": config.channels,
        "sample_rate": config.sample_rate,
        "epoch_seconds": config.epoch_seconds,
        "names": HUMAN_STAGES if config.stages == 5 else MOUSE_STAGES,
        "montage": [f"E{'OGE'[i % 3]}G {i}" for i in range(config.channels)],
    }
    return write_epochs(folder, **size | {"subjects": 4, "count": 5} | facts)


def trainings(
    name: str,
    epochs: Path,
    run: Path,
    *,
    source: type[EpochSource] = EpochSource,
    recipe: dict[str, Any] = RECIPE,
    device: str = "cpu",
    **changes: Any,
) -> list[Training]:
    """Make three folds, the training epochs of one fewer than those of the others."""
    settings = {"model": SMALL[name], "recipe": recipe}
    fields = {"folds": 3, "protocols": ("best-on-test",), "threads": 1, "settings": settings}
    plan = make_plan(epochs, run, TrainOptions(model=name, **fields | changes))
    signals = source(plan.data, torch.device(device))
    return [Training(task, signals, Stop()) for task in plan.tasks()]
