"""What the sweep of test_ops.py does not ask of attention: its gradients on every variant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sleeptools import native
from sleeptools.models.layers import philox
from sleeptools.models.ops import attention
from sleeptools.native import threads

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


def example(batch: int, tokens: int, width: int, heads: int, *, spread: float = 1.0) -> list[Any]:
    """Arguments of the op; `spread` makes the scores larger."""
    generator = torch.Generator().manual_seed(tokens)
    sizes = [(3 * width, width), (3 * width,), (width, width), (width,), (width,), (width,)]
    x = torch.randn(batch, tokens, width, generator=generator)
    weights = [torch.randn(size, generator=generator) * width**-0.5 for size in sizes]
    return [x, spread * weights[0], *weights[1:], heads]


def gradients(run: Any, tensors: list[Tensor], *settings: Any) -> list[Tensor]:
    """Output, and gradients of a weighted sum of it."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = run(*tensors, *settings)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), tensors)]


def compare(arguments: list[Any], bound: float = 1e-5) -> None:
    """Native output and gradients against the reference in double."""
    tensors, settings = list(arguments[:7]), arguments[7:]
    result = gradients(attention.attention, tensors, *settings)
    expected = gradients(attention.reference, [t.double() for t in tensors], *settings)
    for ours, theirs in zip(result, expected, strict=True):
        scale = float(theirs.abs().max())
        assert_close(ours, theirs.float(), rtol=bound, atol=bound * max(scale, 1e-2))


@pytest.mark.parametrize(
    ("tokens", "width", "heads"),
    [(256, 16, 4), (129, 16, 4), (65, 32, 4), (33, 64, 4), (17, 64, 8), (32, 128, 8), (30, 80, 5)],
)
def test_sizes_of_the_models(variant: str, tokens: int, width: int, heads: int) -> None:
    compare(example(3, tokens, width, heads))


@pytest.mark.parametrize(
    ("tokens", "width", "heads"), [(64, 96, 4), (32, 128, 8), (33, 10, 5), (7, 21, 3), (1, 6, 2)]
)
@pytest.mark.parametrize("dropout", [0.1, 0.7])
def test_dropout(variant: str, tokens: int, width: int, heads: int, dropout: float) -> None:
    compare([*example(3, tokens, width, heads), 1e-5, "fp32", dropout, 2**63 - 2], bound=3e-5)


def test_dropout_drops_weights_and_what_is_added(variant: str) -> None:
    """By masks of two seeds that follow each other."""
    *tensors, heads = example(2, 40, 12, 3)
    x, dropout, seed = tensors[0], 0.3, 17
    out = attention.attention(*tensors, heads, 1e-5, "fp32", dropout, seed)
    assert_close(out, attention.attention(*tensors, heads, 1e-5, "fp32", dropout, seed))
    others = [attention.attention(*tensors, heads, 1e-5, "fp32", dropout, n) for n in (16, 18)]
    assert not any(torch.allclose(out, other) for other in others)
    still = [x, *tensors[1:3], torch.zeros(12, 12), torch.ones(12), torch.ones(12), torch.zeros(12)]
    added = philox.mask(x.shape, dropout, seed + 1, x)
    expected = torch.nn.functional.layer_norm(x + added, (12,))
    result = attention.attention(*still, heads, 1e-5, "fp32", dropout, seed)
    assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_a_dropped_nan_stays_one(variant: str) -> None:
    *tensors, heads = example(1, 9, 8, 2)
    tensors[0][0, 3, 5] = torch.nan
    result = gradients(attention.attention, tensors, heads, 1e-5, "fp32", 0.9, 1)
    assert bool(result[0].isnan().all())  # every token looks at that one
    expected = gradients(attention.reference, tensors, heads, 1e-5, "fp32", 0.9, 1)
    for ours, theirs in zip(result, expected, strict=True):
        assert torch.equal(ours.isnan(), theirs.isnan())


@pytest.mark.parametrize("tokens", [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 34, 63, 64])
def test_every_remainder_of_tokens(variant: str, tokens: int) -> None:
    compare(example(2, tokens, 12, 3), bound=3e-5)


@pytest.mark.parametrize(
    ("width", "heads"), [(2, 1), (3, 3), (5, 1), (13, 1), (21, 3), (34, 2), (49, 7), (66, 6)]
)
def test_odd_widths(variant: str, width: int, heads: int) -> None:
    compare(example(2, 37, width, heads), bound=3e-5)


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 40])
def test_more_or_fewer_epochs_than_groups(variant: str, batch: int) -> None:
    compare(example(batch, 9, 8, 2))


@pytest.mark.parametrize("spread", [4.0, 30.0])
def test_scores_of_any_size(variant: str, spread: float) -> None:
    """Above some size the largest score is taken off before the exponential."""
    compare(example(2, 40, 16, 2, spread=spread), bound=3e-4)


def test_scores_beyond_the_exponential(variant: str) -> None:
    x, w_in, *others = example(1, 20, 8, 1)
    result = attention.attention(x, 300 * w_in, *others)
    assert_close(result, attention.reference(x, 300 * w_in, *others), rtol=1e-3, atol=1e-3)


@needs_core
def test_threads_do_not_change_a_bit(variant: str) -> None:
    *tensors, heads = example(19, 50, 16, 4)
    results = []
    for count in (1, 2, 3, 0):
        threads.set_threads(count)
        plain = gradients(attention.attention, tensors, heads)
        results.append(plain + gradients(attention.attention, tensors, heads, 1e-5, "fp32", 0.2, 5))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@needs_core
def test_nothing_depends_on_what_the_workspace_held(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workspaces of NaN, with as much behind them that must stay."""
    guard, launch, spaces = 64, attention.ops.launch, []

    def poisoned(op: str, x: Tensor, tensors: dict[str, Tensor], **fields: Any) -> None:
        size = tensors["workspace"].numel()
        space = torch.full((size + guard,), torch.nan)
        spaces.append(space[size:])
        launch(op, x, {**tensors, "workspace": space[:size]}, **fields)

    for *tensors, heads in (example(2, 33, 10, 5), example(17, 5, 7, 1), example(1, 70, 36, 2)):
        for dropout in (0.0, 0.2):
            settings = heads, 1e-5, "fp32", dropout, 3
            expected = gradients(attention.attention, tensors, *settings)
            with monkeypatch.context() as patch:
                patch.setattr(attention.ops, "launch", poisoned)
                result = gradients(attention.attention, tensors, *settings)
            assert all(map(torch.equal, result, expected))
    assert len(spaces) == 12
    assert all(bool(space.isnan().all()) for space in spaces)


@needs_core
def test_the_gradients_are_native(variant: str) -> None:
    *tensors, heads = example(2, 9, 8, 2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradients(attention.attention, tensors, heads)
    names = {event.key for event in profile.key_averages()}
    assert "sleeptools::attention_backward" in names
    assert "aten::softmax" not in names


def test_no_epochs_have_gradients_of_zero() -> None:
    *tensors, heads = example(0, 5, 4, 2)
    assert not any(g.any() for g in gradients(attention.attention, tensors, heads))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_second_derivatives_are_those_of_the_reference(dropout: float) -> None:
    *tensors, heads = example(2, 5, 4, 2)

    def penalty(run: Any) -> Tensor:
        w_in = tensors[1].detach().requires_grad_()
        out = run(tensors[0], w_in, *tensors[2:], heads, 1e-5, "fp32", dropout, 4)
        (first,) = torch.autograd.grad(out.pow(3).sum(), w_in, create_graph=True)
        return torch.autograd.grad(first.square().sum(), w_in)[0]

    assert_close(penalty(attention.attention), penalty(attention.reference), rtol=1e-4, atol=1e-3)
