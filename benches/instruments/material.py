"""What the networks are timed on: simulated epochs, and a model with settled statistics."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sleeptools import native
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.models.folder import build_model
from sleeptools.preprocessing import presets
from sleeptools.recording import montage
from sleeptools.recording.signals import resampling

SEED = 7
SETTLING = 8  # batches that BatchNorm takes its statistics from
PRESET = "sleep-edf"


@functools.cache
def night() -> NDArray[np.float32]:
    """Make simulated epochs (about 360, 4, 3000), uV, as the preset does."""
    preset = presets.load(PRESET)
    recording = simulate_night(1, 1, hours=3.0, seed=SEED).recording
    chosen = montage.pick(recording, preset.montage)
    rate = preset.sample_rate
    size = round(preset.epoch_seconds * rate)
    channels = [resampling.resample(s.samples(), s.sample_rate, rate) for s in chosen]
    return np.stack([c[: len(c) // size * size].reshape(-1, size) for c in channels], 1)


def epochs(count: int) -> NDArray[np.float32]:
    """(count, 4, 3000), spread over the night so that all stages are among them."""
    x = night()
    return np.ascontiguousarray(x[np.linspace(0, len(x) - 1, count).astype(int)])


def model(name: str, **settings: object) -> nn.Module:
    """Make a network with random weights and the statistics that training would settle on."""
    torch.manual_seed(SEED)
    network = build_model(name, settings).train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, from the first
    with torch.no_grad(), native.using_variant("reference"):
        for piece in np.array_split(epochs(32 * SETTLING), SETTLING):
            network(torch.from_numpy(piece))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def facts() -> dict[str, object]:
    """List what a model folder says besides its weights."""
    preset = presets.load(PRESET)
    return {
        "montage": [channel.name for channel in preset.montage],
        "sample_rate": preset.sample_rate,
        "epoch_seconds": preset.epoch_seconds,
        "stages": preset.stages,
        "preprocessing": {"preset": preset.model_dump(mode="json")},
    }


def flops(network: nn.Module, *, backward: bool = False) -> float:
    """Float operations per epoch of the layers' products, counted from their shapes."""
    training = network.training
    network.train()  # in evaluation PyTorch fuses the encoder layer, which hides its products
    with native.using_variant("reference"), FlopCounterMode(display=False) as counter:
        logits: Tensor = network(torch.zeros(2, *night().shape[1:]))
        if backward:
            logits.sum().backward()
    network.zero_grad()
    network.train(training)
    return counter.get_total_flops() / 2
