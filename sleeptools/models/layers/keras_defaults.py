"""Defaults of Keras, in which some published programs are written: BatchNorm, Adam, Glorot."""

from __future__ import annotations

from torch import nn

EPS, MOMENTUM = 1e-3, 0.01  # of BatchNorm
ADAM_EPS = 1e-7


def init_glorot(module: nn.Module) -> None:
    """Draw a layer's initial weights uniformly after Glorot and Bengio 2010, biases zero."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
