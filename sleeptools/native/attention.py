"""Self-attention block of a Transformer layer in the native core, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from sleeptools.native import Floats, Precision, Shaped, as_floats, check_shape, module
from sleeptools.native.bfloat16 import Weights, as_weights, round_to_bf16
from sleeptools.native.prepared import Op, PreparedOp, on_cpu
from sleeptools.native.threads import threads_for


def check_attention(  # noqa: PLR0913, PLR0917 - the block has six weights
    x: Shaped,
    w_in: Shaped,
    b_in: Shaped,
    w_out: Shaped,
    b_out: Shaped,
    gamma: Shaped,
    beta: Shaped,
    heads: int,
    precision: str,
) -> None:
    """Check the arguments of `attention`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    op = "attention"
    if len(x.shape) != 3:  # noqa: PLR2004
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}; expected (batch, tokens, width)")
    width = x.shape[2]
    check_shape(op, "w_in", w_in, (3 * width, width))
    check_shape(op, "b_in", b_in, (3 * width,))
    check_shape(op, "w_out", w_out, (width, width))
    for name, array in (("b_out", b_out), ("gamma", gamma), ("beta", beta)):
        check_shape(op, name, array, (width,))
    if heads < 1 or width % heads or width == 0:
        raise ValueError(f"{op}: {heads} heads; expected a divisor of the width {width}")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"{op}: precision is {precision!r}; expected 'fp32' or 'bf16'")


def attention_slots(batch: int, tokens: int, width: int) -> tuple[int, int]:
    """Threads that `attention` will use on the CPU, and the floats of workspace for each."""
    core = module("attention")
    slots = threads_for(batch, int(core.attention_work(tokens=tokens, width=width)))
    return slots, int(core.attention_workspace(tokens=tokens, width=width))


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
        Of queries, keys and values, (3 width, width) and (3 width,).
    w_out, b_out
        Of the output, (width, width) and (width,).
    gamma, beta, eps
        Of the LayerNorm, (width,) each.
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
    check_attention(x, w_in, b_in, w_out, b_out, gamma, beta, heads, precision)
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
    )
