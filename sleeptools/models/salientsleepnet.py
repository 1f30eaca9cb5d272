"""SalientSleepNet: 20 consecutive 30-s epochs of an EEG and an EOG channel at 100 Hz, all scored.

Jia, Lin, Wang, Wang, Xie, Zhang, "SalientSleepNet: Multimodal Salient Wave Detection Network for
Sleep Staging", IJCAI 2021, arXiv:2105.13864.

Each channel of the whole sequence (60,000 samples) goes through a U2-structure of its own: five
encoders and four decoders, every one a small U-Net (U-unit) with a residual connection, and on each
level a multi-scale extraction (MSE) of four dilated convolutions. The streams are fused as
EEG + EOG + EEG * EOG, their 16 maps weighted by a squeeze-and-excitation; a 1x1 convolution, the
mean over each epoch and a convolution across the epochs classify.

The paper gives no sizes; these are of its authors' program with the settings that make the paper's
0.9 M parameters (Keras's count 948,795: 939,479 weights and 9,316 statistics of BatchNorm).

variant  "original". "mmasleepnet": as the MMASleepNet authors rewrote it for their comparison: a
         ReLU only where encoders halve their maps, 46 instead of 16 maps in the third MSE,
         microvolts as recorded; they also took Pz-Oz, `eeg = 1`. 272 of its 1,184,371 parameters
         are convolutions that nothing calls; they are kept here, frozen, as `unused`.
input    "original" standardises each epoch and channel; here the model does it.
recipe   "authors": the program's; the cross-entropy is divided by the number of epochs. It also
         stops when the training accuracy stays for 5 passes, which is not done here. Windows are
         cut from groups of 40 epochs and the rest of a night is dropped; here every epoch is used.
         "mmasleepnet": the variant of this name from Pz-Oz, a softmax before the weighted
         cross-entropy, 1e-4, a decay of 1e-2, amsgrad; "mmasleepnet-isruc": the same with 150
         passes, on ISRUC (which EEG channel they took is not known: C3-M2 here).
         "default": as the authors, but the pass is kept by kappa.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import ChannelIndex, HumanConfig
from sleeptools.models.layers.explain import Explained
from sleeptools.models.layers.keras_defaults import ADAM_EPS, EPS, MOMENTUM, init_glorot
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.native.layer_tables.salientsleepnet import (
    DEPTH,
    DILATIONS,
    FILTERS,
    INNER,
    KERNEL,
    LEVELS,
    MSE,
    POOLS,
    REDUCTION,
    scaled,
)

ABOUT = {
    "paper": "Jia et al. 2021, arXiv:2105.13864",
    "parameters": 939_479,
    "recipes": {
        "default": 939_479,
        "authors": 939_479,
        "mmasleepnet": 1_184_371,
        "mmasleepnet-isruc": 1_184_371,
    },
    "macs": 427_884_198.2,
    "montage": "EEG, EOG; 20 epochs at once",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": [],
}

CLASS_WEIGHTS = (1.0, 1.8, 1.0, 1.25, 1.2)
_AUTHORS = Recipe(
    variant="authors",
    passes=60,
    batch=8,
    learning_rate=1e-3,
    eps=ADAM_EPS,
    class_weights=CLASS_WEIGHTS,
    loss="weighted_ce_n",
    selection="accuracy",
)
_MMASLEEPNET = Recipe(
    variant="mmasleepnet",
    passes=75,
    batch=8,
    weight_decay=1e-2,
    amsgrad=True,
    class_weights=CLASS_WEIGHTS,
    loss="softmax_ce",
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
    "mmasleepnet": {"variant": "mmasleepnet", "eeg": 1},
    "mmasleepnet-isruc": {"variant": "mmasleepnet", "channels": 8, "eeg": 1, "eog": 6},
}
"""Settings of the model that a recipe brings along."""

GROUPS = {
    "encoder": ("eeg", "eog", "squeeze", "excite", "mix"),
    "streams": ("eeg", "eog"),
    "fusion": ("squeeze", "excite", "mix"),
    "classifier": ("classify",),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanConfig):
    """Settings of SalientSleepNet.

    Parameters
    ----------
    channels
        Channels of the input.
    eeg, eog
        Indices of the EEG and the EOG channel that the model uses, from 0.
    sequence
        Consecutive epochs that are scored together; fewer than 11 are too short for the pools.
    filters
        Maps of the first level; all other widths are in proportion.
    variant
        See the head of the module.
    """

    channels: int = Field(default=4, ge=2, le=64)
    eeg: ChannelIndex = 0
    eog: ChannelIndex = 2
    sequence: int = Field(default=20, ge=11, le=200)
    filters: int = Field(default=FILTERS, ge=4, le=64, multiple_of=4)
    variant: Literal["original", "mmasleepnet"] = "original"

    def scaled(self, width: int) -> int:
        """Scale a width that is published for 16 maps in the first level."""
        return scaled(width, self.filters)


class DilatedConv(nn.Module):
    """Convolution, ReLU, BatchNorm, in this order."""

    def __init__(self, inputs: int, outputs: int, variant: str, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, KERNEL, padding="same", dilation=dilation)
        self.norm = nn.BatchNorm1d(outputs, EPS, MOMENTUM)
        self.rectified = variant == "original"

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, T)."""
        x = self.conv(x)
        out: Tensor = self.norm(functional.relu(x) if self.rectified else x)
        return out


def interpolate_to(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate linearly to the length of `like`: (B, C, T) to (B, C, T')."""
    return functional.interpolate(x, like.shape[2], mode="linear")


class UUnit(nn.Module):
    """U-unit: a small U-Net, added to its first convolution's output."""

    def __init__(self, inputs: int, outputs: int, pool: int, config: Config) -> None:
        super().__init__()
        variant, inner = config.variant, config.scaled(INNER)
        self.pool = pool
        self.first = DilatedConv(inputs, outputs, variant)
        widths = [outputs, *[inner] * (DEPTH - 2)]
        self.down = nn.ModuleList(DilatedConv(width, inner, variant) for width in widths)
        self.bottom = DilatedConv(inner, inner, variant)
        self.up = nn.ModuleList(
            DilatedConv(2 * inner, width, variant) for width in reversed(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, T)."""
        first: Tensor = self.first(x)
        x = first
        skips: list[Tensor] = []
        for conv in self.down:
            x = conv(functional.max_pool1d(x, self.pool) if skips else x)
            skips.append(x)
        x = self.bottom(x)
        for conv in self.up:
            across = skips.pop()
            x = conv(torch.cat([interpolate_to(x, across), across], 1))
        return x + first


class MultiScale(nn.Module):
    """Multi-scale extraction: dilated convolutions side by side, then two that reduce them."""

    def __init__(self, inputs: int, outputs: int, variant: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(DilatedConv(inputs, outputs, variant, d) for d in DILATIONS)
        self.reduce = nn.Sequential(
            nn.Conv1d(len(DILATIONS) * outputs, 2 * outputs, KERNEL, padding="same"),
            nn.ReLU() if variant == "original" else nn.Identity(),
            DilatedConv(2 * outputs, outputs, variant),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) to (B, outputs, T)."""
        out: Tensor = self.reduce(torch.cat([conv(x) for conv in self.convs], 1))
        return out


def with_halved_maps(unit: UUnit, maps: int, *, rectified: bool = True) -> nn.Sequential:
    """Make a unit and a 1x1 convolution after it that halves the number of maps."""
    last = nn.ReLU() if rectified else nn.Identity()
    return nn.Sequential(unit, nn.Conv1d(maps, maps // 2, 1), last)


class U2Structure(nn.Module):
    """U2-structure over one channel."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        variant = config.variant
        scales = [config.scaled(width) for width in MSE[variant]]
        maps = [config.filters << level for level in range(LEVELS)]
        inputs = [1, *(m // 2 for m in maps)]
        self.encoders = nn.ModuleList(
            with_halved_maps(UUnit(i, m, pool, config), m)
            for i, m, pool in zip(inputs, maps, POOLS, strict=False)
        )
        self.scales = nn.ModuleList(
            MultiScale(m // 2, s, variant) for m, s in zip(maps, scales, strict=True)
        )
        below = [maps[1] // 2, maps[2] // 2, maps[3] // 2, scales[4]]
        units = [
            UUnit(b + s, m, pool, config)
            for b, s, m, pool in zip(below, scales, maps, POOLS, strict=False)
        ]
        self.decoders = nn.ModuleList(
            with_halved_maps(unit, m, rectified=variant == "original") if level else unit
            for level, (unit, m) in enumerate(zip(units, maps, strict=False))
        )

        if variant == "mmasleepnet":
            self.unused = nn.Conv1d(maps[0], maps[0] // 2, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) to (B, 16, T)."""
        levels = []
        for level, (encoder, scale) in enumerate(zip(self.encoders, self.scales, strict=True)):
            x = encoder(functional.max_pool1d(x, POOLS[level - 1]) if level else x)
            levels.append(scale(x))
        x = levels.pop()
        for decoder in reversed(self.decoders):
            across = levels.pop()
            x = decoder(torch.cat([interpolate_to(x, across), across], 1))
        return x


class Model(nn.Module):
    """SalientSleepNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.filters
        self.eeg, self.eog = U2Structure(config), U2Structure(config)
        self.squeeze = nn.Linear(width, width // REDUCTION)
        self.excite = nn.Linear(width // REDUCTION, width)
        self.mix = nn.Conv1d(width, width, 1)
        self.classify = nn.Conv1d(width, config.stages, KERNEL, padding="same")
        if config.variant == "original":
            self.apply(init_glorot)

    def forward(self, x: Tensor) -> Tensor:
        """Score sequences.

        Parameters
        ----------
        x
            (B, epochs, channels, 3000) float32, uV.

        Returns
        -------
        logits
            (B, epochs, stages); their softmax is the hypnodensity.
        """
        means, _ = self.features(x)
        logits: Tensor = self.classify(means).transpose(1, 2)
        return logits

    def explain(self, x: Tensor) -> Explained:
        """Give the means over an epoch before and after multimodal attention."""
        after, before = (maps.transpose(1, 2) for maps in self.features(x))  # (B, epochs, 16)
        return Explained(
            after,
            "weighed and mixed maps, means over an epoch",
            before,
            "fused maps of the two streams, means over an epoch",
        )

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give what is classified, and the same before the weighting: both (B, 16, epochs)."""
        epochs = x.shape[1]
        if self.config.variant == "original":
            deviation, mean = torch.std_mean(x, -1, correction=0, keepdim=True)
            x = (x - mean) / deviation.clamp_min(1e-6)
        eeg, eog = (x[:, :, c].flatten(1)[:, None] for c in (self.config.eeg, self.config.eog))
        eeg_maps, eog_maps = self.eeg(eeg), self.eog(eog)  # (B, 16, 60000)
        fused = eeg_maps + eog_maps + eeg_maps * eog_maps
        weight = torch.sigmoid(self.excite(functional.relu(self.squeeze(fused.mean(2)))))  # (B, 16)
        mixed = torch.tanh(self.mix(fused * weight[:, :, None]))
        after, before = (
            maps.view(*maps.shape[:2], epochs, -1).mean(3)  # (B, 16, epochs)
            for maps in (mixed, fused)
        )
        return after, before
