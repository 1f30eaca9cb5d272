"""Writes a set of epochs as `preprocess` would, every stage a frequency of its own."""

import numpy as np

from sleeptools import store
from sleeptools.preprocessing.epochs import EPOCHS_KIND, EPOCHS_VERSION, write_epoch_file
from sleeptools.recording.stages import HUMAN_STAGES


def write_epochs(  # noqa: PLR0913 - every one of them is a case to test
    folder,
    *,
    subjects=4,
    nights=1,
    count=20,
    seed=0,
    names=HUMAN_STAGES,
    channels=4,
    sample_rate=100.0,
    epoch_seconds=30.0,
    gaps=(),
    prefix="S",
    montage=None,
):
    """Write a set of epochs and return its folder; before each of `gaps` an epoch is left out."""
    rng = np.random.default_rng(seed)
    time_ = np.arange(round(sample_rate * epoch_seconds)) / sample_rate  # s
    place = np.arange(count) + sum(np.arange(count) >= gap for gap in gaps)
    recordings = []
    for subject in range(subjects):
        for night in range(1, nights + 1):
            name = f"{prefix}{subject:02d}{night}"
            stages = rng.permutation(np.arange(count) % len(names)).astype(np.int8)
            waves = np.sin(2 * np.pi * (1 + 3 * stages[:, None, None]) * time_) * 30
            noise = rng.normal(0, 15, (count, channels, len(time_)))
            write_epoch_file(
                folder / f"{name}.safetensors",
                signals=(waves + noise).astype(np.float32),
                stages=stages,
                onset=epoch_seconds * place,
                hypnogram=stages,
                facts={"recording": name, "subject": name[:-1], "night": night, "simulated": True},
            )
            recordings.append(name)
    montage = montage or [f"channel {i}" for i in range(channels)]
    facts = {
        "montage": montage,
        "sample_rate": sample_rate,
        "epoch_seconds": epoch_seconds,
        "stages": list(names),
        "recordings": recordings,
        "preset": {"name": "tiny"},
        "excluded": {"movement": 3},
    }
    files = [folder / f"{name}.safetensors" for name in recordings]
    store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, facts).write(folder, files)
    return folder
