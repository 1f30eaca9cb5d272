"""Folds: which subjects train, validate and are tested.

`make_folds` assigns subjects to folds by seed; `published_folds` gives the partitions of the
MMASleepNet and AttnSleep papers for Sleep-EDF-20 (20 folds), Sleep-EDF-78 (10) and ISRUC's subgroup
III (10). Two nights of one subject are never in two roles.

`stratified_folds` and `shuffled_splits` are the exceptions, for comparison with SlumberNet's paper
(10.1038/s41598-024-54727-0): they divide epochs, with the same share of each stage in every fold,
so that epochs of one night train and are tested. Their results are leaky, and every file says so.
The paper writes of a k-fold in one place, which the first is, and of a stratified shuffle-split in
another, as its program drew: five random splits of 80 to 20 per cent, whose test sets overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError

LEAK_FREE = "leak-free"
BEST_ON_TEST = "best-on-test"
EXTERNAL = "external"
"""A model trained elsewhere, tested on all subjects of a set of epochs; nothing is trained."""
HELD_OUT = "held-out"
"""The final model, tested on subjects of the set that no training of the run has seen."""
FOLD_PROTOCOLS = (LEAK_FREE, BEST_ON_TEST)
NAMED = {
    LEAK_FREE: LEAK_FREE,
    BEST_ON_TEST: f"{BEST_ON_TEST} (optimistic)",
    EXTERNAL: f"{EXTERNAL} test",
    HELD_OUT: "held out",
}
"""Names of the protocols in tables and figures; the optimistic one always says so."""
VALIDATION = 0.2
"""Share of the training subjects that validate under the leak-free protocol."""
SUBJECTS = "subjects"
STRATIFIED = "stratified-epochs"
SHUFFLED = "stratified-shuffle"
SPLITS = (SUBJECTS, STRATIFIED, SHUFFLED)
"""What is divided into folds; all but subjects is leaky."""
TEST_PART = 5
"""One part in so many of the epochs is tested in a shuffled split."""
ROLES = ("train", "val", "test")
NO_ROLE = -1
"""In place of a role's index: of the epochs of subjects that are held out of all folds."""
MIXED = "mixed"
"""Role of a subject whose epochs have different roles."""

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Owned = Callable[[set[str]], Numbers]
"""Gives the numbers of the epochs of some subjects, ascending."""

PUBLISHED_20 = (14, 5, 4, 17, 8, 7, 19, 12, 0, 15, 16, 9, 11, 10, 3, 1, 6, 18, 2, 13)
PUBLISHED_78 = (
    (43, 11, 19, 47, 24, 48, 62, 74),
    (59, 67, 6, 22, 31, 5, 12, 55),
    (4, 70, 37, 71, 49, 40, 13, 15),
    (20, 23, 73, 18, 3, 65, 56, 63),
    (27, 7, 0, 36, 41, 45, 51, 2),
    (80, 44, 26, 1, 29, 14, 75, 58),
    (76, 60, 32, 66, 34, 64, 72, 33),
    (35, 82, 54, 16, 77, 57, 28, 17),
    (53, 30, 81, 52, 50, 25, 21),
    (38, 8, 42, 9, 10, 61, 46),
)
PUBLISHED_ISRUC_III = (1, 10, 2, 3, 4, 5, 6, 7, 8, 9)
"""One subject a fold, in the order of their files' names, which is not permuted."""


@dataclass(frozen=True)
class Fold:
    """One split of the subjects.

    Parameters
    ----------
    number
        From 0.
    train, validation, test
        Subjects, sorted; no subject in two of them. `validation` is empty where the protocol has
        none, or with too few subjects.
    """

    number: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        all_subjects = [*self.train, *self.validation, *self.test]
        assert len(all_subjects) == len(set(all_subjects)), "a subject on two sides of a fold"

    def subjects(self, role: str) -> tuple[str, ...]:
        """Subjects that have a role."""
        return dict(zip(ROLES, (self.train, self.validation, self.test), strict=True))[role]

    def roles(self) -> Iterator[tuple[str, str]]:
        """Every subject with the role it has."""
        for role in ROLES:
            yield from ((subject, role) for subject in self.subjects(role))

    def numbers(self, role: str, owned: Owned) -> Numbers:
        """Give the indices of the epochs that have a role."""
        return owned(set(self.subjects(role)))

    @property
    def validated(self) -> bool:
        """Whether a validation subject can select the pass."""
        return bool(self.validation)

    def with_validation(self, seed: int) -> Fold:
        """Give the fold with validation subjects, as the function `with_validation`."""
        return with_validation(self, seed)


@dataclass(frozen=True, eq=False)
class EpochFold:
    """One split of the epochs, regardless of their subjects: leaky.

    Parameters
    ----------
    number
        From 0.
    all_subjects
        All subjects, sorted: each may have epochs in every role.
    stages
        (epochs,) stage of each epoch of the set.
    codes
        (epochs,) role of each epoch, as an index of `ROLES`, or `NO_ROLE`.
    """

    number: int
    all_subjects: tuple[str, ...]
    stages: Codes = field(repr=False)
    codes: Codes = field(repr=False)

    def subjects(self, role: str) -> tuple[str, ...]:
        """Everyone, as far as any epoch has the role."""
        return self.all_subjects if (self.codes == ROLES.index(role)).any() else ()

    def roles(self) -> Iterator[tuple[str, str]]:
        """Every subject, as mixed."""
        yield from ((subject, MIXED) for subject in self.all_subjects)

    def numbers(self, role: str, owned: Owned) -> Numbers:
        """Give the indices of the epochs that have a role."""
        return np.flatnonzero(self.codes == ROLES.index(role))

    def spread_over(self, stages: Codes, kept: Numbers) -> EpochFold:
        """Give the fold for a whole set of which it has divided `kept`; others have no role."""
        codes = np.full(len(stages), NO_ROLE, np.int8)
        codes[kept] = self.codes
        return replace(self, stages=stages, codes=codes)

    @property
    def validated(self) -> bool:
        """Whether a validation epoch can select the pass."""
        return bool((self.codes == ROLES.index("val")).any())

    def with_validation(self, seed: int) -> EpochFold:
        """Move a share of each stage's training epochs, drawn by seed, to validation."""
        train = np.flatnonzero(self.codes == ROLES.index("train"))
        count = round(1 / VALIDATION)
        if len(train) < count:
            return self
        rng = np.random.default_rng([seed, self.number, count])
        codes = self.codes.copy()
        codes[train[_stratify(self.stages[train], count, rng) == 0]] = ROLES.index("val")
        return replace(self, codes=codes)


Split: TypeAlias = Fold | EpochFold


def make_folds(subjects: Iterable[str], folds: int, seed: int) -> list[Fold]:
    """Assign subjects at random to folds of nearly equal numbers.

    Parameters
    ----------
    subjects
        All subjects, in any order.
    folds
        2 to the number of subjects.
    seed
        Seed of the random order of the subjects.

    Raises
    ------
    DataError
        With fewer than two subjects, or more folds than subjects.
    """
    all_subjects = sorted(set(subjects))
    if len(all_subjects) < 2:  # noqa: PLR2004
        raise DataError(
            f"needs >= 2 subjects to train on one and test on another, found {len(all_subjects)}",
            hint="`final`, without `folds`, trains without a test",
            code="FOLD-SUBJECTS",
        )
    if not 2 <= folds <= len(all_subjects):  # noqa: PLR2004
        raise DataError(
            f"`folds={folds}` of {len(all_subjects)} subjects: expected 2 to {len(all_subjects)}",
            hint=f"`folds={len(all_subjects)}` tests every subject in a fold of its own",
            code="FOLD-COUNT",
        )
    order = np.random.default_rng([seed, folds]).permutation(all_subjects)
    return _fill(all_subjects, [group.tolist() for group in np.array_split(order, folds)])


def stratified_folds(
    stages: Codes, subjects: Iterable[str], folds: int, seed: int
) -> list[EpochFold]:
    """Assign epochs to folds with nearly as many of each stage in every one: leaky.

    Parameters
    ----------
    stages
        (epochs,) stage of each epoch of the set.
    subjects
        All subjects of the set.
    folds
        2 to the number of epochs.
    seed
        Seed of the random order of the epochs.

    Raises
    ------
    DataError
        With more folds than epochs, or fewer than two.
    """
    if not 2 <= folds <= len(stages):  # noqa: PLR2004
        raise DataError(
            f"`folds={folds}` of {len(stages)} epochs: expected 2 to {len(stages)}",
            code="FOLD-COUNT",
        )
    test_fold = _stratify(stages, folds, np.random.default_rng([seed, folds]))
    test, train = ROLES.index("test"), ROLES.index("train")
    all_subjects = tuple(sorted(set(subjects)))
    return [
        EpochFold(i, all_subjects, stages, np.where(test_fold == i, test, train).astype(np.int8))
        for i in range(folds)
    ]


def shuffled_splits(
    stages: Codes, subjects: Iterable[str], splits: int, seed: int
) -> list[EpochFold]:
    """Draw a fifth of the epochs for the test again and again, alike in stages: leaky.

    Each split is drawn from all epochs, so that some are tested in several and others in none; a
    split does not depend on how many there are.

    Parameters
    ----------
    stages
        (epochs,) stage of each epoch of the set.
    subjects
        All subjects of the set.
    splits
        Number of splits, 2 or more.
    seed
        Seed of the random draws.

    Raises
    ------
    DataError
        With fewer than two splits, or too few epochs.
    """
    if splits < 2 or len(stages) < TEST_PART:  # noqa: PLR2004
        raise DataError(
            f"`folds={splits}` of {len(stages)} epochs: expected 2 or more, of at least "
            f"{TEST_PART} epochs",
            code="FOLD-COUNT",
        )
    test, train = ROLES.index("test"), ROLES.index("train")
    all_subjects = tuple(sorted(set(subjects)))
    rngs = (np.random.default_rng([seed, i, TEST_PART, 1]) for i in range(splits))
    tested = (_stratify(stages, TEST_PART, rng) == 0 for rng in rngs)
    return [
        EpochFold(i, all_subjects, stages, np.where(drawn, test, train).astype(np.int8))
        for i, drawn in enumerate(tested)
    ]


def _stratify(stages: Codes, count: int, rng: np.random.Generator) -> Numbers:
    """Assign epochs to groups that differ by one epoch at most, also within each stage.

    Stage by stage, in random order, to one group after the other: (epochs,) number of the group.
    """
    order = rng.permutation(len(stages))
    order = order[np.argsort(stages[order], kind="stable")]
    groups = np.empty(len(stages), np.int64)
    groups[order] = np.arange(len(stages)) % count
    return groups


def published_folds(subjects: Iterable[str]) -> list[Fold]:
    """Give the published partition of Sleep-EDF-20, Sleep-EDF-78 or ISRUC's subgroup III.

    Parameters
    ----------
    subjects
        "SC4" and two digits each, the 20 or the 78 of the data set; or "III-001" to "III-010".

    Raises
    ------
    DataError
        If these are not exactly those subjects, or their partition was never published.
    """
    all_subjects = sorted(set(subjects))
    for tests in _partitions():
        if sorted(s for test in tests for s in test) == all_subjects:
            return _fill(all_subjects, tests)
    if all_subjects and all(s.startswith("I-") for s in all_subjects):
        raise DataError(
            "the published folds of ISRUC's subgroup I were made by a permutation that was not "
            "released",
            hint="`folds=5` assigns the subjects by seed to as many folds as the publication",
            code="FOLD-PUBLISHED",
        )
    raise DataError(
        f"published folds are for the 20 or 78 subjects of Sleep-EDF, or the 10 of ISRUC's "
        f"subgroup III; found {len(all_subjects)}: "
        f"{', '.join(all_subjects[:4])}{', ...' if len(all_subjects) > 4 else ''}",  # noqa: PLR2004
        hint="leave `folds_from` out to assign the subjects by seed",
        code="FOLD-PUBLISHED",
    )


def published_members(subjects: Iterable[str]) -> int | None:
    """Give the number of subjects of the smallest published partition that has all of these.

    Returns
    -------
    count
        20 or 78 of Sleep-EDF, 10 of ISRUC's subgroup III; None where none has them all.
    """
    wanted = set(subjects)
    sizes = [
        sum(map(len, tests))
        for tests in _partitions()
        if wanted <= {s for test in tests for s in test}
    ]
    return min(sizes) if wanted and sizes else None


def _partitions() -> list[list[list[str]]]:
    """Test subjects of every fold, of every published partition."""
    of_20 = [[f"SC4{n:02d}"] for n in PUBLISHED_20]
    of_78 = [[f"SC4{n:02d}" for n in group] for group in PUBLISHED_78]
    of_isruc = [[f"III-{n:03d}"] for n in PUBLISHED_ISRUC_III]
    return [of_20, of_78, of_isruc]


def _fill(all_subjects: Sequence[str], tests: Sequence[Sequence[str]]) -> list[Fold]:
    """Make folds of their test subjects: all other subjects train."""
    return [
        Fold(i, tuple(s for s in all_subjects if s not in test), (), tuple(sorted(test)))
        for i, test in enumerate(tests)
    ]


def with_validation(fold: Fold, seed: int) -> Fold:
    """Move a share of a fold's training subjects, drawn by seed, to validation.

    At least one moves; none where no training subject would be left.
    """
    if len(fold.train) < 2:  # noqa: PLR2004
        return fold
    count = max(1, round(VALIDATION * len(fold.train)))
    drawn = np.random.default_rng([seed, fold.number, count]).permutation(fold.train)[:count]
    validation = tuple(sorted(drawn.tolist()))
    train = tuple(s for s in fold.train if s not in validation)
    return replace(fold, train=train, validation=validation)


def protocol_folds(protocol: str, folds: Sequence[Split], seed: int) -> list[Split]:
    """Folds as a protocol uses them: with validation for leak-free, without for best-on-test."""
    if protocol == LEAK_FREE:
        return [fold.with_validation(seed) for fold in folds]
    return list(folds)


def folds_table(folds: Mapping[str, Sequence[Split]]) -> list[dict[str, str | int]]:
    """Rows of folds.parquet: protocol, fold, subject, role."""
    return [
        {"protocol": protocol, "fold": fold.number, "subject": subject, "role": role}
        for protocol, splits in folds.items()
        for fold in splits
        for subject, role in fold.roles()
    ]
