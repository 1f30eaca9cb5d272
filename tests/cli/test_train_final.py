"""`train --final` on a run that exists, and what hints say of settings."""

from pathlib import Path

import pytest

from sleeptools import store
from tests.helpers.synthetic_epochs import write_epochs

NETWORK = ("--model", "ulw-sleepnet", "--set", "recipe.batch=8", "--threads", 1, "--no-explain")


@pytest.fixture
def run(command, tmp_path: Path) -> Path:
    """A run with settings of its own: passes, batch, folds, seeds and who is held out."""
    write_epochs(tmp_path / "epochs", subjects=4, count=8)
    words = ("--folds", 3, "--passes", 2, "--seed", "3,4", "--hold-out", "S03")
    trained = command("train", "epochs", "runs/x", *words, *NETWORK)
    assert trained.code == 0, trained.err
    return tmp_path / "runs/x"


def test_the_final_model_takes_the_settings_of_its_run(command, run):
    before = store.read_toml(run / "config.toml")
    added = command("train", "epochs", "runs/x", "--final", "--threads", 1)
    assert added.code == 0, added.err
    assert store.read_toml(run / "config.toml") == before | {"final": True}
    model = store.read_json(run / "final/config.json")
    assert model["model"] == "ulw-sleepnet"
    assert model["seed"] == 3
    assert model["train_subjects"] == ["S00", "S01", "S02"]
    assert (run / "held-out/seed-3/fold-00/predictions.parquet").exists()
    again = command("evaluate", "runs/x")
    assert again.code == 0, again.err


def test_what_is_given_with_it_must_be_the_runs(command, run):
    refused = command("train", "epochs", "runs/x", "--final", "--passes", 3)
    assert refused.code == 73
    assert "recipe.passes: 2 there, 3 now" in refused.err
    assert "--config runs/x/config.toml" in refused.err


def test_a_new_run_has_the_defaults(command, run, tmp_path):
    done = command("train", "epochs", "runs/y", "--final", "--passes", 1, *NETWORK)
    assert done.code == 0, done.err
    assert store.read_toml(tmp_path / "runs/y/config.toml")["recipe"]["passes"] == 1
    assert not list((tmp_path / "runs/y").glob("leak-free"))


def test_hints_bring_the_settings_along(command, run):
    """The commands that they propose do what they say."""
    for name in ("predictions.parquet", "model.safetensors"):
        (run / f"leak-free/seed-4/fold-01/{name}").unlink()
    incomplete = command("evaluate", "runs/x")
    assert incomplete.code == 65
    assert "'sleeptools train EPOCHS runs/x --config runs/x/config.toml'" in incomplete.err
    done = command("train", "epochs", "runs/x", "--config", "runs/x/config.toml", "--threads", 1)
    assert done.code == 0, done.err
    assert command("evaluate", "runs/x").code == 0
