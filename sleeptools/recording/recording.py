"""A recording: one continuous night of one subject, with each signal at its own sample rate.

Samples are decoded on request, one signal at a time, so that a recording of any length needs the
memory of one signal. `write_recording` and `read_recording` store it in the format of this
package, which docs/folders.md describes.
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
"""Facts about the subject, if known: age in years, sex "F" or "M", and the time of lights off in s
from the start of the recording."""


@dataclass(frozen=True)
class Signal:
    """One channel of a recording.

    Parameters
    ----------
    label
        Name of the channel in the file, for example "EEG Fpz-Cz".
    sample_rate
        Hz.
    unit
        Unit of `samples()`: "uV" for voltages, otherwise the unit of the file.
    modality
        One of `montage.MODALITIES`: "eeg", "eog", "emg", ... or "other".
    size
        Number of samples.
    read
        Reads the stored numbers, (size,) int16, int32 or float32.
    gain, offset
        Stored number * gain + offset = value in `unit`.
    dtype
        Type of the stored numbers.
    stored_range
        The smallest and the largest stored number that the file declares, if it does.
    parts
        The signals that it is a weighted sum of; none if it was recorded as it is.
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
    stored_range: tuple[float, float] | None = None
    parts: tuple[Signal, ...] = field(default=(), repr=False)

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return self.size / self.sample_rate

    def samples(self) -> Samples:
        """Read and decode the whole signal: (size,) float32 in `unit`."""
        return self.decode(self.read())

    def decode(self, stored: Stored) -> Samples:
        """Turn stored numbers, which stay as they are, into float32 in `unit`."""
        values = stored.astype(np.float32)
        values *= np.float32(self.gain)
        values += np.float32(self.offset)
        return values


@dataclass(frozen=True)
class Recording:
    """One continuous night of one subject.

    Parameters
    ----------
    id
        Subject and night, for example "SC4001".
    subject
        The subject, for example "SC400"; folds and splits are by subject.
    night
        Number of the night among the subject's nights, from 1.
    signals
        The signals by label, in the file's order.
    hypnogram
        The scoring, or None.
    start
        Date and time of the first sample, or None if unknown.
    facts
        Further facts that are stored with the recording, such as `simulated` and `SUBJECT_FACTS`;
        never a patient's name.
    other_hypnograms
        The hypnograms of further scorers, in the data set's order; empty without a `hypnogram`.
    """

    id: str
    subject: str
    night: int
    signals: Mapping[str, Signal]
    hypnogram: Hypnogram | None = None
    start: datetime | None = None
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    other_hypnograms: tuple[Hypnogram, ...] = ()

    @property
    def scorings(self) -> tuple[Hypnogram, ...]:
        """The hypnograms of all scorers, `hypnogram` first."""
        return () if self.hypnogram is None else (self.hypnogram, *self.other_hypnograms)

    def scored(self, scorings: Sequence[Hypnogram]) -> Recording:
        """Return the recording with these hypnograms, cut to the length of the signals.

        The facts count the epochs of each that lay before the start and past the end of the
        signals, and take over the notes of each.
        """
        clipped = [h.clipped(self.seconds) for h in scorings]
        facts = dict(self.facts)
        for number, (h, k) in enumerate(zip(scorings, clipped, strict=True), start=1):
            before = min(len(h), round((k.onset - h.onset) / h.epoch_seconds))
            facts[before_fact(number)] = before
            facts[past_fact(number)] = len(h) - len(k) - before
        notes = [str(facts.get("notes", "")), *(n for h in scorings for n in h.notes)]
        if any(notes):
            facts["notes"] = "; ".join(dict.fromkeys(n for n in notes if n))
        first = clipped[0] if clipped else None
        return replace(self, hypnogram=first, other_hypnograms=tuple(clipped[1:]), facts=facts)

    @property
    def seconds(self) -> float:
        """Duration of the shortest signal, s."""
        return min((s.seconds for s in self.signals.values()), default=0.0)

    def signal(self, label: str) -> Signal:
        """Return the signal of a label.

        Raises
        ------
        DataError
            If there is no such signal; the hint lists the recording's labels.
        """
        if label not in self.signals:
            raise DataError(
                f"{self.id}: no signal {label!r}",
                hint=f"there are: {', '.join(self.signals)}",
                code="SIG-MISSING",
            )
        return self.signals[label]


def before_fact(scorer: int) -> str:
    """Name of the fact that counts a scorer's epochs before the start of the signals."""
    return "epochs before the signals" + (f" {scorer}" if scorer > 1 else "")


def past_fact(scorer: int) -> str:
    """Name of the fact that counts a scorer's epochs past the end of the signals."""
    return "epochs past the signals" + (f" {scorer}" if scorer > 1 else "")


# --- our own format on disk: docs/folders.md ------------------------------------------------------

RECORDING_KIND = "sleeptools-recording"
RECORDINGS_KIND = "sleeptools-recordings"
RECORDING_VERSION = 2
HYPNOGRAM = "hypnogram"
SIGNAL_PREFIX = "signal "


def write_recording(path: Path, recording: Recording, inputs: Mapping[str, object]) -> None:
    """Write a recording as safetensors, each signal with its stored numbers and at its own rate.

    Parameters
    ----------
    inputs
        Fingerprint of every file that the recording was read from, by file name.
    """
    scored: dict[str, Stages] = {}
    for number, scoring in enumerate(recording.scorings, start=1):
        name = _hypnogram_name(number)
        scored |= {name: scoring.stages, f"{name} reasons": scoring.reasons}
    layout: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
        SIGNAL_PREFIX + s.label: (s.dtype, (s.size,)) for s in recording.signals.values()
    }
    layout |= {name: (np.int8, (len(values),)) for name, values in scored.items()}

    def fill(name: str) -> list[npt.NDArray[np.generic]]:
        if name in scored:
            return [scored[name]]
        return [recording.signals[name.removeprefix(SIGNAL_PREFIX)].read()]

    store.write_tensors(path, layout, fill, _facts(recording, inputs))


def _hypnogram_name(scorer: int) -> str:
    """Name of the array with the stages of a scorer, counted from 1."""
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
        "ranges": {n: s.stored_range for n, s in recording.signals.items() if s.stored_range},
        "hypnogram": scorings[0] if scorings else None,
        "others": scorings[1:],
        "facts": dict(recording.facts),
        "inputs": inputs,
    }


def read_recording(path: Path) -> Recording:
    """Read a recording that `write_recording` wrote; its samples are memory-mapped.

    Raises
    ------
    DataError
        If the file is damaged, of another format, or of a newer version.
    """
    tensors = store.read_tensors(path, RECORDING_KIND, RECORDING_VERSION)
    facts = tensors.facts
    _check_recording(facts, path)
    ranges = facts.get("ranges", {})  # not of recordings that older versions wrote
    signals = {
        s["label"]: _mapped_signal(tensors[SIGNAL_PREFIX + s["label"]], s, ranges.get(s["label"]))
        for s in facts["signals"]
    }
    grids = [facts.get("hypnogram"), *(facts.get("others") or [])] if facts.get("hypnogram") else []
    with store.building(path):
        scorings = [_scoring(tensors, i, g) for i, g in enumerate(grids, start=1)]
        start = datetime.fromisoformat(facts["start"]) if facts.get("start") else None
    return Recording(
        facts["id"],
        facts["subject"],
        facts["night"],
        signals,
        scorings[0] if scorings else None,
        start,
        facts["facts"],
        tuple(scorings[1:]),
    )


RECORDING_FACTS = {
    "id": "text",
    "subject": "text",
    "night": "whole",
    "start": "text?",
    "signals": "tables",
    "hypnogram": "table?",
    "others": "tables?",
    "facts": "table",
    "inputs": "table?",
}
SIGNAL_FACTS = {
    "label": "text",
    "sample_rate": "positive",
    "unit": "text",
    "modality": "text",
    "gain": "number",
    "offset": "number",
}
SCORING_FACTS = {
    "names": "texts",
    "epoch_seconds": "positive",
    "onset": "number",
    "scorer": "text",
}


def _check_recording(facts: Mapping[str, Any], path: Path) -> None:
    """Check the kinds of a recording's facts."""
    store.check_facts(facts, path, RECORDING_FACTS)
    for i, signal in enumerate(facts["signals"]):
        store.check_facts(signal, path, SIGNAL_FACTS, place=f"signals[{i}]")
    for i, scoring in enumerate([facts.get("hypnogram"), *(facts.get("others") or [])]):
        if scoring is not None:
            store.check_facts(scoring, path, SCORING_FACTS, place=f"hypnogram {i + 1}")


def _scoring(tensors: store.Tensors, scorer: int, grid: Mapping[str, Any]) -> Hypnogram:
    stages, reasons = (
        np.asarray(tensors[_hypnogram_name(scorer) + end]) for end in ("", " reasons")
    )
    return Hypnogram(
        stages, tuple(grid["names"]), grid["epoch_seconds"], grid["onset"], reasons, grid["scorer"]
    )


def _mapped_signal(
    samples: Stored, facts: Mapping[str, Any], stored_range: Sequence[float] | None
) -> Signal:
    stored = {key: facts[key] for key in SIGNAL_FACTS}
    low_high = (stored_range[0], stored_range[1]) if stored_range else None
    return Signal(
        **stored,
        size=len(samples),
        read=lambda: samples,
        dtype=samples.dtype,
        stored_range=low_high,
    )
