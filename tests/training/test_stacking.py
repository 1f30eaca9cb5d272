"""Trainings stacked as one model: what separate trainings learn, write and leave behind."""

import copy
import json
import math
import signal
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from sleeptools import store
from sleeptools.commands.train import train
from sleeptools.errors import DataError, Stopped, UnavailableError, UsageError
from sleeptools.models.layers.stacking import step_seeds
from sleeptools.runs.run import is_done
from sleeptools.training.batches import EpochSource
from sleeptools.training.group import Group
from sleeptools.training.lockstep import Lockstep
from sleeptools.training.loop import Training
from sleeptools.training.options import TrainOptions
from stacked_trainings import RECIPE, SMALL, epochs_of
from stacked_trainings import trainings as small_trainings

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 20
TOLERANCE = 1e-4
LEAVING_OUT = SMALL.keys() - {"spectral", "attnsleep", "salientsleepnet", "mouse-cnn"}
LEAVING_OUT -= {"mouse-cnn-attention"}
"""Models of which a signal is left out by chance in these tests. Spectral has one; in the others a
signal of zeros comes to BatchNorm as such, which enlarges its rounding to the size of any other."""


class DoubleSource(EpochSource):
    """Gives signals in double precision."""

    def take(self, windows):
        x, stages = super().take(windows)
        return x.double(), stages


def trainings(name, epochs, run, *, double=False, recipe=RECIPE, **changes):
    """Three folds, the training epochs of one fewer than those of the others."""
    if name in LEAVING_OUT:
        recipe = recipe | {"augmentation": recipe["augmentation"] | {"modality_dropout": 0.3}}
    source = DoubleSource if double else EpochSource
    made = small_trainings(name, epochs, run, source=source, recipe=recipe, **changes)
    for training in made if double else ():
        training.state.model.double()
        if training.weights is not None:
            training.weights = training.weights.double()
    return made


def after(group, count):
    """Make steps until every training has made so many; give the losses of each, step by step."""
    losses = {training: [] for training in group.members}
    group.on_step = lambda training, epochs, _: (
        epochs and losses[training].append(training.state.mean_loss)
    )
    while min(map(len, losses.values())) < count:
        for training in group.members:
            group.end_pass(training)
        group.step()
    return list(losses.values())


def state_of(training):
    """Everything that a later step depends on, by name."""
    state = training.state
    tensors = dict(state.model.state_dict())
    for i, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": value for name, value in values.items()}
    return tensors


def differences(left, right):
    """The largest difference of each tensor, relative to the largest value of all of its kind.

    Some gradients are sums to nothing, as that of a bias before BatchNorm.
    """
    assert left.keys() == right.keys()
    largest = {}
    for name, value in right.items():
        kind = name.rpartition(".")[2]
        largest[kind] = max(largest.get(kind, 0.0), float(value.abs().max()))
    return {
        name: float((value - right[name]).abs().max()) / (largest[name.rpartition(".")[2]] or 1.0)
        for name, value in left.items()
    }


def each(quick, without=()):
    """Every model but some, those that take long for the long tests alone."""
    slow = pytest.mark.slow
    names = [name for name in SMALL if name not in without]
    return [pytest.param(name, marks=() if name in quick else slow) for name in names]


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", each(SMALL.keys() - {"salientsleepnet"}))
def test_a_step_of_two_has_the_gradients_and_masks_of_each(name, tmp_path):
    epochs = epochs_of(name, tmp_path / "epochs")
    made = trainings(name, epochs, tmp_path / "run", double=True, recipe=RECIPE | {"batch": 2})[1:]
    batches = [training.take_batch() for training in made]
    before = [copy.deepcopy(training.state.model.state_dict()) for training in made]
    lockstep = Lockstep(made)
    x, stages = (torch.stack(tensors) for tensors in zip(*batches, strict=True))
    seeds = [training.step_seed(0) for training in made]
    together = lockstep._descend(x, stages, torch.tensor(seeds))
    leaves = [(name, p.grad) for name, p in lockstep.state.parameters.items()]
    gradients = [{n: g[task].clone() for n, g in leaves if g is not None} for task in range(2)]
    after_both = [copy.deepcopy(training.state.model.state_dict()) for training in made]
    for task, training in enumerate(made):
        training.state.model.load_state_dict(before[task])
        with step_seeds(seeds[task]):
            alone = training.descend(batches[task])
        torch.testing.assert_close(together[task], alone, rtol=1e-12, atol=1e-12)
        expected = gradients_of(training)
        assert gradients[task].keys() == expected.keys()
        largest = max(float(value.abs().max()) for value in expected.values())
        for key, value in expected.items():
            assert (gradients[task][key] - value).abs().max() < 1e-11 * largest, key
        for key, value in training.state.model.state_dict().items():  # with running statistics
            torch.testing.assert_close(after_both[task][key], value, rtol=1e-11, atol=1e-11)
    assert len({float(sums[0]) for sums in together}) == 2


def gradients_of(training):
    named = training.state.model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


# SalientSleepNet's twenty steps enlarge rounding a thousandfold from one to the next
@pytest.mark.parametrize("name", each({"slumbernet"}, {"salientsleepnet"}))
def test_twenty_steps_are_those_of_separate_trainings(name, tmp_path):
    epochs = epochs_of(name, tmp_path / "epochs")
    recipe = RECIPE
    if name != "mouse-transformer":  # has no Adam, by whose eps = 1e-8 rounding alone would move
        recipe = recipe | {"eps": 1e-3}  # a weight without a gradient, as a bias before BatchNorm
    if name.startswith("mouse"):  # whose rates enlarge rounding tenfold in three steps
        recipe = recipe | {"learning_rate": 1e-4}
    together = trainings(name, epochs, tmp_path / "a", double=True, recipe=recipe)
    separate = trainings(name, epochs, tmp_path / "b", double=True, recipe=recipe)
    assert len({len(training.windows) for training in together}) > 1
    stacked = after(Group(together, None), STEPS)
    counts = [len(losses) for losses in stacked]  # those wait that have more steps in a pass
    alone = [after(Group([t], None), n)[0] for t, n in zip(separate, counts, strict=True)]
    for task, losses in enumerate(stacked):
        assert losses == pytest.approx(alone[task], rel=1e-9, abs=0)
        found = differences(state_of(together[task]), state_of(separate[task]))
        worst = max(found, key=found.get)
        # a bias of the keys has no gradient, and no other value that it could be compared with
        assert found[worst] < (1e-6 if name.startswith("mouse-cnn") else 1e-9), worst
    assert np.ptp([losses[-1] for losses in stacked]) > 1e-3


@pytest.mark.parametrize("name", each({"spectral"}, {"salientsleepnet"}))
def test_in_single_precision_losses_are_those_of_native_trainings(name, tmp_path):
    """Separate trainings on a CPU run the native ops, with the same masks.

    At the models' own rates rounding grows: by 0.1 of a mouse CNN's loss in twenty steps.
    """
    epochs = epochs_of(name, tmp_path / "epochs")
    recipe = RECIPE | {"eps": 1e-3, "learning_rate": 1e-4}
    together = trainings(name, epochs, tmp_path / "a", recipe=recipe)
    separate = trainings(name, epochs, tmp_path / "b", recipe=recipe)
    stacked = [losses[:STEPS] for losses in after(Group(together, None), STEPS)]
    alone = [after(Group([training], None), STEPS)[0] for training in separate]
    # AttnSleep's norms divide by small deviations, which makes rounding larger
    bound = 5e-3 if name == "attnsleep" else 1e-4
    np.testing.assert_allclose(stacked, alone, rtol=0, atol=bound)
    assert np.ptp(alone, 0).min() > 1e-3  # other masks and epochs would show


def test_rows_are_never_padded(tmp_path, monkeypatch):
    """The last step of a pass, which has other rows, each makes alone; the others wait for it."""
    epochs = epochs_of("slumbernet", tmp_path / "epochs")
    group = Group(trainings("slumbernet", epochs, tmp_path / "run"), None)
    group.on_step = lambda *_: None
    rows, sizes = [], []
    descend, all_of = Training.descend, Lockstep._descend
    monkeypatch.setattr(
        Training, "descend", lambda self, batch: sizes.append(len(batch.x)) or descend(self, batch)
    )
    monkeypatch.setattr(
        Lockstep,
        "_descend",
        lambda self, x, *_: sizes.append([*x.shape[:2]]) or all_of(self, x, *_),
    )
    for _ in range(5):
        for training in group.members:
            group.end_pass(training)
        rows.append([training.next_rows for training in group.members])
        group.step()
    assert [len(training.windows) for training in group.members] == [10, 15, 15]
    assert rows == [[4, 4, 4], [4, 4, 4], [2, 4, 4], [4, 4, 4], [4, 3, 3]]
    assert sizes == [[3, 4], [3, 4], 2, [3, 4], 3, 3]


# --- runs -----------------------------------------------------------------------------------------


def options(**changes):
    fields = {
        "model": "slumbernet",
        "folds": 2,
        "protocols": ("leak-free", "best-on-test"),
        "final": True,
        "passes": 2,
        "threads": 1,
        "explain": False,
        "settings": {"model": SMALL["slumbernet"], "recipe": {"batch": 4, "eps": 1e-3}},
    }
    return TrainOptions(**fields | changes)


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    return epochs_of("slumbernet", tmp_path_factory.mktemp("mice") / "epochs", subjects=5)


@pytest.fixture(scope="module")
def separate(mice, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "separate"
    train(mice, run, options())
    return run


@pytest.fixture(scope="module")
def stacked(mice, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "stacked"
    seen, said = [], []
    train(mice, run, options(stack_folds=50), on_progress=seen.append, log=said.append)
    return run, seen, said


def files(run):
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def close(run, other, tolerance=TOLERANCE):
    """Compare two runs: the same files and facts, and results within the tolerance."""
    assert files(run) == files(other)
    assert (run / "config.toml").read_bytes() == (other / "config.toml").read_bytes()
    for path in sorted(run.rglob("*")):
        twin = other / path.relative_to(run)
        if path.name == "config.json":
            left, right = (json.loads(p.read_text()) for p in (path, twin))
            for facts in (left, right):
                del facts["calibration"], facts["weights_sha256"]
            assert left == right
        elif path.name == "audit.csv":
            assert path.read_bytes() == twin.read_bytes()
        elif path.name == "log.csv":
            left, right = (pl.read_csv(p).drop("seconds") for p in (path, twin))
            assert_frame_equal(left, right, abs_tol=tolerance, rel_tol=0)
        elif path.name == "predictions.parquet":
            left, right = (pl.read_parquet(p).drop("predicted") for p in (path, twin))
            assert_frame_equal(left, right, abs_tol=tolerance, rel_tol=0)
        elif path.name == "model.safetensors":
            left, right = (store.read_tensors(p).arrays for p in (path, twin))
            assert left.keys() == right.keys()
            for name, array in left.items():
                np.testing.assert_allclose(array, right[name], rtol=0, atol=10 * tolerance)


def test_a_stacked_run_is_the_separate_one(separate, stacked):
    run, seen, said = stacked
    close(run, separate)
    assert store.verify(run) == []
    facts, alone = (store.read_manifest(folder, "sleeptools-run") for folder in (run, separate))
    assert facts.pop("stack_folds") == 50
    differ = {key for key in facts if facts[key] != alone.get(key)}
    assert differ <= {"command", "created", "wall_seconds", "peak_memory_mib", "files"}, differ
    assert len({(p.protocol, p.fold) for p in seen[:5]}) == 5  # all at once
    assert all("about" not in line for line in said)  # of separate ones: no estimate


def test_times_of_a_group_add_up(stacked):
    run, *_ = stacked
    last = [pl.read_csv(path)["seconds"][-1] for path in run.rglob("log.csv")]
    wall = store.read_manifest(run, "sleeptools-run")["wall_seconds"]
    assert len(last) == 5
    assert 0 < sum(last) <= wall


class Stopping:
    """Sends a stop signal after so many steps of all trainings together."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, progress):
        self.left -= not progress.pass_done
        if self.left == 0:
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("again", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_stopped_group_continues_stacked_or_not(again, mice, tmp_path, stacked):
    run = tmp_path / "run"
    with pytest.raises(Stopped, match="SIGUSR1"):
        train(mice, run, options(stack_folds=5), on_progress=Stopping(5 + 5 + 3))
    assert len([*run.rglob("predictions.parquet")]) == 1  # of the fold with one step in a pass
    steps = [store.read_tensors(p).facts["step"] for p in run.rglob("state.safetensors")]
    assert sorted(steps) == [3, 3, 4, 4]  # some wait for the last step of others' passes
    train(mice, run, options(stack_folds=again))
    close(run, stacked[0], TOLERANCE if again == 1 else 0.0)


@pytest.mark.slow
def test_trainings_that_stand_apart_go_on_together(mice, tmp_path, stacked):
    run = tmp_path / "run"
    with pytest.raises(Stopped):
        train(mice, run, options(fold=1, final=False), on_progress=Stopping(3))
    assert [store.read_tensors(p).facts["step"] for p in run.rglob("state.safetensors")] == [3]
    train(mice, run, options(stack_folds=3))  # five in groups of three
    close(run, stacked[0])


def test_a_loss_that_is_no_number_takes_one_training_out(mice, tmp_path, monkeypatch, stacked):
    run = tmp_path / "run"
    note = Training.note

    def noted(self, step, sums):
        bad = str(self.task) == "leak-free/seed-0/fold-01" and step == 2
        return note(self, step, [math.nan, *sums[1:]] if bad else sums)

    monkeypatch.setattr(Training, "note", noted)
    failures = {}
    with pytest.raises(DataError, match=r"loss is nan at step 2") as failure:
        train(mice, run, options(stack_folds=5), failures=failures)
    assert failures == {"leak-free/seed-0/fold-01": failure.value}
    assert len([*run.rglob("predictions.parquet")]) == 3
    assert is_done(run / "final", final=True)
    monkeypatch.undo()
    train(mice, run, options(stack_folds=5))
    written = run / "leak-free/seed-0/fold-01/not_finite.csv"
    written.unlink(missing_ok=True)
    close(run, stacked[0])


def test_a_lack_of_memory_says_how_many_fit(mice, tmp_path, monkeypatch):
    step = Lockstep.step

    def full(self):
        if len(self.trainings) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self)

    monkeypatch.setattr(Lockstep, "step", full)
    with pytest.raises(UnavailableError, match="small for 4 trainings at once, of 4") as failure:
        train(mice, tmp_path / "run", options(stack_folds=5))
    assert failure.value.exit_code == 69
    assert failure.value.hint.startswith("`stack_folds=2`")


@pytest.mark.slow
def test_frozen_parts_are_fine_tuned_stacked(mice, separate, tmp_path):
    tuned = options(
        parent=separate / "final", final=False, settings={"recipe": {"freeze": ["encoder"]}}
    )
    tuned = replace(tuned, allow_shared_subject_ids=True)
    train(mice, tmp_path / "a", tuned)
    train(mice, tmp_path / "b", replace(tuned, stack_folds=9))
    close(tmp_path / "b", tmp_path / "a")


def test_fewer_than_one_and_several_processes_are_refused(mice, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="stack_folds=0"):
        train(mice, tmp_path / "run", options(stack_folds=0))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="in 2 processes"):
        train(mice, tmp_path / "run", options(stack_folds=2))
