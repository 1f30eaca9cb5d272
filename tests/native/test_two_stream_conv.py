"""What the sweep of test_ops.py does not ask of the convolution streams."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

import golden_models
from golden_ops import reference_in_double
from sleeptools import native
from sleeptools.models.mmasleepnet import Config, Model
from sleeptools.models.ops import two_stream_conv
from sleeptools.native import conv_streams, threads
from sleeptools.native.batch_norm import fold_batch_norm
from sleeptools.native.conv_streams import ConvLayer, ConvStream, describe_streams

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative, in the norm."""
    return float((result - expected).norm() / expected.norm().clamp_min(1e-30))


def one_layer(
    layer: ConvLayer, *, channels: int = 1, samples: int = 40, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    streams = [ConvStream(0, channels, (layer, ConvLayer(3, 1)))]
    weights = torch.randn(conv_streams.stream_weight_count(streams), generator=generator)
    return (
        torch.randn(2, channels, samples, generator=generator),
        weights,
        describe_streams(streams),
    )


@pytest.mark.parametrize("activation", conv_streams.ACTIVATIONS)
@pytest.mark.parametrize("slope", [0.01, 0.0, 1.5, -0.5])
@pytest.mark.parametrize("pool", [(4, 4, 2), (3, 2, 1), (5, 7, 0), (1, 1, 0), (17, 17, 8)])
def test_pool_and_activation(
    variant: str, activation: str, slope: float, pool: tuple[int, int, int]
) -> None:
    """The pool moves before the activation only where that changes nothing."""
    x, weights, shape = one_layer(ConvLayer(18, 3, 1, 1, pool))
    weights[: 18 * 3] *= -2.0  # values on both sides of GELU's minimum
    arguments = (x, weights, shape, activation, slope)
    assert_close(
        two_stream_conv.two_stream_conv(*arguments),
        two_stream_conv.reference(*arguments),
        rtol=1e-5,
        atol=1e-5,
    )


def test_gelu_over_its_range(variant: str) -> None:
    x = torch.linspace(-12, 12, 4001).view(1, 1, -1)
    x[0, 0, :3] = torch.tensor([-torch.inf, torch.inf, torch.nan])
    shape = describe_streams([ConvStream(0, 1, (ConvLayer(1, 1),))])
    result = two_stream_conv.two_stream_conv(x, torch.tensor([1.0, 0.0]), shape, "gelu")
    assert_close(
        result[..., 1:],
        functional.gelu(x.double())[..., 1:].float(),
        rtol=1e-5,
        atol=1e-6,
        equal_nan=True,
    )


def test_negative_gamma(variant: str) -> None:
    """A negative scale of BatchNorm is in the weights, so the pool may still come first."""
    x, _, shape = one_layer(ConvLayer(20, 5, 2, 2, (4, 4, 2)), channels=3)
    generator = torch.Generator().manual_seed(5)
    conv = torch.nn.Conv1d(3, 20, 5, 2, 2, bias=False)
    norm = torch.nn.BatchNorm1d(20).eval()
    with torch.no_grad():
        norm.weight.copy_(-torch.rand(20, generator=generator) - 0.5)
        norm.bias.copy_(torch.randn(20, generator=generator))
        folded = fold_batch_norm(
            conv.weight, None, norm.running_mean, norm.running_var, norm.weight, norm.bias
        )
        last = torch.nn.Conv1d(20, 3, 1)
        weights = two_stream_conv.join([folded, (last.weight, last.bias)])
        layers = functional.max_pool1d(functional.leaky_relu(norm(conv(x)), 0.01), 4, 4, 2)
        layers = functional.leaky_relu(last(layers), 0.01)
        assert_close(
            two_stream_conv.two_stream_conv(x, weights, shape), layers, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 40, 64, 65])
@pytest.mark.parametrize("precision", native.PRECISIONS)
def test_odd_sizes(variant: str, channels: int, outputs: int, precision: str) -> None:
    layer = ConvLayer(outputs, 7, 3, 4, (2, 2, 1))
    x, weights, shape = one_layer(layer, channels=channels, samples=53 + channels)
    arguments = (x, weights, shape, "relu", 0.0, precision)
    bound = 1e-6 if precision == "fp32" else 4 * two_stream_conv.TOLERANCE_BF16
    assert (
        error(two_stream_conv.two_stream_conv(*arguments), two_stream_conv.reference(*arguments))
        < bound
    )


def test_bf16(variant: str) -> None:
    """Within its tolerance, and not float32 in disguise where the CPU has the arithmetic."""
    for example in two_stream_conv.examples("cpu"):
        expected = reference_in_double(two_stream_conv, example).float()
        exact = two_stream_conv.two_stream_conv(*example)
        result = two_stream_conv.two_stream_conv(*example, precision="bf16")
        # a few maps of a few steps may cancel
        assert error(result, expected) < two_stream_conv.TOLERANCE_BF16 * (
            1 if expected.numel() > 2000 else 4
        )
        if expected.numel():
            assert torch.equal(result, exact) == (not native.has_bf16())


def test_packed_weights_are_the_same(variant: str) -> None:
    for precision in native.PRECISIONS:
        for example in two_stream_conv.examples("cpu"):
            packed = two_stream_conv.pack(example[1], example[2], precision)
            result = two_stream_conv.two_stream_conv(*example, precision=precision, packed=packed)
            assert torch.equal(
                result, two_stream_conv.two_stream_conv(*example, precision=precision)
            )


@needs_core
def test_packed_weights_of_another_size_are_refused() -> None:
    example = two_stream_conv.examples("cpu")[1]
    with pytest.raises(ValueError, match=r"packed has shape \(3,\); expected \("):
        two_stream_conv.two_stream_conv(*example, packed=torch.zeros(3))


@needs_core
@pytest.mark.parametrize("batch", [0, 1, 3, 20])
def test_threads_do_not_change_the_result(batch: int) -> None:
    example = two_stream_conv.examples("cpu", batch=batch)[0]
    results = []
    for count in (1, 2, 3, 0):
        threads.set_threads(count)
        results.append(two_stream_conv.two_stream_conv(*example))
    for result in results[1:]:
        assert torch.equal(results[0], result)


@needs_core
def test_numpy_needs_no_torch_types() -> None:
    for example in two_stream_conv.examples("cpu"):
        x, weights, shape, activation, slope = example
        result = native.two_stream_conv.two_stream_conv(
            x.numpy(), weights.numpy(), shape, activation, slope
        )  # type: ignore[arg-type]
        assert result.dtype == np.float32
        assert np.array_equal(result, two_stream_conv.two_stream_conv(*example).numpy())


def test_nan_stays_in_its_epoch(variant: str) -> None:
    x, weights, shape = two_stream_conv.examples("cpu", batch=3)[0][:3]
    expected = two_stream_conv.two_stream_conv(x, weights, shape)
    x = x.clone()
    x[1, 0, 700:2000] = torch.nan
    result = two_stream_conv.two_stream_conv(x, weights, shape)
    assert result[1].isnan().any()
    assert torch.equal(result[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (
            [ConvStream(0, 3, (ConvLayer(4, 3),))],
            r"x has shape \(1, 2, 20\); expected at least 3 channels",
        ),
        (
            [ConvStream(0, 1, (ConvLayer(4, 21),))],
            r"x has shape \(1, 2, 20\); expected more samples",
        ),
        (
            [ConvStream(0, 1, (ConvLayer(4, 3, pool=(2, 2, 2)),))],
            "padding is 2; expected at most half",
        ),
        (
            [ConvStream(0, 1, (ConvLayer(4, 3),)), ConvStream(1, 1, (ConvLayer(4, 4),))],
            "has 18 steps; expected 17",
        ),
        (
            [ConvStream(0, 1, (ConvLayer(4, 3),)), ConvStream(0, 1, (ConvLayer(5, 3),))],
            "has 5 maps; expected 4",
        ),
    ],
)
def test_impossible_streams_are_refused(streams: list[ConvStream], message: str) -> None:
    weights = torch.zeros(conv_streams.stream_weight_count(streams))
    with pytest.raises(ValueError, match=message):
        two_stream_conv.two_stream_conv(torch.zeros(1, 2, 20), weights, describe_streams(streams))


def test_unknown_words_are_refused() -> None:
    x, weights, shape = two_stream_conv.examples("cpu")[5][:3]
    with pytest.raises(ValueError, match="activation is 'tanh'"):
        two_stream_conv.two_stream_conv(x, weights, shape, "tanh")
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        two_stream_conv.two_stream_conv(x, weights, shape, precision="fp8")


def layer_by_layer(model: Model, x: torch.Tensor) -> torch.Tensor:
    with native.using_variant("reference"):
        return model.fuse(x)


@needs_core
@pytest.mark.parametrize("kernels", ["paper", "authors"])
@pytest.mark.parametrize("eeg", [1, 2, 6])
def test_model_streams_against_its_layers(eeg: int, kernels: Any) -> None:
    model = golden_models.fill(Model(Config(eeg=eeg, kernels=kernels)))
    x = golden_models.signals(model.config)
    with torch.no_grad():
        assert error(model.fuse(x), layer_by_layer(model, x)) < 2e-6
        model.precision = "bf16"
        assert error(model.fuse(x), layer_by_layer(model, x)) < two_stream_conv.TOLERANCE_BF16


@needs_core
@torch.no_grad()
def test_model_notices_changed_weights() -> None:
    model = golden_models.fill(Model(Config()))
    x = golden_models.signals(model.config)
    changed = copy.deepcopy(model)
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}

    def check(changed: Model) -> None:
        assert error(changed.fuse(x), layer_by_layer(changed, x)) < 2e-6

    check(model)
    model.branches["eeg"].small.conv2.conv.weight.mul_(0.5)
    check(model)
    model.branches["emg"].large.conv4.norm.running_mean.add_(0.5)
    check(model)
    model.load_state_dict(state)
    check(model)
    model.load_state_dict({k: v * 0.5 for k, v in state.items()}, assign=True)
    check(model)
    model.train()(x)
    check(model.eval())
    check(changed)


@needs_core
def test_model_can_be_tuned_with_fixed_statistics() -> None:
    model = golden_models.fill(Model(Config()))
    x = golden_models.signals(model.config)
    parameters = list(model.branches.parameters())
    result = torch.autograd.grad(model.fuse(x).square().mean(), parameters)
    expected = torch.autograd.grad(layer_by_layer(model, x).square().mean(), parameters)
    for ours, theirs in zip(result, expected, strict=True):
        assert error(ours, theirs) < 2e-2  # rounding decides which step a pool takes
