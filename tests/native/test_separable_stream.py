"""What the sweep of test_ops.py does not ask of the separable-convolution blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from golden_ops import reference_in_double
from sleeptools import native
from sleeptools.models.ops import separable_stream
from sleeptools.native import threads

pytestmark = pytest.mark.usefixtures("one_thread")  # the shapes are too small for more
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())
WIDTHS = [8, 16, 32]


def example(
    samples: int, widths: list[int], kernel: int = 3, *, batch: int = 1, signals: int = 1
) -> separable_stream.Example:
    generator = torch.Generator().manual_seed(samples)
    weights = (
        torch.randn(
            native.separable_stream.separable_weight_count(widths, kernel), generator=generator
        )
        * 0.5
    )
    return torch.randn(batch, signals, samples, generator=generator), weights, widths, kernel


def check(arguments: separable_stream.Example) -> None:
    expected = reference_in_double(separable_stream, arguments).float()
    result = separable_stream.separable_stream(*arguments)
    assert (result - expected).abs().max() <= 1e-6 * expected.abs().max().clamp_min(1)


@pytest.mark.parametrize(("widths", "kernel"), [([1], 1), ([5], 9), ([3, 9], 5), (WIDTHS, 3)])
def test_every_length(variant: str, widths: list[int], kernel: int) -> None:
    """Every remainder of a pool, of a segment and of a vector, and signals shorter than them."""
    for samples in [*range(1, 20), 31, 64, 65, 127, 255, 256, 257, 1023, 1025]:
        check(example(samples, widths, kernel))


@pytest.mark.parametrize("width", range(1, 18))
def test_every_width(variant: str, width: int) -> None:
    check(example(77, [width, 18 - width]))


@pytest.mark.parametrize("kernel", [33, 65, 129])
def test_kernels_longer_than_the_last_segments(variant: str, kernel: int) -> None:
    check(example(100, [2, 3, 2], kernel))


def test_most_blocks(variant: str) -> None:
    check(example(70_000, [2] * native.separable_stream.MAX_BLOCKS))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_signal(variant: str, value: float) -> None:
    """On one thread, so that the next signal meets the workspace of the one before."""
    x, weights, widths, kernel = example(3000, WIDTHS, batch=3, signals=2)
    expected = separable_stream.separable_stream(x, weights, widths, kernel)
    x[1, 0, 1234:1300] = value
    threads.set_threads(1)
    result = separable_stream.separable_stream(x, weights, widths, kernel)
    threads.set_threads(0)
    assert not result[1, 0].isfinite().any()
    result[1, 0] = expected[1, 0]
    assert torch.equal(result, expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_no_maximum_hides_what_is_not_finite(variant: str, value: float) -> None:
    """Wherever it stands, the outcome is PyTorch's: for a NaN, all features."""
    for samples in (1, 2, 7, 37):
        x, weights, widths, kernel = example(samples, [3, 4])
        x = x.repeat(samples, 1, 1)
        x[range(samples), 0, range(samples)] = value
        expected = separable_stream.reference(x, weights, widths, kernel)
        result = separable_stream.separable_stream(x, weights, widths, kernel)
        assert_close(result, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
        assert result.isnan().all() or np.isinf(value)


@needs_core
@pytest.mark.parametrize("batch", [0, 1, 3, 20])
def test_threads_do_not_change_the_result(batch: int) -> None:
    arguments = separable_stream.examples("cpu", batch=batch)[0]
    results = []
    for count in (1, 2, 3, 0):
        threads.set_threads(count)
        results.append(separable_stream.separable_stream(*arguments))
    for result in results[1:]:
        assert torch.equal(results[0], result)


@needs_core
def test_numpy_needs_no_torch_types() -> None:
    for x, weights, widths, kernel in separable_stream.examples("cpu"):
        result = native.separable_stream.separable_stream(
            x.numpy(), weights.numpy(), widths, kernel
        )
        assert result.dtype == np.float32
        assert np.array_equal(
            result, separable_stream.separable_stream(x, weights, widths, kernel).numpy()
        )


@needs_core
def test_numpy_takes_strides_and_other_types() -> None:
    x, weights, widths, kernel = example(120, [3, 4], batch=4, signals=2)
    expected = native.separable_stream.separable_stream(
        x.numpy()[::2, :, ::3], weights.numpy(), widths, kernel
    )
    chosen = x[::2, :, ::3].numpy().astype(np.float64)
    assert np.array_equal(
        native.separable_stream.separable_stream(chosen, weights.numpy(), widths), expected
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "widths", "kernel", "message"),
    [
        (0, [3], 3, r"x has shape \(1, 1, 0\); expected at least 1 sample"),
        (9, [], 3, r"widths is \[\]; expected 1 to 8 numbers"),
        (9, [3, 0], 3, r"widths is \[3, 0\]; expected 1 to 8 numbers of at least 1"),
        (9, [1] * 9, 3, "expected 1 to 8 numbers"),
        (9, [3], 4, "kernel is 4; expected an odd number"),
        (9, [3], -1, "kernel is -1; expected an odd number"),
        (9, [3], 257, "kernel is 257; expected an odd number up to 255"),
    ],
)
def test_impossible_blocks_are_refused(
    samples: int, widths: list[int], kernel: int, message: str
) -> None:
    x = torch.zeros(1, 1, samples)
    with pytest.raises(ValueError, match=message):
        separable_stream.separable_stream(x, torch.zeros(5), widths, kernel)
    with pytest.raises(ValueError, match=message):
        native.separable_stream.separable_stream(x.numpy(), np.zeros(5, np.float32), widths, kernel)


def test_weights_of_another_size_are_refused() -> None:
    count = native.separable_stream.separable_weight_count(WIDTHS, 3)
    expected = rf"weights has shape \(5,\); expected \({count},\)"
    with pytest.raises(ValueError, match=expected):
        separable_stream.separable_stream(torch.zeros(1, 1, 9), torch.zeros(5), WIDTHS)


@needs_core
def test_the_work_is_that_of_the_convolutions() -> None:
    """Against PyTorch's own count of the reference."""
    from torch.utils.flop_counter import FlopCounterMode

    for samples, kernel in itertools.product((1, 333, 3000), (1, 3)):
        arguments = example(samples, WIDTHS, kernel)
        with FlopCounterMode(display=False) as counter:
            separable_stream.reference(*arguments)
        assert (
            native.separable_stream.separable_layout(tuple(WIDTHS), kernel, samples).work
            == counter.get_total_flops()
        )
