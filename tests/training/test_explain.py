"""explain.safetensors: what a model makes of its test epochs, and their places on a plane."""

import os
import signal

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.decomposition import PCA

import golden_models
from comparing import close, make
from sleeptools import registry, store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import Stopped
from sleeptools.models import layers
from sleeptools.models.folder import load_model
from sleeptools.preprocessing.epochs import read_epoch_file
from sleeptools.runs import predictions
from sleeptools.runs.run import is_done, open_run
from sleeptools.training import explain
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
FOLD = "leak-free/seed-0/fold-00"
FIGURE = ("{}", "{} pca")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=3, nights=2, count=15)


def options(**given):
    settings = {"model": {"modalities": "eeg+eog"}, "recipe": {"batch": 16}}
    basis = {"folds": 3, "fold": 0, "passes": 2, "settings": settings, "threads": 1}
    return TrainOptions(**(basis | given))


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(tiny, folder, options(protocols=("leak-free", "best-on-test")))
    return folder


@pytest.fixture(scope="module")
def explained(run):
    return store.read_tensors(run / FOLD / "explain.safetensors", "sleeptools-explain", 1)


# --- the file -------------------------------------------------------------------------------------


def test_what_is_in_it(explained, run):
    tested = predictions.read_predictions(open_run(run, partial=True))
    tested = tested.filter(pl.col("protocol") == "leak-free")
    assert (
        explained.facts["recordings"] == tested["recording"].unique(maintain_order=True).to_list()
    )
    names = np.array(explained.facts["recordings"])
    for prefix, more in (("", ["predicted"]), ("modality ", [])):
        there = {
            "recording": names[explained[f"{prefix}recording"]],
            "epoch": np.asarray(explained[f"{prefix}epoch"]),
            "stage": np.asarray(explained[f"{prefix}stage"]),
        } | {name: np.asarray(explained[name]) for name in more}
        assert pl.DataFrame(there).equals(tested.select(*there))  # thirty epochs: all are drawn
    for name in ("recording", "epoch", "modality recording", "modality epoch"):
        assert explained[name].dtype == np.int32
    for name in ("stage", "predicted", "modality stage"):
        assert explained[name].dtype == np.int8
    assert {n.format(w) for n in FIGURE for w in ("before", "after")} < set(explained.arrays)
    assert explained["before"].shape == explained["after"].shape == (30, 30)
    assert {explained[n.format(w)].shape for n in FIGURE[1:] for w in ("before", "after")} == {
        (30, 2)
    }
    assert all(np.isfinite(a).all() for a in explained.arrays.values())
    assert explained.facts["modalities"][2:] == ["EOG"]
    assert explained.facts["before"] != explained.facts["after"]


def test_it_follows_from_the_stored_model(explained, run, tiny):
    model = load_model(run / FOLD)
    file = read_epoch_file(tiny / f"{explained.facts['recordings'][0]}.safetensors")
    with torch.inference_mode():
        parts = model.features(torch.from_numpy(np.array(file.signals)))
        weights = model.se.excitation(model.se.mixed(parts.fused)).flatten(1)
    close(torch.from_numpy(np.array(explained["modality weights"][:15])), weights, 1e-5)
    assert np.ptp(explained["modality weights"]) > 0
    apart = torch.cdist(parts.gated.flatten(1), parts.gated.flatten(1))
    ours = torch.from_numpy(np.array(explained["after"][:15]))
    close(torch.cdist(ours, ours), apart, 1e-3)  # all components: no distance is lost


def test_both_protocols_and_not_the_final_model(run, tiny, tmp_path):
    assert (run / "best-on-test/seed-0/fold-00/explain.safetensors").exists()
    assert f"{FOLD}/explain.safetensors" in store.read_json(run / "manifest.json")["files"]
    assert store.verify(run) == []
    assert len(pl.read_csv(run / FOLD / "audit.csv")) == 1
    train(tiny, tmp_path / "run", options(fold=None, folds=None, final=True, passes=1))
    assert not list((tmp_path / "run").rglob("explain*"))


def test_it_can_be_left_out(command, tiny, tmp_path, run):
    sets = ("--set", "model.modalities=eeg+eog", "--set", "recipe.batch=16")
    ran = command(
        "train",
        tiny,
        "run",
        "--folds",
        3,
        "--fold",
        0,
        "--passes",
        2,
        *sets,
        "--threads",
        1,
        "--no-explain",
    )
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run" / FOLD / "explain.safetensors").exists()
    name = f"{FOLD}/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()
    assert command("status", "run").out.startswith("run: 1 done")


def test_the_same_bytes_after_a_break(run, tiny, tmp_path, monkeypatch):
    """Stopped by a signal, and killed between the last files."""

    def stop(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(tiny, tmp_path / "run", options(), on_progress=stop)
    write = store.write_arrays

    def die(path, *rest):
        write(path, *rest)
        if path.name == "explain.safetensors":
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_arrays", die)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "run", options())
    monkeypatch.undo()
    folder = tmp_path / "run" / FOLD
    assert not is_done(folder)
    train(tiny, tmp_path / "run", options())
    for name in ("explain.safetensors", "predictions.parquet", "model.safetensors"):
        assert (folder / name).read_bytes() == (run / FOLD / name).read_bytes()


def test_epochs_are_drawn_evenly(monkeypatch):
    monkeypatch.setattr(explain, "DRAWN", 90)
    owner = np.repeat([3, 5, 6, 9], [10, 100, 40, 50])
    drawn = explain.draw_epochs(owner, np.random.default_rng(0))
    found = [int(drawn[owner == i].sum()) for i in (3, 5, 6, 9)]
    assert found[0] == 10
    assert sorted(found[1:]) == [26, 27, 27]
    assert (drawn == explain.draw_epochs(owner, np.random.default_rng(0))).all()
    assert (drawn != explain.draw_epochs(owner, np.random.default_rng(1))).any()


def test_few_of_many(tiny, tmp_path, monkeypatch):
    """Weights of all epochs, features of those drawn; sequences, too."""
    monkeypatch.setattr(explain, "DRAWN", 7)
    train(tiny, tmp_path / "a", options(passes=1))
    found = store.read_tensors(tmp_path / "a" / FOLD / "explain.safetensors")
    assert (len(found["after"]), len(found["modality weights"])) == (7, 30)
    settings = {"model": {"sequence": 4}, "recipe": {"batch": 4}}
    train(tiny, tmp_path / "b", options(model="masleepnet", passes=1, settings=settings))
    found = store.read_tensors(tmp_path / "b" / FOLD / "explain.safetensors")
    assert len(found["before"]) == len(found["after"]) == 7
    assert "modality weights" not in found.arrays
    assert "modalities" not in found.facts
    table = pl.read_parquet(tmp_path / "b" / FOLD / "predictions.parquet")
    names = found.facts["recordings"]
    for i, epoch, predicted in zip(
        found["recording"], found["epoch"], found["predicted"], strict=True
    ):
        row = table.filter(pl.col("recording") == names[i], pl.col("epoch") == epoch)
        assert row["predicted"].to_list() == [predicted]


# --- what models say ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.names("models"))
def test_the_classifier_gets_what_is_explained(name):
    """What is called "after" decides the stages: logits are a function of it, epoch by epoch."""
    model = golden_models.fill(
        make(name, {"sequence": 11, "filters": 4} if "salient" in name else None)
    )
    x = golden_models.signals(model.config)
    found = layers.explain.explain(model, x)
    with torch.no_grad():
        check_explained(name, model, found, model(x))


def check_explained(name, model, found, logits):
    assert found.after.shape[:-1] == logits.shape[:-1]
    for tensor, said in ((found.after, found.after_is), (found.before, found.before_is)):
        assert (tensor is None) == (not said)
        if tensor is not None:
            assert tensor.shape[:-1] == logits.shape[:-1]
            assert tensor.isfinite().all()
    if found.weights is not None:
        assert found.weights.shape == (*logits.shape[:-1], len(found.modalities))
        assert 0 <= found.weights.min() <= found.weights.max() <= 1
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv1d)][-1]
    if name == "mmasleepnet":
        close(model.linear2(model.linear1(found.after).relu()), logits, 1e-4)
    elif name == "salientsleepnet":
        close(last(found.after.transpose(1, 2)).transpose(1, 2), logits, 1e-4)
    else:
        close(last(found.after), logits, 1e-4)


@pytest.mark.parametrize(
    ("fusion", "names"), [("mbfe", {"after"}), ("mbfe+te", {"before", "after"})]
)
def test_ablations_explain_what_they_have(fusion, names):
    model = golden_models.fill(make("mmasleepnet", {"fusion": fusion}))
    found = layers.explain.explain(model, golden_models.signals(model.config))
    assert {n for n in ("before", "after", "weights") if getattr(found, n) is not None} == names


# --- the plane ------------------------------------------------------------------------------------


def clouds(count=150, features=60):
    """Points in three clouds, and which each is of."""
    rng = np.random.default_rng(0)
    whose = rng.integers(0, 3, count)
    centres = rng.normal(0, 2, (3, features))
    return (centres[whose] + rng.normal(0, 1, (count, features))).astype(np.float32), whose


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_components_are_those_of_scikit_learn(shape):
    x, _ = clouds(*shape)
    found = explain.principal_components(torch.from_numpy(x), 20).numpy()
    expected = PCA(20, svd_solver="full").fit_transform(x.astype(float))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-3)
    assert (found[np.abs(found).argmax(0), range(20)] > 0).all()
    assert explain.principal_components(torch.zeros(3, 5), 50).tolist() == [[0.0] * 3] * 3
