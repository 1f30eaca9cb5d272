"""The temperature that a training stores: whose epochs it saw, and what becomes of it later."""

import shutil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from sleeptools import store
from sleeptools.commands import external_test
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError
from sleeptools.evaluation.calibration import calibration_tables
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.runs import model_folder
from sleeptools.runs.predictions import read_predictions
from sleeptools.runs.run import open_run
from sleeptools.runs.temperature import ModelCalibration
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 16}}


def options(**given: Any) -> TrainOptions:
    basis = {"folds": 3, "passes": 1, "settings": SMALL, "threads": 1, "explain": False}
    return TrainOptions(**(basis | given))


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=9, count=10)


@pytest.fixture(scope="module")
def run(epochs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(epochs, run, options(protocols=("leak-free", "best-on-test"), final=True))
    return run


def fold(run: Path, number: int, protocol: str = "leak-free") -> Path:
    return run / protocol / "seed-0" / f"fold-{number:02d}"


def stored(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = model_folder.read_config(folder)["calibration"]
    return facts


def test_a_fold_keeps_what_evaluate_fits_on_its_validation_subjects(run: Path) -> None:
    opened = open_run(run)
    fitted = calibration_tables(read_predictions(opened, role=None), HUMAN_STAGES).temperatures
    assert len(fitted) == 3
    for number, temperature, count in fitted.select("fold", "temperature", "epochs").rows():
        facts, model = stored(fold(run, number)), model_folder.read_config(fold(run, number))
        assert facts["temperature"] == pytest.approx(temperature, rel=1e-6)
        assert facts["temperature"] != 1
        assert facts["epochs"] == count
        assert facts["subjects"] == model["validation_subjects"]
        assert facts["nll_after"] < facts["nll_before"]
        said = f"calibrated by T = {temperature:.2f} (validation subjects of fold {number})"
        assert str(Engine.load(fold(run, number)).calibration) == said
    assert store.verify(run) == []


def test_nothing_is_fitted_on_a_test_fold(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        facts = stored(fold(run, number, "best-on-test"))
        assert facts["temperature"] is None
        assert "best-on-test" in facts["why"]
    two = write_epochs(tmp_path / "two", subjects=2, count=5)
    train(two, tmp_path / "few", options(folds=2))
    assert stored(fold(tmp_path / "few", 1)) == {
        "temperature": None,
        "why": "fold 1 has no validation subject",
    }
    mixed = options(folds=2, split="stratified-epochs", settings={**SMALL}, fold=0)
    train(two, tmp_path / "leaky", mixed)
    assert "LEAKY" in stored(fold(tmp_path / "leaky", 0))["why"]


def test_final_has_the_median_of_the_folds_done_before_it(
    run: Path, epochs: Path, tmp_path: Path
) -> None:
    temperatures = [stored(fold(run, i))["temperature"] for i in range(3)]
    facts = stored(run / "final")
    assert facts["temperature"] == median(temperatures)
    assert facts["range"] == [min(temperatures), max(temperatures)]
    assert facts["folds"] == 3
    alone, said = tmp_path / "alone", []
    train(epochs, alone, options(folds=None, final=True), log=said.append)
    assert said == ["final: " + str(Engine.load(alone / "final").calibration)]
    before = (alone / "final/config.json").read_bytes()
    assert str(Engine.load(alone / "final").calibration).startswith("uncalibrated: the run had no")
    train(epochs, alone, options(fold=0))
    assert (alone / "final/config.json").read_bytes() == before


def test_an_engine_divides_the_logits(run: Path, epochs: Path) -> None:
    x = open_epochs(epochs).files[0].signals
    raw, scaled = Engine.load(fold(run, 0), calibrated=False), Engine.load(fold(run, 0))
    temperature = stored(fold(run, 0))["temperature"]
    assert (raw.temperature, scaled.temperature) == (1, temperature)
    p = raw.hypnodensity(x)
    powers = p.astype(np.float64) ** (1 / temperature)
    q = scaled.hypnodensity(x)
    assert q.dtype == np.float32
    np.testing.assert_allclose(q, powers / powers.sum(1, keepdims=True), atol=1e-6)
    assert (q.argmax(1) == p.argmax(1)).all()
    assert str(raw.calibration) == "uncalibrated: as asked for"


def test_an_external_test_stays_raw(run: Path, tmp_path: Path) -> None:
    others = write_epochs(tmp_path / "epochs", prefix="T", seed=1)
    model = fold(run, 0)
    external_test.score(model, others, tmp_path / "run", match_channels_by_order=True)
    table = read_predictions(open_run(tmp_path / "run"))
    p = table.select(f"p_{name}" for name in HUMAN_STAGES).to_numpy()
    x = np.concatenate([f.signals for f in open_epochs(others).files])
    raw = Engine.load(model, calibrated=False).hypnodensity(x)
    np.testing.assert_allclose(p, raw, atol=1e-6)


def test_models_of_before_and_wrong_facts(run: Path, tmp_path: Path) -> None:
    facts = model_folder.read_config(fold(run, 0))
    old = {k: v for k, v in facts.items() if k not in ("calibration", "weights_sha256")}
    weights = {k: np.array(v) for k, v in model_folder.read_weights(fold(run, 0)).items()}
    model_folder.write_model_folder(tmp_path / "old", old, weights)
    engine = Engine.load(tmp_path / "old")
    assert engine.temperature == 1
    assert "trained before" in str(engine.calibration)
    assert engine.calibration.facts()["temperature"] is None
    for wrong in (0, -1.0, "hot", True):
        changed = old | {"calibration": {"temperature": wrong, "fitted_on": "x"}}
        with pytest.raises(DataError, match=r"calibration\.temperature is"):
            ModelCalibration.of_model(changed, tmp_path)
    shutil.rmtree(tmp_path / "old")
