"""BatchNorm folded into the layer before it, for NumPy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any


def fold_batch_norm(
    weight: Any,
    bias: Any | None,
    mean: Any,
    variance: Any,
    gamma: Any,
    beta: Any,
    *,
    eps: float = 1e-5,
) -> tuple[Any, Any]:
    """Fold a BatchNorm with running statistics into the layer before it.

    Differentiable in torch. With the statistics of the batch (training) it is not the same thing:
    they depend on the layer's output.

    Parameters
    ----------
    weight, bias
        Weight (O, ...) and bias (O,) of the layer.
    mean, variance, gamma, beta
        Statistics and weights of the BatchNorm, (O,) each.
    eps
        Added to the variance by the BatchNorm.

    Returns
    -------
    weight, bias
        Weight and bias of a layer that does both.
    """
    factor = gamma * (variance + eps) ** -0.5  # (O,)
    shift = mean if bias is None else mean - bias
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), beta - shift * factor
