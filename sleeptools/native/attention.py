"""Self-attention block of a Transformer layer in the native core, on NumPy arrays."""

from __future__ import annotations

import functools

import numpy as np

from sleeptools.native import PRECISIONS, Floats, Precision, as_floats, module
from sleeptools.native.bfloat16 import Weights, as_weights, round_to_bf16
from sleeptools.native.check import Shapes, check_choice
from sleeptools.native.prepared import Op, PreparedOp, on_cpu
from sleeptools.native.threads import threads_for

SHAPES = Shapes(
    "attention",
    x="batch tokens width",
    w_in="3*width width",
    b_in="3*width",
    w_out="width width",
    b_out="width",
    gamma="width",
    beta="width",
)


def check_settings(width: int, heads: int, precision: str) -> None:
    """Check the settings of `attention`.

    Raises
    ------
    ValueError
        Naming the setting, what it must be and what it is.
    """
    if heads < 1 or width % heads or width == 0:
        raise ValueError(f"attention: {heads} heads; expected a divisor of the width {width}")
    check_choice("attention", "precision", precision, PRECISIONS)


def attention_slots(batch: int, tokens: int, width: int) -> tuple[int, int]:
    """Threads that `attention` will use on the CPU, and the floats of workspace for each."""
    work, floats = _costs(tokens, width)
    return threads_for(batch, work), floats


def attention_backward_slots(batch: int, tokens: int, width: int, heads: int) -> tuple[int, int]:
    """Threads that the gradients will use on the CPU, and the floats of workspace for all."""
    core, (work, _) = module("attention"), _costs(tokens, width)
    groups = int(core.attention_backward_groups(batch=batch))
    slots = threads_for(groups, 3 * work * -(-batch // groups))
    floats = core.attention_backward_workspace(
        batch=batch, tokens=tokens, width=width, heads=heads, slots=slots
    )
    return slots, int(floats)


@functools.lru_cache(maxsize=64)
def _costs(tokens: int, width: int) -> tuple[int, int]:
    """Float operations of an epoch, and floats of workspace for each thread."""
    core = module("attention")
    work = core.attention_work(tokens=tokens, width=width)
    return int(work), int(core.attention_workspace(tokens=tokens, width=width))


@Op
def attention(  # noqa: PLR0913, PLR0917
    x: Floats,
    w_in: Weights,
    b_in: Floats,
    w_out: Weights,
    b_out: Floats,
    gamma: Floats,
    beta: Floats,
    heads: int,
    eps: float = 1e-5,
    precision: Precision = "fp32",
) -> PreparedOp:
    """Run the attention block of a Transformer layer; see `sleeptools.models.ops.attention`.

    Parameters
    ----------
    x
        (batch, tokens, width).
    w_in, b_in
        Projection to queries, keys and values, (3 width, width) and (3 width,).
    w_out, b_out
        Projection of the output, (width, width) and (width,).
    gamma, beta, eps
        Weights of the LayerNorm, (width,) each, and what it adds to the variance.
    heads
        A divisor of the width.
    precision
        "fp32", or "bf16" for the two projections; the matrices, of even width, may then come from
        `round_to_bf16`.

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
    SHAPES.check(x, w_in, b_in, w_out, b_out, gamma, beta)
    check_settings(x.shape[2], heads, precision)
    slots, size = attention_slots(*x.shape)
    if precision == "bf16":
        w_in, w_out = round_to_bf16(w_in), round_to_bf16(w_out)
    batch, tokens, width = x.shape
    return on_cpu(
        "attention",
        {
            "x": as_floats(x),
            "w_in": as_weights(w_in),
            "b_in": as_floats(b_in),
            "w_out": as_weights(w_out),
            "b_out": as_floats(b_out),
            "gamma": as_floats(gamma),
            "beta": as_floats(beta),
            "workspace": np.empty(slots * size, np.float32),
        },
        np.empty(x.shape, np.float32),
        batch=batch,
        tokens=tokens,
        width=width,
        heads=heads,
        slots=slots,
        eps=eps,
        bf16=precision == "bf16",
        drop_below=0,  # of training alone
        seed=0,
    )
