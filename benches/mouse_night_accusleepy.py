"""The same mouse by AccuSleePy in a process of its own, for mouse_night.py; runs where it is.

usage: mouse_night_accusleepy.py RECORDING.parquet RATE EPOCH_SECONDS MODEL.pth OUT.csv

With `make MODEL.pth EPOCH_SECONDS` in their place it writes a model with random weights. Its
training module imports torchvision for a function that reads training images; scoring does not
need it, and loading it would cost time, so an empty module stands in.
"""

from __future__ import annotations

import sys
import types

import numpy as np

EPOCHS_AT_ONCE = 9  # as its published models


def without_torchvision() -> None:
    package, io = types.ModuleType("torchvision"), types.ModuleType("torchvision.io")
    io.read_image = None  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": package, "torchvision.io": io}


def make(model: str, epoch_seconds: float) -> None:
    import torch
    from accusleepy import fileio, models

    torch.manual_seed(7)
    states = fileio.load_config().brain_state_set
    network = models.SSANN(n_classes=states.n_classes)
    models.save_model(network, model, epoch_seconds, EPOCHS_AT_ONCE, "default", states, False)


def score(recording: str, rate: float, epoch_seconds: float, model: str, out: str) -> None:
    without_torchvision()
    from accusleepy import classification, constants, fileio, models, signal_processing

    config = fileio.load_config()
    states = config.brain_state_set
    network, *_ = models.load_model(model)
    eeg, emg = fileio.load_recording(recording)
    eeg, emg, rate = signal_processing.resample_and_standardize(eeg, emg, rate, epoch_seconds)
    middle, spread = np.zeros(constants.IMAGE_HEIGHT), np.ones(constants.IMAGE_HEIGHT)
    labels, confidence = classification.score_recording(
        network, eeg, emg, middle, spread, rate, epoch_seconds, EPOCHS_AT_ONCE, states,
        config.emg_filter,
    )  # fmt: skip
    fileio.save_labels(labels, out, confidence)


def main() -> None:
    first, *rest = sys.argv[1:]
    if first == "make":
        make(rest[0], float(rest[1]))
    else:
        rate, seconds, model, out = rest
        score(first, float(rate), float(seconds), model, out)


if __name__ == "__main__":
    main()
