"""Parameters and multiply-accumulates of a model, counted on tensors without content."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from sleeptools import models


def parameters(name, config=None):
    with torch.device("meta"):
        return sum(p.numel() for p in models.build(name, config).parameters())


def macs(name, config=None, *, evaluation=False):
    """Of convolutions, linear layers and attention, an epoch; layer by layer, as defined.

    Attention are its two matrix products. `evaluation` counts what scoring computes instead.
    """
    with torch.device("meta"):
        model = models.build(name, config).train(not evaluation)
        c = model.config
        length = getattr(c, "sequence", 1)
        seen = 1 + 2 * getattr(c, "context", 0)
        shape = (c.channels, round(c.sample_rate * c.epoch_seconds))
        several = [n for n in (length, seen) if n > 1]
        x = torch.empty(2, *several, *shape)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(x)
    whole, rest = divmod(counter.get_total_flops(), 2 * len(x))
    assert not rest
    return whole / length
