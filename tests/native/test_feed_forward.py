"""The feed-forward op beyond the sweep: bfloat16, threads, independent rows, memory, NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sleeptools import native
from sleeptools.models.layers import philox
from sleeptools.models.ops import feed_forward
from sleeptools.native import bfloat16, threads

Arguments = tuple[torch.Tensor, ...]

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
EXAMPLES = [example[:5] for example in feed_forward.examples("cpu") if not example[6]]
DROPOUT = [example for example in feed_forward.examples("cpu") if example[6]]


@pytest.fixture(params=native.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using_variant(request.param):
        yield request.param


def as_numpy(example: Arguments) -> Any:
    return [tensor.numpy() for tensor in example]


def in_double(example: Arguments) -> Any:
    x, w1, b1, w2, b2 = (array.astype(float) for array in as_numpy(example))
    return np.maximum(x @ w1.T + b1, 0) @ w2.T + b2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(tuple(e[1].shape)))
def test_bf16_is_close_to_fp32(example: Arguments, variant: str) -> None:
    expected = in_double(example)
    result = feed_forward.feed_forward(*example, "bf16").numpy()
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(result, expected, atol=6e-3 * scale)


def test_bf16_of_the_published_size(variant: str) -> None:
    expected = in_double(EXAMPLES[0])
    result = feed_forward.feed_forward(*EXAMPLES[0], "bf16").numpy()
    error = np.abs(result - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 5e-3  # it does round


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: str(tuple(e[1].shape)))
def test_bf16_equals_its_reference(example: Arguments, variant: str) -> None:
    expected = feed_forward.reference(*example, "bf16")
    # a sum that falls on the other side of a rounding step moves one hidden unit by 2^-8 of itself
    torch.testing.assert_close(
        feed_forward.feed_forward(*example, "bf16"), expected, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nan_and_infinity_stay_in_their_row(precision: str, variant: str) -> None:
    for example in EXAMPLES:
        x = example[0].clone()
        if len(x) < 2 or not len(example[1]):
            continue
        clean = feed_forward.feed_forward(x, *example[1:], precision)
        x[0, 0], x[1, -1] = torch.nan, torch.inf
        result = feed_forward.feed_forward(x, *example[1:], precision)
        assert result[0].isnan().all()
        assert not result[1].isfinite().all()
        torch.testing.assert_close(result[2:], clean[2:], rtol=1e-5, atol=1e-5)


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_threads_nor_other_rows_change_a_row(precision: str, variant: str) -> None:
    if variant == "reference":
        pytest.skip("PyTorch promises neither")
    x, *weights = feed_forward.examples("cpu", batch=3)[0][:5]
    result = feed_forward.feed_forward(x, *weights, precision)
    for count in (1, 2, 5):
        threads.set_threads(count)
        assert torch.equal(feed_forward.feed_forward(x, *weights, precision), result)
    threads.set_threads(0)
    for rows in (slice(0, 1), slice(5, 64), slice(100, 192)):
        assert torch.equal(feed_forward.feed_forward(x[rows], *weights, precision), result[rows])


def test_autograd_does_not_keep_the_hidden_layer() -> None:
    x, *weights = (tensor.clone().requires_grad_() for tensor in EXAMPLES[0])
    saved = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        feed_forward.feed_forward(x, *weights)
    assert max(saved) < len(x) * len(weights[0])


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision is 'fp16'; expected 'fp32' or 'bf16'"):
        feed_forward.feed_forward(*EXAMPLES[0], "fp16")


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_numpy_equals_torch(precision: Any, variant: str) -> None:
    if variant == "reference":
        pytest.skip("needs the core")
    for example in EXAMPLES:
        result = native.feed_forward.feed_forward(*as_numpy(example), precision)
        assert result.dtype == np.float32
        expected = feed_forward.feed_forward(*example, precision).numpy()
        np.testing.assert_array_equal(result, expected)


@needs_core
def test_numpy_takes_rounded_weights_any_strides_and_float_type() -> None:
    x, w1, b1, w2, b2 = as_numpy(EXAMPLES[0])
    expected = native.feed_forward.feed_forward(x, w1, b1, w2, b2, "bf16")
    rounded = bfloat16.round_to_bf16(w1), bfloat16.round_to_bf16(w2)
    result = native.feed_forward.feed_forward(x, rounded[0], b1, rounded[1], b2, "bf16")
    np.testing.assert_array_equal(result, expected)
    strided = [np.asfortranarray(array).astype(np.float64) for array in (x, w1, b1, w2, b2)]
    np.testing.assert_array_equal(native.feed_forward.feed_forward(*strided, "bf16"), expected)


def test_rounding_equals_torch() -> None:
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(4))
    values[0] = torch.tensor([0, -0.0, torch.inf, -torch.inf, 3e38, 1e-40, 1.00390625])
    rounded = bfloat16.round_to_bf16(values.numpy())
    assert rounded.shape == (50, 8)
    expected = values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(rounded[:, :7], expected)
    nans = np.array([[0x7F800001, 0xFFFFFFFF]], np.uint32).view(np.float32)
    back = (bfloat16.round_to_bf16(nans).astype(np.uint32) << 16).view(np.float32)
    assert np.isnan(back).all()


@needs_core
def test_numpy_refuses_wrong_sizes() -> None:
    x, w1, b1, w2, b2 = as_numpy(EXAMPLES[0])
    with pytest.raises(ValueError, match=r"w2 has shape \(2, 2048\); expected \(96, 2048\)"):
        native.feed_forward.feed_forward(x, w1, b1, w2[:2], b2)
    with pytest.raises(ValueError, match=r"x has shape \(2, 64, 96\); expected \(tokens, width\)"):
        native.feed_forward.feed_forward(x.reshape(2, 64, 96), w1, b1, w2, b2)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: list[int], key: int, words: str
) -> None:
    tensors = tuple(torch.tensor([word]) for word in counter)
    result = philox.philox(tensors, key)  # type: ignore[arg-type]
    assert " ".join(f"{int(word):08x}" for word in result) == words


def test_dropout_drops_the_share_it_says() -> None:
    keep = philox.keep(1000, 999, native.dropout.drop_below(0.1), 5, torch.device("cpu"))
    assert keep.shape == (1000, 999)
    assert abs(float(keep.float().mean()) - 0.9) < 1e-3
    assert float((keep.float().mean(0) - 0.9).abs().max()) < 0.06  # 6 deviations
    other_seed = philox.keep(1000, 999, native.dropout.drop_below(0.1), 6, torch.device("cpu"))
    assert 0.81 < float((keep == other_seed).float().mean()) < 0.83


@pytest.mark.parametrize("example", DROPOUT, ids=lambda e: str(tuple(e[1].shape)))
def test_dropout_drops_the_same_units_in_every_variant(example: Arguments, variant: str) -> None:
    result = feed_forward.feed_forward(*example[:5], "bf16", *example[6:])
    expected = feed_forward.reference(*example[:5], "bf16", *example[6:])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "example", feed_forward.examples("cpu"), ids=lambda e: f"{tuple(e[1].shape)} {e[6]}"
)
def test_gradients_of_every_variant(example: Any, variant: str) -> None:
    weight = torch.randn(example[0].shape, generator=torch.Generator().manual_seed(2))
    result, expected = (
        [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in example]
        for _ in range(2)
    )
    (feed_forward.feed_forward(*result) * weight).sum().backward()
    (feed_forward.reference(*expected) * weight).sum().backward()
    for ours, theirs in zip(result[:5], expected[:5], strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=3e-5)


@needs_core
@pytest.mark.parametrize(
    "example", feed_forward.examples("cpu"), ids=lambda e: f"{tuple(e[1].shape)} {e[6]}"
)
def test_bf16_gradients_equal_their_reference(example: Any, variant: str) -> None:
    if variant == "reference":
        pytest.skip("needs the core")
    grad = torch.randn(example[0].shape, generator=torch.Generator().manual_seed(2))
    inputs = (grad, *example[:4])
    result = feed_forward._native_gradients(*inputs, "bf16", *example[6:])
    expected = feed_forward._gradients(*inputs, "bf16", *example[6:])
    exact = feed_forward._gradients(*(t.double() for t in inputs), "fp32", *example[6:])
    for ours, theirs, unrounded in zip(result, expected, exact, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 1.0
        # a sum on the other side of a rounding step moves one value by 2^-8 of itself
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3 * max(scale, 1e-3))
        if len(example[0]) > 100:
            error = float((ours - unrounded).norm() / unrounded.norm())
            assert 1e-4 < error < 0.05  # it does round; a unit near zero may change its side


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_of_more_rows_than_are_taken_at_once(precision: str, variant: str) -> None:
    """Many groups of rows, and the last of them with a part of a block."""
    if variant == "reference":
        pytest.skip("needs the core")
    generator = torch.Generator().manual_seed(3)
    shapes = ((9000, 5), (9000, 5), (131, 5), (131,), (5, 131))
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    result = feed_forward._native_gradients(*inputs, precision, 0.1, 7)
    expected = feed_forward._gradients(*inputs, precision, 0.1, 7)
    for ours, theirs in zip(result, expected, strict=True):
        bound = 1e-5 if precision == "fp32" else 2e-3
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound * float(theirs.abs().max()))


@needs_core
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_do_not_change_a_gradient(precision: str, variant: str) -> None:
    tensors = [a.clone().requires_grad_() for a in DROPOUT[-1][:5]]
    results = []
    for count in (1, 2, 5, 0):
        threads.set_threads(count)
        out = feed_forward.feed_forward(*tensors, precision, *DROPOUT[-1][6:]).square().sum()
        results.append(torch.autograd.grad(out, tensors))
    if variant == "reference":
        pytest.skip("PyTorch does not promise it")
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize(("dropout", "seed"), [(1.0, 0), (-0.1, 0), (0.5, -1), (0.5, 2**63)])
def test_dropout_or_seed_out_of_range(dropout: float, seed: int) -> None:
    with pytest.raises(ValueError, match=r"feed_forward: (dropout|seed) is .*; expected 0 to"):
        feed_forward.feed_forward(*EXAMPLES[0], "fp32", dropout, seed)
