"""Options of a training: the same from Python and from the command line, and their merging."""

import numpy as np
import pytest

from sleeptools import store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import UsageError
from sleeptools.runs.folds import SHUFFLED, STRATIFIED
from sleeptools.training.group import Group
from sleeptools.training.loop import Training
from sleeptools.training.options import merge_options
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = ("config.toml", "folds.parquet", "nights.parquet")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=3, count=6)


def given(monkeypatch, command, *arguments):
    """Options that the command line gives to `train`, which does nothing."""
    seen = []
    monkeypatch.setattr("sleeptools.commands.train.train", lambda *args, **_: seen.append(args))
    ran = command("train", *arguments)
    assert ran.code == 0, ran.err
    return seen[0][2]


def test_no_options_are_the_defaults(command, tiny, monkeypatch):
    assert given(monkeypatch, command, tiny, "run") == TrainOptions()


def test_python_and_the_command_line_write_the_same_run(command, tiny, tmp_path, monkeypatch):
    """All but the passes themselves, which would take minutes."""
    monkeypatch.setattr(Group, "run", lambda _: None)
    assert command("train", tiny, "a").code == 0
    train(tiny, tmp_path / "b", TrainOptions())
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    manifests = [store.read_json(tmp_path / run / "manifest.json") for run in ("a", "b")]
    same = set(manifests[0]) - {"command", "created", "wall_seconds", "peak_memory_mib"}
    assert all(manifests[0][key] == manifests[1][key] for key in same)
    assert store.read_toml(tmp_path / "a/config.toml")["folds"] == 3


@pytest.mark.parametrize(
    ("options", "subjects", "folds"),
    [
        ({}, 30, 20),
        ({}, 7, 7),
        ({}, 1, 2),  # which is refused, with a message about subjects
        ({"folds": 4}, 30, 4),
        ({"split": STRATIFIED}, 30, 5),
        ({"split": STRATIFIED, "folds": 3}, 30, 3),
        ({"split": SHUFFLED}, 30, 5),
    ],
)
def test_number_of_folds(options, subjects, folds):
    assert TrainOptions(**options).count_folds(subjects) == folds


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"final": True}, False),
        ({"final": True, "folds": 4}, True),
        ({"final": True, "folds_from": "published"}, True),
    ],
)
def test_the_final_model_alone_has_no_folds(options, expected):
    assert TrainOptions(**options).cross_validates is expected


CONFIG = """
split = "subjects"
folds = 10
folds_from = "seed"
protocols = ["best-on-test"]
seeds = [1, 2]
final = true
[model]
name = "attnsleep"
[recipe]
batch = 8
"""


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"seeds": None, "device": "cpu"}, {"device": "cpu"}),
        ({"folds": 3}, {"folds": 3}),
        ({"folds_from": "published"}, {"folds_from": "published", "folds": None}),
        ({"split": STRATIFIED}, {"split": STRATIFIED, "folds": None}),
        ({"split": "subjects"}, {}),
        ({"fold": 2}, {"fold": 2, "final": False}),
        ({"precision": "bf16"}, {"settings": {"recipe": {"batch": 8, "precision": "bf16"}}}),
        ({"recipe": "authors"}, {"settings": {"recipe": {"batch": 8, "variant": "authors"}}}),
    ],
)
def test_options_beside_a_file_prevail(tmp_path, options, changed):
    path = tmp_path / "settings.toml"
    path.write_text(CONFIG)
    fields = {
        "model": "attnsleep",
        "folds": 10,
        "protocols": ("best-on-test",),
        "seeds": (1, 2),
        "final": True,
        "settings": {"recipe": {"batch": 8}},
    }
    assert merge_options(path, **options) == TrainOptions(**(fields | changed))


def test_an_unknown_model_is_refused_at_once():
    with pytest.raises(UsageError, match="mmasleepnett"):
        merge_options(None, model="mmasleepnett")


def test_a_trainer_may_choose_the_epochs_of_a_pass(tiny, tmp_path):
    class Shorter(Training):
        def choose_windows(self):
            return super().choose_windows().pick(np.arange(4))

    seen = []
    settings = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 2}}
    options = TrainOptions(final=True, passes=1, threads=1, settings=settings)
    train(tiny, tmp_path / "run", options, on_progress=seen.append, trainer=Shorter)
    assert seen[-1].steps == seen[-1].step == 2
