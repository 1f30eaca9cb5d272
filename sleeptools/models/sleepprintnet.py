"""SleepPrintNet: a 30-s epoch of EEG, EOG and EMG with its neighbours, and the EEG's spectral map.

Jia, Cai, Zheng, Wang, Lin, "SleepPrintNet: A Multivariate Multimodal Neural Network Based on
Physiological Time-Series for Automatic Sleep Staging", IEEE Trans. Artif. Intell. 2020, 1(3).

Each modality goes through two convolution streams with kernels of 1/2 s and 4 s; the power of the
EEG in five bands, laid out over the head, goes through a small residual network; all features are
joined and two linear layers classify.

variant  "original": the epoch before and the one after are input, too; the powers of an epoch
         are standardised over electrodes and bands and spread over 16 x 16 pixels by cubic
         interpolation of a 5 x 5 grid. "mmasleepnet": as the MMASleepNet authors rewrote it for
         their comparison: the epoch alone, kernels of 64 and 512 samples, other bands, one pixel
         for each electrode, 256 instead of 128 hidden units.
count    3,617,381 at 128 Hz with 6 EEG, 2 EOG and 3 EMG, as Keras counts: 3,612,165 weights, 3,680
         statistics of BatchNorm, and 1,536 biases before a BatchNorm, which takes them out again
         and which are left out here. 3,372,517 and 3,519,973 (6 EEG) for "mmasleepnet".
padding  Kernels of 8 and 6 are padded by one more on either side in turn, where Keras always pads
         on the right: features are at most a step (62 ms) from where they are in Keras.
map      The program interpolates between 20 electrodes, and standardises each band over them;
         electrodes that are not recorded are zero here, and a band of two would keep its sign
         alone. The band-pass filter before the spectra is left out: no band reaches beyond it.
         The MMASleepNet authors set Sleep-EDF's two EEG channels at F3 and C3, as the recipe
         "mmasleepnet" does; the default is where they were recorded.
spectrum "multitaper", which the recipes "mmasleepnet" bring along: as the MMASleepNet authors
         computed the map with MNE's psd_array_multitaper, and at the pixels of their program.
         "hann": the mean power under one Hann window.
recipe   "authors": Adam, 1e-3, batches of 64; its L2 terms are here one weight decay of 2e-4, that
         of the convolutions (0.1 on the linear layers is left out), and nothing stops it early.
         "mmasleepnet": the variant of this name, 1e-5, unweighted, a decay of 1e-2, amsgrad;
         "mmasleepnet-isruc": the same with 150 passes and ISRUC's six EEG channels.
         "default": as the authors, but the pass is kept by kappa.

Input is microvolts as recorded.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import ModelConfig
from sleeptools.models.layers.conv_streams import FoldedStreams, Nonlinearity, TwoStreams
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.keras_defaults import ADAM_EPS
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.native import conv_streams
from sleeptools.native.layer_tables import sleepprintnet
from sleeptools.native.layer_tables.sleepprintnet import (
    BANDS,
    PIXELS,
    POOL,
    POOL_STRIDE,
    POOLED,
    WIDTHS,
)

ABOUT = {
    "paper": "Jia et al. 2020, SleepPrintNet, IEEE Trans. Artif. Intell. 1(3)",
    "parameters": 3_450_757,
    "recipes": {
        "default": 3_450_757,
        "authors": 3_450_757,
        "mmasleepnet": 3_372_517,
        "mmasleepnet-isruc": 3_519_973,
    },
    "macs": 141_087_010,
    "montage": "2 EEG, EOG, EMG; an epoch and its neighbours",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": ["two_stream_conv"],
}

RATES = (100.0, 128.0)  # Hz; strides at other rates do not fit the pools
_AUTHORS = Recipe(
    variant="authors",
    passes=100,
    batch=64,
    learning_rate=1e-3,
    eps=ADAM_EPS,
    weight_decay=2e-4,
    selection="accuracy",
)
_MMASLEEPNET = Recipe(
    variant="mmasleepnet",
    passes=230,
    learning_rate=1e-5,
    weight_decay=1e-2,
    amsgrad=True,
    selection="accuracy",
)
RECIPES = {
    "default": _AUTHORS.model_copy(update={"variant": "default", "selection": "kappa"}),
    "authors": _AUTHORS,
    "mmasleepnet": _MMASLEEPNET,
    "mmasleepnet-isruc": _MMASLEEPNET.model_copy(
        update={"variant": "mmasleepnet-isruc", "passes": 150}
    ),
}
RECIPE = RECIPES["default"]

MODEL_SETTINGS = {
    "mmasleepnet": {
        "variant": "mmasleepnet",
        "spectrum": "multitaper",
        "electrodes": ("F3", "C3"),
    },
    "mmasleepnet-isruc": {
        "variant": "mmasleepnet",
        "spectrum": "multitaper",
        "electrodes": ("F3", "C3", "O1", "F4", "C4", "O2"),
    },
}
"""Settings of the model that a recipe brings along."""

Electrode = Literal[
    "Fp1",
    "Fpz",
    "Fp2",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "T3",
    "C3",
    "Cz",
    "C4",
    "T4",
    "T5",
    "P3",
    "Pz",
    "P4",
    "T6",
    "O1",
    "Oz",
    "O2",
]

GROUPS = {
    "encoder": ("eeg", "eog", "emg", "spatial"),
    "streams": ("eeg", "eog", "emg"),
    "map": ("spatial",),
    "classifier": ("linear1", "linear2"),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(ModelConfig):
    """Settings of SleepPrintNet.

    Parameters
    ----------
    stages
        Number of stages.
    electrodes
        Electrode of each EEG channel in the order of the input; the first one of a bipolar channel.
    eog, emg
        Number of EOG and of EMG channels, which follow the EEG.
    sample_rate
        100 or 128 Hz; sets kernels and strides.
    dropout
        Dropout probability after each stream's first pool and on the map's features.
    variant, spectrum
        See the head of the module.
    """

    stages: int = Field(default=5, ge=2, le=16)
    electrodes: tuple[Electrode, ...] = Field(default=("Fpz", "Pz"), min_length=1)
    eog: int = Field(default=1, ge=1, le=16)
    emg: int = Field(default=1, ge=1, le=16)
    sample_rate: float = 100.0
    dropout: float = Field(default=0.5, ge=0, lt=1)
    variant: Literal["original", "mmasleepnet"] = "original"
    spectrum: Literal["hann", "multitaper"] = "hann"

    @field_validator("sample_rate")
    @classmethod
    def _published_rate(cls, value: float) -> float:
        if value not in RATES:
            raise ValueError(f"expected {' or '.join(f'{rate:g}' for rate in RATES)} Hz")
        return value

    @model_validator(mode="after")
    def _spectrum_of_its_variant(self) -> Config:
        if self.spectrum == "multitaper" and self.variant != "mmasleepnet":
            raise ValueError('spectrum = "multitaper" needs variant = "mmasleepnet"')
        return self

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Channels of EEG, EOG and EMG."""
        return len(self.electrodes), self.eog, self.emg

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.electrodes) + self.eog + self.emg

    @property
    def epoch_seconds(self) -> float:
        """Length of an epoch, s."""
        return 30.0

    @property
    def context(self) -> int:
        """Neighbouring epochs on either side that the model takes to score one."""
        return sleepprintnet.context(self.variant)

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return round(self.sample_rate * self.epoch_seconds)


class SpectralMap(nn.Module):
    """Power of the EEG in five bands over the head; fixed, no parameters."""

    tapers: Tensor
    bands: Tensor
    pixel_weights: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.standardised = config.variant == "original"
        self.multitaper = config.spectrum == "multitaper"
        variant, spectrum = config.variant, config.spectrum
        arrays = {
            "tapers": sleepprintnet.tapers(config.samples, spectrum),
            "bands": sleepprintnet.band_weights(variant, config.samples, spectrum),
            "pixel_weights": sleepprintnet.spread_weights(config.electrodes, variant, spectrum),
        }
        for name, array in arrays.items():
            tensor = torch.as_tensor(array, dtype=torch.get_default_dtype())
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, electrodes, T) to (B, 5, 16, 16)."""
        if self.multitaper:
            x = x - x.mean(-1, keepdim=True)
        spectra = torch.fft.rfft(x.unsqueeze(2) * self.tapers)  # (B, electrodes, tapers, F)
        power: Tensor = spectra.abs().square().sum(2) @ self.bands  # (B, electrodes, 5)
        if self.standardised:
            deviation, mean = torch.std_mean(power, (1, 2), correction=0, keepdim=True)
            power = (power - mean) / deviation.clamp_min(1e-6)
        spread = power.transpose(1, 2) @ self.pixel_weights.flatten(1)  # (B, 5, 256)
        return spread.view(x.shape[0], -1, PIXELS, PIXELS)


class MapNetwork(nn.Module):
    """Residual network over the map."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        original = config.variant == "original"
        width = sleepprintnet.map_width(config.variant)
        count = len(BANDS[config.variant])
        self.slope = sleepprintnet.map_leak(config.variant)
        self.first = nn.Conv2d(count, width, 1, bias=original)
        self.norm = nn.BatchNorm2d(width)
        self.wide = nn.Conv2d(width, 2 * width, 3, padding=1, bias=original)
        self.wide_norm = nn.BatchNorm2d(2 * width)
        self.skip = nn.Conv2d(width, 2 * width, 1, bias=original)
        self.skip_norm = nn.Identity() if original else nn.BatchNorm2d(2 * width)
        self.dropout = Dropout(config.dropout)
        self.features = 2 * width * POOLED**2

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5, 16, 16) to (B, features)."""
        x = functional.leaky_relu(self.norm(self.first(x)), self.slope)
        x = self.wide_norm(self.wide(x)) + self.skip_norm(self.skip(x))  # (B, 32 or 64, 16, 16)
        x = functional.leaky_relu(functional.max_pool2d(x, POOL, POOL_STRIDE), self.slope)
        features: Tensor = self.dropout(x.flatten(1))
        return features


class Model(nn.Module):
    """SleepPrintNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        leaky = Nonlinearity("leaky_relu", sleepprintnet.leak(config.variant))
        rate = config.sample_rate
        eeg, eog, emg = (
            TwoStreams(
                n,
                sleepprintnet.stream_layers(width, config.variant, rate),
                leaky,
                config.dropout,
                joined=0.0,
            )
            for n, width in zip(config.sizes, WIDTHS, strict=True)
        )
        self.eeg, self.eog, self.emg = eeg, eog, emg
        self.map, self.spatial = SpectralMap(config), MapNetwork(config)
        first = (0, config.sizes[0], sum(config.sizes[:2]))
        self.folded = FoldedStreams(list(zip(first, (eeg, eog, emg), strict=True)))
        length = config.samples * (1 + 2 * config.context)
        _, maps, steps = conv_streams.stream_starts(
            conv_streams.parse_streams(self.folded.shape), length
        )
        hidden = sleepprintnet.hidden_units(config.variant)
        self.linear1 = nn.Linear(maps * steps + self.spatial.features, hidden)
        self.linear2 = nn.Linear(hidden, config.stages)

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, 3, channels, samples) float32, uV: the epoch before, the epoch, the one after,
            channels in the order EEG, EOG, EMG; for "mmasleepnet" (B, channels, samples).

        Returns
        -------
        logits
            (B, stages) of the middle epoch; their softmax is the hypnodensity.
        """
        epochs = x.unsqueeze(1) if x.dim() == 3 else x  # noqa: PLR2004 - no context
        middle = epochs[:, self.config.context, : self.config.sizes[0]]
        signals = epochs.transpose(1, 2).flatten(2)  # (B, channels, samples of all)
        features = [self.maps(signals), self.spatial(self.map(middle))]
        logits: Tensor = self.linear2(functional.relu(self.linear1(torch.cat(features, 1))))
        return logits

    def maps(self, x: Tensor) -> Tensor:
        """(B, channels, T) to (B, features): the streams of the three modalities."""
        if not self.training and self.folded.serves(x):
            return self.folded(x).flatten(1)
        pairs = zip(
            (self.eeg, self.eog, self.emg), x.split_with_sizes(self.config.sizes, 1), strict=True
        )
        return torch.cat([streams(modality) for streams, modality in pairs], 1).flatten(1)
