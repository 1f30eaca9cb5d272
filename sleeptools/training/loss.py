"""The training loss: cross-entropy over the stages, weighted by class where the recipe says so."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from sleeptools.models.recipe.recipe import Loss
from sleeptools.recording.stages import UNSCORED


def stage_loss(logits: Tensor, stages: Tensor, weights: Tensor | None, kind: Loss) -> Tensor:
    """Loss of one batch.

    Parameters
    ----------
    logits
        (B, S) float32.
    stages
        (B,) int64, index of the scored stage; -1 does not count.
    weights
        (S,) float32 or None.
    kind
        As in `Recipe`.

    Returns
    -------
    loss
        Scalar.
    """
    if kind == "softmax_ce":
        logits = logits.softmax(1)
    if kind == "weighted_ce_n":
        total = functional.cross_entropy(
            logits, stages, weights, ignore_index=UNSCORED, reduction="sum"
        )
        return total / (stages != UNSCORED).sum()
    return functional.cross_entropy(logits, stages, weights, ignore_index=UNSCORED)
