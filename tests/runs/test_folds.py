"""Folds: whole subjects, nobody twice, and the published partitions."""

import pytest

from sleeptools.errors import DataError
from sleeptools.runs.folds import (
    FOLD_PROTOCOLS,
    Fold,
    folds_table,
    make_folds,
    protocol_folds,
    published_folds,
    with_validation,
)

MISSING = {39, 68, 69, 78, 79}
EDF_20 = [f"SC4{n:02d}" for n in range(20)]
EDF_78 = [f"SC4{n:02d}" for n in range(83) if n not in MISSING]


@pytest.mark.parametrize(("subjects", "count"), [(2, 2), (7, 3), (20, 20), (33, 10)])
@pytest.mark.parametrize("protocol", FOLD_PROTOCOLS)
def test_everybody_is_tested_once_and_never_trained_on_then(subjects, count, protocol):
    everyone = [f"S{i:02d}" for i in range(subjects)]
    made = protocol_folds(protocol, make_folds(reversed(everyone), count, 3), 3)
    assert [f.number for f in made] == list(range(count))
    assert sorted(s for f in made for s in f.test) == everyone
    sizes = {len(f.test) for f in made}
    assert max(sizes) - min(sizes) <= 1
    for fold in made:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == everyone
        assert fold.train


def test_the_seed_decides():
    everyone = [f"S{i:02d}" for i in range(12)]
    assert make_folds(everyone, 4, 1) == make_folds(everyone, 4, 1)
    assert make_folds(everyone, 4, 1) != make_folds(everyone, 4, 2)


def test_validation_is_a_fifth_of_the_training_subjects():
    everyone = [f"S{i:02d}" for i in range(20)]
    fold = with_validation(make_folds(everyone, 20, 0)[5], 0)
    assert len(fold.validation) == 4
    assert fold == with_validation(make_folds(everyone, 20, 0)[5], 0)


def test_a_single_training_subject_leaves_nobody_to_validate():
    fold = with_validation(make_folds(["a", "b"], 2, 0)[0], 0)
    assert fold.validation == ()
    assert len(fold.train) == 1


@pytest.mark.parametrize(
    ("subjects", "count", "words"),
    [(1, 2, "needs >= 2 subjects"), (3, 4, "2 to 3"), (3, 1, "2 to 3"), (0, 2, "needs >= 2")],
)
def test_wrong_numbers(subjects, count, words):
    with pytest.raises(DataError, match=words) as e:
        make_folds([f"S{i}" for i in range(subjects)], count, 0)
    assert e.value.exit_code == 65


def test_published_20():
    made = published_folds(EDF_20)
    assert [f.test for f in made[:4]] == [("SC414",), ("SC405",), ("SC404",), ("SC417",)]
    assert sorted(s for f in made for s in f.test) == EDF_20


def test_published_78():
    made = published_folds(EDF_78)
    assert [len(f.test) for f in made] == [8] * 8 + [7] * 2
    assert sorted(s for f in made for s in f.test) == EDF_78
    assert set(made[9].test) == {f"SC4{n:02d}" for n in (38, 8, 42, 9, 10, 61, 46)}


@pytest.mark.parametrize("subjects", [EDF_20[:-1], EDF_78[1:], ["a", "b"]])
def test_published_needs_the_very_subjects(subjects):
    with pytest.raises(DataError, match="20 or 78 subjects"):
        published_folds(subjects)


def test_a_subject_on_two_sides_is_our_mistake():
    with pytest.raises(AssertionError, match="two sides"):
        Fold(0, ("a", "b"), ("b",), ("c",))


def test_table():
    made = make_folds(["a", "b", "c"], 3, 0)
    rows = folds_table({"leak-free": protocol_folds("leak-free", made, 0)})
    assert len(rows) == 9
    assert {r["role"] for r in rows} == {"train", "val", "test"}


def test_published_isruc():
    ten = [f"III-{n:03d}" for n in range(1, 11)]
    made = published_folds(ten)
    assert [f.test for f in made[:3]] == [("III-001",), ("III-010",), ("III-002",)]
    assert len(made) == 10
    with pytest.raises(DataError, match="was not released") as caught:
        published_folds([f"I-{n:03d}" for n in range(1, 101)])
    assert "`folds=5`" in str(caught.value.hint)
