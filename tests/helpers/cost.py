"""Parameters and multiply-accumulates of a model, counted on tensors without content."""

import torch
from torch.utils.flop_counter import FlopCounterMode

import golden_models
from sleeptools.models.folder import build_model


def parameters(name, config=None):
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(name, config).parameters())


def macs(name, config=None):
    """Multiply-accumulates of an epoch in convolutions, linear layers and attention's products."""
    with torch.device("meta"):
        model = build_model(name, config).train()
        x = torch.empty(2, *golden_models.shape(model.config))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(x)
    whole, rest = divmod(counter.get_total_flops(), 2 * len(x))
    assert not rest
    return whole / model.config.input_span.sequence
