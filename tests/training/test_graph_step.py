"""What a CUDA graph could not hold in a step of any model: reads by the host, and host memory.

There is no GPU here: the step runs on the device "meta", which has shapes and no numbers, so that
nothing can be read, and every operation that touches the host's memory is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sleeptools import registry
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import make_optimiser

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


SEEDS = {"randint", "_local_scalar_dense"}
"""On the host alone: seeds of dropout. A graph can hold them, but would repeat them."""


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
    with HostContact("meta") as contact:
        logits = network(x).flatten(0, -2).float()
        stage_loss(logits, stages, weights, recipe.loss).backward()
    assert contact.found == []
    assert contact.host <= SEEDS
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
