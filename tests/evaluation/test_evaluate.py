"""Evaluation of a run: the numbers, the tables on disk, and what is refused."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

import synthetic_run
from sleeptools import store
from sleeptools.commands.evaluate import evaluate
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.evaluation import caveats, circadian, output, sleep_agreement
from sleeptools.evaluation.confusion import LevelConfusions
from sleeptools.evaluation.output import evaluation_json
from sleeptools.evaluation.selection import protocol_difference
from sleeptools.evaluation.subject_metrics import find_interval
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.report.page import gather_page
from sleeptools.runs import writing
from sleeptools.runs.folds import FOLD_PROTOCOLS
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import RUN_KIND, open_run, run_progress
from sleeptools.training.options import options_from_settings


@pytest.fixture
def run(tmp_path):
    return synthetic_run.write(tmp_path / "run")


def predictions(run, protocol="leak-free", seed=0):
    paths = sorted(run.glob(f"{protocol}/seed-{seed}/fold-*/predictions.parquet"))
    return pl.concat(map(pl.read_parquet, paths)).filter(pl.col("role") == "test")


def spoil(run, change, fold=1):
    path = run / f"leak-free/seed-0/fold-{fold:02d}/predictions.parquet"
    store.write_table(path, change(store.read_table(path)))


def difference(evaluation):
    return protocol_difference(evaluation.run, evaluation.pooled)


def test_pooled_numbers_are_those_of_scikit_learn(run):
    evaluation = evaluate(run)
    table = predictions(run)
    truth, predicted = table["stage"].to_numpy(), table["predicted"].to_numpy()
    pooled = evaluation.pooled["leak-free"].overall_metrics()
    assert pooled["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert pooled["kappa"] == pytest.approx(cohen_kappa_score(truth, predicted))
    assert pooled["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert evaluation.pooled["leak-free"].summed.sum() == len(table)


def test_subjects_are_those_of_scikit_learn(run):
    evaluation = evaluate(run)
    for row in evaluation.table("subjects").filter(protocol="leak-free").to_dicts():
        epochs = predictions(run).filter(pl.col("subject") == row["subject"])
        assert row["epochs"] == len(epochs)
        assert row["kappa"] == pytest.approx(
            cohen_kappa_score(epochs["stage"], epochs["predicted"])
        )


def test_validation_epochs_do_not_count(run):
    evaluation = evaluate(run)
    assert (
        evaluation.pooled["leak-free"].summed.sum()
        == evaluation.pooled["best-on-test"].summed.sum()
        == 4 * 160
    )


def test_tidy_table_is_written_twice(run):
    evaluation = evaluate(run)
    table = pl.read_parquet(run / "metrics.parquet")
    assert table.equals(evaluation.table("metrics"))
    assert table.columns == [
        "run",
        "protocol",
        "seed",
        "fold",
        "recording",
        "subject",
        "level",
        "metric",
        "stage",
        "value",
        "low",
        "high",
        "seed_sd",
    ]
    csv = pl.read_csv(run / "metrics.csv")
    assert len(csv) == len(table)
    pooled = table.filter(
        pl.col("fold").is_null(), pl.col("subject").is_null(), metric="kappa", seed=0
    )
    assert pooled["protocol"].to_list() == ["leak-free", "best-on-test"]
    assert pooled["value"][0] == pytest.approx(
        evaluation.pooled["leak-free"].overall_metrics()["kappa"]
    )


def test_every_level_counts_every_epoch_once(run):
    table = evaluate(run).table("metrics").filter(pl.col("stage").is_null(), metric="epochs")
    for protocol in FOLD_PROTOCOLS:
        rows = table.filter(protocol=protocol)
        levels = rows.group_by(*(pl.col(c).is_null() for c in ("fold", "subject", "recording")))
        assert levels.agg(pl.col("value").sum())["value"].to_list() == [640.0] * 4


def test_seeds_are_averaged_and_kept_apart(tmp_path):
    evaluation = evaluate(synthetic_run.write(tmp_path / "run", seeds=(0, 7)))
    assert {p: pooled.seeds for p, pooled in evaluation.pooled.items()} == dict.fromkeys(
        FOLD_PROTOCOLS, (0, 7)
    )
    kappas = [r["metrics"]["kappa"] for r in evaluation_json(evaluation)["results"][:2]]
    assert evaluation.pooled["leak-free"].overall_metrics()["kappa"] == pytest.approx(
        np.mean(kappas)
    )


def test_means_over_seeds_fit_together(tmp_path):
    evaluation = evaluate(synthetic_run.write(tmp_path / "run", seeds=(0, 7, 9)))
    by_stage, pooled = (
        evaluation.pooled["leak-free"].stage_metrics(),
        evaluation.pooled["leak-free"].overall_metrics(),
    )
    assert by_stage["f1"].mean() == pytest.approx(pooled["macro_f1"], abs=1e-12)
    assert by_stage["recall"].mean() == pytest.approx(pooled["macro_recall"], abs=1e-12)
    truth = predictions(tmp_path / "run")["stage"].to_numpy()
    assert len(evaluation.pooled["leak-free"].seeds) == 3
    assert evaluation.pooled["leak-free"].support.sum() == len(truth) == 640
    assert evaluation.pooled["leak-free"].summed.sum() == 3 * 640


def test_a_stage_that_is_only_predicted_does_not_lower_the_mean(run):
    def drop(table):  # nobody has N3 any more, but it is still predicted
        stage = pl.when(pl.col("stage") == 3).then(0).otherwise(pl.col("stage"))
        return table.with_columns(stage.cast(pl.Int8).alias("stage"))

    for fold in (0, 1):
        spoil(run, drop, fold)
    evaluation, table = evaluate(run), predictions(run)
    assert 3 in set(table["predicted"])
    expected = f1_score(table["stage"], table["predicted"], labels=[0, 1, 2, 4], average="macro")
    assert evaluation.pooled["leak-free"].overall_metrics()["macro_f1"] == pytest.approx(expected)
    assert evaluation.table("subjects").filter(protocol="leak-free")["stages"].to_list() == [4] * 4


def test_difference_needs_both_protocols(tmp_path):
    evaluation = evaluate(synthetic_run.write(tmp_path / "a"))
    assert difference(evaluation)["kappa"] == pytest.approx(
        evaluation.pooled["best-on-test"].overall_metrics()["kappa"]
        - evaluation.pooled["leak-free"].overall_metrics()["kappa"]
    )
    leak_free = evaluate(synthetic_run.write(tmp_path / "b", protocols=("leak-free",)))
    assert difference(leak_free) == {}


def test_json_has_stable_keys_and_no_nan(run):
    def shrink(table):  # N3 is neither there nor predicted
        p = pl.when(pl.col("stage") == 3).then(0).otherwise(pl.col("stage"))
        return table.with_columns(
            p.cast(pl.Int8).alias("stage"), p.cast(pl.Int8).alias("predicted")
        )

    for fold in (0, 1):
        spoil(run, shrink, fold)
    text = json.dumps(evaluation_json(evaluate(run)), allow_nan=False)
    facts = json.loads(text)
    assert list(facts) == [
        "format",
        "version",
        "run",
        "model",
        "stages",
        "simulated",
        "complete",
        "missing",
        "leakage",
        "notes",
        "results",
        "difference",
        "intervals",
        "agreement",
        "scorers",
        "day_correlation",
        "calibration",
        "reliability",
        "temperatures",
        "selection",
        "gain",
        "review",
    ]
    first = facts["results"][0]
    assert list(first) == [
        "protocol",
        "seed",
        "optimistic",
        "folds",
        "subjects",
        "recordings",
        "epochs",
        "macro_over_stages",
        "metrics",
        "per_stage",
        "confusion",
        "per_subject",
    ]
    assert first["per_stage"]["N3"]["f1"] is None
    assert first["metrics"]["accuracy"] == 1
    assert first["macro_over_stages"] == first["per_subject"][0]["stages"] == 4
    assert any("over 4 of 5 stages, nothing is scored N3" in note for note in facts["notes"])
    assert facts["results"][1]["optimistic"] is True


def test_notes_are_honest(tmp_path):
    evaluation = evaluate(synthetic_run.write(tmp_path / "a"))
    assert any("simulated" in note for note in evaluation.notes)
    assert not any("do not compare" in note for note in evaluation.notes)
    assert any("optimistic" in note for note in evaluation.notes)
    real = synthetic_run.write(tmp_path / "b", simulated=False, protocols=("leak-free",))
    (note,) = evaluate(real).notes
    assert "The intervals are over 4 subjects" in note
    assert "no subject trains or validates and is tested" in evaluation.leakage


def test_a_run_on_randomised_nights_says_so(run):
    assert not any("training set" in note for note in evaluate(run).notes)
    facts = store.read_json(run / "manifest.json")
    facts["data"]["randomised"] = True
    store.write_json(run / "manifest.json", facts)
    (note,) = [note for note in evaluate(run).notes if "training set" in note]
    assert "`randomise`" in note


def test_a_run_on_fast_nights_says_so(run):
    assert not any("`fast`" in note for note in evaluate(run).notes)
    facts = store.read_json(run / "manifest.json")
    facts["data"]["fast"] = True
    store.write_json(run / "manifest.json", facts)
    (note,) = [note for note in evaluate(run).notes if "`fast`" in note]
    assert "repeat few epochs" in note


def test_difference_needs_the_same_folds(run):
    (run / "best-on-test/seed-0/fold-01/predictions.parquet").unlink()
    assert difference(evaluate(run, partial=True)) == {}


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
    evaluation = evaluate(run)
    assert evaluation_json(evaluation)["simulated"] is None
    assert any("No file of the run says" in note for note in evaluation.notes)


def test_a_second_reading_of_a_leak_free_test_fold_is_told(run):
    with (run / "leak-free/seed-0/fold-00/audit.csv").open("a") as file:
        file.write("\nleak-free,9,score")
    assert any("read 2 times" in note for note in evaluate(run).notes)


def test_progress_of_a_run(run):
    shutil.rmtree(run / "best-on-test/seed-0/fold-01")
    store.write_text(run / "leak-free/seed-0/fold-00/state.safetensors", "")  # died at the very end
    progress = run_progress(run)
    assert progress["missing"] == ["leak-free/seed-0/fold-00", "best-on-test/seed-0/fold-01"]
    assert progress["array"] == "0,1"
    assert [str(t) for t in open_run(run, partial=True).missing] == progress["missing"]


def test_progress_of_the_final_model(run):
    config = store.read_toml(run / "config.toml") | {"final": True}
    store.write_toml(run / "config.toml", config)
    assert run_progress(run)["missing"] == ["final"]
    for path in [*run.glob("*/seed-0"), run / "folds.parquet"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    store.write_toml(run / "config.toml", config | {"folds": 0, "protocols": []})
    assert run_progress(run) == {"done": [], "missing": ["final"], "array": "", "leaky": False}
    store.write_text(run / "final/model.safetensors", "")
    assert run_progress(run) == {"done": ["final"], "missing": [], "array": "", "leaky": False}


def test_read_only_run_is_printed_as_json(command, run, monkeypatch):
    (run / "metrics.parquet").mkdir()  # cannot be written, whoever asks
    ran = command("evaluate", run, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)[0]["model"] == "mmasleepnet"
    assert ran.err.startswith("not written: ")
    assert "metrics.parquet" in ran.err
    ran = command("evaluate", run)
    assert ran.code == 73
    assert ran.out == ""


def test_tables_as_printed(command, tmp_path):
    run = synthetic_run.write(tmp_path / "mmasleepnet", seeds=(0, 1))
    ran = command("evaluate", run)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "mmasleepnet (model mmasleepnet, simulated data)"
    assert lines[1].strip() == "Pooled over folds, mean of 2 seeds; 95 % intervals over subjects"
    assert "difference" in ran.out
    assert "summed over 2 seeds" in ran.out
    assert "mean over so many of 5 stages" in ran.out
    assert "best-on-test" not in ran.out.replace("best-on-test (optimistic)", "")


def test_no_validation_subject_is_told(run):
    table = store.read_table(run / "folds.parquet")
    gone = (pl.col("role") == "val") & (pl.col("fold") == 1)
    store.write_table(run / "folds.parquet", table.filter(~gone))
    assert any("leak-free, fold 1: nothing chose" in note for note in evaluate(run).notes)


# --- intervals, sleep, calibration ------------------------------------------------------------


def test_intervals_stand_in_every_table(tmp_path):
    evaluation = evaluate(synthetic_run.write(tmp_path / "run", subjects=6, folds=3, seeds=(0, 1)))
    pooled = find_interval(evaluation.intervals["leak-free"], "kappa")
    assert pooled.value == pytest.approx(evaluation.pooled["leak-free"].overall_metrics()["kappa"])
    assert pooled.low < pooled.value < pooled.high
    row = (
        evaluation.table("metrics")
        .filter(
            pl.col("seed").is_null(),
            pl.col("stage").is_null(),
            protocol="leak-free",
            level="pooled",
            metric="kappa",
        )
        .to_dicts()[0]
    )
    assert (row["value"], row["low"], row["high"]) == pooled
    kappas = [r["metrics"]["kappa"] for r in evaluation_json(evaluation)["results"][:2]]
    assert row["seed_sd"] == pytest.approx(np.std(kappas, ddof=1))
    mean = find_interval(evaluation.intervals["leak-free"], "kappa", level="subject mean")
    subjects = (
        evaluation.table("subjects")
        .filter(protocol="leak-free")
        .group_by("subject")
        .agg(pl.col("kappa").mean())
    )
    assert mean.value == pytest.approx(subjects["kappa"].mean())
    n3 = find_interval(evaluation.intervals["leak-free"], "f1", stage="N3")
    assert n3.value == pytest.approx(evaluation.pooled["leak-free"].stage_metrics()["f1"][3])


def test_the_difference_of_the_protocols_has_an_interval(run):
    evaluation = evaluate(run)
    gain = evaluation.table("gain").filter(pl.col("stage").is_null(), metric="kappa").to_dicts()[0]
    assert gain["value"] == pytest.approx(difference(evaluation)["kappa"])
    assert gain["low"] < gain["value"] < gain["high"]
    assert gain["subjects"] == 4


def add_nights(run, **columns):
    """Write nights.parquet as train does; the nights of a synthetic run begin at 1,800 s."""
    first = predictions(run).group_by("recording", "subject", maintain_order=True).agg("stage")
    table = first.select(
        "recording",
        "subject",
        pl.lit(1, pl.Int64).alias("night"),
        pl.lit(30.0).alias("epoch_seconds"),
        pl.col("stage").alias("hypnogram"),
        pl.lit(0.0).alias("hypnogram_onset"),
        pl.lit(None, pl.Float64).alias("lights_off"),
        pl.lit(None, pl.Float64).alias("lights_on"),
        pl.lit(None, pl.String).alias("scorer"),
    ).with_columns(**columns)
    store.write_table(run / "nights.parquet", table)
    return table


def test_latencies_need_the_lights(run):
    def sol():
        return evaluate(run).table("sleep").filter(protocol="leak-free", statistic="sol")

    assert sol()["truth"].null_count() == 4
    add_nights(run, lights_off=pl.lit(1770.0), lights_on=pl.lit(1800.0 + 166 * 30))
    night = predictions(run).filter(recording="SC4001")
    asleep = night.filter(pl.col("stage") > 0)["onset"][0]
    assert sol().filter(recording="SC4001")["truth"][0] == pytest.approx((asleep - 1770) / 60)
    se = (
        evaluate(run)
        .table("sleep")
        .filter(protocol="leak-free", statistic="se", recording="SC4001")
    )
    assert se["truth"][0] == pytest.approx((night["stage"] > 0).sum() * 30 / (30 + 166 * 30))


def test_minutes_of_a_night_are_those_of_its_epochs(run):
    evaluation = evaluate(run)
    bias = evaluation.table("agreement").filter(
        protocol="leak-free", statistic="minutes", stage="N2"
    )
    table = predictions(run)
    apart = (table["predicted"] == 2).sum() - (table["stage"] == 2).sum()
    assert bias["bias"][0] == pytest.approx(apart * 0.5 / 4)
    assert bias["nights"][0] == bias["subjects"][0] == 4


def test_two_scorers_and_the_model_in_one_table(run):
    rng = np.random.default_rng(4)
    nights = add_nights(run)
    second = [
        np.where(rng.random(160) < 0.8, s, rng.integers(-1, 5, 160)) for s in nights["hypnogram"]
    ]
    add_nights(
        run,
        stages_2=pl.Series([s.astype(np.int8).tolist() for s in second], dtype=pl.List(pl.Int8)),
        scorer_2=pl.lit("2"),
    )
    agreement = evaluate(run).table("scorers").filter(protocol="leak-free", metric="kappa")
    assert agreement["pair"].to_list() == [
        "model - scorer 1",
        "model - scorer 2",
        "scorer 1 - scorer 2",
    ]
    table, rescored = predictions(run), np.concatenate(second)
    scored = rescored >= 0
    assert agreement["epochs"].to_list() == [scored.sum()] * 3
    first, model = table["stage"].to_numpy()[scored], table["predicted"].to_numpy()[scored]
    expected = [(model, first), (model, rescored[scored]), (first, rescored[scored])]
    assert agreement["value"].to_list() == pytest.approx([cohen_kappa_score(*x) for x in expected])


def test_sleep_that_was_never_predicted_is_told(run):
    add_nights(run)
    assert not any("left out before" in note for note in evaluate(run).notes)
    nights = store.read_table(run / "nights.parquet")
    longer = pl.col("hypnogram").list.concat(pl.lit([2] * 12 + [0, -1], pl.List(pl.Int8)))
    hypnogram = pl.when(pl.col("recording") == "SC4011").then(longer).otherwise("hypnogram")
    store.write_table(run / "nights.parquet", nights.with_columns(hypnogram.alias("hypnogram")))
    assert any("In 1 night scored sleep was left out" in n for n in evaluate(run).notes)
    assert any("6 min in the median" in note for note in evaluate(run).notes)


def test_a_night_tested_in_parts_is_measured_whole(run):
    """As a split of epochs does, which is leaky: its night lies in several folds."""
    evaluation = evaluate(run)
    scattered = evaluation.tested.with_columns(fold=pl.col("epoch") % 3)
    measured = sleep_agreement.sleep_per_night(scattered, None, evaluation.run.stages, 30.0)
    assert measured.drop("fold").equals(evaluation.table("sleep").drop("fold"))
    assert measured["fold"].null_count() == len(measured)


def test_one_scorer_makes_no_such_table(run):
    assert len(evaluate(run).table("scorers")) == 0
    assert not (run / "evaluation/scorers.parquet").exists()


def test_a_stage_that_was_never_predicted_is_said():
    matrix = np.array([[5, 1, 0], [1, 5, 0], [2, 2, 0]])
    names = ("Wake", "NREM", "REM")
    unscored = matrix * [[1], [1], [0]]  # nor did the scorer find any
    for rows, said in ((matrix, True), (matrix + 1, False), (unscored, False)):
        keys = [("leak-free", 0), ("leak-free", 1)]
        pooled = LevelConfusions("pooled", keys, np.stack([rows, rows]))
        notes = [*caveats.unpredicted_stage_notes(pooled, names)]
        assert len(notes) == int(said)
        assert all(note.startswith("leak-free: REM was never predicted") for note in notes)


def test_a_few_bins_have_no_correlation():
    def day(count):
        rows = [
            ("leak-free", 0, "M", 2.0 * n, s, 10.0 * n, 9.0 * n + k)
            for n in range(count)
            for k, s in enumerate(MOUSE_STAGES)
        ]
        columns = ["protocol", "seed", "recording", "hour", "stage", "truth", "predicted"]
        return circadian.bin_correlations(pl.DataFrame(rows, columns, orient="row"))

    assert len(day(2)) == 0  # six numbers, but no course over the day
    assert day(3).filter(pl.col("stage").is_null())["r"][0] > 0.9


def test_a_mouse_s_day_in_bins(tmp_path):
    options = {"names": MOUSE_STAGES, "epoch_seconds": 30.0, "prefix": "M", "epochs": 1500}
    evaluation = evaluate(synthetic_run.write(tmp_path / "m", **options))
    bins = evaluation.table("day").filter(protocol="leak-free", recording="M001")
    epochs = predictions(tmp_path / "m").filter(recording="M001")
    assert bins["truth"].sum() == pytest.approx(1500 * 0.5)
    first = epochs.filter(pl.col("onset") < 7200)
    rem = bins.filter(hour=0.0, stage="REM").to_dicts()[0]
    assert rem["truth"] == pytest.approx((first["stage"] == 2).sum() * 0.5)
    assert rem["predicted"] == pytest.approx((first["predicted"] == 2).sum() * 0.5)
    correlations = evaluation.table("day_correlation").filter(protocol="leak-free")
    r = correlations.filter(pl.col("stage").is_null())["r"][0]
    by_recording = [
        np.corrcoef(b["truth"], b["predicted"])[0, 1]
        for b in evaluation.table("day").filter(protocol="leak-free").partition_by("recording")
    ]
    assert r == pytest.approx(np.mean(by_recording))
    assert set(evaluation.table("sleep")["statistic"]) == {"minutes", "share", "transitions"}


def test_temperature_calibrates_the_leak_free_protocol_alone(tmp_path):
    run = synthetic_run.write(tmp_path / "run", epochs=1200)
    table = evaluate(run).table("calibration")
    value = {(r["protocol"], r["variant"], r["measure"]): r["value"] for r in table.to_dicts()}
    assert value["leak-free", "scaled", "nll"] < value["leak-free", "raw", "nll"]
    assert value["leak-free", "scaled", "ece"] < value["leak-free", "raw", "ece"]
    assert ("best-on-test", "scaled", "nll") not in value


def test_the_review_list_is_the_least_sure_and_does_not_look_at_the_truth(run):
    before = evaluate(run).table("review")
    assert len(before) == 32  # 5 % of 640
    assert before["margin"].is_sorted()
    p = predictions(run).select("p_W", "p_N1", "p_N2", "p_N3", "p_REM").to_numpy()
    top = np.sort(p, 1)[:, -2:]
    np.testing.assert_allclose(before["margin"], np.sort(top[:, 1] - top[:, 0])[:32], atol=1e-7)
    for fold in (0, 1):
        spoil(run, lambda t: t.with_columns(stage=pl.lit(0, pl.Int8)), fold)
    after = evaluate(run)
    assert after.table("review").drop("scored").equals(before.drop("scored"))
    assert pl.read_csv(run / "review.csv")["recording"].to_list() == before["recording"].to_list()


def test_several_runs_are_compared_by_subject(command, tmp_path):
    a, b = (synthetic_run.write(tmp_path / n, subjects=6, folds=3) for n in ("a", "b"))
    for path in b.glob("*/*/*/predictions.parquet"):  # the second is right a little more often
        table = store.read_table(path)
        better = pl.when(pl.col("epoch") % 4 == 0).then("stage").otherwise("predicted")
        store.write_table(path, table.with_columns(better.alias("predicted")))
    ran = command("evaluate", a, b, "--json")
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)[0]["comparison"]
    assert [r["metric"] for r in rows] == ["accuracy", "macro_f1", "kappa"]
    assert all(
        r["low"] > 0 and r["better"] == r["subjects"] == 6 and r["same_epochs"] for r in rows
    )
    assert all(r["p"] <= r["p_holm"] <= 1 for r in rows)
    printed = command("evaluate", a, b).out
    assert "b less a" in printed
    assert "6 / 0" in printed


# --- verify ---------------------------------------------------------------------------------------


def test_verify_finds_a_number_that_does_not_follow(command, run):
    evaluate(run)
    assert "every number follows" in command("verify", run).err
    path = run / "metrics.parquet"
    table = store.read_table(path)
    kappa = (pl.col("metric") == "kappa") & (pl.col("level") == "pooled") & pl.col("seed").is_null()
    changed = pl.when(kappa).then(pl.col("value") + 1e-4).otherwise("value").alias("value")
    store.write_table(path, table.with_columns(changed), csv=True)
    assert "metrics.parquet: content differs from the manifest" in command("verify", run).out
    (run / "evaluation/manifest.json").unlink()  # as in a run of an older version
    ran = command("verify", run)
    assert ran.code == 65
    assert "pooled kappa: value" in ran.out
    store.write_table(path, table.head(len(table) - 3), csv=True)
    assert "lacks 3 numbers" in command("verify", run).out
    evaluate(run)
    spoil(run, lambda t: t.with_columns(predicted=pl.col("stage")))
    assert command("verify", run).code == 65


@pytest.mark.parametrize("name", ["audit.csv", "log.csv"])
def test_a_changed_log_or_audit_is_not_used(command, run, name):
    path = next(run.glob(f"leak-free/*/*/{name}"))
    store.Manifest("sleeptools-run").write(run, [path])
    assert command("evaluate", run).code == 0
    path.write_text(path.read_text().replace("leak-free,0,score\n", "") + "\n")
    assert f"{path.relative_to(run)}: content differs" in command("verify", run).out
    ran = command("evaluate", run)
    assert ran.code == 65
    assert f"{name}: its content is not what the manifest" in ran.err


def test_verify_reads_the_numbers_of_version_1(command, run):
    evaluation = evaluate(run)
    old = (
        evaluation.table("metrics")
        .filter(pl.col("seed").is_not_null())
        .drop("level", "low", "high", "seed_sd")
    )
    old = old.filter(~pl.col("metric").is_in(["stage_kappa", "explained_variance"]))
    (run / "evaluation/manifest.json").unlink()
    store.write_table(run / "metrics.parquet", old, csv=True)
    assert command("verify", run).code == 0
    changed = old.with_columns(value=pl.col("value") + 0.01)
    store.write_table(run / "metrics.parquet", changed, csv=True)
    assert command("verify", run).code == 65


# --- settings of a run ----------------------------------------------------------------------------


def test_options_from_a_settings_file():
    recipe = {"batch": 3}
    nothing = {"settings": {}}
    assert options_from_settings({}) == nothing
    assert options_from_settings({"model": "mmasleepnet"}) == nothing | {"model": "mmasleepnet"}
    options = options_from_settings(
        {"model": {"name": "x", "eeg": 6}, "recipe": recipe, "seeds": [0, 1]}
    )
    assert options == {
        "model": "x",
        "seeds": (0, 1),
        "settings": {"model": {"eeg": 6}, "recipe": recipe},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": 3}, "model is 3; expected a table"),
        ({"recipe": 3}, "recipe is 3; expected a table"),
        ({"recipes": {}}, "unknown setting 'recipes'"),
        ({"folds": "many"}, "folds is 'many'; expected a whole number"),
        ({"seeds": 3}, "seeds is 3; expected a list"),
    ],
)
def test_settings_that_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        options_from_settings(values)


def test_mouse_stages_work_as_well(tmp_path):
    run = synthetic_run.write(tmp_path / "m", names=MOUSE_STAGES, epoch_seconds=4.0, prefix="M")
    assert evaluate(run).run.stages == MOUSE_STAGES


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
    evaluation = evaluate(run, partial=True)
    assert evaluation_json(evaluation)["complete"] is False
    assert evaluation_json(evaluation)["missing"] == ["leak-free/seed-0/fold-01"]
    assert any("incomplete" in note for note in evaluation.notes)


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
    ("change", "message"),
    [
        (lambda t: t.drop("onset"), "lacks column onset"),
        (lambda t: t.with_columns(stage=pl.lit(9, pl.Int8)), "stage 9"),
        (lambda t: t.with_columns(predicted=pl.lit(-1, pl.Int8)), "predicted -1"),
        (lambda t: t.with_columns(role=pl.lit("exam")), "role exam"),
        (lambda t: t.with_columns(p_W=pl.lit(float("nan"), pl.Float32)), "do not add up"),
        (lambda t: t.with_columns(p_W=pl.col("p_W") + 1), "do not add up"),
        (lambda t: pl.concat([t, t]), "is listed twice"),
        (lambda t: t.filter(pl.col("subject") != "SC403"), "folds.parquet says SC402, SC403"),
    ],
)
def test_damaged_predictions_are_refused(run, change, message):
    spoil(run, change)
    with pytest.raises(DataError, match=message):
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
        training_logs(open_run(run))


def test_kind_and_version_of_the_json():
    assert (output.METRICS_FORMAT, output.METRICS_VERSION) == ("sleeptools-metrics", 2)


FOLD = "leak-free/seed-0/fold-01/"


@pytest.mark.parametrize(
    "name", ["config.toml", "folds.parquet", f"{FOLD}log.csv", f"{FOLD}audit.csv"]
)
def test_what_tells_how_a_run_was_trained_is_as_its_manifest_says(run, name):
    """Edited by hand, it would hide a leak or the readings of a test fold."""
    store.write_text(run / FOLD / "audit.csv", "protocol,pass,purpose\nleak-free,1,score\n")
    writing.write_manifest(run, store.Manifest(RUN_KIND))
    evaluate(run)
    path = run / name
    original = path.read_bytes()
    if path.suffix == ".parquet":
        store.write_table(path, store.read_table(path).sample(fraction=1, shuffle=True, seed=1))
    else:
        path.write_bytes(original + b"\n")
    for command in (evaluate, lambda run: gather_page(run, 0)):
        with pytest.raises(DataError, match=rf"{path.name}: its content is not what") as caught:
            command(run)
        assert caught.value.code == "MAN-HASH"
    path.unlink()
    with pytest.raises((DataError, MissingInputError)):
        evaluate(run)
    path.write_bytes(original)
    evaluate(run)


def test_the_settings_of_a_run_that_is_being_extended_are_not_listed_yet(run):
    writing.write_manifest(run, store.Manifest(RUN_KIND))
    (run / "config.toml").write_text((run / "config.toml").read_text() + "\n")
    (run / FOLD / "predictions.parquet").unlink()
    assert evaluate(run, partial=True).run.missing
