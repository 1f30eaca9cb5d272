"""Blocks of a network in the native core, on NumPy arrays, and the shape checks torch shares.

Each op does what the one of its name in `sleeptools.models.ops` does; convolution streams have a module of
their own, `sleeptools.native.two_stream_conv`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import (
    Floats,
    Precision,
    Shaped,
    address,
    aligned,
    check_shape,
    module,
    threads,
)
from sleeptools.native.prepared import Call, Op, on_cpu

Weights = NDArray[np.float32] | NDArray[np.uint16]  # the second: bfloat16
Kind = Literal["authors", "paper"]

MAX_MODALITIES = 16  # of modal_se; csrc/ops.h


def check_modal_se(  # noqa: PLR0913, PLR0917 - the op has nine arrays
    x: Shaped,
    w1: Shaped,
    b1: Shaped,
    w2: Shaped,
    b2: Shaped,
    squeeze: Shaped,
    squeeze_bias: Shaped,
    excite: Shaped,
    excite_bias: Shaped,
    kind: str,
) -> None:
    """Check the arguments of `modal_se`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    if len(x.shape) != 4:  # noqa: PLR2004
        shape = tuple(x.shape)
        raise ValueError(f"modal_se: x has shape {shape}; expected (batch, modalities, maps, time)")
    if kind not in ("authors", "paper"):
        raise ValueError(f"modal_se: kind is {kind!r}; expected 'authors' or 'paper'")
    vector = (x.shape[1],)
    matrix = vector * 2
    check_shape("modal_se", "w1", w1, matrix)
    check_shape("modal_se", "b1", b1, vector)
    check_shape("modal_se", "w2", w2, matrix)
    check_shape("modal_se", "b2", b2, vector)
    check_shape("modal_se", "squeeze", squeeze, matrix)
    check_shape("modal_se", "squeeze_bias", squeeze_bias, vector)
    check_shape("modal_se", "excite", excite, matrix)
    check_shape("modal_se", "excite_bias", excite_bias, vector)


@Op
def modal_se(  # noqa: PLR0913, PLR0917 - the op has nine arrays
    x: Floats,
    w1: Floats,
    b1: Floats,
    w2: Floats,
    b2: Floats,
    squeeze: Floats,
    squeeze_bias: Floats,
    excite: Floats,
    excite_bias: Floats,
    kind: Kind = "authors",
) -> Call:
    """Run the modal-wise squeeze-and-excitation block; see `sleeptools.models.ops.modal_se`.

    Parameters
    ----------
    x
        Features (batch, modalities, maps, time), 1 to `MAX_MODALITIES` modalities.
    w1, b1, w2, b2
        The two 1x1 convolutions with BatchNorm folded in, (M, M) and (M,).
    squeeze, squeeze_bias, excite, excite_bias
        The gate, (M, M) and (M,).
    kind
        "authors" for relu(F + F' * E), "paper" for Eq. 5, F + F * E.

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
    weights = (w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias)
    check_modal_se(x, *weights, kind)
    if not 1 <= x.shape[1] <= MAX_MODALITIES:
        raise ValueError(f"modal_se: {x.shape[1]} modalities; expected 1 to {MAX_MODALITIES}")
    arrays = [np.ascontiguousarray(array, np.float32) for array in (x, *weights)]
    out = np.empty(x.shape, np.float32)
    sizes = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3])
    return on_cpu("modal_se", tuple(arrays), out, *sizes, kind == "authors")


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


def check_dropout(op: str, dropout: float, seed: int) -> None:
    """Check the settings of an op's dropout.

    Raises
    ------
    ValueError
        Naming the one out of range.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"{op}: dropout is {dropout}; expected 0 to below 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"{op}: seed is {seed}; expected 0 to 2^63 - 1")


def drop_below(dropout: float) -> int:
    """Threshold for a random 32-bit word below which a unit is dropped."""
    return min(round(dropout * 2**32), 2**32 - 1)


def feed_forward_workspace(width: int) -> int:
    """Floats of workspace that `feed_forward` needs for each thread on the CPU."""
    return int(module("feed_forward").feed_forward_workspace(width))


def feed_forward_backward_workspace(rows: int, width: int, hidden: int, slots: int) -> int:
    """Floats of workspace that `feed_forward_backward` needs on so many threads of the CPU."""
    core = module("feed_forward")
    return int(core.feed_forward_backward_workspace(rows, width, hidden, slots))


def conv_block_workspace(op: str, layer: int, batch: int, samples: int, slots: int) -> int:
    """Floats of workspace that `conv_block` or `conv_block_backward` needs; layer is an address."""
    return int(getattr(module(op), f"{op}_workspace")(layer, batch, samples, slots))


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
    slots = threads(sizes[0], 4 * sizes[1] * sizes[2])
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
    slots = threads(batch, int(core.attention_work(tokens, width)))
    return slots, int(core.attention_workspace(tokens, width))


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
) -> Call:
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
    arrays = (x, w_in, b_in, w_out, b_out, gamma, beta)
    contiguous = [_contiguous(array) for array in arrays]
    workspace, out = np.empty(slots * size, np.float32), np.empty(x.shape, np.float32)
    settings = (*x.shape, heads, slots, eps, precision == "bf16")
    return on_cpu("attention", (*contiguous, workspace), out, *settings)


def check_classifier(
    x: Shaped, gate: Shaped | None, w1: Shaped, b1: Shaped, w2: Shaped, b2: Shaped
) -> None:
    """Check the arguments of `classifier`, NumPy arrays or torch tensors alike.

    Raises
    ------
    ValueError
        Naming the argument, what it must be and what it is.
    """
    op = "classifier"
    axes = (("x", x, "batch, inputs"), ("w1", w1, "hidden, inputs"), ("w2", w2, "stages, hidden"))
    for name, array, expected in axes:
        if len(array.shape) != 2:  # noqa: PLR2004
            raise ValueError(f"{op}: {name} has shape {tuple(array.shape)}; expected ({expected})")
    hidden, stages = w1.shape[0], w2.shape[0]
    if gate is not None:
        check_shape(op, "gate", gate, tuple(x.shape))
    check_shape(op, "w1", w1, (hidden, x.shape[1]))
    check_shape(op, "b1", b1, (hidden,))
    check_shape(op, "w2", w2, (stages, hidden))
    check_shape(op, "b2", b2, (stages,))


@Op
def classifier(
    x: Floats,
    gate: Floats | None,
    w1: Floats,
    b1: Floats,
    w2: Floats,
    b2: Floats,
    *,
    rectify: bool = True,
) -> Call:
    """Run two dense layers over gated features; see `sleeptools.models.ops.classifier`.

    Parameters
    ----------
    x, gate
        (batch, inputs); no gate is a gate of ones.
    w1, b1, w2, b2
        (hidden, inputs), (hidden,), (stages, hidden) and (stages,).
    rectify
        Whether a ReLU follows the first layer.

    Returns
    -------
    ndarray
        (batch, stages).

    Raises
    ------
    ValueError
        For wrong shapes.
    UnavailableError
        If the native core is off.
    """
    check_classifier(x, gate, w1, b1, w2, b2)
    given = [np.ascontiguousarray(array, np.float32) for array in (x, w1, b1, w2, b2)]
    gated = None if gate is None else np.ascontiguousarray(gate, np.float32)
    sizes = (*x.shape, *w2.shape[::-1])
    hidden = np.empty((sizes[0], sizes[2]), np.float32)
    out = np.empty((sizes[0], sizes[3]), np.float32)
    return on_cpu("classifier", (given[0], gated, *given[1:], hidden), out, *sizes, rectify)


def _norm(op: str, norm: tuple[Floats, Floats], width: int) -> tuple[Floats, Floats]:
    gamma, beta = norm
    check_shape(op, "gamma", gamma, (width,))
    check_shape(op, "beta", beta, (width,))
    return np.ascontiguousarray(gamma, np.float32), np.ascontiguousarray(beta, np.float32)


def _contiguous(array: Weights) -> Weights:
    """C-contiguous; float32 unless it is bfloat16 already."""
    if array.dtype == np.uint16:
        return np.ascontiguousarray(array, np.uint16)
    return np.ascontiguousarray(array, np.float32)


def round_to_bf16(w: Weights) -> NDArray[np.uint16]:
    """Round a matrix to the nearest bfloat16, ties to even.

    Parameters
    ----------
    w
        (rows, columns); the result of this function is returned as it is.

    Returns
    -------
    ndarray
        The upper half of each number, with a column of zeros added where their count is odd, from
        a cache line on.
    """
    if w.dtype == np.uint16:
        return np.ascontiguousarray(w)
    even = np.ascontiguousarray(np.pad(w, ((0, 0), (0, w.shape[1] % 2))), np.float32)
    bits = even.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)  # a NaN may have nothing else in its upper half
    halves = np.where(np.isnan(even), quiet, rounded) >> np.uint32(16)
    return aligned(halves.astype(np.uint16))
