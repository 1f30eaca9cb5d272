"""Who and what a model has learnt from, and whether tested subjects or nights are among that.

A model's config.json names the subjects that trained and validated it, those of its parents too,
and has marks of their nights: SHA-256 of the signals of an epoch every hour, cut to 12 digits. Two
nights with a mark in common are one night, whatever its subject is called and whoever scored it, as
long as their signals were processed alike. Models trained before there were marks have subjects
only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from sleeptools.errors import DataError
from sleeptools.preprocessing.epochs import EpochFile, EpochSet

MARK_SECONDS: Final = 3600.0
MARK_DIGITS: Final = 12  # of hexadecimal: 48 bits
SHOWN: Final = 4  # subjects or nights in a message

Marks = dict[str, list[str]]
"""Marks of nights by recording."""


def night_marks(data: EpochSet, subjects: Iterable[str]) -> Marks:
    """Give the marks of the nights of these subjects, as for the facts of a model."""
    chosen = set(subjects)
    return {f.recording: _marks(f, data) for f in data.files if f.subject in chosen}


def _marks(file: EpochFile, data: EpochSet) -> list[str]:
    """Give the marks of one night; flat epochs, which nights share, have none."""
    number = np.rint(file.onset / data.epoch_seconds).astype(np.int64)
    every = max(1, round(MARK_SECONDS / data.epoch_seconds))
    marks = []
    for row in np.flatnonzero(number % every == 0):
        signals = np.ascontiguousarray(file.signals[row])
        if np.ptp(signals, axis=-1).any():
            marks.append(hashlib.sha256(signals.tobytes()).hexdigest()[:MARK_DIGITS])
    return marks


def learnt_subjects(facts: Mapping[str, Any]) -> set[str]:
    """List who trained or validated a model or its parents, from the facts of its config.json."""
    parent = facts.get("parent") or {}
    learnt = {*facts.get("train_subjects", ()), *facts.get("validation_subjects", ())}
    return learnt | {*parent.get("subjects", ())}


def learnt_marks(facts: Mapping[str, Any]) -> Marks:
    """Give the marks of the nights that a model or its parents learnt from."""
    parent = facts.get("parent") or {}
    return {**parent.get("night_marks", {}), **facts.get("night_marks", {})}


def check_unseen(
    facts: Mapping[str, Any],
    data: EpochSet,
    tested: Sequence[str],
    *,
    allow_shared_subject_ids: bool,
) -> str:
    """Describe the check of tested subjects for those that a model has learnt from.

    Parameters
    ----------
    facts
        Contents of the model's config.json.
    data
        The epochs.
    tested
        The subjects that are tested on them.
    allow_shared_subject_ids
        Accept subjects with the ids of ones that the model has learnt from: they are different
        people. Nights with the same signals are then said to leak.

    Raises
    ------
    DataError
        If there are any, and they are not allowed.
    """
    learnt, nights = learnt_subjects(facts), _shared_nights(facts, data, tested)
    shared = sorted(learnt & {*tested})
    if nights and allow_shared_subject_ids:
        return f"LEAKY: nights whose signals trained the model, by request: {_listed(nights)}"
    if nights and not shared:
        raise DataError(
            f"{data.folder}: nights whose signals trained the model: {_listed(nights)}",
            hint="they have other subjects' ids there; give epochs that it has not learnt from",
            code="LEAK-SUBJECTS",
        )
    if not learnt:
        return "the model's folder does not say who trained it: nothing could be checked"
    if not shared:
        return f"none of the {len(tested)} tested subjects trained or validated the model"
    if allow_shared_subject_ids:
        return (
            f"{len(shared)} tested subjects are named as ones that trained, and said to be others"
        )
    raise DataError(
        f"{data.folder}: subjects that trained the model: {_listed(shared)} ({len(shared)} of "
        f"{len(tested)})",
        hint="give other subjects' epochs; `allow_shared_subject_ids` if only the ids are the same",
        code="LEAK-SUBJECTS",
    )


def _shared_nights(facts: Mapping[str, Any], data: EpochSet, tested: Sequence[str]) -> list[str]:
    learnt = {mark for marks in learnt_marks(facts).values() for mark in marks}
    return [r for r, marks in night_marks(data, tested).items() if learnt & {*marks}]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
