"""A recording: one continuous night of one subject, its signals each at their own rate.

Samples are decoded when asked for, one signal at a time, so that a recording of any length costs
the memory of one signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.recording.hypnogram import Hypnogram, Stages

Samples = npt.NDArray[np.float32]
Stored = npt.NDArray[np.int16] | npt.NDArray[np.int32] | Samples

SUBJECT_FACTS = ("age", "sex", "lights_off")
"""Facts about the subject, where known: years, "F" or "M", s from the start of the recording."""


@dataclass(frozen=True)
class Signal:
    """One channel.

    Parameters
    ----------
    label
        As the file names it, for example "EEG Fpz-Cz".
    sample_rate
        Hz.
    unit
        Unit of `samples()`: "uV" for electrode signals, the file's own otherwise.
    modality
        "eeg", "eog", "emg", ... or "other".
    size
        Number of samples.
    read
        Gives the stored numbers, (size,) int16, int32 or float32.
    gain, offset
        Stored number * gain + offset = value in `unit`.
    dtype
        Type of the stored numbers.
    """

    label: str
    sample_rate: float
    unit: str
    modality: str
    size: int
    read: Callable[[], Stored] = field(repr=False)
    gain: float = 1.0
    offset: float = 0.0
    dtype: npt.DTypeLike = np.float32

    @property
    def seconds(self) -> float:
        """Length, s."""
        return self.size / self.sample_rate

    def samples(self) -> Samples:
        """Decode the whole signal: (size,) float32 in `unit`."""
        values = self.read().astype(np.float32)
        values *= np.float32(self.gain)
        values += np.float32(self.offset)
        return values


@dataclass(frozen=True)
class Recording:
    """One continuous night of one subject.

    Parameters
    ----------
    id
        "SC4001": subject and night.
    subject
        "SC400": who; the unit of every split.
    night
        Which of the subject's nights, from 1.
    signals
        By label, in the file's order.
    hypnogram
        The scoring, or None.
    start
        When it began, or None if unknown.
    facts
        What else is known and travels along, such as `simulated` and `SUBJECT_FACTS`; never a
        patient's name.
    others
        What further scorers wrote, in the data set's order; none without a `hypnogram`.
    """

    id: str
    subject: str
    night: int
    signals: Mapping[str, Signal]
    hypnogram: Hypnogram | None = None
    start: datetime | None = None
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    others: tuple[Hypnogram, ...] = ()

    @property
    def scorings(self) -> tuple[Hypnogram, ...]:
        """Every scorer's hypnogram, the first scorer's first."""
        return () if self.hypnogram is None else (self.hypnogram, *self.others)

    def scored(self, scorings: Sequence[Hypnogram]) -> Recording:
        """Return the recording with these hypnograms, cut to the signals.

        How many epochs of each lay before the start and past the end of the signals is counted in
        the facts.
        """
        kept = [h.clipped(self.seconds) for h in scorings]
        facts = dict(self.facts)
        for number, (h, k) in enumerate(zip(scorings, kept, strict=True), start=1):
            before = min(len(h), round((k.onset - h.onset) / h.epoch_seconds))
            facts[before_fact(number)] = before
            facts[past_fact(number)] = len(h) - len(k) - before
        first = kept[0] if kept else None
        return replace(self, hypnogram=first, others=tuple(kept[1:]), facts=facts)

    @property
    def seconds(self) -> float:
        """Length of the shortest signal, s."""
        return min((s.seconds for s in self.signals.values()), default=0.0)

    def signal(self, label: str) -> Signal:
        """Return the signal of that label.

        Raises
        ------
        DataError
            If there is none; the message lists what is there.
        """
        if label not in self.signals:
            raise DataError(
                f"{self.id}: no signal {label!r}", hint=f"there are: {', '.join(self.signals)}"
            )
        return self.signals[label]


def before_fact(scorer: int) -> str:
    """Name the fact that counts a scorer's epochs before the start of the signals."""
    return "epochs before the signals" + (f" {scorer}" if scorer > 1 else "")


def past_fact(scorer: int) -> str:
    """Name the fact that counts a scorer's epochs past the end of the signals."""
    return "epochs past the signals" + (f" {scorer}" if scorer > 1 else "")


# --- our own format on disk: docs/folders.md ------------------------------------------------------

RECORDING_KIND = "sleeptools-recording"
FOLDER_KIND = "sleeptools-recordings"
RECORDING_VERSION = 2
HYPNOGRAM = "hypnogram"
PREFIX = "signal "


def write_recording(path: Path, recording: Recording, inputs: Mapping[str, object]) -> None:
    """Write a recording, one signal at a time, each as it is stored and at its own rate.

    Parameters
    ----------
    inputs
        Fingerprint of every file it was read from, by name.
    """
    scored: dict[str, Stages] = {}
    for number, scoring in enumerate(recording.scorings, start=1):
        name = _name(number)
        scored |= {name: scoring.stages, f"{name} reasons": scoring.reasons}
    layout: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
        PREFIX + s.label: (s.dtype, (s.size,)) for s in recording.signals.values()
    }
    layout |= {name: (np.int8, (len(values),)) for name, values in scored.items()}

    def fill(name: str) -> list[npt.NDArray[np.generic]]:
        if name in scored:
            return [scored[name]]
        return [recording.signals[name.removeprefix(PREFIX)].read()]

    store.write_tensors(path, layout, fill, _facts(recording, inputs))


def _name(scorer: int) -> str:
    """Name the array of the first, second, ... scorer."""
    return HYPNOGRAM if scorer == 1 else f"{HYPNOGRAM} {scorer}"


def _facts(recording: Recording, inputs: Mapping[str, object]) -> dict[str, object]:
    keep = ("label", "sample_rate", "unit", "modality", "gain", "offset")
    grid = ("names", "epoch_seconds", "onset", "scorer")
    scorings = [{k: getattr(h, k) for k in grid} for h in recording.scorings]
    return {
        "format": RECORDING_KIND,
        "version": RECORDING_VERSION,
        "id": recording.id,
        "subject": recording.subject,
        "night": recording.night,
        "start": recording.start.isoformat() if recording.start else None,
        "signals": [{k: getattr(s, k) for k in keep} for s in recording.signals.values()],
        "hypnogram": scorings[0] if scorings else None,
        "others": scorings[1:],
        "facts": dict(recording.facts),
        "inputs": inputs,
    }


def read_recording(path: Path) -> Recording:
    """Map a recording that `write_recording` wrote.

    Raises
    ------
    DataError
        If the file is damaged, of another kind or of a newer version.
    """
    t = store.read_tensors(path, RECORDING_KIND, RECORDING_VERSION)
    f = t.facts
    signals = {s["label"]: _mapped(t[PREFIX + s["label"]], s) for s in f["signals"]}
    grids = [f["hypnogram"], *f.get("others", [])] if f["hypnogram"] else []
    scorings = [_scoring(t, i, g) for i, g in enumerate(grids, start=1)]
    start = datetime.fromisoformat(f["start"]) if f["start"] else None
    return Recording(
        f["id"],
        f["subject"],
        f["night"],
        signals,
        scorings[0] if scorings else None,
        start,
        f["facts"],
        tuple(scorings[1:]),
    )


def _scoring(t: store.Tensors, scorer: int, grid: Mapping[str, Any]) -> Hypnogram:
    stages, reasons = (np.asarray(t[_name(scorer) + end]) for end in ("", " reasons"))
    return Hypnogram(
        stages, tuple(grid["names"]), grid["epoch_seconds"], grid["onset"], reasons, grid["scorer"]
    )


def _mapped(samples: Stored, facts: Mapping[str, Any]) -> Signal:
    return Signal(**facts, size=len(samples), read=lambda: samples, dtype=samples.dtype)
