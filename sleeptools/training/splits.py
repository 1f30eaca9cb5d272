"""The folds of a training run: by seed, published, or of epochs, checked against the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sleeptools.errors import UsageError, did_you_mean
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs.folds import (
    SHUFFLED,
    SPLITS,
    STRATIFIED,
    SUBJECTS,
    Fold,
    Split,
    make_folds,
    published_folds,
    shuffled_splits,
    stratified_folds,
)
from sleeptools.store import settings
from sleeptools.training.options import BY_SEED, PUBLISHED, TrainOptions

LISTED = 12  # subjects in a message
BY_EPOCH = {STRATIFIED: stratified_folds, SHUFFLED: shuffled_splits}
"""How epochs are divided, by the name of the split."""


def choose_folds(data: EpochSet, options: TrainOptions) -> Sequence[Split]:
    """Make the folds that the options name; none where only `final` is trained.

    Raises
    ------
    UsageError
        For unknown options, or options that contradict each other.
    DataError
        If there are too few subjects, or not those of the published folds.
    """
    _check_options(options)
    subjects = training_subjects(data, options)
    folds: Sequence[Split] = ()
    if options.folds_from == PUBLISHED:
        folds = published_folds(subjects)
        if options.folds not in {None, len(folds)}:
            raise UsageError(
                f"`folds={options.folds}`: the published partition of these subjects has "
                f"{len(folds)} folds",
                code="USE-TOGETHER",
            )
    elif options.cross_validates:
        count = options.count_folds(len(subjects))
        if options.split in BY_EPOCH:
            divide = BY_EPOCH[options.split]
            kept = data.numbers_of(set(subjects))
            parts = divide(data.stages[kept], subjects, count, options.folds_seed)
            folds = [fold.spread_over(data.stages, kept) for fold in parts]
        else:
            folds = make_folds(subjects, count, options.folds_seed)
    if options.fold is not None and not 0 <= options.fold < len(folds):
        raise UsageError(f"`fold={options.fold}`: expected 0 to {len(folds) - 1}")
    return folds


def training_subjects(data: EpochSet, options: TrainOptions) -> tuple[str, ...]:
    """Give the subjects that are not held out.

    Raises
    ------
    UsageError
        If one to be held out is none of the set, or nobody would be left to train on.
    """
    unknown = [name for name in options.hold_out if name not in data.subjects]
    if unknown:
        raise UsageError(
            f"`hold_out`: no subject {unknown[0]!r} in {data.folder}; there are: "
            f"{', '.join(data.subjects[:LISTED])}{', ...' * (len(data.subjects) > LISTED)}",
            hint=did_you_mean(unknown[0], data.subjects),
            code="USE-NAME",
        )
    subjects = tuple(s for s in data.subjects if s not in options.hold_out)
    if not subjects:
        raise UsageError(
            f"`hold_out` names all {len(data.subjects)} subjects: nobody would train",
            code="USE-TOGETHER",
        )
    return subjects


def final_fold(data: EpochSet, options: TrainOptions) -> Fold:
    """Give the roles for the final model: who is held out is tested, all others train."""
    return Fold(0, training_subjects(data, options), (), tuple(sorted(options.hold_out)))


def _check_options(options: TrainOptions) -> None:
    """Refuse unknown options, and options that contradict each other."""
    settings.check_keys([options.folds_from], (BY_SEED, PUBLISHED), section="`folds_from`")
    settings.check_keys([options.split], SPLITS, section="`split`")
    if options.split != SUBJECTS and options.folds_from == PUBLISHED:
        raise UsageError(
            f"`split={options.split}` with `folds_from=published`: those folds are of subjects",
            code="USE-TOGETHER",
        )
    if not options.seeds or min(options.seeds) < 0 or options.folds_seed < 0:
        raise UsageError(f"`seed={options.seeds}`: expected whole numbers >= 0")
    if options.fold is not None and options.final:
        raise UsageError(
            f"`final` with `fold={options.fold}`: the final model has no folds",
            hint="leave `final` out, and train it with a command of its own",
            code="USE-TOGETHER",
        )


def check_split(options: TrainOptions, model: Any) -> None:
    """Refuse folds of single epochs for a model that takes several at once.

    Raises
    ------
    UsageError
        For such a model.
    """
    if options.split in BY_EPOCH and model.input_span.several:
        raise UsageError(
            f"`split={options.split}`: {options.model} looks at several epochs at once, and those "
            "beside a training epoch are tested",
            hint="`split=subjects`, or a model that looks at one epoch",
            code="USE-TOGETHER",
        )
