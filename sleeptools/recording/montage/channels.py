"""Derive the channels of a montage from the signals of a recording.

A channel is searched by its label, then by its canonical name, then as the difference of two
signals with a common reference: C4 - M1, C4 - (M1 + M2) / 2, or E1 - E2 as the negative of E2 - E1.
Two signals of the same canonical name are an error, because taking the first would be a guess.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from sleeptools.errors import DataError
from sleeptools.recording.montage import names, units
from sleeptools.recording.recording import Recording, Samples, Signal

BLOCK: Final = 1 << 20  # samples at a time


@dataclass(frozen=True)
class MontageChannel:
    """One channel of a montage, as a preset defines it.

    Parameters
    ----------
    name
        Name of the channel in the epochs, for example "EEG C4-M1".
    any_of
        Signals that can serve as the channel, the best first: labels, canonical names, or pairs of
        electrodes to be subtracted; the name itself if left out.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}
    name: str
    any_of: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """Signals that can serve as the channel, those of the table of fallbacks last."""
        choices = self.any_of or (self.name,)
        fallbacks = (
            f for w in choices for f in names.CHANNEL_TABLE["fallbacks"].get(names.canonical(w), ())
        )
        return (*choices, *fallbacks)


@dataclass(frozen=True)
class Match:
    """A channel as a weighted sum of a recording's signals.

    Parameters
    ----------
    name
        Name of the channel.
    terms
        Label and weight of every signal in the sum.
    """

    name: str
    terms: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        (first, weight), *further = self.terms
        text = first if weight == 1 else f"{weight:g} * {first}"
        for label, w in further:
            times = "" if abs(w) == 1 else f"{abs(w):g} * "
            text += f" {'-' if w < 0 else '+'} {times}{label}"
        return text


Terms = tuple[tuple[str, float], ...]


def match(recording: Recording, channel: MontageChannel) -> Match:
    """Find the signals of a recording from which a channel of the montage is derived.

    Raises
    ------
    DataError
        If there are none, or the name is ambiguous; the hint lists the recording's labels.
    """
    canonical = names.canonical_names(recording.signals)
    try:
        for candidate in channel.candidates:
            if terms := _direct(canonical, candidate) or _difference(canonical, candidate):
                return Match(channel.name, terms)
    except DataError as e:
        raise DataError(f"{recording.id}: {channel.name!r} {e}", hint=e.hint, code=e.code) from e
    tried = [w for w in channel.candidates if w != channel.name]
    kind = names.modality(channel.name)
    kinds = {signal.modality for signal in recording.signals.values()}
    kinds |= {names.modality(name) for name in canonical.values()}
    raise DataError(
        f"{recording.id}: no signal {channel.name!r}"
        + (f" (nor {', '.join(tried)})" if tried else "")
        + (f", nor any other {kind.upper()}" if not kinds & {kind, "other"} else ""),
        hint=_close_names_hint(canonical, channel) + f"there are: {', '.join(canonical)}",
        code="SIG-MISSING",
    )


def _single_label(labels: Sequence[str]) -> str:
    if len(labels) > 1:
        first = f"{labels[0]}#1" if f"{labels[0]}#2" in labels else labels[0]
        raise DataError(
            f"could be any of {', '.join(labels)}",
            hint=f'name the one to take in the preset: any_of = ["{first}"]',
            code="SIG-AMBIGUOUS",
        )
    return labels[0]


def _direct(canonical: Mapping[str, str], candidate: str) -> Terms:
    """Find a signal by its label ("NAME#1" is the first of several) or by its canonical name."""
    first = candidate.removesuffix("#1")
    if first in canonical and (first != candidate or f"{first}#2" not in canonical):
        return ((first, 1.0),)
    labels = [n for n, name in canonical.items() if name == names.canonical(candidate)]
    return ((_single_label(labels), 1.0),) if labels else ()


def _difference(canonical: Mapping[str, str], candidate: str) -> Terms:
    """Find signals with a common reference whose difference is a pair of electrodes."""
    pair = names.electrodes(candidate)
    if pair is None or not pair[1]:
        return ()
    labels: dict[tuple[str, str] | None, list[str]] = {}
    for label, name in canonical.items():
        labels.setdefault(names.electrodes(name), []).append(label)
    plus, minus = pair
    if (minus, plus) in labels:
        return ((_single_label(labels[minus, plus]), -1.0),)
    electrodes = minus.split("+")
    for reference in {p[1]: None for p in labels if p is not None}:
        if all((e, reference) in labels for e in (plus, *electrodes)):
            subtracted = (
                (_single_label(labels[e, reference]), -1 / len(electrodes)) for e in electrodes
            )
            return ((_single_label(labels[plus, reference]), 1.0), *subtracted)
    return ()


def _close_names_hint(canonical: Mapping[str, str], channel: MontageChannel) -> str:
    kinds = {names.modality(channel.name), "other"}  # an EEG is not near an EMG
    by_key = {
        names.key(name): label
        for label, name in canonical.items()
        if "other" in kinds & {names.modality(channel.name)} or names.modality(name) in kinds
    }
    target = names.key(names.canonical(channel.name))
    close = difflib.get_close_matches(target, by_key, 3, 0.7)
    return f"near: {', '.join(by_key[c] for c in close)}; " if close else ""


def pick(
    recording: Recording, montage: Sequence[MontageChannel], assumed_unit: str = ""
) -> list[Signal]:
    """Derive the channels of a montage, in its order and under its names; voltages in microvolts.

    Parameters
    ----------
    assumed_unit
        Unit of voltages for which the file gives none; if empty, such a signal is an error.

    Raises
    ------
    DataError
        If a channel is missing or ambiguous, a voltage has no known unit, or the signals of one
        channel have different sample rates.
    """
    return [_derived_signal(recording, match(recording, c), assumed_unit) for c in montage]


def _derived_signal(recording: Recording, match: Match, assumed_unit: str) -> Signal:
    modality = names.modality(match.name)
    signals = [recording.signals[label] for label, _ in match.terms]
    modality = signals[0].modality if modality == "other" else modality
    try:
        if modality in units.VOLTAGE_MODALITIES:
            signals = [units.in_microvolts(s, assumed_unit) for s in signals]
    except DataError as e:
        raise DataError(f"{recording.id}: {e}", hint=e.hint, code=e.code) from e
    if len({s.sample_rate for s in signals}) > 1:
        rates = ", ".join(f"{s.label} {s.sample_rate:g} Hz" for s in signals)
        raise DataError(f"{recording.id}: {match} mixes sample rates: {rates}", code="SIG-RATES")
    first = replace(signals[0], label=match.name, modality=modality)
    if match.terms[0][1] == 1 and len(signals) == 1:
        return first
    weights = [w for _, w in match.terms]
    return replace(
        first,
        size=min(s.size for s in signals),
        gain=1.0,
        offset=0.0,
        dtype=np.float32,
        stored_range=None,
        parts=tuple(signals),
        read=lambda: _sum(signals, weights),
    )


def _sum(signals: Sequence[Signal], weights: Sequence[float]) -> Samples:
    """Compute a weighted sum, with the stored numbers of one signal in memory at a time."""
    out = np.zeros(min(s.size for s in signals), np.float32)
    for signal, weight in zip(signals, weights, strict=True):
        stored = signal.read()
        for start in range(0, len(out), BLOCK):
            block = out[start : start + BLOCK]
            block += np.float32(weight) * signal.decode(stored[start : start + len(block)])
        del stored  # the next signal finds its memory free
    return out
