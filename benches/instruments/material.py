"""Material of the timings: simulated epochs, and models with settled BatchNorm statistics."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sleeptools import native
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.models.folder import build_model
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.sequences import InputSpan
from sleeptools.recording import montage
from sleeptools.recording.signals import resampling

SEED = 7
SETTLING = 8  # batches that BatchNorm takes its statistics from
PRESET = "sleep-edf"


@functools.cache
def night(subject: int = 1, hours: float = 3.0) -> NDArray[np.float32]:
    """Make simulated epochs (about 120 an hour, 4, 3000), uV, as the preset does."""
    preset = presets.load(PRESET)
    recording = simulate_night(subject, 1, hours=hours, seed=SEED).recording
    chosen = montage.pick(recording, preset.montage)
    rate = preset.sample_rate
    size = round(preset.epoch_seconds * rate)
    channels = [resampling.resample(s.samples(), s.sample_rate, rate) for s in chosen]
    return np.stack([c[: len(c) // size * size].reshape(-1, size) for c in channels], 1)


def epochs(count: int, network: nn.Module) -> NDArray[np.float32]:
    """(count, channels, samples), spread over the night so that all stages are among them.

    Networks that take several epochs at once get so many windows, (count, epochs, channels,
    samples). Networks of mice get the night cut to their epochs, each channel by its deviation:
    only the size matters to a timing.
    """
    x = cut(night(), network)
    epochs = together(network)
    starts = np.linspace(0, len(x) - epochs, count).astype(int)
    if epochs > 1:
        return x[starts[:, None] + np.arange(epochs)]
    return np.ascontiguousarray(x[starts])


def cut(x: NDArray[np.float32], network: nn.Module) -> NDArray[np.float32]:
    """Cut a night (n, 4, 3000) to the epochs of a network, (n, channels, samples)."""
    size = epoch_size(network)
    if size != x.shape[1:]:
        whole = x.transpose(1, 0, 2).reshape(x.shape[1], -1)[: size[0]]
        whole = whole[:, : whole.shape[1] // size[1] * size[1]] / whole.std(1, keepdims=True)
        x = whole.reshape(size[0], -1, size[1]).swapaxes(0, 1)
    return x


def together(network: nn.Module) -> int:
    """Epochs that a network takes as one input, 1 for most."""
    config: Any = getattr(network, "config", None)
    span = InputSpan() if config is None else config.input_span
    return span.sequence if span.sequence > 1 else 1 + 2 * span.context


def epoch_size(network: nn.Module) -> tuple[int, int]:
    """Channels and samples of an epoch; the night's where the network does not say."""
    config: Any = getattr(network, "config", None)
    if config is None:
        return night().shape[1:]
    return config.channels, round(config.sample_rate * config.epoch_seconds)


def model(name: str, **settings: object) -> nn.Module:
    """Make a network with random weights and the statistics that training would settle on."""
    torch.manual_seed(SEED)
    network = build_model(name, settings).train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, from the first
    inputs = epochs(max(32 // together(network), 2) * SETTLING, network)
    with torch.no_grad(), native.using_variant("reference"):
        for batch in np.array_split(inputs, SETTLING):
            network(torch.from_numpy(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def without_dropout(network: nn.Module) -> nn.Module:
    """Copy the network so that its gradients do not depend on a generator."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network


def facts(network: nn.Module) -> dict[str, object]:
    """List the facts of a model folder."""
    preset = presets.load(PRESET)
    config: Any = getattr(network, "config", None)
    if config is not None and epoch_size(network) != night().shape[1:]:
        return {
            "montage": [f"signal {i}" for i in range(config.channels)],
            "sample_rate": config.sample_rate,
            "epoch_seconds": config.epoch_seconds,
            "stages": [f"stage {i}" for i in range(config.stages)],
            "preprocessing": {},
        }
    return {
        "montage": [channel.name for channel in preset.montage],
        "sample_rate": preset.sample_rate,
        "epoch_seconds": preset.epoch_seconds,
        "stages": preset.stages,
        "preprocessing": {"preset": preset.model_dump(mode="json")},
    }


def flops(network: nn.Module, *, backward: bool = False) -> float:
    """Float operations of the layers' products per input, an epoch or a window, by their shapes."""
    training = network.training
    network.train()  # in evaluation PyTorch fuses the encoder layer, which hides its products
    with native.using_variant("reference"), FlopCounterMode(display=False) as counter:
        several = (together(network),) if together(network) > 1 else ()
        logits: Tensor = network(torch.zeros(2, *several, *epoch_size(network)))
        if backward:
            logits.sum().backward()
    network.zero_grad()
    network.train(training)
    return counter.get_total_flops() / 2
