"""A model tested on another set of epochs: what fits, what is refused, and what is written."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from sleeptools import store
from sleeptools.commands import evaluate, verify
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError, OutputError
from sleeptools.inference import engine
from sleeptools.preprocessing.epochs import EPOCHS_KIND, EPOCHS_VERSION, open_epochs
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.runs import logs
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
FACTS = ("montage", "sample_rate", "epoch_seconds", "stages", "recordings", "preset", "excluded")


def stamped(folder, **facts):
    """Change facts in a manifest of epochs."""
    manifest = store.read_json(folder / "manifest.json")
    kept = {k: manifest[k] for k in FACTS} | facts
    files = [folder / f"{name}.safetensors" for name in manifest["recordings"]]
    store.Manifest(EPOCHS_KIND, EPOCHS_VERSION, kept).write(folder, files)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    data = stamped(
        write_epochs(place / "epochs", subjects=2, channels=2, count=10),
        montage=["EEG Fpz-Cz", "EMG chin"],
        preset={"name": "a", "rules": "R&K"},
    )
    settings = {"recipe": {"batch": 10}, "model": {"channels": 2}}
    how = {"folds": 2, "fold": 0, "passes": 2, "threads": 1, "settings": settings}
    train(data, place / "run", TrainOptions("ulw-sleepnet", **how))
    return place / "run/leak-free/seed-0/fold-00"


def other(folder, **given):
    """Epochs of other people: subjects 2 and 3."""
    facts = {"montage": ["EEG Fpz-Cz", "EMG chin"], "preset": {"name": "b", "rules": "AASM"}}
    data = write_epochs(folder, **({"subjects": 4, "channels": 2, "count": 12, "seed": 5} | given))
    manifest = store.read_json(data / "manifest.json")
    facts["recordings"] = [r for r in manifest["recordings"] if r[:3] in ("S02", "S03")]
    return stamped(data, **{"stages": manifest["stages"]} | facts)


def test_an_external_test_is_a_run(model, tmp_path):
    data = other(tmp_path / "epochs")
    out = evaluate.score_external(model, data, tmp_path / "out")
    found = evaluate.evaluate(out)
    assert found.protocols == ("external",)
    assert found.pooled["external"].summed.sum() == 24
    assert set(found.table("subjects")["subject"]) == {"S02", "S03"}
    p = engine.Engine.load(model).hypnodensity(open_epochs(data).files[0].signals)
    mine = found.tested.filter(recording="S021").select(f"p_{s}" for s in HUMAN_STAGES).to_numpy()
    np.testing.assert_array_equal(mine, p)
    assert "none of the 2 tested subjects trained" in found.leakage
    notes = " ".join(found.notes)
    assert "tested on 2 of b (AASM)" in notes
    assert "rules of scoring differ (R&K against AASM)" in notes
    assert logs.count_test_readings(found.run) == {"external": 1}
    assert verify.verify_numbers(out) == []
    assert store.verify(out) == []
    assert evaluate.evaluation_json(found)["results"][0]["protocol"] == "external"
    evaluate.score_external(model, data, out)  # again: the same


@pytest.mark.parametrize(
    ("given", "facts", "said"),
    [
        (
            {"channels": 3},
            {"montage": ["EEG Fpz-Cz", "EMG chin", "EOG horizontal"]},
            "montage: expected EEG Fpz-Cz, EMG chin, got EEG Fpz-Cz, EMG chin, EOG horizontal",
        ),
        ({"sample_rate": 50.0}, {"sample_rate": 50.0}, "sample rate: expected 100 Hz, got 50 Hz"),
        ({"names": MOUSE_STAGES}, {}, "stages: expected W, N1, N2, N3, REM, got Wake, NREM, REM"),
        ({}, {"montage": ["EMG chin", "EEG Fpz-Cz"]}, "montage: expected EEG Fpz-Cz, EMG chin"),
    ],
)
def test_what_does_not_fit_is_refused(model, tmp_path, given, facts, said):
    data = other(tmp_path / "epochs", **given)
    stamped(data, **facts)
    with pytest.raises(DataError, match=said) as caught:
        evaluate.score_external(model, data, tmp_path / "out", match_channels_by_order=True)
    assert caught.value.exit_code == 65
    assert not (tmp_path / "out").exists()


def test_channels_of_another_name_stand_in_only_where_asked(model, tmp_path):
    data = stamped(other(tmp_path / "epochs"), montage=["EEG C4-M1", "EMG chin"])
    with pytest.raises(DataError, match="got EEG C4-M1, EMG chin") as caught:
        evaluate.score_external(model, data, tmp_path / "out")
    assert "match_channels_by_order" in caught.value.hint
    out = evaluate.score_external(model, data, tmp_path / "out", match_channels_by_order=True)
    assert "EEG C4-M1 for EEG Fpz-Cz" in " ".join(evaluate.evaluate_only(out).notes)


def test_subjects_that_trained_the_model_are_refused(model, tmp_path):
    data = write_epochs(tmp_path / "epochs", subjects=2, channels=2, count=10)
    stamped(data, montage=["EEG Fpz-Cz", "EMG chin"])
    with pytest.raises(DataError, match=r"subjects that trained the model: S0[01] \(1 of 2\)"):
        evaluate.score_external(model, data, tmp_path / "out")
    out = evaluate.score_external(model, data, tmp_path / "out", allow_shared_subject_ids=True)
    assert "LEAKY: nights whose signals trained" in evaluate.evaluate_only(out).leakage
    others = write_epochs(tmp_path / "others", subjects=2, channels=2, count=10, seed=3)
    stamped(others, montage=["EEG Fpz-Cz", "EMG chin"])
    out = evaluate.score_external(model, others, tmp_path / "new", allow_shared_subject_ids=True)
    assert "said to be others" in evaluate.evaluate_only(out).leakage


def test_a_night_under_another_name_is_refused(model, tmp_path):
    """The model says by which signals it was trained, whoever they are said to be of."""
    data = write_epochs(tmp_path / "epochs", subjects=2, channels=2, count=10, prefix="X")
    stamped(data, montage=["EEG Fpz-Cz", "EMG chin"])
    with pytest.raises(DataError, match=r"nights whose signals trained the model: X0[01]1") as e:
        evaluate.score_external(model, data, tmp_path / "out")
    assert e.value.code == "LEAK-SUBJECTS"


def test_another_run_is_not_overwritten(model, tmp_path):
    data = other(tmp_path / "epochs")
    out = evaluate.score_external(model, data, tmp_path / "out")
    with pytest.raises(OutputError, match="holds another run"):
        evaluate.score_external(model, other(tmp_path / "more", count=14), out)


@pytest.mark.slow
def test_scored_from_the_command_line_without_torch(model, tmp_path):
    """In a process of its own: evaluate must not import torch for a model with kernels."""
    data = other(tmp_path / "epochs")
    words = ["evaluate", str(model), "--on", str(data), "--out", "x", "--json"]
    program = (
        f"import sys; from sleeptools import cli; code = cli.run({words!r});"
        "from sleeptools import native;"
        "sys.exit(code or (native.available() and 'torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["results"][0]["epochs"] == 24


def test_on_needs_a_model(command, tmp_path):
    assert command("evaluate", "--on", tmp_path).code == 2
    ran = command("evaluate", tmp_path, "--out", "x")
    assert ran.code == 2
    assert "--on" in ran.err


def test_nan_scores_name_the_recording(model, tmp_path, monkeypatch):
    def broken(self, x, onsets=None):
        return np.full((len(x), 5), np.nan, np.float32)

    monkeypatch.setattr(engine.Engine, "hypnodensity", broken)
    with pytest.raises(DataError, match="S021: 12 epochs, the first 0, have no finite score"):
        evaluate.score_external(model, other(tmp_path / "epochs"), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("predictions.parquet"))
    assert pl.read_parquet(tmp_path / "out/folds.parquet")["role"].to_list() == ["test", "test"]
