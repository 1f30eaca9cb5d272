"""Agreement of scorings: the numbers of scikit-learn and of YASA, and what is left out."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from sleeptools.errors import DataError
from sleeptools.evaluation import metrics
from sleeptools.evaluation.agreement import ScoringAgreement, compare_night
from sleeptools.recording.common_grid import align
from sleeptools.recording.hypnogram import Hypnogram
from yasa_agreement import scored_nights

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests/data/yasa_agreement.json"
YASA = ROOT / ".venv-bench/bin/python"
START = datetime(2020, 1, 1, 22)
OURS = {"W": "WAKE"}


def hypnogram(stages, begin=START) -> Hypnogram:
    return Hypnogram(np.array(stages, np.int8), begin=begin)


def compared(*scorings: list[int], night: str = "n", names: str = "ABC"):
    hypnograms = [hypnogram(stages) for stages in scorings]
    aligned = align(hypnograms, list(names[: len(scorings)]))
    return compare_night(night, aligned, [None] * len(scorings))


@pytest.fixture(scope="module")
def agreement() -> ScoringAgreement:
    nights = [compared(a, b, night=name) for name, (a, b) in scored_nights().items()]
    return ScoringAgreement(("A", "B"), nights[0].aligned.names, tuple(nights))


def value(
    agreement: ScoringAgreement, metric: str, stage: str | None = None, level: str = "pooled"
):
    rows = agreement.metrics().filter(metric=metric, level=level).to_dicts()
    return next(row for row in rows if row["stage"] == stage)


def test_numbers_are_those_of_scikit_learn(agreement: ScoringAgreement) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    pairs = scored_nights().values()
    a = np.concatenate([stages for stages, _ in pairs])
    b = np.concatenate([other for _, other in pairs])
    assert agreement.confusions[0].tolist() == sk.confusion_matrix(a, b).tolist()
    assert value(agreement, "kappa")["value"] == pytest.approx(sk.cohen_kappa_score(a, b))
    assert value(agreement, "macro_f1")["value"] == pytest.approx(
        sk.f1_score(a, b, average="macro")
    )
    assert value(agreement, "accuracy")["value"] == pytest.approx(sk.accuracy_score(a, b))
    by_stage = sk.f1_score(a, b, average=None)
    for number, stage in enumerate(agreement.names):
        assert value(agreement, "f1", stage)["value"] == pytest.approx(by_stage[number])
        binary = sk.cohen_kappa_score(a == number, b == number)
        assert value(agreement, "kappa", stage)["value"] == pytest.approx(binary)


def test_pabak_is_kappa_where_stages_are_equally_frequent() -> None:
    matrix = np.array([[8, 1, 1], [1, 8, 1], [1, 1, 8]])
    assert metrics.pabak(matrix) == pytest.approx(metrics.kappa(matrix))
    skewed = np.array([[90, 5], [5, 0]])
    assert metrics.pabak(skewed) == pytest.approx(2 * 0.9 - 1)
    assert metrics.kappa(skewed) < 0
    assert metrics.stage_pabak(np.array([[90, 5, 0], [5, 0, 0], [0, 0, 0]]))[2] != 1  # not in truth


def test_intervals_are_over_nights(agreement: ScoringAgreement) -> None:
    row = value(agreement, "kappa")
    assert row["low"] < row["value"] < row["high"]
    assert (row["nights"], row["epochs"]) == (6, 6 * 900)
    mean = value(agreement, "kappa", level="night mean")
    assert mean["value"] == pytest.approx(agreement.by_night()["kappa"].mean())
    single = ScoringAgreement(("A", "B"), agreement.names, agreement.nights[:1])
    assert value(single, "kappa")["low"] is None


def test_epochs_and_stages_are_those_of_yasa(agreement: ScoringAgreement) -> None:
    stored = json.loads(STORED.read_text())
    assert agreement.confusions[0].tolist() == stored["confusion"]
    by_night = agreement.by_night().to_dicts()
    for row, theirs in zip(by_night, stored["nights"], strict=True):
        assert row["kappa"] == pytest.approx(theirs["kappa"])
        assert 100 * row["accuracy"] == pytest.approx(theirs["accuracy"])
    for theirs in stored["stages"]:
        matrix = agreement.nights[theirs["sleep_id"] - 1].confusions[0]
        number = [OURS.get(n, n) for n in agreement.names].index(theirs["stage"])
        assert matrix.sum(1)[number] == theirs["support"]
        for ours, name in (("f1", "fbeta"), ("precision",) * 2, ("recall",) * 2):
            computed = getattr(metrics, ours)(matrix)[number]
            assert 100 * computed == pytest.approx(theirs[name]), theirs


def test_bias_and_limits_are_those_of_yasa(agreement: ScoringAgreement) -> None:
    stored = {row["sleep_stat"]: row for row in json.loads(STORED.read_text())["sleep"]}
    table = {(r["statistic"], r["stage"]): r for r in agreement.bland_altman().to_dicts()}
    ours = {name: (name.lower(), None, 1) for name in ("TST", "SPT", "WASO")}
    ours["SME"] = ("sme", None, 100)
    ours |= {stage: ("minutes", stage, 1) for stage in ("N1", "N2", "N3", "REM")}
    ours |= {f"%{stage}": ("share", stage, 100) for stage in ("N1", "N2", "N3", "REM")}
    for theirs, (statistic, stage, factor) in ours.items():
        row = table[statistic, stage]
        for name, key in (("bias", "bias_mean"), ("lower", "loa_lower"), ("upper", "loa_upper")):
            # YASA rounds a share to 4 digits
            expected = pytest.approx(stored[theirs][f"{key}_center"], abs=0.01)
            assert factor * row[name] == expected, (theirs, name)
    assert set(stored) - set(ours) == {"SE", "SFI", "SOL", "WAKE"}


@pytest.mark.slow
def test_the_stored_numbers_are_what_yasa_says(skip_loudly) -> None:
    if not YASA.exists():
        skip_loudly("no .venv-bench with YASA: its numbers of agreement were not computed again")
    script = ROOT / "tests/helpers/yasa_agreement.py"
    ran = subprocess.run([YASA, script], capture_output=True, text=True, check=True)
    stored, now = json.loads(STORED.read_text()), json.loads(ran.stdout)
    assert now["confusion"] == stored["confusion"]
    for part in ("nights", "stages", "sleep"):
        for ours, theirs in zip(stored[part], now[part], strict=True):
            assert theirs == {k: pytest.approx(v) for k, v in ours.items()}


def test_three_scorings_are_compared_on_the_same_epochs() -> None:
    night = compared([0, 1, 2, -1, 4, 4], [0, 1, 3, 3, 4, -1], [0, 2, 1, 3, 4, 4])
    three = ScoringAgreement(("A", "B", "C"), night.aligned.names, (night,))
    assert three.pairs == ["B - A", "C - A", "C - B"]
    assert three.confusions.sum((1, 2)).tolist() == [4, 4, 4]
    assert three.differing().to_dicts() == [
        {"night": "n", "epoch": 2, "onset": 60.0, "time": "22:01:00"}
        | {"A": "N2", "B": "N3", "C": "N1"}
    ]


def test_two_scorings_differ_where_they_do() -> None:
    night = compared([0, 1, 2, 3], [0, 2, 2, -1])
    assert [entry[0] for entry in night.differing()] == [1]


def test_agreement_over_the_night_is_by_hours() -> None:
    first = [0] * 120 + [2] * 120 + [4] * 60
    other = [0] * 120 + [2] * 60 + [3] * 60 + [4] * 60
    night = compared(first, other)
    hours = ScoringAgreement(("A", "B"), night.aligned.names, (night,)).hours()
    assert hours["hour"].to_list() == [0, 1, 2]
    assert hours["epochs"].to_list() == [120, 120, 60]
    assert hours["accuracy"].to_list() == [1, 0.5, 1]
    assert hours["kappa"].to_list() == [None, 0, None]  # a single stage


def test_no_epoch_that_all_scored_is_an_error() -> None:
    with pytest.raises(DataError, match="no epoch that A, B all scored"):
        compared([0, 1, -1, -1], [-1, -1, 2, 3])


def test_merged_sleep_of_a_person_has_its_statistics() -> None:
    """NREM, which a mouse has, too, is sleep of a person where the epochs are long."""
    from sleeptools.recording.stage_groups import parse_groups

    groups = parse_groups("3")
    aligned = align([hypnogram([0, 1, 2, 4, 0])] * 2, ["A", "B"], groups=groups)
    night = compare_night("n", aligned, [None, None])
    sleep = ScoringAgreement(("A", "B"), aligned.names, (night,)).sleep()
    assert sleep.filter(statistic="tst")["reference"].to_list() == [1.5]
    assert sleep.filter(statistic="share", stage="NREM")["other"].to_list() == [2 / 3]
