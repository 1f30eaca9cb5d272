"""Who is tested when: the folds that a training command asks for, and the epochs they deal out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeptools.errors import UsageError
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs.folds import (
    SPLITS,
    STRATIFIED,
    SUBJECTS,
    Division,
    EpochFold,
    make_folds,
    published_folds,
    stratified_folds,
)
from sleeptools.store import settings
from sleeptools.training.options import BY_SEED, PUBLISHED, TrainOptions

if TYPE_CHECKING:
    import polars as pl

HELD_OUT = ("val", "test")


def deal(data: EpochSet, options: TrainOptions) -> Sequence[Division]:
    """Deal out what the options ask for; nothing where only `final` is.

    Raises
    ------
    UsageError
        For options that contradict each other, or that are not there.
    DataError
        If there are too few subjects, or not those of the published folds.
    """
    _together(options)
    folds: Sequence[Division] = ()
    if options.folds_from == PUBLISHED:
        folds = published_folds(data.subjects)
        if options.folds not in {None, len(folds)}:
            raise UsageError(
                f"`folds={options.folds}`: the published partition of these subjects has "
                f"{len(folds)} folds"
            )
    elif options.folds is not None and options.split == STRATIFIED:
        folds = stratified_folds(data.stages, data.subjects, options.folds, options.folds_seed)
    elif options.folds is not None:
        folds = make_folds(data.subjects, options.folds, options.folds_seed)
    if options.fold is not None and not 0 <= options.fold < len(folds):
        raise UsageError(f"`fold={options.fold}`: expected 0 to {len(folds) - 1}")
    return folds


def _together(options: TrainOptions) -> None:
    """Refuse what is not there, or does not go together."""
    settings.check_keys([options.folds_from], (BY_SEED, PUBLISHED), section="`folds_from`")
    settings.check_keys([options.split], SPLITS, section="`split`")
    if options.split != SUBJECTS and options.folds_from == PUBLISHED:
        raise UsageError(
            f"`split={options.split}` with `folds_from=published`: those folds are of subjects"
        )
    if options.folds is None and options.folds_from == BY_SEED and not options.final:
        raise UsageError("nothing to train: give `folds=K`, `folds_from=published` or `final`")
    if not options.seeds or min(options.seeds) < 0 or options.folds_seed < 0:
        raise UsageError(f"`seed={options.seeds}`: expected whole numbers >= 0")
    if options.fold is not None and options.final:
        raise UsageError(
            f"`final` with `fold={options.fold}`: the final model has no folds",
            hint="leave `final` out, and train it with a command of its own",
        )


def check(options: TrainOptions, model: Any) -> None:
    """Refuse to deal single epochs out to a model that looks at several at once."""
    several = getattr(model, "sequence", 1) > 1 or getattr(model, "context", 0) > 0
    if options.split == STRATIFIED and several:
        raise UsageError(
            f"`split={options.split}`: {options.model} looks at several epochs at once, and those "
            "beside a training epoch are tested",
            hint="`split=subjects`, or a model that looks at one epoch",
        )


def table(data: EpochSet, folds: Mapping[str, Sequence[Division]]) -> pl.DataFrame:
    """Rows of folds_epochs.parquet: the epochs that do not train, of folds that deal out epochs."""
    import polars as pl

    found = []
    for protocol, some in folds.items():
        for fold in some:
            for role in HELD_OUT if isinstance(fold, EpochFold) else ():
                owner, place = data.locate(fold.numbers(role, data.numbers_of))
                columns = {
                    "protocol": np.repeat(protocol, len(place)),
                    "fold": np.repeat(fold.number, len(place)),
                    "recording": np.array([f.recording for f in data.files])[owner],
                    "epoch": place.astype(np.int32),
                    "role": np.repeat(role, len(place)),
                }
                found.append(pl.DataFrame(columns))
    return pl.concat(found) if found else pl.DataFrame()
