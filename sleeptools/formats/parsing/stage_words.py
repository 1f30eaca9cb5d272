"""Write hypnograms: turn epochs into the words of a format, and note what it cannot represent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sleeptools.errors import DataError
from sleeptools.formats.parsing.stage_labels import HUMAN_EPOCH
from sleeptools.recording import stages
from sleeptools.recording.hypnogram import GRID_TOLERANCE, Event, Hypnogram


def stage_names(hypnogram: Hypnogram) -> list[str]:
    """Stage name, or reason for being unscored, of every epoch."""
    return [
        hypnogram.names[s] if r == stages.SCORED else stages.REASONS[r]
        for s, r in zip(hypnogram.stages, hypnogram.reasons, strict=True)
    ]


def stage_events(
    hypnogram: Hypnogram, words: Mapping[str, str], to: str
) -> tuple[list[Event], list[str]]:
    """Make one event per epoch, so that a reader can determine the length of an epoch.

    Parameters
    ----------
    words
        The format's word by stage name and reason; epochs without a word give no event.
    to
        Name of the format, for messages.

    Returns
    -------
    events
        (onset, duration, word), s.
    notes
        What is merged or left out.

    Raises
    ------
    DataError
        If the format has no word for a stage, or no epoch has a word.
    """
    names = stage_names(hypnogram)
    _check_names(hypnogram, words, to)
    length = hypnogram.epoch_seconds
    events = [
        (hypnogram.onset + i * length, length, words[name])
        for i, name in enumerate(names)
        if name in words
    ]
    if not events:
        raise DataError(
            f"the hypnogram is unannotated throughout; {to} has no word for that", code="OUT-WORDS"
        )
    notes = _merged(names, words, to)
    tail = next((i for i, name in enumerate(reversed(names)) if name in words), 0)
    if tail:
        notes.append(f"{to}: the end is unannotated and left out ({tail} of {len(names)} epochs)")
    return events, notes


def word_lines(
    hypnogram: Hypnogram, words: Mapping[str, str], to: str
) -> tuple[list[str], list[str]]:
    """Write one word per epoch; the first epoch begins with the recording.

    Parameters
    ----------
    words
        The format's word by stage name and reason.
    to
        Name of the format, for messages.

    Returns
    -------
    words
        One word per epoch.
    notes
        What is merged or left out.

    Raises
    ------
    DataError
        If the format has no word for a stage, or the hypnogram does not begin a whole number of
        epochs after the recording.
    """
    _check_names(hypnogram, words, to)
    names, notes = _from_start(hypnogram, to)
    notes += _merged(names, words, to)
    if abs(hypnogram.epoch_seconds - HUMAN_EPOCH) > GRID_TOLERANCE:
        notes.append(
            f"{to} does not say that an epoch has {hypnogram.epoch_seconds:g} s; "
            f"read it with `epoch_seconds={hypnogram.epoch_seconds:g}`"
        )
    return [words[name] for name in names], notes


def _from_start(hypnogram: Hypnogram, to: str) -> tuple[list[str], list[str]]:
    ahead = hypnogram.onset / hypnogram.epoch_seconds
    if abs(ahead - round(ahead)) * hypnogram.epoch_seconds > GRID_TOLERANCE:
        raise DataError(
            f"the hypnogram begins {hypnogram.onset:g} s after the recording, which is no whole "
            f"number of {hypnogram.epoch_seconds:g}-s epochs; {to} has no times to say so",
            hint="write a format with times (edf, bids, luna .annot, usleep .ids), "
            "or give `start=0`",
            code="OUT-WORDS",
        )
    names, first = stage_names(hypnogram), round(ahead)
    if first >= 0:
        return ["unannotated"] * first + names, []
    if -first >= len(names):
        raise DataError(
            f"the hypnogram ends before the recording begins; {to} cannot say so", code="OUT-WORDS"
        )
    seconds = -first * hypnogram.epoch_seconds
    return names[-first:], [f"{to} has no times: {seconds:g} s before the recording are left out"]


def _check_names(hypnogram: Hypnogram, words: Mapping[str, str], to: str) -> None:
    lacking = [name for name in hypnogram.names if name not in words]
    if not lacking:
        return
    hint = f"its stages: {', '.join(n for n in words if n not in stages.REASONS)}"
    if hypnogram.is_of_either:
        species = "mouse" if hypnogram.names == stages.HUMAN_STAGES else "human"
        hint += f"; all that is scored is wake and REM: `scheme={species}` if it is of a {species}"
    raise DataError(f"{to} has no stage {', '.join(lacking)}", hint=hint, code="OUT-WORDS")


def _merged(names: Sequence[str], words: Mapping[str, str], to: str) -> list[str]:
    """Note which reasons for being unscored the format merges."""
    first: dict[str, str] = {}
    for name, word in words.items():
        if name in stages.REASONS:
            first.setdefault(word, name)
    return [
        f"{to}: {name} is written as {words[name]!r}, which reads back as {first[words[name]]} "
        f"({count} of {len(names)} epochs)"
        for name, count in Counter(names).items()
        if name in words and first.get(words[name], name) != name
    ]
