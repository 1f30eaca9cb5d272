"""What a CUDA graph could not hold in a step of any model: reads by the host, and host memory.

There is no GPU here: the step runs on the device "meta", which has shapes and no numbers, so that
nothing can be read, and every operation that touches the host's memory is noted. The last tests
run on the CPU what a GPU runs: tables of a pass on the device, and losses read at its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sleeptools import registry
from sleeptools.errors import DataError, Stopped
from sleeptools.models.folder import build_model
from sleeptools.models.layers.stacking import step_seeds
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs import model_folder
from sleeptools.training.batches import EpochSource, PinnedFeed
from sleeptools.training.group import Group
from sleeptools.training.lockstep import Lockstep
from sleeptools.training.loop import Training
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import make_optimiser
from sleeptools.training.stop import Stop
from stacked_trainings import SMALL, epochs_of, trainings

MODELS = [name for name in registry.names("models") if name != "spectral"]
READS = {
    "_local_scalar_dense",  # item(), tolist() of one number, bool() of a tensor
    "is_nonzero",
    "equal",
    "nonzero",  # and all others whose result's size depends on the numbers
    "masked_select",
    "unique_dim",
    "_unique2",
    "repeat_interleave",
    "bincount",
}


class HostContact(TorchDispatchMode):
    """Notes the operations that read from a device or bring something of the host to it.

    Those that the host does by itself are noted apart.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)
        self.found: list[str] = []
        self.host: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        tensors = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        by_mask = name.startswith("index") and any(t.dtype == torch.bool for t in tensors[1:])
        results = function(*args, **(kwargs or {}))
        tensors += [t for t in tree_leaves(results) if isinstance(t, Tensor)]
        elsewhere = [t.device.type != self.device.type for t in tensors]
        if elsewhere and all(elsewhere):
            self.host.add(name)
        elif name in READS or by_mask or any(elsewhere):
            self.found.append(name)
        return results


def inputs(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Four epochs or sequences as the model takes them, and a stage for each that it scores."""
    config: Any = network.config
    span = config.input_span
    count = span.sequence if span.sequence > 1 else 1 + 2 * span.context
    size = (config.channels, round(config.sample_rate * config.epoch_seconds))
    x = torch.zeros(4, *((count,) if count > 1 else ()), *size, device="meta")
    return x, torch.zeros(4 * max(1, span.sequence), dtype=torch.int64, device="meta")


@pytest.mark.parametrize("name", MODELS)
def test_a_step_needs_no_numbers_and_nothing_of_the_host(name: str) -> None:
    recipe = registry.load("models", name).RECIPE
    with torch.device("meta"):
        network = build_model(name, {}).train()
        weights = torch.ones(len(recipe.class_weights)) if recipe.class_weights else None
    x, stages = inputs(network)
    seeds = torch.zeros(1, dtype=torch.int64, device="meta")
    with HostContact("meta") as contact, step_seeds(seeds):
        logits = network(x).flatten(0, -2).float()
        stage_loss(logits, stages, weights, recipe.loss).backward()
    assert contact.found == []
    assert contact.host == set()
    assert any(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_optimiser_reads_nothing(kind: Any) -> None:
    """On the CPU: PyTorch's fused optimisers know no "meta", and are the same code on a GPU."""
    layer = nn.Linear(3, 2)
    optimiser = make_optimiser(list(layer.parameters()), Recipe(optimiser=kind, weight_decay=0.1))
    before = layer.weight.detach().clone()
    with HostContact("cpu") as contact:
        for _ in range(2):
            layer(torch.ones(4, 3)).sum().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    assert contact.found == []
    assert (layer.weight != before).all()


@pytest.mark.parametrize(
    ("contact", "name"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: bool((x == 0).all()), "_local_scalar_dense"),
        (torch.nonzero, "nonzero"),
        (lambda x: x.to("meta"), "_to_copy"),
    ],
)
def test_contact_with_the_host_is_noticed(contact: Callable[[Tensor], Any], name: str) -> None:
    with HostContact("cpu") as noted:
        contact(torch.zeros(3))
    assert name in noted.found


@pytest.mark.parametrize("kind", ["weighted_ce", "weighted_ce_n", "softmax_ce"])
def test_every_loss_stays_on_the_device(kind: Any) -> None:
    logits = torch.zeros(3, 5, device="meta", requires_grad=True)
    stages = torch.zeros(3, dtype=torch.int64, device="meta")
    with HostContact("meta") as contact:
        stage_loss(logits, stages, torch.ones(5, device="meta"), kind).backward()
    assert contact.found == []


# --- the trainer's step ---------------------------------------------------------------------------

LAID_OUT = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
LAID_OUT |= {"_unsafe_view"}
"""Operations without a kernel, beside views: they lay out memory."""
LAUNCHES = {1: 349, 2: 799, 3: 799}
"""Operations of a step of MMASleepNet, by the number of folds. They may only become fewer."""


class Launches(TorchDispatchMode):
    """Notes every operation that has a kernel, with the shapes that it takes and gives."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[tuple[int, ...]]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        results = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        alias = [r.alias_info for r in function._schema.returns]
        is_view = any(a is not None and not a.is_write for a in alias)
        if not is_view and name not in LAID_OUT:
            leaves = tree_leaves((args, kwargs or {}, results))
            self.calls.append((name, [(*t.shape,) for t in leaves if isinstance(t, Tensor)]))
        return results


class MetaSource(EpochSource):
    """The set on the device "meta", as on a GPU where it fits."""

    def __init__(self, epochs: EpochSet, device: torch.device) -> None:
        super().__init__(epochs, device)
        shape = (len(epochs), *epochs.files[0].epoch_shape)
        self.resident = torch.empty(shape, device=device)


@pytest.fixture
def without_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On "meta" PyTorch has no autocast and no fused optimiser, which only holds moments here."""

    def make(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        return kinds[recipe.optimiser](parameters, lr=recipe.learning_rate)

    monkeypatch.setattr("sleeptools.training.loop.make_optimiser", make)
    monkeypatch.setattr(Training, "autocast", lambda _: contextlib.nullcontext())


def on_meta(name: str, folder: Path, count: int, **settings: Any) -> Lockstep:
    """Make so many trainings on "meta", their tables filled by a first step."""
    epochs = epochs_of(name, folder / "epochs")
    made = trainings(
        name, epochs, folder / "run", source=MetaSource, device="meta", recipe={"batch": 2}
    )
    lockstep = Lockstep([t for t in made if t.rows == made[-1].rows][:count])
    lockstep.step()
    return lockstep


@pytest.mark.usefixtures("without_device")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_the_trainers_step_stays_on_the_device(name: str, count: int, tmp_path: Path) -> None:
    lockstep = on_meta(name, tmp_path, count)
    if not lockstep.gathers:  # an augmentation of the recipe
        assert registry.load("models", name).RECIPE.augmentation != Augmentation()
    steps = []
    for _ in range(2):
        with HostContact("meta") as contact, Launches() as launches:
            lockstep.compute()
        assert contact.found == []
        assert contact.host == set()
        steps.append(launches.calls)
    assert steps[0] == steps[1]
    names = {call for call, _ in steps[0]}
    assert "index_put_" in names  # the losses
    assert "lerp_" in names or "addcmul_" in names  # the optimiser


@pytest.mark.usefixtures("without_device")
def test_folds_side_by_side_need_no_more_launches(tmp_path: Path) -> None:
    for count, most in LAUNCHES.items():
        lockstep = on_meta("mmasleepnet", tmp_path / str(count), count)
        with Launches() as launches:
            lockstep.compute()
        assert len(launches.calls) <= most


# --- a pass without a look at its losses ----------------------------------------------------------


class ResidentSource(EpochSource):
    """The set in one tensor, as on a GPU where it fits."""

    def __init__(self, epochs: EpochSet, device: torch.device) -> None:
        super().__init__(epochs, device)
        self.resident = torch.from_numpy(epochs.gather(np.arange(len(epochs))))


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have trainings made from then on go the way of a GPU, on the CPU."""

    def change() -> None:
        monkeypatch.setattr(Training, "on_gpu", True)
        monkeypatch.setattr(Lockstep, "read_is_due", False)

    return change


def one_training(folder: Path, **recipe: Any) -> Training:
    name = "ulw-sleepnet"
    epochs = epochs_of(name, folder / "epochs")
    recipe = {"batch": 4, "passes": 2, "eps": 1e-3} | recipe
    return trainings(name, epochs, folder / "run", source=ResidentSource, recipe=recipe)[1]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_pass_from_tables_is_that_of_single_steps(
    optimiser: str, schedule: str, tmp_path: Path, as_on_gpu: Callable[[], None]
) -> None:
    rows, weights = [], []
    for folder in ("steps", "tables"):
        training = one_training(
            tmp_path / folder,
            optimiser=optimiser,
            schedule={"kind": schedule},
            weight_decay=1e-2,
            amsgrad=optimiser == "adam",
        )
        Group([training], lambda *_: None).run()
        rows.append([row | {"seconds": 0} for row in training.state.rows])
        saved = model_folder.read_weights(training.task.folder)
        weights.append(torch.cat([torch.tensor(array).flatten() for array in saved.values()]))
        as_on_gpu()
    for left, right in zip(*rows, strict=True):
        assert left == pytest.approx(right, rel=1e-4)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)
    assert training.state.step == 2 * training.steps


@pytest.mark.usefixtures("one_thread")
def test_a_loss_that_is_no_number_is_told_at_the_end_of_its_pass(
    tmp_path: Path, as_on_gpu: Callable[[], None]
) -> None:
    texts, steps = [], []
    for folder in ("steps", "tables"):
        training = one_training(tmp_path / folder, learning_rate=1e30)
        with pytest.raises(DataError, match="loss is ") as error:
            Group([training], lambda *_: None).run()
        texts.append(str(error.value))
        steps.append(training.state.step)
        assert not training.saved.exists()
        as_on_gpu()
    assert texts[0] == texts[1]
    assert steps == [1, training.steps]


@pytest.mark.usefixtures("one_thread")
def test_a_stop_within_a_pass_reads_its_losses_first(
    tmp_path: Path, as_on_gpu: Callable[[], None]
) -> None:
    """And the training goes on as one that was not stopped, to the bit."""
    as_on_gpu()
    whole = one_training(tmp_path / "whole")
    Group([whole], lambda *_: None).run()
    stopped = one_training(tmp_path / "stopped")

    def stop(training: Training, epochs: int, kappa: float | None) -> None:
        if training.state.step == 2:
            training.stop.signal = "SIGTERM"

    with pytest.raises(Stopped):
        Group([stopped], stop).run()
    assert stopped.state.seen == 8
    again = Training(stopped.task, stopped.source, Stop())
    assert again.state.step == 2
    Group([again], lambda *_: None).run()
    left, right = (model_folder.read_weights(t.task.folder) for t in (whole, again))
    assert all(np.array_equal(left[name], right[name]) for name in left)


# --- signals that do not fit on the device --------------------------------------------------------


class Queue:
    """A CUDA stream, or an event, that notes in which order it is asked for what."""

    calls: ClassVar[list[tuple[str, object]]] = []

    def __init__(self, *_: object) -> None:
        self.recorded = False

    def record(self, _: object) -> None:
        self.recorded = True
        self.calls.append(("record", self))

    def synchronize(self) -> None:
        self.calls.append(("synchronize", self))

    def wait_event(self, event: Queue) -> None:
        self.calls.append(("wait", event))


def test_a_buffer_is_filled_again_only_when_it_has_been_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty, current = torch.empty, Queue()
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **_: empty(*size))
    for name in ("Stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, Queue)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(Queue, "calls", [])
    feed = PinnedFeed((2, 3), torch.device("cpu"))
    x = empty(2, 3)
    for number in range(5):
        feed.send(lambda out, number=number: out.fill(number), x)  # type: ignore[misc]
        assert (x == number).all()
    copied, taken = feed.copied, feed.taken
    sent = [
        [
            ("synchronize", copied[i]),  # the host, before it fills the buffer
            ("wait", taken[i]),  # the copying stream, before it writes over the other
            ("record", copied[i]),
            ("wait", copied[i]),  # the stream of the steps, before it takes the batch
            ("record", taken[i]),
        ]
        for i in (0, 1, 0, 1, 0)
    ]
    assert Queue.calls == [call for calls in sent for call in calls]
