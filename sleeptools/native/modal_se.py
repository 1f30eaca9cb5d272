"""Modal-wise squeeze-and-excitation in the native core, on NumPy arrays."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sleeptools.native import Floats, Shaped, as_floats, check_shape
from sleeptools.native.prepared import Op, PreparedOp, on_cpu

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
) -> PreparedOp:
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
    batch, modalities, maps, time = x.shape
    return on_cpu(
        "modal_se",
        {
            "x": as_floats(x),
            "w1": as_floats(w1),
            "b1": as_floats(b1),
            "w2": as_floats(w2),
            "b2": as_floats(b2),
            "squeeze": as_floats(squeeze),
            "squeeze_bias": as_floats(squeeze_bias),
            "excite": as_floats(excite),
            "excite_bias": as_floats(excite_bias),
        },
        np.empty(x.shape, np.float32),
        batch=batch,
        modalities=modalities,
        samples=maps * time,
        authors=kind == "authors",
    )
