"""Modal-wise squeeze-and-excitation in the native core, on NumPy arrays."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from sleeptools.native import Floats, as_floats
from sleeptools.native.check import Shapes, check_choice
from sleeptools.native.prepared import Op, PreparedOp, on_cpu

Kind = Literal["authors", "paper"]


KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_MODALITIES = 16  # csrc/ops.h
SHAPES = Shapes(
    "modal_se",
    x="batch modalities maps time",
    w1="modalities modalities",
    b1="modalities",
    w2="modalities modalities",
    b2="modalities",
    squeeze="modalities modalities",
    squeeze_bias="modalities",
    excite="modalities modalities",
    excite_bias="modalities",
)


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
    SHAPES.check(x, *weights)
    check_choice("modal_se", "kind", kind, KINDS)
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
