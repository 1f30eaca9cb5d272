"""The signals that a page of review shows: which, in which order, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from sleeptools.errors import DataError, UsageError
from sleeptools.recording import montage
from sleeptools.recording.montage import VOLTAGE_MODALITIES, MontageChannel
from sleeptools.recording.recording import Recording, Samples, Signal
from sleeptools.recording.signals.resampling import resample
from sleeptools.report.packed_signals import PackedSignal, pack

HIGHEST_RATE: Final = 200.0  # Hz; a page of 30 s is some 1,200 pixels wide
MOST_CHANNELS: Final = 8  # unless they are named
SHOWN_FIRST: Final = ("eeg", "eog", "emg", "ecg")
BANDS: Final = {"eeg": (0.3, 35.0), "eog": (0.3, 35.0), "emg": (10.0, 100.0), "ecg": (0.3, 70.0)}
"""Filters for display of the AASM manual, Hz."""
MOUSE_BANDS: Final = {"eeg": (0.5, 60.0), "emg": (10.0, 100.0)}
GAINS: Final = {"eeg": 100.0, "eog": 100.0, "emg": 50.0, "ecg": 1000.0}
"""uV that half a lane stands for, of people."""
SLOWEST_BAND: Final = 50.0  # Hz; slower signals are envelopes or trends, and shown as they are
ROUND_GAINS: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0)
USUAL: Final = 80  # percentile of the blocks' ranges that fits into a lane
ROOM: Final = 1.2  # times that range are a lane


@dataclass(frozen=True)
class ShownSignal:
    """A signal of the page.

    Parameters
    ----------
    facts
        What the page is told of it.
    packed
        Its samples.
    note
        What was done to it, for people; empty if nothing.
    """

    facts: Mapping[str, object]
    packed: PackedSignal = field(repr=False)
    note: str = ""


def choose_signals(
    recording: Recording, named: Sequence[str], made_of: Mapping[str, str], assume_unit: str
) -> tuple[list[Signal], list[str]]:
    """Choose the signals to show.

    Parameters
    ----------
    named
        What the user asks for, in the order from the top.
    made_of
        Channels of the model that scored, and what each was made of; used if `named` is empty.
    assume_unit
        Unit of voltages for which the file gives none.

    Returns
    -------
    signals
        At least one.
    notes
        What is not shown, and why.

    Raises
    ------
    DataError
        If a named signal is not there, or the recording has none.
    """
    if named:
        return [_signal(recording, name, assume_unit) for name in named], []
    notes: list[str] = []
    chosen: list[Signal] = []
    for name, source in made_of.items():
        try:
            chosen.append(_signal(recording, source, assume_unit, shown_as=name))
        except DataError:
            try:
                chosen.append(_signal(recording, name, assume_unit))
            except DataError as e:
                notes.append(f"{name}, which the model used, is not shown: {e}")
    used = {s.label for s in chosen} | {*made_of.values()}
    kinds = SHOWN_FIRST if not chosen else SHOWN_FIRST[1:]
    further = [s for k in kinds for s in recording.signals.values() if s.modality == k]
    further = [s for s in further if s.label not in used] or []
    if not chosen and not further:
        further = list(recording.signals.values())
    for signal in further[: max(0, MOST_CHANNELS - len(chosen))]:
        try:
            chosen.append(_signal(recording, signal.label, assume_unit))
        except DataError as e:
            notes.append(f"{signal.label} is not shown: {e}")
    if not chosen:
        raise DataError(
            f"{recording.id}: no signal can be shown: {'; '.join(notes) or 'it has none'}",
            hint="`channels` names those to show, `assume_unit=uV` the unit of voltages",
            code="SIG-MISSING",
        )
    visible = {s.label for s in chosen} | used
    hidden = [label for label in recording.signals if label not in visible]
    if hidden:
        notes.append(f"signals not shown: {', '.join(hidden)}; `channels` shows any")
    return chosen, notes


def _signal(
    recording: Recording, name: str, assume_unit: str, *, shown_as: str | None = None
) -> Signal:
    """Find a signal by label or by montage, under the name it was asked for."""
    direct = recording.signals.get(name)
    if direct is not None and direct.modality not in VOLTAGE_MODALITIES:
        return direct
    channel = MontageChannel(shown_as or name, (name,))
    signal = montage.pick(recording, [channel], assume_unit)[0]
    return replace(signal, label=shown_as or name)


def show(signal: Signal, seconds: float, *, mouse: bool, gains: Mapping[str, float]) -> ShownSignal:
    """Bring a signal into the form in which a page draws it.

    Parameters
    ----------
    seconds
        Duration of the recording, s.
    mouse
        Whether the sleeper is a mouse, whose signals need other filters and gains.
    gains
        As in `ReviewOptions`.
    """
    samples, rate, note = _for_display(signal, seconds)
    finest = abs(signal.gain) if np.issubdtype(np.dtype(signal.dtype), np.integer) else 0.0
    packed = pack(samples, rate, finest)
    bands = MOUSE_BANDS if mouse else BANDS
    band = bands.get(signal.modality) if rate >= SLOWEST_BAND else None
    facts = {
        "label": signal.label,
        "modality": signal.modality,
        "unit": signal.unit,
        "rate": rate,
        "size": packed.size,
        "block": packed.block,
        "coefficients": packed.coefficients,
        "band": band,
        "gain": _gain(signal, packed, gains, mouse=mouse),
    }
    return ShownSignal(facts, packed, note)


def _for_display(signal: Signal, seconds: float) -> tuple[Samples, float, str]:
    """Return the samples on one time axis, gaps filled with NaN, at no more than 200 Hz."""
    samples, rate, note = signal.samples(), signal.sample_rate, ""
    stretches = signal.stretches
    to = min(rate, HIGHEST_RATE)
    if rate > HIGHEST_RATE:
        note = f"{signal.label} is shown at {to:g} Hz; it was recorded at {rate:g} Hz"
    timeline = np.full(round(seconds * to), np.nan, np.float32)
    for begin, first, size in zip(*(v.tolist() for v in stretches), strict=True):
        piece = _resampled(samples[first : first + size], rate, to)
        start = round(begin * to)
        room = min(len(piece), len(timeline) - start)
        timeline[start : start + max(0, room)] = piece[: max(0, room)]
    return timeline, to, note


def _resampled(samples: Samples, rate: float, to: float) -> Samples:
    """Resample; a sample that is no number becomes a short gap instead of spreading."""
    if rate == to or not len(samples):
        return samples
    bad = ~np.isfinite(samples)
    if not bad.any():
        return resample(samples, rate, to)
    out = resample(np.where(bad, 0, samples).astype(np.float32), rate, to)
    lost = np.unique((np.flatnonzero(bad) * (to / rate)).astype(np.int64))
    out[lost[lost < len(out)]] = np.nan
    return out


def _gain(
    signal: Signal, packed: PackedSignal, gains: Mapping[str, float], *, mouse: bool
) -> float:
    for key in (signal.label, signal.modality):
        if key in gains:
            return gains[key]
    usual = GAINS.get(signal.modality)
    if usual and signal.unit == "uV" and not mouse and signal.sample_rate >= SLOWEST_BAND:
        return usual
    half = float(np.percentile(packed.steps, USUAL)) * 127 * ROOM
    if not np.isfinite(half) or half <= 0:
        return 1.0
    ten = 10.0 ** np.floor(np.log10(half))
    return float(next(r for r in ROUND_GAINS if r * ten >= half * 0.999) * ten)


def check_gains(gains: Mapping[str, float], signals: Sequence[Signal]) -> None:
    """Refuse a gain of a channel or a modality that is not shown.

    Raises
    ------
    UsageError
        Naming it.
    """
    names = {s.label for s in signals} | {s.modality for s in signals}
    for name, value in gains.items():
        if name not in names:
            raise UsageError(
                f"`gains`: no channel or modality {name!r} is shown",
                hint=f"there are: {', '.join(sorted(names))}",
                code="USE-NAME",
            )
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"`gains`: {name} {value:g}; expected a number above 0")
