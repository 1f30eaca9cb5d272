"""Feed-forward block of a Transformer layer in the native core, on NumPy arrays."""

from __future__ import annotations

import functools

import numpy as np

from sleeptools.native import PRECISIONS, Floats, Precision, as_floats, module
from sleeptools.native.bfloat16 import Weights, round_to_bf16
from sleeptools.native.check import Shapes, check_choice
from sleeptools.native.prepared import Op, PreparedOp, on_cpu
from sleeptools.native.threads import threads_for

SHAPES = Shapes(
    "feed_forward",
    x="tokens width",
    w1="hidden width",
    b1="hidden",
    w2="width hidden",
    b2="width",
    gamma="width or None",
    beta="width or None",
)


@functools.lru_cache(maxsize=64)
def feed_forward_workspace(width: int) -> int:
    """Floats of workspace that `feed_forward` needs for each thread on the CPU."""
    return int(module("feed_forward").feed_forward_workspace(width=width))


def feed_forward_backward_workspace(rows: int, width: int, hidden: int, slots: int) -> int:
    """Floats of workspace that `feed_forward_backward` needs on so many threads of the CPU."""
    floats = module("feed_forward").feed_forward_backward_workspace
    return int(floats(rows=rows, width=width, hidden=hidden, slots=slots))


def feed_forward_backward_cuda_workspace(rows: int, width: int, hidden: int) -> int:
    """Floats of workspace that `feed_forward_backward` needs on CUDA."""
    floats = module("feed_forward").feed_forward_backward_cuda_workspace
    return int(floats(rows=rows, width=width, hidden=hidden))


@Op
def feed_forward(
    x: Floats,
    w1: Weights,
    b1: Floats,
    w2: Weights,
    b2: Floats,
    precision: Precision = "fp32",
    *,
    norm: tuple[Floats, Floats] | None = None,
    eps: float = 1e-5,
) -> PreparedOp:
    """Run the feed-forward block of a Transformer layer; see `sleeptools.models.ops.feed_forward`.

    Parameters
    ----------
    x
        (tokens, width).
    w1, b1, w2, b2
        The two layers, (hidden, width), (hidden,), (width, hidden) and (width,).
    precision
        "fp32", or "bf16" for products of operands rounded to bfloat16; `w1` and `w2` of even
        sizes may then come from `round_to_bf16`, which takes longer than the op on one epoch.
    norm, eps
        Gamma and beta of a LayerNorm, (width,) each: adds `x` to the block's output and normalises
        the sum, as the layer does.

    Returns
    -------
    ndarray
        As `x`.

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    gamma, beta = norm or (None, None)
    SHAPES.check(x, w1, b1, w2, b2, gamma, beta)
    check_choice("feed_forward", "precision", precision, PRECISIONS)
    rows, width, hidden = x.shape[0], x.shape[1], w1.shape[0]
    slots = threads_for(rows, 4 * width * hidden)
    if precision == "bf16":
        w1, w2 = round_to_bf16(w1), round_to_bf16(w2)
    else:
        w1, w2 = as_floats(w1), as_floats(w2)
    return on_cpu(
        "feed_forward",
        {
            "x": as_floats(x),
            "w1": w1,
            "b1": as_floats(b1),
            "w2": w2,
            "b2": as_floats(b2),
            "workspace": np.empty(slots * feed_forward_workspace(width), np.float32),
            "gamma": None if gamma is None else as_floats(gamma),
            "beta": None if beta is None else as_floats(beta),
        },
        np.empty(x.shape, np.float32),
        rows=rows,
        width=width,
        hidden=hidden,
        slots=slots,
        bf16=precision == "bf16",
        drop_below=0,
        seed=0,
        eps=eps,
    )
