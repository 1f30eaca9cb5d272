"""What `native.check` says of shapes, and that roundings and folds with one name are one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sleeptools.models import ops
from sleeptools.native import bfloat16
from sleeptools.native.batch_norm import fold_batch_norm
from sleeptools.native.check import Shapes, check_choice

SHAPES = Shapes("attend", x="batch width", gate="batch width or None", w="3*width width")


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_shapes(make: type) -> None:
    x, w = make((2, 4)), make((12, 4))
    assert SHAPES.check(x, None, w) == {"batch": 2, "width": 4}
    assert SHAPES.check(x, x, w) == {"batch": 2, "width": 4}
    for arrays, message in (
        ((make((2,)), None, w), "attend: x has shape (2,); expected (batch, width)"),
        ((x, make((3, 4)), w), "attend: gate has shape (3, 4); expected (2, 4)"),
        ((x, x, make((4,))), "attend: w has shape (4,); expected (12, 4)"),
        ((x, x, make((4, 12))), "attend: w has shape (4, 12); expected (12, 4)"),
    ):
        with pytest.raises(ValueError, match="attend") as caught:
            SHAPES.check(*arrays)
        assert str(caught.value) == message


def test_one_axis_is_shown_as_a_tuple() -> None:
    with pytest.raises(ValueError, match=r"b has shape \(1, 2\); expected \(width,\)"):
        Shapes("add", b="width").check(np.zeros((1, 2)))


def test_choices() -> None:
    check_choice("attend", "kind", "b", ("a", "b"))
    with pytest.raises(ValueError, match=r"^attend: kind is 'x'; expected 'a', 'b' or 'c'$"):
        check_choice("attend", "kind", "x", ("a", "b", "c"))


def test_numpy_rounds_to_bfloat16_as_torch_does() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 100_000, np.uint32)
    special = [0.0, -0.0, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, 1e-45]
    values = np.concatenate([bits.view(np.float32), np.array(special, np.float32)])
    values = values[~np.isnan(values)]
    rounded = ops.rounded(torch.from_numpy(values)).numpy()
    ours = bfloat16.bf16_bits(values).astype(np.uint32) << 16
    np.testing.assert_array_equal(ours, rounded.view(np.uint32))
    nan = np.array([0x7FFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan((bfloat16.bf16_bits(nan).astype(np.uint32) << 16).view(np.float32)).all()


def test_batch_norm_folds_alike_in_numpy_and_torch() -> None:
    random = np.random.default_rng(2)
    weight, vectors = random.standard_normal((5, 3, 2)), random.standard_normal((4, 5))
    variance = random.uniform(0.1, 2, 5)
    first, *statistics = vectors
    for bias in (first, None):
        arrays = (weight, bias, statistics[0], variance, *statistics[1:])
        tensors = [None if array is None else torch.from_numpy(array) for array in arrays]
        for array, tensor in zip(fold_batch_norm(*arrays), fold_batch_norm(*tensors), strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-12)
