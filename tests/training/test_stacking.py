"""Trainings stacked as one model: what separate trainings learn, write and leave behind."""

import numpy as np
import pytest
import torch

from sleeptools import native, registry
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.training.batches import EpochSource
from sleeptools.training.group import Group
from sleeptools.training.loop import Training
from sleeptools.training.options import TrainOptions
from sleeptools.training.plan import make_plan
from sleeptools.training.stop import Stop
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 20
SMALL = {
    "mmasleepnet": {},
    "masleepnet": {"sequence": 2},
    "ulw-sleepnet": {"channels": 2},
    "slumbernet": {"epoch_seconds": 0.5, "blocks": 5, "filters": 4, "dropout": 0.2},
    "mouse-cnn": {"sample_rate": 64},
    "mouse-cnn-attention": {"sample_rate": 64},
    "mouse-transformer": {"sample_rate": 64, "layers": 2},
    "attnsleep": {"channels": 2},
    "sleepprintnet": {"variant": "mmasleepnet", "electrodes": ["F3", "C3"]},
    "salientsleepnet": {"sequence": 11, "filters": 4},
    "spectral": {"sequence": 3},
}
"""Settings of each model that make a step short, and have dropout."""
RECIPE = {
    "batch": 4,
    "passes": 30,
    "augmentation": {"gains": [0.3], "shift": 0.5, "noise": 0.05, "gain_factor": 2.0},
}


class DoubleSource(EpochSource):
    """Gives signals in double precision."""

    def take(self, windows):
        x, stages = super().take(windows)
        return x.double(), stages


def epochs_of(name, folder, **facts):
    config = registry.load("models", name).Config(**SMALL[name])
    size = {
        "channels": config.channels,
        "sample_rate": config.sample_rate,
        "epoch_seconds": config.epoch_seconds,
        "names": HUMAN_STAGES if config.stages == 5 else MOUSE_STAGES,
        "montage": [f"E{'OGE'[i % 3]}G {i}" for i in range(config.channels)],
    }
    return write_epochs(folder, **size | {"subjects": 4, "count": 5} | facts)


def trainings(name, epochs, run, *, double=False, recipe=RECIPE, **changes):
    """Three folds, the training epochs of one fewer than those of the others."""
    if name != "spectral":  # has one channel
        recipe = recipe | {"augmentation": recipe["augmentation"] | {"modality_dropout": 0.3}}
    settings = {"model": SMALL[name], "recipe": recipe}
    fields = {"folds": 3, "protocols": ("best-on-test",), "threads": 1, "settings": settings}
    plan = make_plan(epochs, run, TrainOptions(model=name, **fields | changes))
    source = (DoubleSource if double else EpochSource)(plan.data, torch.device("cpu"))
    made = [Training(task, source, Stop()) for task in plan.tasks()]
    for training in made if double else ():
        training.state.model.double()
        if training.weights is not None:
            training.weights = training.weights.double()
    return made


def after(group, count):
    """Make so many steps; give the losses of every training, step by step."""
    losses = {training: [] for training in group.members}
    group.on_step = lambda training, epochs, _: epochs and losses[training].append(
        training.state.mean_loss
    )
    for _ in range(count):
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


@pytest.mark.parametrize("name", SMALL)
def test_a_stacked_training_is_the_separate_one(name, tmp_path):
    epochs = epochs_of(name, tmp_path / "epochs")
    together = trainings(name, epochs, tmp_path / "a", double=True)
    separate = trainings(name, epochs, tmp_path / "b", double=True)
    assert len({len(training.windows) for training in together}) > 1
    stacked = after(Group(together, None), STEPS)
    alone = [after(Group([training], None), STEPS)[0] for training in separate]
    for task, losses in enumerate(stacked):
        assert len(losses) == STEPS
        assert losses == pytest.approx(alone[task], rel=1e-9, abs=0)
        found = differences(state_of(together[task]), state_of(separate[task]))
        worst = max(found, key=found.get)
        print(name, task, worst, found[worst])
        assert found[worst] < 1e-9, worst
    assert np.ptp([losses[-1] for losses in stacked]) > 1e-3
