"""Files of every format version that was ever written stay readable, with the same content."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sleeptools.commands.evaluate import evaluate
from sleeptools.models.folder import load_model
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.recording import read_recording

ARCHIVE = Path(__file__).parents[1] / "data" / "archive"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_recording(version: int) -> None:
    found = read_recording(ARCHIVE / f"recording-{version}.safetensors")
    assert (found.id, found.subject, found.night) == ("SC4001", "SC400", 1)
    assert found.start is not None
    assert found.start.year == 1989
    wanted = (np.arange(60) * 7 % 50) * 0.5 - 3.0
    assert np.array_equal(found.signals["EEG Fpz-Cz"].samples(), wanted.astype(np.float32))
    assert found.hypnogram is not None
    assert found.hypnogram.stages.tolist() == [0, -1]
    assert found.hypnogram.counts()["unknown"] == 1
    assert found.facts["age"] == 33
    others = [(h.scorer, h.onset, h.stages.tolist()) for h in found.other_hypnograms]
    assert others == ([("scorer 2", 30.0, [4, 1])] if version > 1 else [])
    gaps = ((20.0, 50.5), (70.5, 90.0))
    assert found.gaps == (gaps if version > 2 else ())
    assert found.seconds == (110 if version > 2 else 60)


def test_epochs_1() -> None:
    found = open_epochs(ARCHIVE / "epochs-1")
    assert found.subjects == ("SC400",)
    assert found.simulated
    file = found.files[0]
    assert file.signals.ravel().tolist() == list(range(40))
    assert file.stages.tolist() == [1, 4]
    assert file.onset.tolist() == [30, 90]
    assert file.hypnogram.tolist() == [-1, 1, -1, 4]
    assert file.other_stages == {}


def test_model_1(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    layout = json.loads((ARCHIVE / "model-1/layout.json").read_text())
    weights = {
        name: np.full(shape, 0.01 * (i + 1), dtype)
        for i, (name, (dtype, shape)) in enumerate(layout["arrays"].items())
    }
    facts = {k: str(v) for k, v in layout["facts"].items()}
    save_file(weights, tmp_path / "model.safetensors", metadata=facts)
    shutil.copy(ARCHIVE / "model-1/config.json", tmp_path)
    model = load_model(tmp_path)
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), weights[name])


def test_run_1(tmp_path: Path) -> None:
    folder = shutil.copytree(ARCHIVE / "run-1", tmp_path / "run")
    found = evaluate(folder)
    assert found.table("subjects")["subject"].unique().sort().to_list() == ["SC400", "SC401"]
    assert found.run.simulated
    assert found.run.simulators == [1]  # which it does not say: there was no other
    assert any("simulator 1, today's is 2" in note for note in found.notes)
