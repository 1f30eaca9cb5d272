"""A corrected night comes back from its file exactly, and from no file that is not its own."""

import re
from dataclasses import replace
from datetime import time
from pathlib import Path

import numpy as np
import pytest

from reviews import assert_same, edited, random_hypnogram, untouched
from sleeptools import formats
from sleeptools.commands.hypnogram import convert_hypnogram
from sleeptools.errors import DataError
from sleeptools.formats.review import Review, plain_name, read_review, write_review
from sleeptools.recording.stages import MOUSE_STAGES

MICE = {"names": MOUSE_STAGES, "epoch_seconds": 4.0, "epochs": 900}
GRIDS = [{}, {"onset": 7.5}, {"begin": None}, {"begin": time(23, 59, 58)}, MICE]


def sample(seed: int = 0, edits: int = 300, **grid) -> Review:
    rng = np.random.default_rng(seed)
    return edited(rng, untouched(rng, random_hypnogram(rng, **grid)), edits)


@pytest.mark.parametrize("name", ["a-review.csv", "a_events.tsv"])
@pytest.mark.parametrize("grid", GRIDS, ids=["people", "off grid", "no clock", "no date", "mice"])
def test_a_thousand_edits_come_back_exactly(name: str, grid: dict, tmp_path: Path) -> None:
    review = sample(edits=1000, **grid)
    assert review.changed.sum() > 100
    assert review.artefact.any()
    write_review(review, tmp_path / name)
    back = read_review(tmp_path / name)
    assert_same(back, review)
    again = tmp_path / f"again-{name}"
    write_review(back, again)
    assert again.read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a-review.csv", "a_events.tsv"])
@pytest.mark.parametrize("grid", GRIDS, ids=["people", "off grid", "no clock", "no date", "mice"])
def test_every_reader_of_hypnograms_takes_the_file(name: str, grid: dict, tmp_path: Path) -> None:
    review = sample(1, **grid)
    write_review(review, tmp_path / name)
    read = formats.read_hypnogram(tmp_path / name)
    assert np.array_equal(read.stages, review.hypnogram.stages)
    assert np.array_equal(read.reasons, review.hypnogram.reasons)
    assert (read.names, read.epoch_seconds, read.onset) == (
        *(review.hypnogram.names, review.hypnogram.epoch_seconds, review.hypnogram.onset),
    )
    assert read.scorer == "A. Scorer"
    written, _ = convert_hypnogram(tmp_path / name, tmp_path / "copy_events.tsv")
    assert np.array_equal(written.stages, review.hypnogram.stages)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",confirmed,", ",agreed,", "hand is 'agreed'"),
        (",changed,", ",,", "was proposed where"),
        (",unknown,", ",N7,", "'N7'; expected one of"),
        ("\n7,210,", "\n7,211,", "expected epoch 7 at 210 s"),
        ("\n7,", "\n8,", "expected epoch 7"),
        ("5e5e,1\n", "5e5e,2\n", "version 2"),
        ("5e5e,1\n", "5e5f,1\n", "rows of two nights"),
        (",sha256,", ",sum,", "it lacks sha256"),
        (",p_W,", ",p_X,", "columns of probabilities"),
        (",30,2026", ",-30,2026", "-30"),
        ("0,0,30", "0,1e9,30", "begins at 1e+09 s"),
        ("2026-03-28T22:31:17.250000", "half past ten", "is no time"),
        ("2026-03-28T22:31:17.250000", "22:31", "line 3: time '2026"),
        ("2026-03-28T22:32:17.250000", "2026-03-28T21:32:17", "line 4: time '2026-03-28T21:32:17'"),
        ("2026-03-28T22:32:17.250000", "", "line 4: time ''; expected 2026-03-28T22:32:17.25"),
        ("\n7,210,", "\n,210,", "has no number of an epoch"),
    ],
)
def test_what_was_altered_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a-review.csv"
    write_review(sample(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=r".") as caught:
        read_review(path)
    assert says in str(caught.value)


def test_lights_moved_in_one_place_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_events.tsv"
    write_review(replace(sample(), lights_off=60.0, lights_on=None), path)
    text = path.read_text()
    assert "\n60\t0\tlights off\t" in text
    for new, says in (
        ("\n90\t0\tlights off\t", "lights off at 90 s, lights_off has '60'"),
        ("\n60\t0\tlights on\t", "lights on at 60 s, lights_on has ''"),
        ("\n60\t0\tapnea\t", "has no number of an epoch"),
    ):
        path.write_text(text.replace("\n60\t0\tlights off\t", new))
        with pytest.raises(DataError, match=re.escape(says)):
            read_review(path)


@pytest.mark.parametrize(
    "name", ["=1+1", '"quoted", and more', "  a\tb\nc ", "-", "@x", "李雷", "n/a", ""]
)
@pytest.mark.parametrize("file", ["a-review.csv", "a_events.tsv"])
def test_any_name_of_a_scorer_is_one_safe_cell(name: str, file: str, tmp_path: Path) -> None:
    review = sample()
    object.__setattr__(review.hypnogram, "scorer", name)
    write_review(review, tmp_path / file)
    back = read_review(tmp_path / file).hypnogram.scorer
    assert back == (plain_name(name) if name != "n/a" else "")
    assert not back.startswith(("=", "+", "-", "@", "'"))


def test_the_sidecar_describes_every_column(tmp_path: Path) -> None:
    import json

    write_review(sample(), tmp_path / "a_events.tsv")
    head = (tmp_path / "a_events.tsv").read_text().splitlines()[0].split("\t")
    assert set(head) <= set(json.loads((tmp_path / "a_events.json").read_text()))
