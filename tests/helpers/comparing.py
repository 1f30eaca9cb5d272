"""Making and comparing models in tests."""

import torch
from torch import nn
from torch.nn import functional

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


def losses_of(model, x, stages, rate, steps, *, half=False):
    """Train with Adam on the same epochs, under autocast if `half`; give the losses."""
    optimiser = torch.optim.Adam(model.parameters(), rate)
    losses = []
    torch.manual_seed(4)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(x).float()
        loss = functional.cross_entropy(logits, stages)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
