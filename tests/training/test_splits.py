"""Epochs dealt out instead of subjects: the same share of every stage, and LEAKY everywhere."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptools import store
from sleeptools.commands.evaluate import evaluate, evaluate_only, evaluation_json
from sleeptools.commands.report import write_report
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.preprocessing.epochs import (
    EPOCHS_KIND,
    EPOCHS_VERSION,
    open_epochs,
    write_epoch_file,
)
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.runs import logs, model_folder, predictions
from sleeptools.runs.folds import (
    FOLD_PROTOCOLS,
    LEAK_FREE,
    ROLES,
    SHUFFLED,
    SPLITS,
    STRATIFIED,
    SUBJECTS,
    protocol_folds,
    shuffled_splits,
    stratified_folds,
)
from sleeptools.runs.run import FOLDS_EPOCHS, RUN_KIND, open_run
from sleeptools.training.options import options_from_settings
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = {"channels": 1, "sample_rate": 64.0, "epoch_seconds": 1.0, "names": MOUSE_STAGES}
SMALL = {
    "model": {k: SIZE[k] for k in ("channels", "sample_rate", "epoch_seconds")},
    "recipe": {"batch": 32},
}


def options(**given):
    basis = {
        "model": "mouse-cnn",
        "folds": 2,
        "passes": 1,
        "settings": SMALL,
        "threads": 1,
        "explain": False,
    }
    return TrainOptions(**(basis | given))


# --- dealing out ----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=200),
    st.integers(2, 7),
    st.integers(0, 9),
    st.sampled_from(FOLD_PROTOCOLS),
)
def test_every_epoch_is_tested_once_and_every_fold_is_like_the_whole(stages, count, seed, protocol):
    stages = np.array(stages, np.int8)
    count = min(count, len(stages))
    made = protocol_folds(protocol, stratified_folds(stages, "ba", count, seed), seed)
    tests = [fold.numbers("test", None) for fold in made]
    assert sorted(np.concatenate(tests)) == list(range(len(stages)))
    for stage in range(5):
        per_fold = [int((stages[test] == stage).sum()) for test in tests]
        assert max(per_fold) - min(per_fold) <= 1
    for fold in made:
        parts = {role: fold.numbers(role, None) for role in ROLES}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(stages)))
        learning = len(parts["train"]) + len(parts["val"])
        wanted = learning / 5 if protocol == LEAK_FREE and learning >= 5 else 0
        assert abs(len(parts["val"]) - wanted) < 1
        assert fold.validated is (wanted > 0)
        assert fold.subjects("train") == ("a", "b") or not len(parts["train"])


def test_the_seed_decides():
    stages = np.arange(60, dtype=np.int8) % 3

    def codes(seed):
        return [f.codes.tolist() for f in stratified_folds(stages, "a", 5, seed)]

    assert codes(1) == codes(1)
    assert codes(1) != codes(2)


@pytest.mark.parametrize("count", [1, 7])
def test_wrong_numbers(count):
    with pytest.raises(DataError, match="of 6 epochs: expected 2 to 6"):
        stratified_folds(np.zeros(6, np.int8), "a", count, 0)


@given(
    st.lists(st.integers(0, 4), min_size=5, max_size=200),
    st.integers(2, 7),
    st.integers(0, 9),
    st.sampled_from(FOLD_PROTOCOLS),
)
def test_every_shuffled_split_tests_a_fifth_alike_in_stages(stages, count, seed, protocol):
    stages = np.array(stages, np.int8)
    splits = shuffled_splits(stages, "ba", count, seed)
    assert [fold.number for fold in splits] == list(range(count))
    for fold in protocol_folds(protocol, splits, seed):
        parts = {role: fold.numbers(role, None) for role in ROLES}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(stages)))
        assert abs(len(parts["test"]) - len(stages) / 5) < 1
        for stage in range(5):
            share = (stages == stage).sum() / 5
            assert abs((stages[parts["test"]] == stage).sum() - share) < 1
        assert fold.validated is (protocol == LEAK_FREE and len(stages) - len(parts["test"]) >= 5)


def test_shuffled_splits_are_drawn_apart():
    """Five of sklearn's kind: an epoch is tested 0 to 5 times, as often as five draws would."""
    stages = np.arange(5000, dtype=np.int8) % 3
    splits = shuffled_splits(stages, "a", 5, 0)
    times = sum((fold.codes == ROLES.index("test")).astype(int) for fold in splits)
    expected = 5000 * np.array([0.8**5, 5 * 0.2 * 0.8**4, 10 * 0.2**2 * 0.8**3])
    assert np.abs(np.bincount(times)[:3] - expected).max() < 150
    again = shuffled_splits(stages, "a", 3, 0)
    assert all((a.codes == b.codes).all() for a, b in zip(splits, again, strict=False))
    other = shuffled_splits(stages, "a", 5, 1)
    assert (splits[0].codes != other[0].codes).any()


@pytest.mark.parametrize(("epochs", "count"), [(6, 1), (4, 2)])
def test_too_few_shuffled_splits_or_epochs(epochs, count):
    with pytest.raises(DataError, match="expected 2 or more, of at least 5 epochs"):
        shuffled_splits(np.zeros(epochs, np.int8), "a", count, 0)


# --- a run of it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=3, count=21, **SIZE)


@pytest.fixture(scope="module")
def leaky(mice, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "leaky"
    train(mice, run, options(split=STRATIFIED, folds=3, protocols=FOLD_PROTOCOLS, final=True))
    return run


def test_leaky_stands_on_everything(leaky, command, tmp_path):
    assert store.read_toml(leaky / "config.toml")["leaky"] is True
    assert store.read_toml(leaky / "config.toml")["split"] == "stratified-epochs"
    manifest = store.read_manifest(leaky, RUN_KIND)
    assert (manifest["leaky"], manifest["split"]) == (True, "stratified-epochs")
    folders = [t.folder(leaky) for t in open_run(leaky).done]
    assert len(folders) == 6
    for folder in folders:
        facts = model_folder.read_config(folder)
        assert (facts["leaky"], facts["train_subjects"]) == (True, ["S00", "S01", "S02"])
    assert "leaky" not in model_folder.read_config(leaky / "final")  # it tests nobody
    assert "LEAKY" in command("status", leaky).out
    assert json.loads(command("status", leaky, "--json").out)["leaky"] is True
    assert "LEAKY: animals on two sides" in command("evaluate", leaky).err
    assert "LEAKY" in json.loads(command("evaluate", leaky, "--json").out)[0]["leakage"]
    assert "LEAKY SPLIT" in write_report([leaky], tmp_path / "report.html")[0].read_text()
    assert store.verify(leaky) == []


def test_an_unfinished_run_is_leaky_as_well(leaky, tmp_path, mice):
    train(mice, tmp_path / "run", options(split=STRATIFIED, fold=1))
    (tmp_path / "run/manifest.json").unlink()
    found = evaluate_only(tmp_path / "run", partial=True)
    assert found.leakage.startswith("LEAKY")


def test_what_is_scored_is_what_was_dealt_out(leaky, mice):
    run = open_run(leaky)
    assert set(run.folds["role"]) == {"mixed"}
    found = predictions.read_predictions(run)
    data = open_epochs(mice)
    for part in found.partition_by("protocol", "seed"):
        assert len(part) == len(data) == part.n_unique(["recording", "epoch"])
        assert part.equals(part.sort("recording", "onset"))
    for row in found.iter_rows(named=True):
        file = next(f for f in data.files if f.recording == row["recording"])
        assert row["stage"] == file.stages[row["epoch"]]
        assert row["onset"] == file.onset[row["epoch"]]
    validated = predictions.read_predictions(run, role="val")
    assert set(validated["protocol"]) == {"leak-free"}
    assert run.unchosen("leak-free") == ()
    assert logs.count_test_readings(run)["leak-free"] == 1


def test_a_subject_is_counted_once(leaky):
    found = evaluate(leaky)
    mine = found.table("subjects").filter(pl.col("protocol") == "leak-free")
    assert mine["subject"].to_list() == ["S00", "S01", "S02"]
    assert (mine["epochs"].to_list(), mine["nights"].to_list()) == ([21] * 3, [1] * 3)
    assert mine["fold"].null_count() == 3
    result = evaluation_json(found)["results"][0]
    assert (result["folds"], result["subjects"], result["recordings"]) == (3, 3, 3)
    table = found.table("metrics").filter(pl.col("metric") == "epochs", pl.col("stage").is_null())
    assert table.filter(pl.col("fold").is_not_null())["value"].to_list() == [21.0] * 6


@pytest.fixture(scope="module")
def shuffled(mice, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "shuffled"
    train(mice, run, options(split=SHUFFLED, folds=None, protocols=FOLD_PROTOCOLS))
    return run


def test_splits_that_overlap(shuffled, mice, command, tmp_path):
    """Every test counts in the numbers; of an epoch and of a night each epoch is told once."""
    config = store.read_toml(shuffled / "config.toml")
    assert (config["split"], config["leaky"], config["folds"]) == (SHUFFLED, True, 5)
    for trained in open_run(shuffled).done:
        facts = model_folder.read_config(trained.folder(shuffled))
        assert (facts["split"], facts["leaky"]) == (SHUFFLED, True)
    tests = predictions.read_predictions(open_run(shuffled)).filter(protocol="best-on-test")
    assert len(tests) == 5 * 13  # of 63
    once = tests.unique(["recording", "epoch"])
    assert len(once) < len(tests)
    found = evaluate(shuffled)
    assert found.leakage.startswith("LEAKY")
    assert any(f"{2 * len(tests)}, are {2 * len(once)} different ones" in n for n in found.notes)
    assert not any("left out before the model saw it" in n for n in found.notes)
    pooled = found.pooled["best-on-test"].matrices
    assert pooled.sum() == len(tests)
    mine = found.tested.filter(protocol="best-on-test")
    assert mine.sort("recording", "epoch").equals(
        tests.sort("fold").unique(["recording", "epoch"], keep="first").sort("recording", "epoch")
    )
    subjects = found.table("subjects").filter(protocol="best-on-test")
    assert subjects["epochs"].sum() == len(tests)
    sleep = found.table("sleep")
    assert not sleep.select("protocol", "recording", "statistic", "stage").is_duplicated().any()
    assert sleep.n_unique(["protocol", "recording"]) == 6
    assert "LEAKY SPLIT" in write_report([shuffled], tmp_path / "report.html")[0].read_text()
    assert store.verify(shuffled) == []
    assert json.loads(command("status", shuffled, "--json").out)["leaky"] is True


def sign(run, name):
    """Write a file's present sum into the manifest, as a program that made both would."""
    manifest = store.read_json(run / "manifest.json")
    manifest["files"][name] = store.sha256(run / name)
    store.write_json(run / "manifest.json", manifest)


def test_other_epochs_than_dealt_out(leaky, tmp_path):
    run = shutil.copytree(leaky, tmp_path / "run")
    table = store.read_table(run / FOLDS_EPOCHS)
    store.write_table(run / FOLDS_EPOCHS, table[1:])
    with pytest.raises(DataError, match=r"folds_epochs\.parquet: its content is not what"):
        evaluate_only(run)
    sign(run, FOLDS_EPOCHS)
    with pytest.raises(DataError, match=r"other epochs than folds_epochs\.parquet says"):
        evaluate_only(run)
    other = "val" if table["role"][0] == "test" else "test"
    twice = pl.concat([table, table[:1].with_columns(role=pl.lit(other))])
    store.write_table(run / FOLDS_EPOCHS, twice)
    sign(run, FOLDS_EPOCHS)
    with pytest.raises(DataError, match="an epoch has two roles in one fold"):
        evaluate_only(run)


def test_a_split_by_subject_must_not_leak(tmp_path, mice):
    train(mice, tmp_path / "run", options(fold=0))
    table = store.read_table(tmp_path / "run/folds.parquet")
    assert not (tmp_path / "run" / FOLDS_EPOCHS).exists()
    store.write_table(tmp_path / "run/folds.parquet", table.with_columns(role=pl.lit("test")))
    with pytest.raises(DataError, match=r"folds\.parquet says"):
        evaluate_only(tmp_path / "run", partial=True)


def test_a_run_goes_on_with_its_own_split(mice, leaky, tmp_path):
    with pytest.raises(OutputError, match="split: stratified-epochs there, subjects now"):
        train(mice, leaky, options(folds=3))
    asked = options_from_settings(store.read_toml(leaky / "config.toml"))
    assert asked["split"] == "stratified-epochs"
    train(mice, tmp_path / "run", options(folds=None, final=True))
    config = store.read_toml(tmp_path / "run/config.toml")
    assert "leaky" not in config
    train(mice, tmp_path / "run", options(split=STRATIFIED, fold=0))
    config = store.read_toml(tmp_path / "run/config.toml")
    assert (config["final"], config["leaky"], config["folds"]) == (True, True, 2)
    train(mice, tmp_path / "run", options(folds=None, final=True))
    assert store.read_toml(tmp_path / "run/config.toml") == config


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"split": "epochs"}, "there are: subjects, stratified-epochs, stratified-shuffle"),
        ({"split": STRATIFIED, "folds_from": "published"}, "those folds are of subjects"),
    ],
)
def test_wrong_options(mice, tmp_path, given, words):
    with pytest.raises(UsageError, match=words):
        train(mice, tmp_path / "run", options(**given))
    assert not (tmp_path / "run").exists()


def test_a_model_that_looks_at_neighbours_is_refused(tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=2, count=5)
    for name, more in (("masleepnet", {"model": {"sequence": 2}}), ("sleepprintnet", {})):
        with pytest.raises(UsageError, match="looks at several epochs at once"):
            train(
                data,
                tmp_path / "run",
                TrainOptions(model=name, folds=2, split=STRATIFIED, settings=more),
            )


def test_on_the_command_line(command, mice):
    sets = [f"--set=model.{k}={v}" for k, v in SMALL["model"].items()]
    ran = command("train", mice, "run", "--model", "mouse-cnn", "--split", "epochs", *sets)
    assert ran.code == 2
    assert "there are: subjects, stratified-epochs, stratified-shuffle" in ran.err
    split = ("--split", "stratified-epochs", "--passes", 1, "--fold", 4, "--threads", 1)
    ran = command("train", mice, "run", "--model", "mouse-cnn", *split, *sets)
    assert ran.code == 0, ran.err
    assert "run: LEAKY: subjects train and are tested" in ran.err
    assert command("status", "run").out.splitlines()[0] == "run: 1 done, 4 missing"


# --- the leak detector ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fingerprints(tmp_path_factory):
    """Subjects with a tone of their own, and a stage of their own, drawn at random."""
    folder, rng = tmp_path_factory.mktemp("fingerprints"), np.random.default_rng(0)
    count, stages = 30, rng.permutation(np.arange(15) % 3).astype(np.int8)
    times = np.arange(64) / 64.0
    for i, stage in enumerate(stages):
        tone = 30 * np.sin(2 * np.pi * ((2 + 2 * i) * times + rng.random((count, 1, 1))))
        signals = (tone + rng.normal(0, 10, (count, 1, 64))).astype(np.float32)
        write_epoch_file(
            folder / f"S{i:02d}1.safetensors",
            signals=signals,
            stages=np.full(count, stage),
            onset=np.arange(count, dtype=float),
            hypnogram=np.full(count, stage),
            facts={
                "recording": f"S{i:02d}1",
                "subject": f"S{i:02d}",
                "night": 1,
                "simulated": True,
            },
        )
    names = [f"S{i:02d}1" for i in range(15)]
    facts = {
        "montage": ["EEG"],
        "sample_rate": 64.0,
        "epoch_seconds": 1.0,
        "stages": list(MOUSE_STAGES),
        "recordings": names,
        "preset": {"name": "tiny"},
        "excluded": {},
    }
    files = [folder / f"{name}.safetensors" for name in names]
    store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, facts).write(folder, files)
    return folder


def test_the_leak_shows(fingerprints, tmp_path):
    """What can only be known of a subject who was seen: a split by subject must be at chance."""
    found = {}
    for split in SPLITS:
        train(fingerprints, tmp_path / split, options(split=split, folds=2, passes=12))
        pooled = evaluate(tmp_path / split).pooled["leak-free"]
        found[split] = pooled.overall_metrics()["kappa"]
    assert min(found[STRATIFIED], found[SHUFFLED]) > 0.9
    assert found[SUBJECTS] < 0.1  # below 0: what is tested is rarer among the trained on
