"""Two dense layers over gated features in the native core, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from sleeptools.native import Floats, Shaped, as_floats, check_shape
from sleeptools.native.prepared import Op, PreparedOp, on_cpu


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
    check_classifier(x, gate, w1, b1, w2, b2)
    batch, inputs = x.shape
    stages, hidden = w2.shape
    arrays = {"x": x, "gate": gate, "w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return on_cpu(
        "classifier",
        {
            **{name: None if a is None else as_floats(a) for name, a in arrays.items()},
            "hidden_layer": np.empty((batch, hidden), np.float32),
        },
        np.empty((batch, stages), np.float32),
        batch=batch,
        inputs=inputs,
        hidden=hidden,
        stages=stages,
        rectify=rectify,
    )
