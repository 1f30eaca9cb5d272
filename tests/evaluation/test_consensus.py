"""The consensus: majority, then probability, then the order of the scorings."""

import numpy as np

from sleeptools.evaluation.consensus import consensus


def stages(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int8)


def test_most_votes_win_and_ties_go_to_the_first() -> None:
    agreed = consensus(stages([0, 1, 2, -1, 3], [0, 2, 1, 4, -1], [0, 2, 3, 4, -1]), 5, [None] * 3)
    assert agreed.stages.tolist() == [0, 2, 2, 4, 3]
    counts = agreed.unanimous, agreed.majority, agreed.by_probability, agreed.by_order
    assert counts == (3, 1, 0, 1)  # who did not score has no vote


def test_nobody_scored() -> None:
    agreed = consensus(stages([-1], [-1]), 5, [None, None])
    assert agreed.stages.tolist() == [-1]
    assert agreed.unanimous == 0


def test_ties_are_broken_by_the_sum_of_probabilities() -> None:
    first = np.array([[0.4, 0.6, 0.0], [0.1, 0.9, 0.0]])
    second = np.array([[0.7, 0.3, 0.0], [0.8, 0.2, 0.0]])
    agreed = consensus(stages([1, 1], [0, 0]), 3, [first, second])
    assert agreed.stages.tolist() == [0, 1]  # 1.1 against 0.9; 0.9 against 1.1
    assert agreed.by_probability == 2


def test_a_scoring_without_probabilities_counts_as_certain() -> None:
    """Otherwise a model would always win against a person, or a person never say anything."""
    model = np.array([[0.1, 0.9, 0.0]])
    agreed = consensus(stages([1], [0]), 3, [model, None])
    assert agreed.stages.tolist() == [0]  # 1.1 against 0.9


def test_unknown_probabilities_of_an_epoch_count_as_certain() -> None:
    model = np.array([[np.nan] * 3])
    agreed = consensus(stages([1], [0]), 3, [model, None])
    assert agreed.stages.tolist() == [1]
    assert agreed.by_order == 1


def test_probability_does_not_overrule_a_majority() -> None:
    sure = np.array([[1.0, 0.0, 0.0]])
    unsure = np.array([[0.45, 0.55, 0.0]])
    agreed = consensus(stages([0], [1], [1]), 3, [sure, unsure, unsure])
    assert agreed.stages.tolist() == [1]
    assert agreed.majority == 1
