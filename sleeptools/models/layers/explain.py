"""What a model computes on the way to its stages, for pictures of it.

A model says it by one method, `explain(x) -> Explained`; of one that has none, it is the input of
its last layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Explained(NamedTuple):
    """Features of a batch of epochs, and how much its modalities weigh.

    Parameters
    ----------
    after
        (B, features), or of sequences (B, epochs, features): what the classifier gets.
    after_is
        What that is, in a few words.
    before
        The same before the attention that fuses it; None if there is none.
    before_is
        What that is.
    weights
        (B, modalities) or (B, epochs, modalities), 0 to 1: the excitation of each modality.
    modalities
        Their names.
    """

    after: Tensor
    after_is: str
    before: Tensor | None = None
    before_is: str = ""
    weights: Tensor | None = None
    modalities: tuple[str, ...] = ()


@torch.no_grad()
def explain(model: nn.Module, x: Tensor) -> Explained:
    """Give what a model computes for a batch, as `forward` takes it, in evaluation mode."""
    model.eval()
    own = getattr(model, "explain", None)
    if own is None:
        return Explained(_last(model, x), "input of the last layer")
    found: Explained = own(x)
    return found


def _last(model: nn.Module, x: Tensor) -> Tensor:
    """(B, features) or (B, epochs, features): what the last linear layer is given."""
    layer = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return seen[-1]
