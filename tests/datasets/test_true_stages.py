"""The stages that made simulated signals, as a further scorer and as the ceiling of a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from sleeptools import registry, store
from sleeptools.commands import preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets.simulation import true_stages
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.errors import DataError
from sleeptools.evaluation import scorers
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.hypnogram import GENERATOR_SCORER, Hypnogram


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("generator") / "raw", subjects=1, hours=1)


def test_the_epochs_carry_what_made_them(raw: Path, tmp_path: Path) -> None:
    folder = preprocess.preprocess(presets.load("sleep-edf"), raw, tmp_path / "epochs")
    (file,) = open_epochs(folder).files
    truth = simulate_night(0, 1, hours=1, seed=0).truth
    place = np.rint(file.onset / 30).astype(int)
    assert file.facts["others"] == {"2": GENERATOR_SCORER}
    assert np.array_equal(file.other_stages[2], truth[place])
    assert not np.array_equal(file.other_stages[2], file.stages)


@pytest.mark.parametrize("data_set", ["isruc", "slumbernet", "kjaerby"])
def test_every_set_has_it_on_the_grid_of_its_scoring(data_set: str, tmp_path: Path) -> None:
    root = simulate(data_set, tmp_path, subjects=1, hours=1)
    module = registry.load("datasets", data_set)
    (source,) = module.find(root)[:1]
    found = true_stages.read_recording(module.read, root, source)
    made = found.scorings[-1]
    assert made.scorer == GENERATOR_SCORER
    assert len(found.scorings) == len(module.read(source).scorings) + 1
    scored = found.hypnogram
    assert scored is not None
    both = min(len(made), len(scored))
    known = scored.stages[:both] >= 0
    agreed = (made.stages[:both] == scored.stages[:both])[known].mean()
    assert 0.7 < agreed < 1


def test_what_does_not_fit_is_left_out(raw: Path) -> None:
    module = registry.load("datasets", "sleep-edf")
    recording = module.read(module.find(raw)[0])
    assert true_stages.attach(recording, raw).other_hypnograms
    assert not true_stages.attach(recording, raw.parent).other_hypnograms
    assert not true_stages.attach(
        replace(recording, facts={}), raw
    ).other_hypnograms  # not simulated
    shorter = replace(recording.hypnogram, epoch_seconds=20.0)
    assert not true_stages.attach(replace(recording, hypnogram=shorter), raw).other_hypnograms
    store.write_json(
        true_stages.path_of(raw, "later"),
        {"format": true_stages.TRUE_STAGES_KIND, "version": 99},
    )
    with pytest.raises(DataError, match="version"):
        true_stages.attach(replace(recording, id="later"), raw)


def test_the_ceiling_is_of_the_tested_epochs() -> None:
    rng = np.random.default_rng(0)
    made = rng.integers(0, 5, 60).astype(np.int8)
    scored = np.where(rng.random(60) < 0.8, made, rng.integers(0, 5, 60)).astype(np.int8)
    tested = pl.DataFrame(
        {
            "protocol": "leak-free",
            "seed": [0] * 60 + [1] * 60,
            "subject": "a",
            "recording": "a1",
            "epoch": [*range(60)] * 2,
            "stage": [*scored] * 2,
            "predicted": [0] * 120,
        }
    ).with_columns(pl.col("stage", "predicted").cast(pl.Int8))
    known = pl.DataFrame(
        {
            "recording": ["a1"],
            "stages_2": [made.tolist()],
            "scorer_2": [GENERATOR_SCORER],
        }
    )
    names = ("W", "N1", "N2", "N3", "REM")
    found = scorers.scoring_ceiling(tested, known, names)
    assert found == pytest.approx(cohen_kappa_score(scored, made))
    person = known.with_columns(scorer_2=pl.lit("2"))
    assert scorers.scoring_ceiling(tested, person, names) is None
    assert scorers.scoring_ceiling(tested, None, names) is None
    pairs = set(scorers.compare_scorers(tested, known, names)["pair"])
    assert pairs == {"model - scorer 1", "model - generator", "scorer 1 - generator"}


def test_a_round_trip(tmp_path: Path) -> None:
    made = Hypnogram(np.array([0, 2, -1, 4], np.int8), onset=60.0)
    facts = store.read_json(true_stages.write(tmp_path, "x", made))
    assert (facts["stages"], facts["onset"]) == ([0, 2, -1, 4], 60.0)
