"""The leads from which a model of any EEG lead scores a recording.

Such a model says in its config.json which leads it would have, the best first, and how many it
takes at most. Its montage has one channel, so that each lead is scored by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from sleeptools.errors import DataError
from sleeptools.preprocessing.presets import Preset
from sleeptools.recording import montage
from sleeptools.recording.montage import MontageChannel
from sleeptools.recording.recording import Recording

LEADS = "leads"
"""Fact of a model that takes any lead: `wanted`, names of leads, and `most`, how many it takes."""
REFERENCES = ("M1", "M2")


def choose(
    facts: Mapping[str, Any], preset: Preset, recording: Recording, *, by_order: bool = False
) -> Preset:
    """Return the preset with the recording's leads as its montage; as it is for other models.

    Parameters
    ----------
    facts
        The model's facts; see `LEADS`.
    by_order
        Leave the montage as it is where no lead is known by its name, for the first EEG to take.

    Raises
    ------
    DataError
        If the recording has no EEG lead of a person.
    """
    if LEADS not in facts:
        return preset
    leads = _there(recording, facts[LEADS]["wanted"]) or _there(recording, _others(recording))
    if not leads:
        eeg = [s.label for s in recording.signals.values() if s.modality == "eeg"]
        if by_order and eeg:
            return preset
        unnamed = [  # in another language, say
            s.label for s in recording.signals.values() if s.modality == "other" and s.unit == "uV"
        ]
        example = next(iter(eeg or unnamed), "")
        channel = preset.montage[0].name
        cure = f"; `channels={channel}={example}` takes it, if it is an EEG of a person"
        raise DataError(
            f"{recording.id}: no EEG lead whose electrode is known, such as C4-M1 or Fpz-Cz",
            hint=f"there are: {', '.join(recording.signals)}{cure if example else ''}",
            code="SIG-MISSING",
        )
    return preset.model_copy(update={"montage": tuple(leads[: facts[LEADS]["most"]])})


def _there(recording: Recording, names: Iterable[str]) -> list[MontageChannel]:
    """Return those of some leads that the recording has, or that can be derived."""
    found = []
    for name in names:
        with contextlib.suppress(DataError):
            montage.match(recording, channel := MontageChannel(name))
            found.append(channel)
    return found


def _others(recording: Recording) -> list[str]:
    """Canonical names of the recording's other leads: an EEG electrode to whatever reference."""
    pairs = {n: montage.electrodes(n) for n in montage.canonical_names(recording.signals).values()}
    return [
        name
        for name, pair in pairs.items()
        if pair and montage.modality(name) == "eeg" and pair[0] not in REFERENCES
    ]
