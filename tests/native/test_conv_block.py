"""What the sweep of test_ops.py does not ask of a convolution block, and of training with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from comparing import losses_of
from sleeptools import native
from sleeptools.models.layers import philox
from sleeptools.models.mmasleepnet import Config, Model
from sleeptools.models.ops import conv_block
from sleeptools.models.ops.dropout import dropout
from sleeptools.native import threads

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


def arguments(
    batch: int, samples: int, inputs: int, outputs: int, kernel: int, *, seed: int = 0
) -> list[torch.Tensor]:
    """x, weight, gamma and beta; about half of gamma is negative."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((batch, samples, inputs), (outputs, inputs, kernel), (outputs,), (outputs,))
    return [torch.randn(size, generator=generator) for size in sizes]


def gradients(run: Any, tensors: list[torch.Tensor], *settings: Any) -> list[torch.Tensor]:
    """Output, and gradients of a weighted sum of it; more than four tensors are bias and slopes."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    vectors = dict(zip(("bias", "slopes"), tensors[4:], strict=False))
    out = run(*tensors[:4], *settings, **vectors)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), tensors)]


def compare_bf16(tensors: list[torch.Tensor], *settings: Any) -> None:
    """As `compare`, in bfloat16 against its reference; float32 where the CPU lacks it."""
    precision = "bf16" if native.has_bf16() else "fp32"
    result = gradients(conv_block.conv_block, tensors, *settings, "bf16")
    expected = gradients(conv_block.reference, tensors, *settings, precision)
    for ours, theirs in zip(result, expected, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 1.0
        # a gradient on the other side of a rounding step differs by 2^-8 of itself
        bound = 2e-3 if precision == "bf16" else 2e-5
        assert_close(ours, theirs, rtol=bound, atol=bound * max(scale, 1e-3))


def compare(tensors: list[torch.Tensor], *settings: Any) -> None:
    """Native output and gradients against the reference in double."""
    result = gradients(conv_block.conv_block, tensors, *settings)
    expected = gradients(conv_block.reference, [t.double() for t in tensors], *settings)
    for ours, theirs in zip(result, expected, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 1.0
        assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5 * max(scale, 1e-3))


@pytest.mark.parametrize(
    "example", conv_block.examples("cpu"), ids=lambda e: f"{tuple(e[0].shape)} {e[5]}"
)
def test_gradients_of_every_variant(example: Any, variant: str) -> None:
    compare([*example[:4], *example[11:]], *example[4:11])


@pytest.mark.parametrize(
    "example", conv_block.examples("cpu"), ids=lambda e: f"{tuple(e[0].shape)} {e[5]}"
)
def test_bf16_gradients_of_every_variant(example: Any, variant: str) -> None:
    compare_bf16([*example[:4], *example[11:]], *example[4:10])


@needs_core
def test_bf16_rounds_where_the_cpu_has_it(variant: str) -> None:
    tensors = arguments(4, 200, 3, 20, 9)
    settings = ([1, 4, 1, 1, 0], "gelu", 0.0, 1e-5, 0.0, 0)  # smooth: rounding moves no maximum
    half = gradients(conv_block.conv_block, tensors, *settings, "bf16")
    fp32 = gradients(conv_block.conv_block, tensors, *settings)
    for rounded, exact in zip(half, fp32, strict=True):
        error = float((rounded - exact).norm() / exact.norm())
        assert 1e-4 < error < 0.05 if native.has_bf16() else error < 1e-5


@pytest.mark.parametrize("activation", ["leaky_relu", "relu", "gelu"])
@pytest.mark.parametrize("slope", [0.01, 1.5, -0.5])
@pytest.mark.parametrize("pool", [(4, 4, 2), (3, 2, 1), (5, 7, 0), (1, 1, 0), (17, 17, 8)])
def test_pool_and_activation(
    variant: str, activation: str, slope: float, pool: tuple[int, int, int]
) -> None:
    """Gamma of both signs, activations that fall, windows that overlap or leave steps out."""
    compare(arguments(3, 40, 2, 18, 3), [1, 1, *pool], activation, slope, 1e-5, 0.3, 9)


@pytest.mark.parametrize("inputs", [1, 2, 3, 6, 17])
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 48, 65])
def test_odd_sizes(variant: str, inputs: int, outputs: int) -> None:
    settings = ([3, 4, 2, 2, 1], "leaky_relu", 0.01, 1e-5, 0.0, 0)
    compare(arguments(5, 53 + inputs, inputs, outputs, 7), *settings)
    compare_bf16(arguments(5, 53 + inputs, inputs, outputs, 7), *settings)


@pytest.mark.parametrize("kernel", [1, 5, 8, 20])
@pytest.mark.parametrize("stride", [1, 2, 7, 30])
@pytest.mark.parametrize("pad", [0, 4, 9, 25])
def test_kernel_stride_and_padding(variant: str, kernel: int, stride: int, pad: int) -> None:
    """Epochs share padding on the time axis of the gradients, or none, or leave samples out."""
    settings = ([stride, pad, 1, 1, 0], "leaky_relu", 0.5, 1e-5, 0.0, 0)
    compare(arguments(3, 41, 2, 5, kernel), *settings)
    compare_bf16(arguments(3, 41, 2, 5, kernel), *settings)


def vectors(outputs: int, count: int = 2) -> list[torch.Tensor]:
    """Bias, and slopes of a PReLU of both signs."""
    generator = torch.Generator().manual_seed(outputs)
    return [torch.randn(outputs, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("outputs", [1, 7, 16, 17, 33, 64])
@pytest.mark.parametrize("pool", [(1, 1, 0), (3, 2, 1), (4, 4, 0)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_prelu_before_the_norm(
    variant: str, outputs: int, pool: tuple[int, int, int], dropout: float
) -> None:
    tensors = [*arguments(5, 53, 3, outputs, 7), *vectors(outputs)]
    settings = ([2, 3, *pool], "gelu", 0.0, 1e-5, dropout, 9)  # gelu is not used
    compare(tensors, *settings)
    compare_bf16(tensors, *settings)


def test_relu_before_the_norm_drops_what_is_not_above_zero(variant: str) -> None:
    x, weight, gamma, beta = arguments(3, 20, 2, 5, 3)
    sizes, slopes = [1, 1, 1, 1, 0], torch.zeros(5)
    out = conv_block.conv_block(x, weight, gamma, beta, sizes, slopes=slopes)
    y = functional.relu(functional.conv1d(x.mT, weight, padding=1))
    expected = functional.batch_norm(y, None, None, gamma, beta, training=True)
    assert_close(out, expected.mT, rtol=1e-5, atol=1e-5)


def test_a_bias_alone_moves_nothing_but_the_running_mean(variant: str) -> None:
    tensors, (bias,) = arguments(3, 20, 2, 5, 3), vectors(5, 1)
    settings = ([1, 1, 1, 1, 0], "gelu", 0.0, 1e-5, 0.0, 0)
    plain = gradients(conv_block.conv_block, tensors, *settings)
    *same, d_bias = gradients(conv_block.conv_block, [*tensors, bias], *settings)
    for ours, theirs in zip(same, plain, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not d_bias.any()
    means = [torch.zeros(5), torch.zeros(5)]
    for mean, given in zip(means, (None, bias), strict=True):
        running = conv_block.Running(mean, torch.ones(5), 1.0)
        conv_block.conv_block(*tensors, *settings, bias=given, running=running)
    assert_close(means[1] - means[0], bias)


def test_more_epochs_than_groups(variant: str) -> None:
    """37 epochs in 16 groups, several times as many rows as one register sum holds."""
    settings = ([1, 2, 8, 8, 4], "leaky_relu", 0.01, 1e-5, 0.0, 0)
    compare(arguments(37, 700, 2, 20, 5), *settings)
    compare_bf16(arguments(37, 700, 2, 20, 5), *settings)


def test_gelu_over_its_range(variant: str) -> None:
    x, weight, *_ = arguments(2, 900, 1, 1, 3)
    compare([x, weight, torch.tensor([4.0]), torch.zeros(1)], [1, 0, 1, 1, 0], "gelu")


def test_a_mean_far_from_zero(variant: str) -> None:
    """The variance is that of the distances from the mean, not a difference of large numbers."""
    x, weight, gamma, beta = arguments(6, 50, 1, 4, 1)
    result = conv_block.conv_block(x + 1000, weight, gamma, beta, [1, 0, 1, 1, 0])
    expected = conv_block.reference(
        *(t.double() for t in (x + 1000, weight, gamma, beta)), [1, 0, 1, 1, 0]
    )
    assert_close(result, expected.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_running_statistics_are_those_of_batch_norm(variant: str, momentum: float) -> None:
    x, weight, gamma, beta = arguments(5, 21, 3, 18, 4)
    norm = nn.BatchNorm1d(18, momentum=momentum).train()
    norm.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
    running = conv_block.Running(torch.zeros(18), torch.ones(18), momentum)
    for step in range(3):
        norm(functional.conv1d((step + 1) * x.mT, weight, None, 2, 1))
        conv_block.conv_block((step + 1) * x, weight, gamma, beta, [2, 1, 1, 1, 0], running=running)
    assert_close(running.mean, norm.running_mean, rtol=1e-5, atol=1e-6)
    assert_close(running.variance, norm.running_var, rtol=1e-5, atol=1e-6)


def test_no_epochs_change_nothing() -> None:
    tensors = [t.requires_grad_() for t in arguments(0, 21, 3, 18, 4)]
    running = conv_block.Running(torch.full((18,), 2.0), torch.full((18,), 3.0))
    out = conv_block.conv_block(*tensors, [1, 0, 2, 2, 0], running=running)
    assert out.shape == (0, 9, 18)
    out.sum().backward()
    assert all(t.grad is not None and not t.grad.any() for t in tensors)
    assert (running.mean == 2).all()
    assert (running.variance == 3).all()


def test_one_value_for_each_map_is_refused_as_by_batch_norm() -> None:
    x, weight, gamma, beta = arguments(1, 4, 3, 18, 4)
    with pytest.raises(ValueError, match="Expected more than 1 value") as theirs:
        nn.BatchNorm1d(18).train()(functional.conv1d(x.mT, weight))
    with pytest.raises(ValueError, match="Expected more than 1 value") as ours:
        conv_block.conv_block(x, weight, gamma, beta, [1, 0, 1, 1, 0])
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 4), (3, 0)])
def test_no_channels_and_no_outputs_are_refused(inputs: int, outputs: int) -> None:
    with pytest.raises(ValueError, match=r"conv_block: weight has shape .*; expected 1 or more"):
        conv_block.conv_block(*arguments(2, 21, inputs, outputs, 4), [1, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("sizes", "settings", "text"),
    [
        ([0, 0, 1, 1, 0], (), r"sizes are \[0, 0, 1, 1, 0\]; expected >= 1"),
        ([1, -1, 1, 1, 0], (), r"sizes are \[1, -1, 1, 1, 0\]; expected >= 1, and >= 0"),
        ([1, 0, 2, 2, 2], (), "pool padding is 2; expected at most half of 2"),
        ([1, 0, 30, 1, 0], (), r"x has shape \(2, 21, 3\); expected \(batch, more, inputs\)"),
        ([1, 0, 1, 1, 0], ("tanh",), "activation is 'tanh'; expected 'leaky_relu', 'relu' or"),
        ([1, 0, 1, 1, 0], ("relu", 0.0, 1e-5, 1.0), "dropout is 1.0; expected 0 to below 1"),
        ([1, 0, 1, 1, 0], ("relu", 0.0, 1e-5, 0.5, -1), "seed is -1; expected 0 to"),
        (
            [1, 0, 1, 1, 0],
            ("relu", 0.0, 1e-5, 0.0, 0, "fp8"),
            "precision is 'fp8'; expected 'fp32'",
        ),
    ],
)
def test_settings_out_of_range(sizes: list[int], settings: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ValueError, match=f"conv_block: {text}"):
        conv_block.conv_block(*arguments(2, 21, 3, 18, 4), sizes, *settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_samples_that_no_kernel_sees_may_be_anything(precision: str, variant: str) -> None:
    tensors, settings = arguments(2, 23, 2, 5, 3), ([3, 0, 1, 1, 0], "relu", 0.0, 1e-5, 0.0, 0)
    expected = gradients(conv_block.conv_block, tensors, *settings, precision)
    tensors[0][:, 21:] = torch.nan
    for result, clean in zip(
        gradients(conv_block.conv_block, tensors, *settings, precision), expected, strict=True
    ):
        assert torch.equal(result, clean)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_do_not_change_a_bit(precision: str, variant: str) -> None:
    tensors, settings = arguments(37, 400, 2, 40, 9), ("gelu", 0.0, 1e-5, 0.5, 0, precision)
    results = []
    for count in (1, 2, 3, 0):
        threads.set_threads(count)
        results.append(gradients(conv_block.conv_block, tensors, [2, 3, 4, 4, 2], *settings))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_dropout_drops_the_same_values_in_every_variant(variant: str) -> None:
    tensors, seed = arguments(3, 21, 3, 18, 4), 0x123456789ABCDEF
    out = conv_block.conv_block(*tensors, [1, 0, 2, 2, 0], "gelu", 0.0, 1e-5, 0.3, seed)
    keep = philox.mask(out.shape, 0.3, seed, out) > 0
    assert torch.equal(out != 0, keep)
    assert torch.equal(dropout(torch.ones_like(out), 0.3, seed) != 0, keep)


def test_masks_drop_the_share_they_say_and_differ() -> None:
    like = torch.zeros(1)
    keep = philox.mask((30, 41, 50), 0.2, 5, like) > 0
    for axes in ((0, 1), (0, 2), (1, 2)):
        mean = keep.float().mean(axes)
        assert float((mean - 0.8).abs().max()) < 5 * (0.16 * mean.numel() / keep.numel()) ** 0.5
    other_seed = philox.mask((30, 41, 50), 0.2, 6, like) > 0
    assert abs(float((keep == other_seed).float().mean()) - 0.68) < 0.01
    assert abs(float((keep[1:] == keep[:-1]).float().mean()) - 0.68) < 0.01


def without_chance(model: Model) -> Model:
    for module in model.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def losses(model: Model, steps: int, *, half: bool = False) -> list[float]:
    """Train on the same five epochs, under autocast if `half`; the losses."""
    generator = torch.Generator().manual_seed(3)
    x, stages = 20 * torch.randn(5, 4, 3000, generator=generator), torch.arange(5)
    return losses_of(model, x, stages, 1e-4, steps, half=half)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(Config()).train()


@needs_core
def test_native_training_follows_pytorch(model: Model) -> None:
    """Without dropout: the losses, and the running statistics that they leave."""
    ours, theirs = (without_chance(copy.deepcopy(model)) for _ in range(2))
    result = losses(ours, 5)
    with native.using_variant("reference"):
        expected = losses(theirs, 5)
    assert result[-1] < result[0] - 0.1
    assert result == pytest.approx(expected, rel=1e-3)
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        assert_close(buffer, buffers[name], rtol=1e-2, atol=1e-2)


@needs_core
def test_every_variant_trains_with_the_same_masks(model: Model) -> None:
    result = {}
    for name in native.variants()[1:]:
        with native.using_variant(name):
            result[name] = losses(copy.deepcopy(model), 2)
    for curve in result.values():
        assert curve == pytest.approx(result[native.variant()], rel=1e-3)


@needs_core
def test_training_runs_the_native_blocks(model: Model) -> None:
    """All layers of all streams, and as much dropout as PyTorch's layers would do."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        copy.deepcopy(model)(torch.randn(2, 4, 3000))
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["sleeptools::conv_block"] == 24
    assert counts["sleeptools::dropout"] == 1
    assert "aten::bernoulli_" not in counts


@needs_core
def test_training_in_bf16_stays_near_training_in_fp32(variant: str, model: Model) -> None:
    result = losses(without_chance(copy.deepcopy(model)), 5, half=True)
    assert result == pytest.approx(losses(without_chance(copy.deepcopy(model)), 5), rel=0.05)


@needs_core
def test_autocast_runs_the_native_blocks(model: Model) -> None:
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.autocast("cpu", torch.bfloat16),
    ):
        copy.deepcopy(model)(torch.randn(2, 4, 3000)).float().sum().backward()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["sleeptools::conv_block"] == counts["sleeptools::conv_block_backward"] == 24
    assert counts["sleeptools::feed_forward_backward"] == 1
    assert "aten::bernoulli_" not in counts


@needs_core
@pytest.mark.parametrize("frozen", ["", "encoder", "branches encoder"])
def test_autocast_of_a_model_that_scores_or_trains_in_part(model: Model, frozen: str) -> None:
    ours = without_chance(copy.deepcopy(model))
    for name in frozen.split():
        getattr(ours, name).eval()
    if not frozen:
        ours.eval()
    x = torch.randn(3, 4, 3000, generator=torch.Generator().manual_seed(5))
    expected = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        result = ours(x).float()
    assert_close(result, expected, rtol=0, atol=0.05 * float(expected.detach().abs().max()))


@needs_core
def test_other_autocasts_are_left_to_pytorch(model: Model) -> None:
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.autocast("cpu", torch.float16),
    ):
        copy.deepcopy(model)(torch.randn(2, 4, 3000))
    assert "sleeptools::conv_block" not in {event.key for event in profile.key_averages()}


@needs_core
def test_dropout_of_a_layer_that_does_not_train_is_off(model: Model) -> None:
    still = copy.deepcopy(model)
    for module in still.modules():
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.eval()
    x = torch.randn(2, 4, 3000)
    assert torch.equal(still(x), still(x))
    training = copy.deepcopy(model)
    assert not torch.equal(training(x), training(x))


@needs_core
def test_a_frozen_batch_norm_stays_frozen(model: Model) -> None:
    """One BatchNorm in evaluation mode: its branch takes PyTorch's path and its statistics."""
    ours = without_chance(copy.deepcopy(model))
    norm = ours.branches["eeg"].small.conv1.norm.eval()
    mean_before = norm.running_mean.clone()
    theirs, x = copy.deepcopy(ours), torch.randn(2, 4, 3000)
    result = ours(x)
    with native.using_variant("reference"):
        expected = theirs(x)
    assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(norm.running_mean, mean_before)
