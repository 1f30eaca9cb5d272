"""A night's EDF to a hypnogram in a process of its own, for night.py; torch is not imported.

usage: night_native.py PSG MODEL OUT PRECISION
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sleeptools import formats, montage, signals, store
from sleeptools.engine import Engine


def main() -> None:
    psg, model, out, precision = sys.argv[1:]
    engine = Engine.load(model, precision=precision)
    recording = formats.read(Path(psg))
    rate = engine.facts["sample_rate"]
    channels, samples = engine.size
    epochs = int(recording.seconds // engine.facts["epoch_seconds"])
    x = np.empty((epochs, channels, samples), np.float32)
    for i, signal in enumerate(montage.pick(recording, engine.facts["montage"])):
        channel = signals.resample(signal.samples(), signal.sample_rate, rate)
        x[:, i] = channel[: epochs * samples].reshape(epochs, samples)
    stages = engine.hypnodensity(x).argmax(1)
    store.write_text(Path(out), "\n".join(engine.stages[stage] for stage in stages) + "\n")


if __name__ == "__main__":
    main()
