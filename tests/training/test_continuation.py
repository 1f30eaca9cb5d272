"""A run that goes on with a finished one ends as one of all its passes, and says what it is."""

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest

from sleeptools import store
from sleeptools.commands.plan import plan, train_tasks
from sleeptools.commands.report import ReportOptions, write_report
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError, MissingInputError, OutputError, UsageError
from sleeptools.evaluation.caveats import run_notes
from sleeptools.runs import logs
from sleeptools.runs.run import open_run
from sleeptools.training.options import merge_options
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}
SLIGHT = {"sample_rate": 100.0, "epoch_seconds": 30.0, "channels": 4, "stages": 5}
SLIGHT |= {"blocks": 5, "filters": 4}
LIGHT = {"model": "ulw-sleepnet", "settings": {"recipe": {"batch": 16}}}
BOTH = ("leak-free", "best-on-test")
FIRST, ALL = 2, 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), count=12)


def options(**given):
    basis = {"folds": 2, "passes": FIRST, "settings": SMALL, "threads": 1, "explain": False}
    return TrainOptions(**(basis | given))


def arrays_of(path):
    """Give the arrays of a file, and the facts that are not times."""
    file = store.read_tensors(path)
    timed = {"seconds", "rows", "audit", "sha256"}
    facts = {k: v for k, v in file.facts.items() if k not in timed}
    return {k: np.array(v) for k, v in file.arrays.items()}, facts


def assert_same_results(a, b):
    """Compare weights, last states, predictions and logs of two runs, all but times."""
    names = sorted(p.relative_to(a) for p in a.rglob("*.safetensors"))
    assert names
    assert names == sorted(p.relative_to(b) for p in b.rglob("*.safetensors"))
    for name in names:
        (left, left_facts), (right, right_facts) = arrays_of(a / name), arrays_of(b / name)
        assert left.keys() == right.keys()
        for key, values in left.items():
            np.testing.assert_array_equal(values, right[key], err_msg=f"{name} {key}")
        if name.name == "last.safetensors":
            assert left_facts == right_facts
    for path in a.rglob("predictions.parquet"):
        assert pl.read_parquet(path).equals(pl.read_parquet(b / path.relative_to(a)))
    for path in a.rglob("log.csv"):
        left, right = (pl.read_csv(p).drop("seconds") for p in (path, b / path.relative_to(a)))
        assert len(left) == ALL
        assert left.equals(right)


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory):
    """A run of the first passes, both protocols and the final model."""
    run = tmp_path_factory.mktemp("runs") / "first"
    train(tiny, run, options(protocols=BOTH, final=True))
    return run


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run of all passes without a break."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny, run, options(protocols=BOTH, final=True, passes=ALL))
    return run


@pytest.fixture(scope="module")
def continued(tiny, first, tmp_path_factory):
    """The first run, and the passes that it lacks."""
    run = tmp_path_factory.mktemp("runs") / "continued"
    lines = []
    given = merge_options(first / "config.toml", passes=ALL, continued=first, explain=False)
    train(tiny, run, given, log=lines.append)
    assert f"continued from {first}, after pass {FIRST}" in lines
    return run


# --- the same bits --------------------------------------------------------------------------------


def test_ends_as_one_of_all_passes(whole, continued):
    assert_same_results(whole, continued)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("ulw-sleepnet", {"recipe": {"batch": 16}}),  # cosine restarts, counted in steps
        ("ulw-sleepnet", {"recipe": {"batch": 16, "schedule": {"kind": "drop", "passes": 3}}}),
        ("ulw-sleepnet", {"recipe": {"batch": 16, "schedule": {"kind": "plateau", "passes": 1}}}),
        ("slumbernet", {"model": SLIGHT, "recipe": {"batch": 16, "optimiser": "sgd"}}),
    ],
)
def test_schedules_and_optimisers(tiny, tmp_path, model, settings):
    given = {"model": model, "settings": settings, "fold": 1}
    train(tiny, tmp_path / "first", options(**given))
    train(tiny, tmp_path / "whole", options(passes=ALL, **given))
    train(tiny, tmp_path / "more", options(passes=ALL, continued=tmp_path / "first", **given))
    assert_same_results(tmp_path / "whole", tmp_path / "more")


def test_without_the_native_core_by_the_command_line(command, tiny, tmp_path):
    def ran(run, *words):
        done = command(
            *("train", tiny, tmp_path / run, "--threads", 1, "--no-explain", *words),
            SLEEPTOOLS_NATIVE="0",
        )
        assert done.code == 0, done.err

    network = ("--set", "model.modalities=eeg", "--set", "model.fusion=mbfe")
    words = ("--folds", 2, "--fold", 0, "--set", "recipe.batch=16", *network)
    ran("first", *words, "--passes", FIRST)
    ran("whole", *words, "--passes", ALL)
    ran("more", "--fold", 0, "--continue", tmp_path / "first", "--passes", ALL)
    assert_same_results(tmp_path / "whole", tmp_path / "more")


def test_a_run_that_is_not_there_is_named(command, tiny, tmp_path):
    done = command("train", tiny, tmp_path / "more", "--continue", tmp_path / "none", "--passes", 2)
    assert done.code == 66
    assert f"{tmp_path / 'none'}: no such run folder" in done.err
    assert not (tmp_path / "more").exists()


def test_the_best_pass_may_be_of_the_first_run(tiny, tmp_path):
    train(tiny, tmp_path / "first", options(fold=0, **LIGHT))
    folder = "leak-free/seed-0/fold-00"
    last = tmp_path / "first" / folder / "last.safetensors"
    file = store.read_tensors(last)
    unbeatable = {"best_score": np.array([2.0])}  # a kappa that no later pass reaches
    arrays = {k: np.array(v) for k, v in file.arrays.items()} | unbeatable
    facts = {k: v for k, v in file.facts.items() if k != "sha256"}
    store.write_arrays(last, arrays, facts | {"sha256": store.digest(arrays, facts)})
    more = options(fold=0, passes=ALL, continued=tmp_path / "first", **LIGHT)
    train(tiny, tmp_path / "more", more)
    log = pl.read_csv(tmp_path / "more" / folder / "log.csv")
    assert log.filter(pl.col("selected") == 1)["pass"].max() <= FIRST
    first, more = (
        arrays_of(tmp_path / run / folder / "model.safetensors")[0] for run in ("first", "more")
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, more[name])


def test_a_continued_run_is_continued(tiny, tmp_path):
    train(tiny, tmp_path / "whole", options(fold=0, passes=ALL, **LIGHT))
    train(tiny, tmp_path / "run-2", options(fold=0, **LIGHT))
    for passes in (3, ALL):
        before = tmp_path / f"run-{passes - 1}"
        more = options(fold=0, passes=passes, continued=before, **LIGHT)
        train(tiny, tmp_path / f"run-{passes}", more)
    run = tmp_path / f"run-{ALL}"
    assert_same_results(tmp_path / "whole", run)
    assert len(pl.read_csv(run / "leak-free/seed-0/fold-00/audit.csv")) == 3


def test_stopped_and_run_again(tiny, tmp_path):
    train(tiny, tmp_path / "whole", options(fold=0, passes=ALL, **LIGHT))
    train(tiny, tmp_path / "first", options(fold=0, **LIGHT))
    more = options(fold=0, passes=ALL, continued=tmp_path / "first", **LIGHT)

    def kill(progress):
        if progress.pass_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "more", more, on_progress=kill)
    assert not list((tmp_path / "more").rglob("predictions.parquet"))
    for _ in range(2):  # the second time nothing is left
        train(tiny, tmp_path / "more", more)
    assert_same_results(tmp_path / "whole", tmp_path / "more")
    assert len(pl.read_csv(tmp_path / "more/leak-free/seed-0/fold-00/audit.csv")) == 2


# --- what is told of it ---------------------------------------------------------------------------


def test_the_second_reading_is_counted(first, continued):
    for fold in (0, 1):
        audit = pl.read_csv(continued / f"leak-free/seed-0/fold-0{fold}/audit.csv")
        assert audit.rows() == [("leak-free", FIRST, "score"), ("leak-free", ALL, "score")]
        audit = pl.read_csv(continued / f"best-on-test/seed-0/fold-0{fold}/audit.csv")
        assert audit["purpose"].to_list() == 2 * ["selection", "selection", "score"]
    assert logs.count_test_readings(open_run(first))["leak-free"] == 1
    assert logs.count_test_readings(open_run(continued))["leak-free"] == 2
    notes = list(run_notes(open_run(continued)))
    assert any("goes on with first from pass 2" in n for n in notes)
    assert any("read 2 times" in n for n in notes)
    assert not any("goes on" in n for n in run_notes(open_run(first)))


def test_config_manifest_and_models_name_the_run(first, continued):
    table = {"run": "first", "passes": FIRST}
    assert store.read_toml(continued / "config.toml")["continued"] == table
    facts = store.read_manifest(continued, "sleeptools-run")
    assert facts["continued"]["folder"] == str(first)
    assert facts["continued"]["manifest_sha256"] == store.sha256(first / "manifest.json")
    model = json.loads((continued / "leak-free/seed-0/fold-00/config.json").read_text())
    assert model["continued"] == table
    assert store.verify(continued) == []


def test_the_report_shows_it(continued, tmp_path):
    write_report([continued], tmp_path / "report.html", ReportOptions())
    text = re.sub("<[^>]+>", "", (tmp_path / "report.html").read_text())
    assert "goes on with first from pass 2" in text
    assert "at most 2 per fold" in text


def test_as_planned_tasks(tiny, first, whole, tmp_path):
    given = merge_options(first / "config.toml", passes=ALL, continued=first, explain=False)
    run = tmp_path / "more"
    planned = plan(tiny, run, {run: given})
    train_tasks(tiny, run, planned.open)
    assert_same_results(whole, run)


# --- what is refused ------------------------------------------------------------------------------


def test_a_schedule_over_all_passes_is_refused(tiny, tmp_path):
    settings = SMALL | {"recipe": {"batch": 16, "schedule": {"kind": "one_cycle"}}}
    train(tiny, tmp_path / "first", options(settings=settings, fold=0))
    assert not list((tmp_path / "first").rglob("last.safetensors"))
    given = options(settings=settings, fold=0, passes=ALL, continued=tmp_path / "first")
    with pytest.raises(UsageError, match="one_cycle, spans all passes"):
        train(tiny, tmp_path / "more", given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passes": FIRST}, "has 2 passes already"),
        ({"settings": SMALL | {"recipe": {"batch": 8}}}, "recipe.batch: 16 there, 8 now"),
        ({"folds": 3}, "folds: 2 there, 3 now"),
        ({"model": "ulw-sleepnet", "settings": {}}, "model.name"),
    ],
)
def test_other_settings_are_refused(tiny, first, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        train(tiny, tmp_path / "more", options(**{"passes": ALL, "continued": first} | changes))
    assert not (tmp_path / "more").exists()


def test_its_own_folder_is_refused(tiny, first):
    with pytest.raises((UsageError, OutputError)):
        train(tiny, first, options(passes=ALL, continued=first))


def test_other_epochs_are_refused(first, tmp_path):
    others = write_epochs(tmp_path / "others", seed=1)
    with pytest.raises(DataError, match="other epochs"):
        train(others, tmp_path / "more", options(passes=ALL, continued=first))


def test_what_has_no_last_state_is_named(tiny, first, tmp_path):
    with pytest.raises(MissingInputError, match="no last state of leak-free/seed-1/fold-00"):
        train(tiny, tmp_path / "more", options(passes=ALL, continued=first, seeds=(1,)))


def test_a_damaged_state_is_refused(tiny, first, tmp_path):
    shutil.copytree(first, tmp_path / "first")
    path = tmp_path / "first/leak-free/seed-0/fold-00/last.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="not as it was written") as e:
        train(tiny, tmp_path / "more", options(passes=ALL, continued=tmp_path / "first"))
    assert "rm" not in (e.value.hint or "")
