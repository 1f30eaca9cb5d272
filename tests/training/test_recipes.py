"""Recipes that bring a network along, what prevails over them, and what keeps the best pass."""

import numpy as np
import polars as pl
import pytest

from sleeptools import native, registry, store
from sleeptools.commands.evaluate import evaluate
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import OutputError
from sleeptools.inference.engine import Engine
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.runs import model_folder
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import open_run
from sleeptools.training.group import Group
from sleeptools.training.loop import Training
from sleeptools.training.options import merge_options
from sleeptools.training.plan import make_plan
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
MOUSE = {"channels": 2, "sample_rate": 64.0, "epoch_seconds": 1.0, "names": MOUSE_STAGES}
SMALL = ("model.sample_rate=64", "model.epoch_seconds=1")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("people"), subjects=2, count=6)


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("mice"), subjects=2, count=40, **MOUSE)


def planned(epochs, run, *arguments, **options):
    return make_plan(epochs, run, merge_options(None, arguments, **options))


@pytest.mark.parametrize(
    ("model", "recipe", "wanted"),
    [
        ("mmasleepnet", "default", {"kernels": "paper", "tokens": "authors", "projection": True}),
        ("mmasleepnet", "paper", {"kernels": "paper", "tokens": "authors", "projection": True}),
        ("mmasleepnet", "released", {"kernels": "authors", "tokens": "authors", "scale": "head"}),
        (
            "mmasleepnet",
            "printed",
            {
                "kernels": "paper",
                "tokens": "paper",
                "se": "paper",
                "se_reduction": 2,
                "gate": "element",
                "scale": "token",
                "projection": False,
            },
        ),
        ("attnsleep", "mmasleepnet", {"init": "pytorch", "channel": 0}),
        ("sleepprintnet", "mmasleepnet", {"electrodes": ["F3", "C3"], "variant": "mmasleepnet"}),
        ("salientsleepnet", "mmasleepnet", {"eeg": 1, "eog": 2, "variant": "mmasleepnet"}),
    ],
)
def test_one_name_brings_the_network(people, tmp_path, model, recipe, wanted):
    plan = planned(people, tmp_path / "run", model=model, recipe=recipe)
    assert {k: plan.model_config[k] for k in wanted} == wanted
    assert plan.recipe == registry.load("models", model).RECIPES[recipe]
    by_set = planned(people, tmp_path / "run", f"recipe.variant={recipe}", model=model)
    assert by_set.model_config == plan.model_config


@pytest.mark.parametrize("recipe", ["printed", "released"])
def test_mmasleepnet_as_printed_and_as_released(people, tmp_path, monkeypatch, recipe):
    """Trained, scored, explained: an E for each element gives one weight a modality."""
    options = merge_options(
        None, ["recipe.batch=4"], recipe=recipe, folds=2, fold=0, passes=1, threads=1
    )
    train(people, tmp_path / "run", options)
    folder = tmp_path / "run/leak-free/seed-0/fold-00"
    facts = model_folder.read_config(folder)
    module = registry.load("models", "mmasleepnet")
    assert module.MODEL_SETTINGS[recipe].items() <= facts["config"].items()
    weights = store.read_tensors(folder / "explain.safetensors")["modality weights"]
    assert weights.shape == (6, 4)
    assert ((weights > 0) & (weights < 1)).all()
    engine = Engine.load(folder)
    wanted = "native" if recipe == "released" and native.available() else "torch"
    assert engine.backend == wanted
    epochs = open_epochs(people)
    predicted = pl.read_parquet(folder / "predictions.parquet").filter(role="test")
    tested = epochs.gather(epochs.numbers_of(set(predicted["subject"])))
    found = predicted.select(f"p_{stage}" for stage in engine.stages).to_numpy()
    assert np.abs(engine.hypnodensity(tested) - found).max() < 1e-3


def test_what_is_given_prevails(people, tmp_path):
    plan = planned(
        people, tmp_path / "run", "model.scale=head", "model.eeg=2", recipe="printed", passes=3
    )
    config = plan.model_config
    assert (config["scale"], config["gate"], plan.recipe.passes) == ("head", "element", 3)


def test_a_runs_settings_do_not_hide_the_network_asked_for(people, tmp_path, monkeypatch):
    monkeypatch.setattr(Group, "run", lambda _: None)
    train(people, tmp_path / "run", merge_options(None, ["model.dropout=0.25"]))
    file = tmp_path / "run" / "config.toml"
    options = merge_options(file, ["model.se=authors"], recipe="printed")
    config = make_plan(people, tmp_path / "other", options).model_config
    assert (config["tokens"], config["se"], config["dropout"]) == ("paper", "authors", 0.25)
    again = make_plan(people, tmp_path / "again", merge_options(file)).model_config
    assert again["tokens"] == "authors"


def test_a_run_goes_on_by_its_own_settings(mice, tmp_path):
    run = tmp_path / "run"
    small = (*SMALL, "recipe.batch=16")
    options = {"model": "mouse-cnn", "recipe": "paper", "folds": 2, "passes": 1, "explain": False}
    train(mice, run, merge_options(None, small, fold=0, **options))
    config = store.read_toml(run / "config.toml")
    assert config["model"]["classifier"] == "two-blocks"
    assert model_folder.read_config(run / "leak-free/seed-0/fold-00")["config"]["classifier"]
    del options["recipe"], options["model"]
    train(mice, run, merge_options(run / "config.toml", fold=1, **options))
    assert len(open_run(run).done) == 2
    with pytest.raises(OutputError, match=r"model\.classifier: two-blocks there, plain now"):
        train(mice, run, merge_options(None, small, model="mouse-cnn", folds=2, passes=1))


def older(run, *, of_model=(), of_recipe=()):
    """Take settings out of a run's config.toml, as one from before there were these."""
    config = store.read_toml(run / "config.toml")
    for table, names in (("model", of_model), ("recipe", of_recipe)):
        for name in names:
            del config[table][name]
    store.write_toml(run / "config.toml", config)
    manifest = store.read_json(run / "manifest.json")
    manifest["files"]["config.toml"] = store.sha256(run / "config.toml")
    store.write_json(run / "manifest.json", manifest)


def test_an_older_run_goes_on(mice, tmp_path):
    run = tmp_path / "run"
    options = {"model": "slumbernet", "folds": 2, "passes": 1, "explain": False}
    small = (*SMALL, "model.blocks=5", "model.filters=2", "recipe.batch=16")
    train(mice, run, merge_options(None, small, fold=0, **options))
    older(run, of_model=("network", "dropout"), of_recipe=("selection_on_test",))
    train(mice, run, merge_options(None, small, fold=1, **options))
    config = store.read_toml(run / "config.toml")
    assert (config["model"]["network"], config["model"]["dropout"]) == ("authors", 0)
    assert config["recipe"]["selection_on_test"] == "accuracy"
    evaluate(run)
    older(run, of_model=("network",))
    file = tmp_path / "paper.toml"
    text = (run / "config.toml").read_text()
    file.write_text(text.replace('variant = "default"', 'variant = "paper"'))
    of_text = merge_options(file).settings["model"]
    assert (of_text["network"], of_text["blocks"]) == ("authors", 5)  # there was no other
    assert merge_options(file, recipe="paper").settings["model"]["network"] == "paper"
    with pytest.raises(OutputError, match=r"model\.network: authors there, paper now"):
        train(mice, run, merge_options(None, (*small, "model.network=paper"), **options))


def test_an_older_run_of_the_mouse_report_kept_the_pass_by_accuracy(mice, tmp_path):
    run = tmp_path / "run"
    options = {"model": "mouse-cnn", "folds": 2, "passes": 1, "explain": False}
    train(mice, run, merge_options(None, SMALL, fold=0, protocols=["best-on-test"], **options))
    older(run, of_model=("classifier",), of_recipe=("selection_on_test",))
    with pytest.raises(OutputError, match="selection_on_test: accuracy there, macro_f1 now"):
        train(mice, run, merge_options(None, SMALL, fold=1, **options))
    by_accuracy = (*SMALL, "recipe.selection_on_test=accuracy")
    train(mice, run, merge_options(None, by_accuracy, fold=1, **options))


SCORES = [  # accuracy, kappa, macro-F1 of each pass: the best one is another by each
    {"accuracy": 0.9, "kappa": 0.1, "macro_f1": 0.1},
    {"accuracy": 0.1, "kappa": 0.1, "macro_f1": 0.9},
    {"accuracy": 0.1, "kappa": 0.9, "macro_f1": 0.1},
]


@pytest.mark.parametrize(
    ("model", "recipe", "kept"),
    [
        ("mouse-cnn", "paper", 2),
        ("mouse-cnn", "default", 2),
        ("mouse-cnn-attention", "paper", 2),
        ("slumbernet", "authors", 1),
    ],
)
def test_the_pass_that_is_best_on_the_test_fold(mice, tmp_path, monkeypatch, model, recipe, kept):
    """By macro-F1 for the mouse report, by accuracy for the others; log and tables agree."""
    monkeypatch.setattr(Training, "judge", lambda self, *_: SCORES[self.pass_number - 1])
    small = (*SMALL, "recipe.batch=40")
    if model == "slumbernet":
        small += ("model.blocks=5", "model.filters=1")
    options = {"folds": 2, "fold": 0, "passes": 3, "explain": False, "threads": 1}
    given = merge_options(
        None, small, model=model, recipe=recipe, protocols=["best-on-test"], **options
    )
    run = tmp_path / "run"
    train(mice, run, given)
    metric = "macro_f1" if kept == 2 else "accuracy"
    facts = model_folder.read_config(run / "best-on-test/seed-0/fold-00")
    assert (facts["selection"], facts["pass"]) == (metric, kept)
    log = training_logs(open_run(run, partial=True))
    assert log.filter("selected")["pass"].to_list() == [kept]
    table = evaluate(run, partial=True).table("selection")
    assert set(table["best_pass"]) == set(table["chosen_pass"]) == {kept}
    assert store.read_manifest(run, "sleeptools-run")["selection"] == {"best-on-test": [metric]}


def test_leak_free_selects_by_the_validation_metric(mice, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "judge", lambda self, *_: SCORES[self.pass_number - 1])
    options = {"folds": 2, "fold": 0, "passes": 3, "explain": False, "threads": 1}
    subjects = write_epochs(tmp_path / "four", subjects=4, count=12, **MOUSE)
    given = merge_options(None, (*SMALL, "recipe.selection=kappa"), model="mouse-cnn", **options)
    train(subjects, tmp_path / "run", given)
    facts = model_folder.read_config(tmp_path / "run/leak-free/seed-0/fold-00")
    assert (facts["selection"], facts["pass"]) == ("kappa", 3)


def test_default_options_are_unchanged():
    recipe = registry.load("models", TrainOptions.model).RECIPE
    assert (recipe.selection, recipe.selection_on_test) == ("kappa", "accuracy")
