"""Making and comparing models in tests."""

import torch
from torch import nn

from sleeptools.models.folder import build_model


def make(name, config=None, seed=0):
    torch.manual_seed(seed)
    return build_model(name, config)


def without_dropout(model):
    """Switch to training mode without its chance."""
    for module in model.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def close(a, b, tolerance=1e-5):
    """Compare, the tolerance relative to the largest value."""
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())
