"""The mouse CNNs train by the native ops as by PyTorch's layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from comparing import losses_of, make, without_dropout
from sleeptools import native

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
NAMES = ("mouse-cnn", "mouse-cnn-attention")
EPOCHS = 6


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return make(request.param).train()


def signals() -> Tensor:
    return torch.randn(EPOCHS, 2, 512, generator=torch.Generator().manual_seed(3))


def losses(model: nn.Module, steps: int, *, half: bool = False) -> list[float]:
    """Train on the same epochs, under autocast if `half`; the losses."""
    x, stages = signals(), torch.arange(EPOCHS) % 3
    return losses_of(model, x, stages, 1e-3, steps, half=half)


def backward_of(model: nn.Module) -> dict[str, Tensor]:
    model(signals().to(next(model.parameters()))).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_gradients_are_those_of_the_layers(variant: str, model: nn.Module) -> None:
    """Every weight by its name, against the layers in double."""
    ours, theirs = (without_dropout(copy.deepcopy(model)) for _ in range(2))
    result, expected = backward_of(ours), backward_of(theirs.double())
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, grad in result.items():
        assert grad is not None, name
        assert_close(grad, expected[name].float(), rtol=1e-3, atol=1e-5 * scale, msg=name)


@pytest.mark.slow
def test_native_training_follows_pytorch(variant: str, model: nn.Module) -> None:
    """Without dropout: the losses of ten steps, and the running statistics that they leave."""
    ours, theirs = (without_dropout(copy.deepcopy(model)) for _ in range(2))
    result = losses(ours, 10)
    with native.using_variant("reference"):
        expected = losses(theirs, 10)
    assert result[-1] < result[0] - 0.05
    assert result == pytest.approx(expected, rel=2e-3, abs=2e-3)
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        assert_close(buffer, buffers[name], rtol=2e-2, atol=2e-2)


@needs_core
def test_training_is_repeatable_to_the_bit(variant: str, model: nn.Module) -> None:
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    assert losses(first, 2) == losses(second, 2)
    for ours, again in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, again)


@needs_core
@pytest.mark.parametrize("half", [False, True])
def test_training_runs_the_native_ops(model: nn.Module, half: bool) -> None:
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        model(signals()).float().sum().backward()
    counts = {event.key: event.count for event in profile.key_averages()}
    attends = any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    for op, times in {"conv_block": 16, "attention": 16 * attends}.items():
        assert counts.get(f"sleeptools::{op}", 0) == times
        assert counts.get(f"sleeptools::{op}_backward", 0) == times
    assert not {"aten::convolution", "aten::softmax"} & set(counts)


@needs_core
def test_training_under_autocast_stays_near_float32(model: nn.Module) -> None:
    result = losses(without_dropout(copy.deepcopy(model)), 5, half=True)
    assert result == pytest.approx(losses(without_dropout(model), 5), rel=0.05, abs=0.05)


def test_a_frozen_batch_norm_stays_frozen(model: nn.Module) -> None:
    """One BatchNorm in evaluation mode: its branch takes PyTorch's path and its statistics."""
    ours = without_dropout(model)
    norm = next(m for m in ours.branches[1].modules() if isinstance(m, nn.BatchNorm1d)).eval()
    before, theirs = norm.running_mean.clone(), copy.deepcopy(ours)
    result = ours(signals())
    with native.using_variant("reference"):
        assert_close(result, theirs(signals()), rtol=1e-4, atol=1e-4)
    assert torch.equal(norm.running_mean, before)
