"""Feed-forward block of a Transformer layer in the native core, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from sleeptools.native import Floats, Precision, Shaped, address, check_shape, module
from sleeptools.native.bfloat16 import Weights, round_to_bf16
from sleeptools.native.dropout import check_dropout
from sleeptools.native.prepared import Call, Op, on_cpu
from sleeptools.native.threads import threads_for


def check_feed_forward(
    x: Shaped,
    w1: Shaped,
    b1: Shaped,
    w2: Shaped,
    b2: Shaped,
    precision: str,
    dropout: float = 0.0,
    seed: int = 0,
) -> None:
    """Check the arguments of `feed_forward`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    op = "feed_forward"
    for name, array, axes in (("x", x, "tokens, width"), ("w1", w1, "hidden, width")):
        if len(array.shape) != 2:  # noqa: PLR2004
            raise ValueError(f"{op}: {name} has shape {tuple(array.shape)}; expected ({axes})")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"{op}: precision is {precision!r}; expected 'fp32' or 'bf16'")
    check_dropout(op, dropout, seed)
    width, hidden = x.shape[1], w1.shape[0]
    check_shape(op, "w1", w1, (hidden, width))
    check_shape(op, "b1", b1, (hidden,))
    check_shape(op, "w2", w2, (width, hidden))
    check_shape(op, "b2", b2, (width,))


def feed_forward_workspace(width: int) -> int:
    """Floats of workspace that `feed_forward` needs for each thread on the CPU."""
    return int(module("feed_forward").feed_forward_workspace(width))


def feed_forward_backward_workspace(rows: int, width: int, hidden: int, slots: int) -> int:
    """Floats of workspace that `feed_forward_backward` needs on so many threads of the CPU."""
    core = module("feed_forward")
    return int(core.feed_forward_backward_workspace(rows, width, hidden, slots))


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
) -> Call:
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
    check_feed_forward(x, w1, b1, w2, b2, precision)
    sizes = (x.shape[0], x.shape[1], w1.shape[0])
    if norm:
        norm = _norm("feed_forward", norm, sizes[1])
    slots = threads_for(sizes[0], 4 * sizes[1] * sizes[2])
    if precision == "bf16":
        w1, w2 = round_to_bf16(w1), round_to_bf16(w2)
    else:
        w1, w2 = np.ascontiguousarray(w1, np.float32), np.ascontiguousarray(w2, np.float32)
    x, b1, b2 = (np.ascontiguousarray(array, np.float32) for array in (x, b1, b2))
    workspace = np.empty(slots * feed_forward_workspace(sizes[1]), np.float32)
    out = np.empty(x.shape, np.float32)
    gamma, beta = (address(array) for array in norm) if norm else (0, 0)
    settings = (slots, precision == "bf16", 0, 0, gamma, beta, eps)
    arrays = (x, w1, b1, w2, b2, workspace)
    return on_cpu("feed_forward", arrays, out, *sizes, *settings, keep=norm or ())


def _norm(op: str, norm: tuple[Floats, Floats], width: int) -> tuple[Floats, Floats]:
    gamma, beta = norm
    check_shape(op, "gamma", gamma, (width,))
    check_shape(op, "beta", beta, (width,))
    return np.ascontiguousarray(gamma, np.float32), np.ascontiguousarray(beta, np.float32)
