"""Two dense layers over gated features in the native core, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from sleeptools.native import Floats, as_floats
from sleeptools.native.check import Shapes
from sleeptools.native.prepared import Op, PreparedOp, on_cpu

SHAPES = Shapes(
    "classifier",
    x="batch inputs",
    gate="batch inputs or None",
    w1="hidden inputs",
    b1="hidden",
    w2="stages hidden",
    b2="stages",
)


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
) -> PreparedOp:
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
    sizes = SHAPES.check(x, gate, w1, b1, w2, b2)
    batch, stages = sizes["batch"], sizes["stages"]
    arrays = {"x": x, "gate": gate, "w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return on_cpu(
        "classifier",
        {
            **{name: None if a is None else as_floats(a) for name, a in arrays.items()},
            "hidden_layer": np.empty((batch, sizes["hidden"]), np.float32),
        },
        np.empty((batch, stages), np.float32),
        **sizes,
        rectify=rectify,
    )
