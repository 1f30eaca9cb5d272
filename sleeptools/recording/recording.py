"""A recording: one night of one subject, with each signal at its own sample rate.

Samples are decoded on request, one signal at a time, so that a recording of any length needs the
memory of one signal. Where it was interrupted, the samples of a signal lie one after the other all
the same, and `gaps` says when they were not recorded. `write_recording` and `read_recording` store
it in the format of this package, which docs/folders.md describes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.recording import timeline
from sleeptools.recording.hypnogram import Hypnogram, Stages
from sleeptools.recording.timeline import Gap, Stretches

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
    gaps
        Interruptions of the recording, for which there are no samples.
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
    gaps: tuple[Gap, ...] = field(default=(), repr=False)

    @cached_property
    def stretches(self) -> Stretches:
        """The stretches without interruption."""
        return timeline.split(self.gaps, self.size, self.sample_rate)

    @property
    def seconds(self) -> float:
        """Duration, gaps included, s."""
        begins, _, sizes = self.stretches
        return float(begins[-1] + sizes[-1] / self.sample_rate)

    def sample_numbers(self, onsets: timeline.Onsets) -> timeline.Counts:
        """Return the first sample not before each time, s from the start of the recording."""
        begins, firsts, sizes = self.stretches
        stretch = self.stretches.holding(onsets)
        numbers = timeline.sample_numbers(onsets - begins[stretch], self.sample_rate)
        return firsts[stretch] + np.minimum(numbers, sizes[stretch])

    def samples(self) -> Samples:
        """Read and decode the whole signal: (size,) float32 in `unit`."""
        return self.decode(self.read())

    def decode(self, stored: Stored) -> Samples:
        """Turn stored numbers into float32 in `unit`; no copy is made of what is so already."""
        if stored.dtype == np.float32 and (self.gain, self.offset) == (1.0, 0.0):
            return np.asarray(stored, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # damage; counted as not finite
            values = stored.astype(np.float32)
            values *= np.float32(self.gain)
            values += np.float32(self.offset)
        return values


@dataclass(frozen=True)
class Recording:
    """One night of one subject.

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

    def without(self, labels: Sequence[str]) -> Recording:
        """Return the recording without the signals of these labels, as far as it has them.

        Raises
        ------
        DataError
            If none is left.
        """
        signals = {n: s for n, s in self.signals.items() if n not in labels}
        dropped = [n for n in self.signals if n not in signals]
        if not dropped:
            return self
        if not signals:
            raise none_left(self.id)
        return replace(self, signals=signals, facts=ignored_facts(self.facts, dropped))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Interruptions, which all signals share, in order of time."""
        return next((s.gaps for s in self.signals.values()), ())

    @property
    def seconds(self) -> float:
        """Duration of the shortest signal, gaps included, s."""
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


Facts = Mapping[str, str | int | float | bool]
IGNORED = "ignored_channels"
"""Fact that names the signals which were left out as asked, as a JSON list."""


def ignored_facts(facts: Facts, labels: Sequence[str]) -> Facts:
    """Return a recording's facts with a note that signals are left out as asked."""
    if not labels:
        return facts
    notes = [str(facts["notes"])] if facts.get("notes") else []
    notes += [f"signal {label!r} is left out as asked" for label in labels]
    ignored = [*ignored_channels(facts), *labels]
    return {**facts, "notes": "; ".join(notes), IGNORED: json.dumps(ignored, ensure_ascii=False)}


def ignored_channels(facts: Facts) -> list[str]:
    """Return the labels of the signals that were left out as asked."""
    labels: list[str] = json.loads(str(facts.get(IGNORED, "[]")))
    return labels


def none_left(name: str) -> DataError:
    """Make the error for a recording all of whose signals are to be left out."""
    return DataError(f"{name}: no signal is left of it", hint="leave out fewer", code="EDF-CHANNEL")


def check_ignored(asked: Sequence[str], ignored: Iterable[str], hint: str = "") -> None:
    """Refuse labels of signals to be left out that none of several recordings has.

    Parameters
    ----------
    asked
        The labels that were given.
    ignored
        The labels of the signals that were left out.

    Raises
    ------
    DataError
        For the first label that no recording has.
    """
    present = set(ignored)
    if absent := [label for label in asked if label not in present]:
        raise DataError(
            f"no recording has a signal {absent[0]!r} to be left out",
            hint=hint or "'sleeptools inspect FILE' lists a file's signals",
            code="EDF-CHANNEL",
        )


def before_fact(scorer: int) -> str:
    """Name of the fact that counts a scorer's epochs before the start of the signals."""
    return "epochs before the signals" + (f" {scorer}" if scorer > 1 else "")


def past_fact(scorer: int) -> str:
    """Name of the fact that counts a scorer's epochs past the end of the signals."""
    return "epochs past the signals" + (f" {scorer}" if scorer > 1 else "")


# --- our own format on disk: docs/folders.md ------------------------------------------------------

RECORDING_KIND = "sleeptools-recording"
RECORDINGS_KIND = "sleeptools-recordings"
RECORDING_VERSION = 3
HYPNOGRAM = "hypnogram"
SIGNAL_PREFIX = "signal "


def write_recording(
    path: Path,
    recording: Recording,
    inputs: Mapping[str, object],
    settings: Mapping[str, object] | None = None,
) -> None:
    """Write a recording as safetensors, each signal with its stored numbers and at its own rate.

    Parameters
    ----------
    inputs
        Fingerprint of every file that the recording was read from, by file name.
    settings
        How it was read, where that is not by default, such as `ignore_channels`.
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

    store.write_tensors(path, layout, fill, _facts(recording, inputs, settings))


def _hypnogram_name(scorer: int) -> str:
    """Name of the array with the stages of a scorer, counted from 1."""
    return HYPNOGRAM if scorer == 1 else f"{HYPNOGRAM} {scorer}"


def _facts(
    recording: Recording, inputs: Mapping[str, object], settings: Mapping[str, object] | None
) -> dict[str, object]:
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
        "gaps": recording.gaps,
        "hypnogram": scorings[0] if scorings else None,
        "others": scorings[1:],
        "facts": dict(recording.facts),
        "inputs": inputs,
        **({"settings": settings} if settings else {}),
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
    ranges = facts.get("ranges") or {}  # not of recordings that older versions wrote
    gaps = tuple((float(begin), float(end)) for begin, end in facts.get("gaps") or ())
    signals = {
        s["label"]: replace(_mapped_signal(tensors, s, ranges.get(s["label"])), gaps=gaps)
        for s in facts["signals"]
    }
    recorded = min((s.size / s.sample_rate for s in signals.values()), default=0.0)
    timeline.check_gaps(gaps, recorded, str(path))
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
    "gaps": "spans?",
    "ranges": "spans by name?",
    "hypnogram": "table?",
    "others": "tables?",
    "facts": "table",
    "inputs": "table?",
    "settings": "table?",
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
    tensors: store.Tensors, facts: Mapping[str, Any], stored_range: Sequence[float] | None
) -> Signal:
    name = SIGNAL_PREFIX + facts["label"]
    layout = tensors.layout(name)
    if len(layout.shape) != 1:
        raise DataError(
            f"{tensors.path}: array {name!r} has shape {layout.shape}", code="ARR-SHAPE"
        )
    stored = {key: facts[key] for key in SIGNAL_FACTS}
    low_high = (stored_range[0], stored_range[1]) if stored_range else None
    return Signal(
        **stored,
        size=layout.shape[0],
        read=lambda: tensors[name],
        dtype=layout.dtype,
        stored_range=low_high,
    )
