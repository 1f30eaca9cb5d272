"""What of a model folder is verified when it is used, and what cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError
from sleeptools.runs import model_folder

FACTS = {
    "model": "ulw-sleepnet",
    "config": {},
    "montage": ["EEG"],
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": ["W", "N1", "N2", "N3", "REM"],
    "preprocessing": {},
}


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A model folder of a version that wrote no sums."""
    folder = tmp_path / "run/leak-free/seed-0/fold-00"
    model_folder.write_model_folder(folder, FACTS, {"w": np.ones(8, np.float32)})
    facts = json.loads((folder / "config.json").read_text())
    del facts["weights_sha256"]
    store.write_json(folder / "config.json", facts)
    path = folder / "model.safetensors"
    save_file(load_file(path), path, {"format": '"sleeptools-weights"', "version": "1"})
    return folder


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_a_folder_without_sums_says_so_and_can_be_given_them(command, earlier: Path) -> None:
    assert "a changed weight would not show" in model_folder.unverified(earlier)
    ran = command("verify", earlier)
    assert ran.code == 0
    assert "not checked, for nothing has their sums: config.json, model.safetensors" in ran.err
    ran = command("verify", earlier, "--add-sums")
    assert ran.code == 0
    assert "not checked" not in ran.err
    assert not model_folder.unverified(earlier)
    assert "has sums of its files" in command("verify", earlier, "--add-sums").err
    spoil(earlier / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors: its content is not what"):
        model_folder.read_weights(earlier)
    assert command("verify", earlier).code == 65
    assert command("verify", earlier, "--add-sums").code == 65


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_run_around_a_folder_has_its_sums(earlier: Path, name: str) -> None:
    run = earlier.parents[2]
    store.Manifest("sleeptools-run").write(run, sorted(earlier.iterdir()))
    assert not model_folder.unverified(earlier)
    assert model_folder.read_weights(earlier)["w"].sum() == 8
    if name == "config.json":
        store.write_json(earlier / name, json.loads((earlier / name).read_text()) | {"seed": 1})
    else:
        spoil(earlier / name)
    with pytest.raises(DataError, match=f"{name}: its content is not what") as caught:
        model_folder.read_weights(earlier)
    assert caught.value.code == "MAN-HASH"


def test_a_present_folder_needs_nothing_else(command, tmp_path: Path) -> None:
    model_folder.write_model_folder(tmp_path / "m", FACTS, {"w": np.ones(8, np.float32)})
    assert not model_folder.unverified(tmp_path / "m")
    ran = command("verify", tmp_path / "m")
    assert (ran.code, "not checked" in ran.err) == (0, False)
    assert "has sums" in command("verify", tmp_path / "m", "--add-sums").err
    assert not (tmp_path / "m/manifest.json").exists()
    spoil(tmp_path / "m/model.safetensors")
    assert command("verify", tmp_path / "m").code == 65


def test_a_run_where_a_model_is_expected_names_its_models(tmp_path: Path) -> None:
    for name in ("final", "leak-free/seed-0/fold-00", "leak-free/seed-0/fold-01"):
        folder = tmp_path / "run" / name
        model_folder.write_model_folder(folder, FACTS, {"w": np.ones(8, np.float32)})
    for name, count, first in (("run", 3, "final"), ("run/leak-free", 2, "seed-0/fold-00")):
        with pytest.raises(
            MissingInputError, match=f"holds {count} models?, and is none"
        ) as caught:
            model_folder.read_config(tmp_path / name)
        assert str(tmp_path / name / first) in caught.value.hint
    with pytest.raises(MissingInputError, match=r"config\.json: no such file"):
        model_folder.read_config(tmp_path)
