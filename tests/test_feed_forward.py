"""The feed-forward op beyond the sweep: bfloat16, threads, independent rows, memory, NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sleeptools import native
from sleeptools.ops import feed_forward as op

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
EXAMPLES = op.examples("cpu")


@pytest.fixture(params=native.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.variant()
    native.set_variant(request.param)
    yield request.param
    native.set_variant(before)


def as_numpy(example: op.Example) -> Any:
    return [tensor.numpy() for tensor in example]


def in_double(example: op.Example) -> Any:
    x, w1, b1, w2, b2 = (array.astype(float) for array in as_numpy(example))
    return np.maximum(x @ w1.T + b1, 0) @ w2.T + b2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(tuple(e[1].shape)))
def test_bf16_is_close_to_fp32(example: op.Example, variant: str) -> None:
    expected = in_double(example)
    found = op.feed_forward(*example, "bf16").numpy()
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(found, expected, atol=6e-3 * scale)


def test_bf16_of_the_published_size(variant: str) -> None:
    expected = in_double(EXAMPLES[0])
    found = op.feed_forward(*EXAMPLES[0], "bf16").numpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 5e-3  # it does round


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(tuple(e[1].shape)))
def test_bf16_equals_its_reference(example: op.Example, variant: str) -> None:
    expected = op.reference(*example, "bf16")
    # a sum that falls on the other side of a rounding step moves one hidden unit by 2^-8 of itself
    torch.testing.assert_close(op.feed_forward(*example, "bf16"), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nan_and_infinity_stay_in_their_row(precision: str, variant: str) -> None:
    for example in EXAMPLES:
        x = example[0].clone()
        if len(x) < 2 or not len(example[1]):
            continue
        clean = op.feed_forward(x, *example[1:], precision)
        x[0, 0], x[1, -1] = torch.nan, torch.inf
        found = op.feed_forward(x, *example[1:], precision)
        assert found[0].isnan().all()
        assert not found[1].isfinite().all()
        torch.testing.assert_close(found[2:], clean[2:], rtol=1e-5, atol=1e-5)


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_threads_nor_other_rows_change_a_row(precision: str, variant: str) -> None:
    if variant == "reference":
        pytest.skip("PyTorch promises neither")
    x, *weights = op.examples("cpu", batch=3)[0]
    whole = op.feed_forward(x, *weights, precision)
    for count in (1, 2, 5):
        native.set_threads(count)
        assert torch.equal(op.feed_forward(x, *weights, precision), whole)
    native.set_threads(0)
    for rows in (slice(0, 1), slice(5, 64), slice(100, 192)):
        assert torch.equal(op.feed_forward(x[rows], *weights, precision), whole[rows])


def test_autograd_does_not_keep_the_hidden_layer() -> None:
    x, *weights = (tensor.requires_grad_() for tensor in op.examples("cpu")[0])
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        op.feed_forward(x, *weights)
    assert max(kept) < len(x) * len(weights[0])


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision is 'fp16'; expected 'fp32' or 'bf16'"):
        op.feed_forward(*EXAMPLES[0], "fp16")


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_numpy_equals_torch(precision: Any, variant: str) -> None:
    if variant == "reference":
        pytest.skip("needs the core")
    for example in EXAMPLES:
        found = native.feed_forward(*as_numpy(example), precision)
        assert found.dtype == np.float32
        expected = op.feed_forward(*example, precision).numpy()
        np.testing.assert_array_equal(found, expected)


@needs_core
def test_numpy_takes_rounded_weights_any_strides_and_float_type() -> None:
    x, w1, b1, w2, b2 = as_numpy(EXAMPLES[0])
    expected = native.feed_forward(x, w1, b1, w2, b2, "bf16")
    rounded = native.round_to_bf16(w1), native.round_to_bf16(w2)
    found = native.feed_forward(x, rounded[0], b1, rounded[1], b2, "bf16")
    np.testing.assert_array_equal(found, expected)
    strided = [np.asfortranarray(array).astype(np.float64) for array in (x, w1, b1, w2, b2)]
    np.testing.assert_array_equal(native.feed_forward(*strided, "bf16"), expected)


def test_rounding_equals_torch() -> None:
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(4))
    values[0] = torch.tensor([0, -0.0, torch.inf, -torch.inf, 3e38, 1e-40, 1.00390625])
    rounded = native.round_to_bf16(values.numpy())
    assert rounded.shape == (50, 8)
    expected = values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(rounded[:, :7], expected)
    nans = np.array([[0x7F800001, 0xFFFFFFFF]], np.uint32).view(np.float32)
    back = (native.round_to_bf16(nans).astype(np.uint32) << 16).view(np.float32)
    assert np.isnan(back).all()


@needs_core
def test_numpy_refuses_wrong_sizes() -> None:
    x, w1, b1, w2, b2 = as_numpy(EXAMPLES[0])
    with pytest.raises(ValueError, match=r"w2 has shape \(2, 2048\); expected \(96, 2048\)"):
        native.feed_forward(x, w1, b1, w2[:2], b2)
    with pytest.raises(ValueError, match=r"x has shape \(2, 64, 96\); expected \(tokens, width\)"):
        native.feed_forward(x.reshape(2, 64, 96), w1, b1, w2, b2)
