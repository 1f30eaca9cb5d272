"""YASA's classifier (Vallat & Walker 2021, eLife 10:e70092) behind the interface of our models.

YASA runs in a process of its own, `sleeptools.inference.yasa_process`, by its public API: its
classifiers are joblib files of its own wheel, and only it loads them. The signals go there at the
recorder's rate, so that its stages are those that YASA gives by hand.
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from sleeptools.errors import DataError, UnavailableError
from sleeptools.native import Floats
from sleeptools.recording.recording import Recording, Signal
from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.store.libraries import install_line

NAME: Final = "yasa"
RELEASE: Final = "yasa"
"""Fact: the version of YASA."""
PROCESS: Final = "sleeptools.inference.yasa_process"
LEAST_RATE: Final = 80.0  # Hz; YASA takes no slower signals
MICRO: Final = 1e6  # uV in a volt


class YasaNetwork:
    """YASA as a network of whole recordings.

    Parameters
    ----------
    facts
        Contents of the config.json that ships for it; `RELEASE` is added.

    Raises
    ------
    UnavailableError
        If YASA is not installed.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("yasa") is None:
            raise UnavailableError(
                "YASA is not installed", hint=install_line("yasa>=0.7"), code="YASA-NONE"
            )
        self.facts = {**facts, RELEASE: version("yasa")}

    def __call__(self, epochs: Floats) -> Floats:
        """Never: YASA takes recordings, not epochs."""
        raise AssertionError(f"YASA was given epochs {epochs.shape}")

    def score(self, recording: Recording, signals: Sequence[Signal]) -> Floats:
        """Score a recording.

        Parameters
        ----------
        signals
            EEG and, where there are such, EOG and EMG, uV, at one rate of at least 80 Hz.

        Returns
        -------
        density
            (epochs, 5) float32, every whole epoch from the first sample on.

        Raises
        ------
        DataError
            If the recording is interrupted, or YASA fails.
        """
        if any(signal.gaps for signal in signals):
            raise DataError(
                f"{recording.id}: YASA takes recordings without gaps",
                hint="score it with another model, which leaves the gap unscored",
                code="MODEL-FIT",
            )
        if signals[0].sample_rate < LEAST_RATE:
            raise DataError(
                f"{recording.id}: {signals[0].label} has {signals[0].sample_rate:g} Hz; YASA takes "
                f"{LEAST_RATE:g} Hz at least",
                code="MODEL-FIT",
            )
        size = min(signal.size for signal in signals)
        volts = np.stack([s.samples()[:size].astype(np.float64) / MICRO for s in signals])
        head = {"rate": signals[0].sample_rate, "names": [s.label for s in signals]}
        given = io.BytesIO()
        given.write(json.dumps(head).encode() + b"\n")
        np.save(given, volts)
        done = subprocess.run(
            [sys.executable, "-m", PROCESS],
            input=given.getvalue(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise DataError(
                f"{recording.id}: YASA failed: {lines[-1] if lines else done.returncode}",
                code="MODEL-FIT",
            )
        density: Floats = np.load(io.BytesIO(done.stdout), allow_pickle=False)
        assert density.shape[1] == len(HUMAN_STAGES)
        return density


def usable(signals: Sequence[Signal]) -> tuple[list[Signal], list[str]]:
    """Keep the signals that YASA can take beside the first, and say why it cannot take others."""
    rate = signals[0].sample_rate
    kept = [s for s in signals if s.sample_rate == rate]
    texts = [
        f"scored without {s.label}: {s.sample_rate:g} Hz, and the EEG has {rate:g} Hz"
        for s in signals
        if s.sample_rate != rate
    ]
    return kept, texts
