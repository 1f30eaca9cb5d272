"""Features that a model computes before its stages, for the figures of a report.

A model gives them by a method `explain(x) -> Explained`; for a model without it, they are the input
of its last linear layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Explained(NamedTuple):
    """Features of a batch of epochs, and the weights of their modalities.

    Parameters
    ----------
    after
        (B, features), or (B, epochs, features) of sequences: input of the classifier.
    after_is
        Description of `after`, in a few words.
    before
        Features before the attention that fuses them, shaped like `after`; None if there are none.
    before_is
        Description of `before`.
    weights
        (B, modalities) or (B, epochs, modalities), 0 to 1: the excitation of each modality.
    modalities
        Names of the modalities.
    """

    after: Tensor
    after_is: str
    before: Tensor | None = None
    before_is: str = ""
    weights: Tensor | None = None
    modalities: tuple[str, ...] = ()


@torch.no_grad()
def explain(model: nn.Module, x: Tensor) -> Explained:
    """Compute a model's features of a batch in evaluation mode; `x` as in its `forward`."""
    model.eval()
    own_features = getattr(model, "explain", None)
    if own_features is None:
        return Explained(_last_layer_input(model, x), "input of the last layer")
    explained: Explained = own_features(x)
    return explained


def _last_layer_input(model: nn.Module, x: Tensor) -> Tensor:
    """(B, features) or (B, epochs, features): input of the last linear layer."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return inputs[-1]
