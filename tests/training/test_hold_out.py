"""Subjects that no training sees: named once, kept apart everywhere, tested by the final model."""

import shutil

import numpy as np
import polars as pl
import pytest

from sleeptools import store
from sleeptools.commands.evaluate import evaluate_only
from sleeptools.commands.report import ReportOptions, write_report
from sleeptools.commands.train import TrainOptions, train
from sleeptools.commands.verify import verify
from sleeptools.errors import DataError, OutputError, Stopped, UsageError
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.runs.logs import scoring_time
from sleeptools.runs.run import open_run, run_progress
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}
UNSEEN = ("S04", "S05")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=6)


def options(**given):
    basis = {"folds": 2, "passes": 1, "settings": SMALL, "threads": 1, "explain": False}
    return TrainOptions(**(basis | {"final": True, "hold_out": UNSEEN} | given))


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny, run, options())
    return run


def test_they_have_no_other_role_anywhere(whole):
    run = open_run(whole)
    assert run.unseen == UNSEEN
    apart = run.folds.filter(pl.col("subject").is_in(UNSEEN))
    assert apart.select("protocol", "role").unique().rows() == [("held-out", "test")]
    rest = run.folds.filter(pl.col("protocol") == "held-out", pl.col("role") == "train")
    assert rest["subject"].to_list() == ["S00", "S01", "S02", "S03"]
    for path in whole.rglob("config.json"):
        facts = store.read_json(path)
        assert not {*UNSEEN} & {*facts["train_subjects"], *facts["validation_subjects"]}
    assert store.read_json(whole / "manifest.json")["hold_out"] == list(UNSEEN)
    assert store.read_toml(whole / "config.toml")["hold_out"] == list(UNSEEN)
    audit = whole / "held-out/seed-0/fold-00/audit.csv"
    assert audit.read_text().splitlines()[1:] == ["held-out,1,score"]


def test_the_final_model_is_tested_on_them(whole, tiny):
    table = pl.read_parquet(whole / "held-out/seed-0/fold-00/predictions.parquet")
    assert table["subject"].unique(maintain_order=True).to_list() == list(UNSEEN)
    assert set(table["role"]) == {"test"}
    data, engine = open_epochs(tiny), Engine.load(whole / "final", calibrated=False)
    names = [f"p_{name}" for name in data.names]
    for file in data.files[-2:]:
        scored = table.filter(recording=file.recording).select(names).to_numpy()
        again = engine.hypnodensity(file.signals, file.onset)
        assert np.abs(scored - again).max() < 2e-5


def test_the_time_of_scoring_them_is_told(whole, tmp_path):
    path = whole / "held-out/seed-0/fold-00/scoring.json"
    facts = store.read_json(path)
    assert facts["epochs"] == 40
    assert 0 < facts["seconds"] < 600
    assert scoring_time(open_run(whole)) == (facts["seconds"], 40)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    store.write_json(run / path.relative_to(whole), {"epochs": 40, "seconds": 1e-9})
    with pytest.raises(DataError, match="scoring"):
        scoring_time(open_run(run))
    (run / path.relative_to(whole)).unlink()
    assert scoring_time(open_run(run)) == (0, 0)


def test_evaluation_report_status_and_verification_know_them(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    evaluation = evaluate_only(run)
    assert evaluation.protocols == ("leak-free", "held-out")
    assert "none of the 2 held-out subjects trains" in evaluation.leakage
    subjects = evaluation.table("subjects").filter(protocol="held-out")
    assert subjects["subject"].to_list() == list(UNSEEN)
    folds = evaluation.table("subjects").filter(protocol="leak-free")
    assert not {*UNSEEN} & {*folds["subject"]}
    page = write_report([run], tmp_path / "r.md", ReportOptions(kind="md"))[0].read_text()
    section = page[page.index("## Unseen subjects") :]
    accuracy = subjects["accuracy"][0]
    assert f"| ours, S04 | 20 | {100 * accuracy:.2f} |" in section
    progress = run_progress(run)
    assert progress["hold_out"] == list(UNSEEN)
    assert progress["done"][-2:] == ["held-out/seed-0/fold-00", "final"]
    assert verify(run).problems == []
    path = run / "held-out/seed-0/fold-00/predictions.parquet"
    table = pl.read_parquet(path)
    table.with_columns(predicted=pl.lit(0, pl.Int8)).write_parquet(path)
    assert verify(run).problems != []


def test_one_among_training_subjects_is_a_leak(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "manifest.json").unlink()
    table = pl.read_parquet(run / "folds.parquet")
    leaky = table.with_columns(
        subject=pl.when(
            (pl.col("protocol") == "leak-free")
            & (pl.col("role") == "train")
            & (pl.col("fold") == 1)
        )
        .then(pl.lit("S04"))
        .otherwise("subject")
    )
    store.write_table(run / "folds.parquet", leaky)
    with pytest.raises(DataError, match="leak-free fold 1: held-out S04") as leak:
        evaluate_only(run)
    assert leak.value.code == "LEAK-FOLDS"
    store.write_table(run / "folds.parquet", table)
    config = run / "final/config.json"
    store.write_json(config, store.read_json(config) | {"train_subjects": ["S00", "S05"]})
    with pytest.raises(DataError, match="final: held-out S05"):
        evaluate_only(run)


def test_done_is_done_and_others_are_refused(whole, tiny):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    train(tiny, whole, options())
    train(tiny, whole, options(hold_out=UNSEEN[::-1]))  # the same subjects
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()} == before
    for other in ((), ("S04",), ("S03", *UNSEEN)):
        with pytest.raises(OutputError, match="hold_out") as refused:
            train(tiny, whole, options(hold_out=other))
        assert refused.value.exit_code == 73


def test_folds_first_and_the_final_model_later(whole, tiny, tmp_path):
    run = tmp_path / "run"
    train(tiny, run, options(final=False))
    assert run_progress(run)["missing"] == []
    assert evaluate_only(run).protocols == ("leak-free",)
    train(tiny, run, options(folds=None))
    for name in ("final/model.safetensors", "held-out/seed-0/fold-00/predictions.parquet"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_the_final_model_alone(tiny, tmp_path):
    run = tmp_path / "run"
    train(tiny, run, options(folds=None))
    evaluation = evaluate_only(run)
    assert evaluation.protocols == ("held-out",)
    write_report([run], tmp_path / "r.html")
    assert verify(run).problems == []


def test_stopped_before_the_test_it_goes_on(whole, tiny, tmp_path, monkeypatch):
    from sleeptools.training import loop

    def stop(*_):
        raise Stopped("here")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "write_predictions", stop)
        with pytest.raises(Stopped):
            train(tiny, run, options(folds=None))
    assert run_progress(run)["missing"] == ["held-out/seed-0/fold-00", "final"]
    train(tiny, run, options(folds=None))
    name = "held-out/seed-0/fold-00/predictions.parquet"
    assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("names", "words", "hint"),
    [
        (("S4",), "no subject 'S4' in .*there are: S00, S01", "S04"),
        (tuple(f"S0{i}" for i in range(6)), "names all 6 subjects", None),
    ],
)
def test_wrong_names(tiny, tmp_path, names, words, hint):
    with pytest.raises(UsageError, match=words) as wrong:
        train(tiny, tmp_path / "run", options(hold_out=names))
    assert wrong.value.exit_code == 2
    assert hint is None or hint in (wrong.value.hint or "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["stratified-epochs", "stratified-shuffle"])
def test_folds_of_epochs_leave_them_out_too(tiny, tmp_path, split):
    train(tiny, tmp_path / "run", options(split=split, hold_out=("S05",)))
    run = open_run(tmp_path / "run")
    assert run.leaky
    assert not run.held_out["recording"].str.starts_with("S05").any()
    assert "S05" not in run.folds.filter(role="mixed")["subject"]
    evaluation = evaluate_only(tmp_path / "run")
    assert "held-out" in evaluation.protocols
    tested = evaluation.tested.filter(protocol="held-out")
    assert set(tested["subject"]) == {"S05"}
    assert len(tested) == 20
    assert verify(tmp_path / "run").problems == []
    write_report([tmp_path / "run"], tmp_path / "r.html")
