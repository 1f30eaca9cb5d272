"""Leak detectors: what a test subject is must not reach anything that was fitted.

Each has a control that fails where something does leak, so that a detector that sees nothing shows.
"""

import numpy as np
import polars as pl
import pytest

import synthetic_run
from sleeptools import store
from sleeptools.commands import preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.commands.train import TrainOptions, train
from sleeptools.evaluation import calibration
from sleeptools.evaluation.evaluation import compute_evaluation
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import (
    EPOCHS_KIND,
    EPOCHS_VERSION,
    open_epochs,
    read_epoch_file,
    write_epoch_file,
)
from sleeptools.runs import logs, predictions
from sleeptools.runs.run import open_run
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"recipe": {"batch": 16}, "model": {"channels": 2}}
FACTS = ("montage", "sample_rate", "epoch_seconds", "stages", "recordings", "preset", "excluded")


def options(**given):
    plain = {"model": "ulw-sleepnet", "folds": 2, "fold": 0, "passes": 2, "threads": 1}
    return TrainOptions(**(plain | {"settings": SMALL} | given))


def who(run, protocol="leak-free", role="test"):
    table = store.read_table(run / "folds.parquet")
    return set(table.filter(protocol=protocol, fold=0, role=role)["subject"])


def replaced(folder, subjects, seed=1):
    """Give some subjects other signals, on another scale, and random stages."""
    rng = np.random.default_rng(seed)
    manifest = store.read_json(folder / "manifest.json")
    for name in manifest["recordings"]:
        old = read_epoch_file(folder / f"{name}.safetensors")
        if old.subject in subjects:
            signals = rng.normal(300, 2000, old.signals.shape).astype(np.float32)
            stages = rng.permutation(old.stages)
            facts = {k: old.facts[k] for k in ("recording", "subject", "night", "simulated")}
            write_epoch_file(
                folder / f"{name}.safetensors",
                signals=signals,
                stages=stages,
                onset=np.array(old.onset),
                hypnogram=stages,
                facts=facts,
            )
    files = [folder / f"{name}.safetensors" for name in manifest["recordings"]]
    facts = {k: manifest[k] for k in FACTS}
    store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, facts).write(folder, files)


def weights(run, protocol="leak-free"):
    return (run / protocol / "seed-0/fold-00/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and the same with another test subject: everything about that one is different."""
    place = tmp_path_factory.mktemp("leaks")
    found = []
    for name in ("plain", "changed"):
        data = write_epochs(place / name, subjects=5, channels=2, count=12)
        if found:
            replaced(data, who(found[0]))
        run = place / f"run-{name}"
        train(data, run, options(protocols=("leak-free", "best-on-test")))
        found.append(run)
    return place, found


def test_nothing_of_a_test_subject_reaches_a_leak_free_model(trained):
    """Normalisation, BatchNorm, class weights, the pass: all of it is in the weights."""
    _, (plain, changed) = trained
    assert weights(plain) == weights(changed)
    logs = [
        pl.read_csv(run / "leak-free/seed-0/fold-00/log.csv").drop("seconds")
        for run in (plain, changed)
    ]
    assert logs[0].equals(logs[1])
    p = [
        predictions.read_predictions(open_run(run, partial=True), role="val")
        for run in (plain, changed)
    ]
    assert p[0].filter(protocol="leak-free").equals(p[1].filter(protocol="leak-free"))


def test_the_detector_sees_a_leak(trained, tmp_path):
    """A training subject who is another one changes the weights."""
    _, (plain, _) = trained
    data = write_epochs(tmp_path / "epochs", subjects=5, channels=2, count=12)
    replaced(data, who(plain, role="train"))
    train(data, tmp_path / "run", options())
    assert weights(tmp_path / "run") != weights(plain)


def test_watching_the_test_fold_changes_nothing_and_is_audited(trained, tmp_path):
    place, (plain, _) = trained
    train(place / "plain", tmp_path / "watched", options(watch_test=True))
    assert weights(tmp_path / "watched") == weights(plain)
    fold = tmp_path / "watched/leak-free/seed-0/fold-00"
    unwatched = store.read_table(plain / "leak-free/seed-0/fold-00/predictions.parquet")
    assert store.read_table(fold / "predictions.parquet").equals(unwatched)
    audit = pl.read_csv(fold / "audit.csv")
    assert audit["purpose"].to_list() == ["watch", "watch", "score"]
    assert audit["pass"].to_list()[:2] == [1, 2]
    run = open_run(tmp_path / "watched", partial=True)
    assert logs.count_test_readings(run) == {"leak-free": 3}
    assert logs.count_test_readings(run, watching=False) == {"leak-free": 1}
    found = compute_evaluation(run)
    assert any("watched" in note for note in found.notes)
    accuracy = found.table("selection").filter(metric="accuracy").to_dicts()[0]
    log = pl.read_csv(fold / "log.csv")
    chosen = log.filter(pl.col("selected") == 1)
    assert accuracy["chosen"] == chosen["test_accuracy"][0]
    assert accuracy["best"] == log["test_accuracy"].max()
    assert accuracy["optimism"] == accuracy["best"] - accuracy["chosen"] >= 0
    # the logged number of the pass that was kept is that of the saved predictions
    assert accuracy["chosen"] == pytest.approx(
        found.pooled["leak-free"].overall_metrics()["accuracy"]
    )


def test_best_on_test_tells_what_it_gains_over_its_last_pass(trained):
    _, (plain, _) = trained
    found = compute_evaluation(open_run(plain, partial=True)).table("selection")
    (row,) = found.filter(metric="accuracy").to_dicts()
    assert row["protocol"] == "best-on-test"
    assert row["chosen_by"] == "test"
    assert row["optimism"] is None
    assert row["against_last"] == row["best"] - row["last"] >= 0


# --- temperature ----------------------------------------------------------------------------------


def spoil(run, role, seed=3):
    """Give the epochs of a role stages at random."""
    for path in run.glob("leak-free/seed-0/*/predictions.parquet"):
        table = store.read_table(path)
        stage = pl.Series(np.random.default_rng(seed).integers(0, 5, len(table)), dtype=pl.Int8)
        mine = pl.when(pl.col("role") == role).then(stage).otherwise(pl.col("stage"))
        store.write_table(path, table.with_columns(mine.alias("stage")))


def test_a_temperature_sees_validation_epochs_alone(tmp_path):
    run = synthetic_run.write(tmp_path / "run", protocols=("leak-free",))
    before = compute_evaluation(open_run(run))
    spoil(run, "test")
    after = compute_evaluation(open_run(run))
    assert after.table("temperatures").equals(before.table("temperatures"))
    scaled = after.table("calibration").filter(variant="scaled", measure="nll")["value"][0]
    # a temperature fitted on the random test stages would make the model as unsure as it should be
    p = after.tested.select(f"p_{s}" for s in after.run.stages).to_numpy()
    truth = after.tested["stage"].to_numpy()
    cheated = calibration.negative_log_likelihood(
        calibration.scale_by_temperature(p, calibration.fit_temperature(p, truth)), truth
    )
    assert cheated.mean() < scaled - 0.3
    assert cheated.mean() == pytest.approx(np.log(5), abs=0.05)
    spoil(run, "val")
    assert (
        not compute_evaluation(open_run(run))
        .table("temperatures")
        .equals(before.table("temperatures"))
    )


# --- normalisation --------------------------------------------------------------------------------


def test_a_recording_is_scaled_by_itself_alone(tmp_path):
    """The epochs of a recording are the same to the bit, whoever else is in the folder."""
    plain = presets.load("sleep-edf").model_dump(mode="json")
    preset = presets.resolve(plain | {"processing": [{"do": "z-score"}]}, source="test")
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=2, hours=0.5)
    both = open_epochs(preprocess.preprocess(preset, raw, tmp_path / "both"))
    for path in raw.rglob("SC401*"):
        path.unlink()
    (alone,) = open_epochs(preprocess.preprocess(preset, raw, tmp_path / "alone")).files
    first, second = both.files
    assert first.recording == alone.recording
    np.testing.assert_array_equal(first.signals, alone.signals)
    # a statistic of both would have given other numbers
    pooled = np.concatenate([first.signals, second.signals]).std((0, 2))
    assert not np.allclose(first.signals.std((0, 2)), pooled, rtol=1e-5)
