"""What the sweep of test_ops.py does not ask of separable blocks, and ULW-SleepNet's training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from comparing import losses_of, without_dropout
from sleeptools import native
from sleeptools.models.layers import philox
from sleeptools.models.ops import separable_blocks
from sleeptools.models.ops.conv_block import Running
from sleeptools.models.ulw_sleepnet import Config, Model
from sleeptools.native import threads
from sleeptools.native.separable_blocks import blocks_weight_count

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
WIDTHS = [8, 16, 32]


def example(
    signals: int, samples: int, widths: list[int], kernel: int = 3, *, offset: float = 0.0
) -> tuple[Tensor, Tensor, list[int], int]:
    generator = torch.Generator().manual_seed(samples)
    count = blocks_weight_count(widths, kernel)
    weights = torch.randn(count, generator=generator) * 0.5
    return offset + torch.randn(1, signals, samples, generator=generator), weights, widths, kernel


def gradient(run: Any, x: Tensor, weights: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    """Output, and the weights' gradient of a weighted sum of it."""
    weights = weights.detach().requires_grad_()
    out = run(x, weights, *settings)
    factor = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return out.detach(), torch.autograd.grad((out * factor).sum(), weights)[0]


def compare(x: Tensor, weights: Tensor, *settings: Any, bound: float = 1e-5) -> None:
    """Native output and gradient against the reference in double."""
    result = gradient(separable_blocks.separable_blocks, x, weights, *settings)
    expected = gradient(separable_blocks.reference, x.double(), weights.double(), *settings)
    for ours, theirs in zip(result, expected, strict=True):
        scale = max(float(theirs.abs().max()), 1e-3)
        assert_close(ours, theirs.float(), rtol=bound, atol=bound * scale)


@pytest.mark.parametrize(
    "example", separable_blocks.examples(), ids=lambda e: str(tuple(e[0].shape))
)
def test_gradients_of_every_variant(example: Any, variant: str) -> None:
    if example[0].numel():
        compare(*example)


@pytest.mark.parametrize(("widths", "kernel"), [([1], 1), ([5], 9), ([3, 9], 5), (WIDTHS, 3)])
def test_every_length(variant: str, widths: list[int], kernel: int) -> None:
    """Every remainder of the pools, and signals shorter than a kernel."""
    least = 2 if len(widths) == 1 else 8
    for samples in [*range(least, 20), 31, 64, 65, 127, 255, 257]:
        # few steps leave BatchNorm little: it divides by what is nearly nothing
        compare(*example(5, samples, widths, kernel), bound=1e-4)


@pytest.mark.parametrize("width", range(1, 18))
def test_every_width(variant: str, width: int) -> None:
    compare(*example(3, 97, [width, 18 - width]), bound=3e-5)


@pytest.mark.parametrize("signals", [1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33])
def test_every_number_of_signals(variant: str, signals: int) -> None:
    """Lanes without a signal add nothing to the statistics or the gradients."""
    compare(*example(signals, 150, [4, 6]), 1e-3, 0.3, 7, bound=3e-5)


def test_signals_far_from_zero(variant: str) -> None:
    """Moments are those of the distances from the mean, not differences of large numbers."""
    x, weights, *settings = example(6, 500, [4, 3], offset=1000.0)
    compare(x, weights, *settings, bound=2e-3)


def test_maps_that_are_nearly_alike(variant: str) -> None:
    """BatchNorm's variance is taken from covariances, so near cancellation is the worst case."""
    x, weights, widths, kernel = example(4, 400, [4])
    weights = weights.clone()
    weights[3:7] = torch.tensor([1.0, 1.0001, 0.9999, 1.0])  # pointwise of the first unit
    weights[7:11], weights[11:15], weights[15:19] = 0.0, 1.0, 0.0
    compare(x, weights, widths, kernel, bound=1e-3)


@needs_core
def test_threads_do_not_change_a_bit(variant: str) -> None:
    arguments = separable_blocks.examples(batch=13)[0]
    results = []
    for count in (1, 2, 3, 0):
        threads.set_threads(count)
        results.append(gradient(separable_blocks.separable_blocks, *arguments))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@needs_core
def test_gradients_do_not_read_what_the_workspace_held(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workspaces of NaN, with as much behind them that must stay."""
    guard, launch, spaces = 64, separable_blocks.ops.launch, []

    def poisoned(op: str, x: Tensor, tensors: dict[str, Tensor], **fields: Any) -> None:
        size = tensors["workspace"].numel()
        space = torch.full((size + guard,), torch.nan)
        spaces.append(space[size:])
        launch(op, x, {**tensors, "workspace": space[:size]}, **fields)

    for arguments in separable_blocks.examples():
        expected = gradient(separable_blocks.separable_blocks, *arguments)
        with monkeypatch.context() as patch:
            patch.setattr(separable_blocks.ops, "launch", poisoned)
            result = gradient(separable_blocks.separable_blocks, *arguments)
        assert all(map(torch.equal, result, expected))
    assert len(spaces) >= 2
    assert all(bool(space.isnan().all()) for space in spaces)


@needs_core
def test_what_is_kept_fills_its_memory(variant: str) -> None:
    """Nothing that the forward pass hands on depends on what the memory held."""
    for arguments in separable_blocks.examples():
        first, second = (torch.ops.sleeptools.separable_blocks(*arguments) for _ in range(2))
        for ours, again in zip(first, second, strict=True):
            assert torch.equal(ours, again)
            assert not ours.isnan().any()


def test_dropout_drops_the_same_values_in_every_variant(variant: str) -> None:
    """One block whose pool has one step: its mean over time is the output itself."""
    x, weights, *settings = example(9, 4, [6])
    seed = 0x123456789ABCDEF
    kept = separable_blocks.separable_blocks(x, weights, *settings)
    dropped = separable_blocks.separable_blocks(x, weights, *settings, 1e-3, 0.4, seed)
    mask = philox.mask((9, 1, 6), 0.4, seed, x).view(1, 9, 6)
    assert_close(dropped, kept * mask)
    assert 0 < int((mask == 0).sum()) < mask.numel()


def test_each_block_has_masks_of_its_own(variant: str) -> None:
    compare(*example(7, 300, [5, 5]), 1e-3, 0.5, 2**63 - 1, bound=3e-5)


@pytest.mark.parametrize("momentum", [0.01, 0.7])
def test_running_statistics_are_those_of_batch_norm(variant: str, momentum: float) -> None:
    x, weights, widths, kernel = example(5, 90, [4])
    depthwise, pointwise, bias = weights[:3], weights[3:7], weights[7:11]
    y = functional.conv1d(x[0][:, None], depthwise.view(1, 1, 3), padding=1)
    norm = nn.BatchNorm1d(4, momentum=momentum).train()
    norm(functional.conv1d(y, pointwise.view(4, 1, 1), bias))
    running = [Running(torch.zeros(4), torch.ones(4), momentum) for _ in range(2)]
    separable_blocks.separable_blocks(x, weights, widths, kernel, running=running)
    assert_close(running[0].mean, norm.running_mean, rtol=1e-5, atol=1e-6)
    assert_close(running[0].variance, norm.running_var, rtol=1e-5, atol=1e-6)
    assert bool((running[1].mean != 0).all())


def test_no_signals_change_nothing() -> None:
    arguments = separable_blocks.examples()[4]
    weights = arguments[1].requires_grad_()
    running = [Running(torch.full((w,), 2.0), torch.full((w,), 3.0)) for w in np.repeat(WIDTHS, 2)]
    out = separable_blocks.separable_blocks(*arguments, running=running)
    assert out.shape == (0, 4, 32)
    out.sum().backward()
    assert weights.grad is not None
    assert not weights.grad.any()
    assert all(bool((r.mean == 2).all()) and bool((r.variance == 3).all()) for r in running)


def test_one_value_for_each_map_is_refused_as_by_batch_norm() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        separable_blocks.separable_blocks(*example(1, 2, [3]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kernel": 2}, "kernel is 2; expected an odd number up to 15"),
        ({"kernel": 17}, "kernel is 17; expected an odd number up to 15"),
        ({"widths": []}, r"widths is \[\]; expected 1 to 8 numbers of at least 1"),
        ({"widths": [3, 0]}, r"widths is \[3, 0\]; expected 1 to 8 numbers"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 to below 1"),
        ({"dropout": 0.5, "seed": -1}, "seed is -1; expected 0 to"),
        ({"weights": torch.zeros(5)}, r"weights has shape \(5,\); expected \(\d+,\)"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], text: str) -> None:
    x, weights, widths, kernel = example(3, 20, [3])
    arguments = {"x": x, "weights": weights, "widths": widths, "kernel": kernel} | change
    with pytest.raises(ValueError, match=f"separable_blocks: {text}"):
        separable_blocks.separable_blocks(**arguments)


def test_second_derivatives_are_those_of_the_reference() -> None:
    x, weights, *settings = example(3, 13, [2])

    def penalty(run: Any) -> Tensor:
        vector = weights.detach().requires_grad_()
        (first,) = torch.autograd.grad(
            run(x, vector, *settings).square().sum(), vector, create_graph=True
        )
        return torch.autograd.grad(first.square().sum(), vector)[0]

    assert_close(penalty(separable_blocks.separable_blocks), penalty(separable_blocks.reference))


# --- ULW-SleepNet ---------------------------------------------------------------------------------


def losses(model: Model, steps: int, *, half: bool = False) -> list[float]:
    """Train on the same five epochs, under autocast if `half`; the losses."""
    generator = torch.Generator().manual_seed(3)
    x, stages = 20 * torch.randn(5, 4, 3000, generator=generator), torch.arange(5)
    return losses_of(model, x, stages, 1e-3, steps, half=half)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(Config()).train()


def backward_of(model: Model) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    model(
        20 * torch.randn(6, 4, 3000, generator=generator).to(next(model.parameters()))
    ).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_gradients_of_the_model_are_those_of_its_layers(variant: str, model: Model) -> None:
    """Every weight by its name, against the layers in double."""
    ours, theirs = (without_dropout(copy.deepcopy(model)) for _ in range(2))
    result, expected = backward_of(ours), backward_of(theirs.double())
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, grad in result.items():
        assert grad is not None, name
        assert_close(grad, expected[name].float(), rtol=1e-3, atol=1e-5 * scale, msg=name)
        if ".unit" in name and name.endswith("pointwise.bias"):
            assert not grad.any()  # a bias before BatchNorm changes nothing


def test_native_training_follows_pytorch(variant: str, model: Model) -> None:
    """Without dropout: the losses, and the running statistics that they leave."""
    ours, theirs = (without_dropout(copy.deepcopy(model)) for _ in range(2))
    result = losses(ours, 5)
    with native.using_variant("reference"):
        expected = losses(theirs, 5)
    assert result[-1] < result[0] - 0.05
    assert result == pytest.approx(expected, rel=2e-3)
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        assert_close(buffer, buffers[name], rtol=2e-2, atol=2e-2)


@needs_core
def test_every_variant_trains_with_the_same_masks(model: Model) -> None:
    result = {}
    for name in native.variants()[1:]:
        with native.using_variant(name):
            result[name] = losses(copy.deepcopy(model), 2)
    for curve in result.values():
        assert curve == pytest.approx(result[native.variant()], rel=1e-3)


@needs_core
def test_training_is_repeatable_to_the_bit(variant: str, model: Model) -> None:
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    assert losses(first, 3) == losses(second, 3)
    for ours, again in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, again)


@needs_core
@pytest.mark.parametrize("half", [False, True])
def test_training_runs_the_native_blocks(model: Model, half: bool) -> None:
    """Also under autocast, in float32: bfloat16 products are no faster at these widths."""
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        model(torch.randn(2, 4, 3000)).float().sum().backward()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert (
        counts["sleeptools::separable_blocks"]
        == counts["sleeptools::separable_blocks_backward"]
        == 1
    )
    assert not {"aten::convolution", "aten::native_batch_norm"} & set(counts)


def test_training_under_autocast_stays_near_float32(variant: str, model: Model) -> None:
    result = losses(without_dropout(copy.deepcopy(model)), 5, half=True)
    assert result == pytest.approx(losses(without_dropout(model), 5), rel=0.05)


def test_a_frozen_batch_norm_stays_frozen(model: Model) -> None:
    """One BatchNorm in evaluation mode: the layers run one by one, with its statistics."""
    ours = without_dropout(model)
    norm = ours.extractor[1].unit2.norm.eval()
    before = norm.running_mean.clone()
    theirs, x = copy.deepcopy(ours), torch.randn(2, 4, 3000)
    result = ours(x)
    with native.using_variant("reference"):
        assert torch.equal(result, theirs(x))
    assert torch.equal(norm.running_mean, before)


def test_dropout_that_does_not_train_is_off(model: Model) -> None:
    still = without_dropout(copy.deepcopy(model))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    x = torch.randn(3, 4, 3000, generator=torch.Generator().manual_seed(5))
    assert_close(model(x), still(x), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_the_signals(variant: str) -> None:
    """The reference's, also beside weights that are trained."""
    x, weights, *settings = separable_blocks.examples()[1]
    x, weights = x.requires_grad_(), weights.requires_grad_()
    found = []
    for run in (separable_blocks.separable_blocks, separable_blocks.reference):
        found.append(torch.autograd.grad(run(x, weights, *settings).square().sum(), (x, weights)))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
