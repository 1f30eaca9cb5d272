"""Evaluation of a run: the numbers, the tables on disk, and what is refused."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

import synthetic_run
from sleeptools import evaluation, folds, published, runs, store
from sleeptools.errors import DataError, MissingInputError
from sleeptools.evaluate import evaluate
from sleeptools.stages import MOUSE


@pytest.fixture
def run(tmp_path):
    return synthetic_run.write(tmp_path / "run")


def predictions(run, protocol="leak-free", seed=0):
    parts = sorted(run.glob(f"{protocol}/seed-{seed}/fold-*/predictions.parquet"))
    return pl.concat(map(pl.read_parquet, parts)).filter(pl.col("role") == "test")


def spoil(run, change, fold=1):
    path = run / f"leak-free/seed-0/fold-{fold:02d}/predictions.parquet"
    store.write_table(path, change(store.read_table(path)))


def test_pooled_numbers_are_those_of_scikit_learn(run):
    found = evaluate(run)
    table = predictions(run)
    truth, predicted = table["stage"].to_numpy(), table["predicted"].to_numpy()
    pooled = found.pooled("leak-free")
    assert pooled["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert pooled["kappa"] == pytest.approx(cohen_kappa_score(truth, predicted))
    assert pooled["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found.matrix("leak-free").sum() == len(table)


def test_subjects_are_those_of_scikit_learn(run):
    found = evaluate(run)
    for row in found.subjects.filter(protocol="leak-free").to_dicts():
        mine = predictions(run).filter(pl.col("subject") == row["subject"])
        assert row["epochs"] == len(mine)
        assert row["kappa"] == pytest.approx(cohen_kappa_score(mine["stage"], mine["predicted"]))


def test_validation_epochs_do_not_count(run):
    found = evaluate(run)
    assert found.matrix("leak-free").sum() == found.matrix("best-on-test").sum() == 4 * 160


def test_tidy_table_is_written_twice(run):
    found = evaluate(run)
    table = pl.read_parquet(run / "metrics.parquet")
    assert table.equals(found.table)
    assert table.columns == [
        "run", "protocol", "seed", "fold", "recording", "subject", "metric", "stage", "value",
    ]  # fmt: skip
    csv = pl.read_csv(run / "metrics.csv")
    assert len(csv) == len(table)
    pooled = table.filter(
        pl.col("fold").is_null(), pl.col("subject").is_null(), metric="kappa", seed=0
    )
    assert pooled["protocol"].to_list() == ["leak-free", "best-on-test"]
    assert pooled["value"][0] == pytest.approx(found.pooled("leak-free")["kappa"])


def test_every_level_counts_every_epoch_once(run):
    table = evaluate(run).table.filter(pl.col("stage").is_null(), metric="epochs")
    for protocol in folds.PROTOCOLS:
        mine = table.filter(protocol=protocol)
        levels = mine.group_by(*(pl.col(c).is_null() for c in ("fold", "subject", "recording")))
        assert levels.agg(pl.col("value").sum())["value"].to_list() == [640.0] * 4


def test_seeds_are_averaged_and_kept_apart(tmp_path):
    found = evaluate(synthetic_run.write(tmp_path / "run", seeds=(0, 7)))
    assert set(found.confusions) == {(p, s) for p in folds.PROTOCOLS for s in (0, 7)}
    each = [r["metrics"]["kappa"] for r in found.as_json()["results"][:2]]
    assert found.pooled("leak-free")["kappa"] == pytest.approx(np.mean(each))


def test_difference_needs_both_protocols(tmp_path):
    both = evaluate(synthetic_run.write(tmp_path / "a"))
    assert both.difference()["kappa"] == pytest.approx(
        both.pooled("best-on-test")["kappa"] - both.pooled("leak-free")["kappa"]
    )
    one = evaluate(synthetic_run.write(tmp_path / "b", protocols=("leak-free",)))
    assert one.difference() == {}


def test_json_has_stable_keys_and_no_nan(run):
    def shrink(table):  # N3 is neither there nor predicted
        p = pl.when(pl.col("stage") == 3).then(0).otherwise(pl.col("stage"))
        return table.with_columns(
            p.cast(pl.Int8).alias("stage"), p.cast(pl.Int8).alias("predicted")
        )

    for fold in (0, 1):
        spoil(run, shrink, fold)
    text = json.dumps(evaluate(run).as_json(), allow_nan=False)
    facts = json.loads(text)
    assert list(facts) == [
        "format", "version", "run", "model", "stages", "simulated", "complete", "missing",
        "leakage", "notes", "results", "difference",
    ]  # fmt: skip
    first = facts["results"][0]
    assert list(first) == [
        "protocol", "seed", "optimistic", "folds", "subjects", "recordings", "epochs", "metrics",
        "per_stage", "confusion", "per_subject",
    ]  # fmt: skip
    assert first["per_stage"]["N3"]["f1"] is None
    assert first["metrics"]["accuracy"] == 1
    assert facts["results"][1]["optimistic"] is True


def test_notes_are_honest(tmp_path):
    found = evaluate(synthetic_run.write(tmp_path / "a"))
    assert any("simulated" in note for note in found.notes)
    assert any("optimistic" in note for note in found.notes)
    real = synthetic_run.write(tmp_path / "b", simulated=False, protocols=("leak-free",))
    assert evaluate(real).notes == ()
    assert "no subject trains or validates and is tested" in found.leakage


def test_difference_needs_the_same_folds(run):
    (run / "best-on-test/seed-0/fold-01/predictions.parquet").unlink()
    assert evaluate(run, partial=True).difference() == {}


def forget(run):
    (run / "manifest.json").unlink()
    for path in run.glob("*/*/*/config.json"):
        facts = store.read_json(path)
        del facts["simulated"]
        store.write_json(path, facts)


def test_without_a_manifest_the_models_say_that_data_is_simulated(run):
    (run / "manifest.json").unlink()
    assert evaluate(run).run.simulated is True


def test_a_run_that_does_not_say_is_not_called_real(run):
    forget(run)
    found = evaluate(run)
    assert found.as_json()["simulated"] is None
    assert any("No file of the run says" in note for note in found.notes)


def test_a_second_reading_of_a_leak_free_test_fold_is_told(run):
    with (run / "leak-free/seed-0/fold-00/audit.csv").open("a") as file:
        file.write("\nleak-free,9,score")
    assert any("read 2 times" in note for note in evaluate(run).notes)


def test_progress_tells_what_is_done(run):
    lines = []
    evaluate(run, progress=lines.append)
    assert len(lines) == 2


def test_mouse_stages_work_as_well(tmp_path):
    run = synthetic_run.write(tmp_path / "m", names=MOUSE, epoch_seconds=4.0, prefix="M")
    assert evaluate(run).stages == MOUSE


# --- what is refused ------------------------------------------------------------------------------


def test_missing_run(tmp_path):
    with pytest.raises(MissingInputError, match="no such run folder"):
        evaluate(tmp_path / "nothing")


def test_not_a_run(tmp_path):
    with pytest.raises(DataError, match="not a sleeptools-run folder"):
        evaluate(tmp_path)


def test_newer_run(run):
    config = store.read_toml(run / "config.toml") | {"version": 2}
    store.write_toml(run / "config.toml", config)
    with pytest.raises(DataError, match="version 2"):
        evaluate(run)


def test_incomplete_run_names_what_is_missing(run):
    (run / "leak-free/seed-0/fold-01/predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"leak-free/seed-0/fold-01") as caught:
        evaluate(run)
    assert caught.value.exit_code == 65
    assert not (run / "metrics.parquet").exists()


def test_incomplete_run_can_be_asked_for(run):
    (run / "leak-free/seed-0/fold-01/predictions.parquet").unlink()
    found = evaluate(run, partial=True)
    assert found.as_json()["complete"] is False
    assert found.as_json()["missing"] == ["leak-free/seed-0/fold-01"]
    assert any("incomplete" in note for note in found.notes)


def test_a_run_of_nothing_is_refused_even_if_partial(run):
    for path in run.glob("*/*/*/predictions.parquet"):
        path.unlink()
    with pytest.raises(DataError, match="4 of 4"):
        evaluate(run, partial=True)


def leak(run):
    table = store.read_table(run / "folds.parquet")
    extra = table.filter(pl.col("role") == "test").head(1).with_columns(role=pl.lit("train"))
    store.write_table(run / "folds.parquet", pl.concat([table, extra]))


def test_a_subject_on_two_sides_is_refused(run):
    leak(run)
    with pytest.raises(DataError, match=r"two sides of a fold: leak-free fold 0: SC400"):
        evaluate(run)


def test_a_leak_by_request_is_stamped(run):
    leak(run)
    facts = store.read_json(run / "manifest.json") | {"leaky": True}
    store.write_json(run / "manifest.json", facts)
    assert evaluate(run).leakage.startswith("LEAKY")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("onset"), "lacks column onset"),
        (lambda t: t.with_columns(stage=pl.lit(9, pl.Int8)), "stage 9"),
        (lambda t: t.with_columns(predicted=pl.lit(-1, pl.Int8)), "predicted -1"),
        (lambda t: t.with_columns(role=pl.lit("exam")), "role exam"),
        (lambda t: t.with_columns(p_W=pl.lit(float("nan"), pl.Float32)), "do not add up"),
        (lambda t: t.with_columns(p_W=pl.col("p_W") + 1), "do not add up"),
        (lambda t: pl.concat([t, t]), "stands there twice"),
        (lambda t: t.filter(pl.col("subject") != "SC403"), "folds.parquet says SC402, SC403"),
    ],
)
def test_damaged_predictions_are_refused(run, change, said):
    spoil(run, change)
    with pytest.raises(DataError, match=said):
        evaluate(run)


def test_a_recording_tested_twice_is_refused(run):
    def borrow(table):
        return table.with_columns(
            pl.col("recording").replace("SC4021", "SC4001"),
        )

    spoil(run, borrow)
    with pytest.raises(DataError, match="tested in more than one fold: SC4001"):
        evaluate(run)


def test_a_broken_log_is_refused(run):
    store.write_text(run / "leak-free/seed-0/fold-00/log.csv", "pass,loss\none,two\n")
    with pytest.raises(DataError, match="training log"):
        runs.logs(runs.open_run(run))


# --- printed results ------------------------------------------------------------------------------


def test_printed_results_are_fractions_with_a_protocol():
    table = published.human()
    assert len(table) == 20
    row = table.filter(model="mmasleepnet", dataset="Sleep-EDF-20").to_dicts()[0]
    assert (row["accuracy"], row["kappa"]) == pytest.approx((0.8730, 0.8263))
    assert row["g_mean_recalls"] == pytest.approx(0.8167)
    assert row["folds"] == 20
    assert row["selection"] == "best pass on the test fold"
    assert table["selection"].null_count() == table["doi"].null_count() == 0


def ours(**changed):
    known = {
        "preset": "sleep-edf", "simulated": False, "subjects": 20, "epochs": 42308, "folds": 20,
        "rules": "R&K, stages 3 and 4 are N3", "optimistic": True, "model": "mmasleepnet",
    }  # fmt: skip
    return published.Protocol(**(known | changed))


def test_the_nearest_data_set_and_the_own_model_come_first():
    small = published.beside(ours(subjects=4, model="attnsleep"))
    assert set(small["dataset"]) == {"Sleep-EDF-20"}
    assert small["model"].to_list()[:2] == ["attnsleep", "mmasleepnet"]
    assert published.beside(ours(subjects=70))["dataset"][0] == "Sleep-EDF-78"
    assert published.beside(ours(preset="isruc", subjects=9))["dataset"][0] == "ISRUC-Sleep-3"
    assert len(published.beside(ours(preset="kjaerby"))) == 0


def test_differences_are_named():
    row = published.beside(ours()).to_dicts()[0]
    assert published.differences(ours(), row) == []
    found = published.differences(
        ours(simulated=True, subjects=4, epochs=3200, folds=2, rules="AASM", optimistic=False), row
    )
    assert len(found) == 6
    assert "simulated" in found[0]
    assert "best pass on the test fold" in found[-1]


def test_kind_and_version_of_the_json():
    assert (evaluation.KIND, evaluation.VERSION) == ("sleeptools-metrics", 1)
