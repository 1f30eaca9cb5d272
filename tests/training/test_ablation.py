"""Ablations: variants of a model, trained alike and shown side by side."""

import json

import pytest
import torch

import golden_models
from comparing import make
from sleeptools import registry, store
from sleeptools.models.mmasleepnet import ABLATIONS
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = (
    "--folds",
    2,
    "--fold",
    0,
    "--passes",
    1,
    "--set",
    "recipe.batch=16",
    "--threads",
    1,
    "--no-explain",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=3, count=10)


@pytest.mark.parametrize(
    "name",
    [n for n in registry.names("models") if hasattr(registry.load("models", n), "ABLATIONS")],
)
def test_every_ablation_is_a_setting_of_the_model(name):
    module = registry.load("models", name)
    made = {key: module.Config(**some) for key, some in module.ABLATIONS.items()}
    assert len(set(made.values())) == len(made)
    assert made["all"] == module.Config()
    assert len({config.channels for config in made.values()}) == 1  # the same epochs for all


def test_ablations_of_masleepnet():
    """What is left out is gone, and what is not looked at does not matter."""
    found = {}
    for name, some in registry.load("models", "masleepnet").ABLATIONS.items():
        model = golden_models.fill(make("masleepnet", some))
        x = golden_models.signals(model.config)
        other = x.clone()
        other[:, 2:] *= -1
        assert model(x).shape == (len(x), 5)
        assert torch.equal(model(x), model(other)) is (name == "eeg")
        found[name] = sum(p.numel() for p in model.parameters())
        kinds = {type(m).__name__ for m in model.modules()}
        assert ("Excitation" in kinds) is (name != "no-se")
        assert ("TwoStreams" in kinds) is (name != "no-msconv")
    assert found["no-se"] == found["all"] - 3 * (128 * 8 + 8 + 8 * 128 + 128)
    assert found["no-msconv"] < found["all"]


def test_side_by_side(command, tiny, tmp_path):
    """Figure 4 of the MMASleepNet paper, in small; what is done is not done again."""
    names = list(ABLATIONS)
    ran = command("train", tiny, "fig4", "--ablation", ",".join(names), *TINY)
    assert ran.code == 0, ran.err
    assert "next: sleeptools evaluate fig4/*" in ran.err
    configs = {name: store.read_toml(tmp_path / "fig4" / name / "config.toml") for name in names}
    models = {name: config.pop("model") for name, config in configs.items()}
    assert all(config == configs["all"] for config in configs.values())
    for name, changed in ABLATIONS.items():
        assert {k: v for k, v in models[name].items() if models["all"][k] != v} == changed
    folds = {(tmp_path / "fig4" / name / "folds.parquet").read_bytes() for name in names}
    assert len(folds) == 1
    runs = [f"fig4/{name}" for name in names]
    found = json.loads(command("evaluate", *runs, "--partial", "--json").out)
    assert [one["run"] for one in found] == names
    assert command("report", *runs[1:3], "--partial").code == 0
    page = (tmp_path / "report.html").read_text()
    assert all(f"Run {name}" in page for name in names[1:3])
    again = command("train", tiny, "fig4", "--ablation", "mbfe,eeg", *TINY)
    assert again.code == 0
    assert " pass " not in again.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ablation", "mbfe,te"), "there are: mbfe, mbfe+te, eeg, eeg+eog, all"),
        (("--ablation", "mbfe,"), "there are: mbfe"),
        (("--ablation", "all", "--model", "attnsleep"), "attnsleep has no ablations"),
        (("--ablation", "mbfe", "--set", "model.fusion=full"), "--set model.fusion: the ablations"),
        (("--ablation", "mbfe", "--set", "model.modalities=eeg"), "--set model.modalities"),
    ],
)
def test_wrong_options(command, tiny, tmp_path, arguments, words):
    ran = command("train", tiny, "run", *arguments, *TINY)
    assert ran.code == 2, ran.err
    assert words in ran.err
    assert not (tmp_path / "run").exists()
