"""Layers of MMASleepNet: the one table behind the model in PyTorch and the engine without it.

Each modality has a stream with short and one with long kernels, joined on time (MBFE); the EEG's
128 feature maps count as two modalities of 64.
"""

from __future__ import annotations

from typing import NamedTuple

from sleeptools.native.conv_streams import ConvLayer, ConvStream

SAMPLES = 3000  # of an epoch
MAPS = 64  # feature maps of one modality
STEPS = 24  # time steps after the two streams are joined: 13 + 11, for every kernel set
HEADS = 4
SLOPE = 0.01  # of LeakyReLU
HIDDEN = 2048  # of the encoder's feed-forward; PyTorch's default, the paper gives none
UNITS = 32  # of the classifier's first layer
MODALITIES = {"eeg": ("eeg",), "eeg+eog": ("eeg", "eog"), "all": ("eeg", "eog", "emg")}


class Branch(NamedTuple):
    """One modality: its first channel and number of channels in the input, and its two streams."""

    modality: str
    channel: int
    channels: int
    small: tuple[ConvLayer, ...]
    large: tuple[ConvLayer, ...]

    @property
    def chains(self) -> dict[str, ConvStream]:
        """Both streams, by the names of the model's modules."""
        channels = self.channel, self.channels
        return {
            "small": ConvStream(*channels, self.small),
            "large": ConvStream(*channels, self.large),
        }


def branches(eeg: int, kernels: str, modalities: str) -> list[Branch]:
    """List the branches of a model.

    Parameters
    ----------
    eeg
        EEG channels; one EOG and one EMG channel follow them.
    kernels, modalities
        As in the model's settings.
    """
    channels = {"eeg": (0, eeg), "eog": (eeg, 1), "emg": (eeg + 1, 1)}
    return [Branch(m, *channels[m], *_layers(m, kernels)) for m in MODALITIES[modalities]]


def _layers(modality: str, kernels: str) -> tuple[tuple[ConvLayer, ...], tuple[ConvLayer, ...]]:
    width = MAPS if modality == "eeg" else MAPS // 2
    if kernels == "authors":
        return layers(width, (64, 512), 24)
    return layers(width, (50, 500), 24) if modality == "eeg" else layers(width, (25, 250), 8)


def layers(
    width: int, kernels: tuple[int, int], pad: int
) -> tuple[tuple[ConvLayer, ...], tuple[ConvLayer, ...]]:
    """Layers of the short-kernel and of the long-kernel stream of a modality, Table 2.

    Parameters
    ----------
    width
        Maps of the first layer; the later ones have twice as many.
    kernels
        Kernels of the first layer of the two streams, samples.
    pad
        Padding of the first layer with short kernels, samples.
    """
    short, long = kernels
    small, large = ConvLayer(2 * width, 8, 1, 4), ConvLayer(2 * width, 6, 1, 4)
    return (
        (ConvLayer(width, short, 8, pad, (8, 8, 4)), small, small, small._replace(pool=(4, 4, 2))),
        (ConvLayer(width, long, 64, 24, (4, 4, 2)), large, large, large._replace(pool=(2, 2, 1))),
    )


def modalities(kind: str) -> int:
    """Count the modalities of 64 maps that are fused."""
    return len(MODALITIES[kind]) + 1  # the EEG counts twice


def tokens(kind: str, reading: str) -> tuple[int, int]:
    """Count the tokens of an epoch and their width, in the authors' or the paper's reading."""
    count = modalities(kind)
    return (count * STEPS, MAPS) if reading == "paper" else (MAPS, count * STEPS)
