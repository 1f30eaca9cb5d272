"""SlumberNet: one 4-s epoch of mouse EEG and EMG at 64 Hz to three stages.

Jha, Valekunja, Reddy, "SlumberNet: deep learning classification of sleep stages using residual
neural networks", Sci. Rep. 2024, 14:4797, doi:10.1038/s41598-024-54727-0.

Residual blocks of three convolutions over the plane (time, signals), without pooling, so that every
map stays as large as the input; widths double from 8, and the last block has the width of the one
before; then the mean of each map and a linear layer.

The paper and its authors' program differ; this follows the program where the paper is silent or the
published 5,345,011 parameters decide (Keras's count: 5,338,931 weights and 6,080 statistics of
BatchNorm):

network  "authors": kernels of 2 samples x 8, 5 and 3 signals, the shortcut 2 x 1, and widths of 8
         to 256; the last block has 256 again, kernels 2 x 8 thrice, and BatchNorm alone as the
         shortcut. "paper": kernels 2 x 1 in all seven blocks, which double from 8 to 512; the
         shortcut, of which it does not give the kernel, is 1 x 1 (1,944,059 by Keras's count).
dropout  After the first two BatchNorms of a block and after its sum; 0 in paper and program.
layout   "proper": the plane is (time, signals). "authors": the program reshapes (signals, time) to
         (time, signals) without transposing, so that a column holds every second sample of the EEG
         and then of the EMG. The published results rest on this.
augment  Paper: in each pass anew, a gain for every sample of each signal, both shifted together,
         and Gaussian noise, whose size it does not give: 5 % of a signal's deviation here. Program:
         the same gains and shifts on the reshaped plane, no noise, and the first pass's draw is
         cached for all later ones. Default: in each pass anew, each signal by one gain.
recipe   "paper" and "authors" train with 1e-6, halved when the loss stays, and bring along their
         network and layout; "default" with 1e-3, because 50 passes at 1e-6 hardly move the weights.
         The batch is that of the paper's one GPU; it used three.
data     Both divided epochs five times at random, by stage: `split = "stratified-shuffle"`. The
         presets are `slumbernet-paper` and `slumbernet-authors`.

Of two signals a kernel 8 wide meets at most two; the rest is padding with zeros. `dense` leaves
these taps out: the same sums in 0.895 instead of 2.729 G multiply-accumulates. The paper's human
adaptation is `channels`, `sample_rate`, `epoch_seconds` and `stages`.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import MouseConfig
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.keras_defaults import ADAM_EPS, EPS, MOMENTUM, init_glorot
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables.slumbernet import TIME, BlockTable, block_tables

ABOUT = {
    "paper": "Jha et al. 2024, doi:10.1038/s41598-024-54727-0",
    "parameters": 5_338_931,
    "recipes": {"default": 5_338_931, "paper": 1_935_931, "authors": 5_338_931},
    "macs": 894_591_744,
    "montage": "EEG, EMG",
    "sample_rate": 64.0,
    "epoch_seconds": 4.0,
    "stages": 3,
    "native": ["conv_plan"],
}

GAINS = (0.3, 0.05)  # of EEG and EMG
NOISE = 0.05

_DEFAULT = Recipe(
    passes=50,
    batch=128,
    learning_rate=1e-3,
    eps=ADAM_EPS,
    schedule=Schedule(kind="plateau", passes=3, factor=0.5, lowest=0.1),
    augmentation=Augmentation(gains=GAINS, shift=1.0),
)
RECIPES = {
    "default": _DEFAULT,
    "paper": _DEFAULT.model_copy(
        update={
            "variant": "paper",
            "learning_rate": 1e-6,
            "selection": "accuracy",
            "augmentation": Augmentation(gains=GAINS, per_sample=True, shift=1.0, noise=NOISE),
        }
    ),
    "authors": _DEFAULT.model_copy(
        update={
            "variant": "authors",
            "learning_rate": 1e-6,
            "selection": "accuracy",
            "augmentation": Augmentation(
                gains=GAINS, per_sample=True, shift=1.0, cached=True, interleaved=True
            ),
        }
    ),
}
RECIPE = RECIPES["default"]

MODEL_SETTINGS = {"paper": {"network": "paper"}, "authors": {"layout": "authors"}}
"""Settings of the model that a recipe brings along."""

GROUPS = {"encoder": ("blocks",), "classifier": ("linear",)}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(MouseConfig):
    """Settings of SlumberNet, beside those of `MouseConfig`.

    Parameters
    ----------
    blocks
        Residual blocks.
    filters
        Maps of the first block.
    layout, network
        See the head of the module.
    dropout
        Dropout probability after the first two convolutions of a block and after its sum.
    """

    sample_rate: float = Field(default=64.0, gt=0, le=10_000)
    epoch_seconds: float = Field(default=4.0, gt=0, le=60)
    blocks: int = Field(default=7, ge=5, le=9)
    filters: int = Field(default=8, ge=1, le=64)
    layout: Literal["proper", "authors"] = "proper"
    network: Literal["authors", "paper"] = "authors"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class SameConv(nn.Module):
    """Convolution over (signals, time) with Keras's "same" padding, and BatchNorm."""

    def __init__(self, inputs: int, outputs: int, width: int, time: int = TIME) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (width, time))
        self.norm = nn.BatchNorm2d(outputs, EPS, MOMENTUM)
        self.before, self.later = (width - 1) // 2, time - 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, W, T) to (B, outputs, W, T), without the taps that meet no signal."""
        width, samples = x.shape[2:]
        if width > self.conv.kernel_size[0]:
            return self.reference(x)
        weight, bias = self.dense(width)
        x = functional.pad(x.flatten(1, 2), (0, self.later))  # (B, inputs W, T + 1)
        x = functional.conv1d(x, weight, bias).view(x.shape[0], -1, width, samples)
        out: Tensor = self.norm(x)
        return out

    def reference(self, x: Tensor) -> Tensor:
        """Compute the same with all taps: the definition."""
        after = self.conv.kernel_size[0] - 1 - self.before
        out: Tensor = self.norm(self.conv(functional.pad(x, (0, self.later, self.before, after))))
        return out

    def dense(self, width: int) -> tuple[Tensor, Tensor]:
        """Weight (outputs W, inputs W, time) and bias of the same convolution over time alone."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        kernel = weight.shape[2]
        signals = torch.arange(width, device=weight.device)
        tap = signals - signals[:, None] + self.before  # (W out, W in)
        inside = ((tap >= 0) & (tap < kernel)).to(weight.dtype)[..., None]
        taps = weight[:, :, tap.clamp(0, kernel - 1)] * inside  # (outputs, inputs, W, W, time)
        return taps.transpose(1, 2).flatten(2, 3).flatten(0, 1), bias.repeat_interleave(width)


class ResidualBlock(nn.Module):
    """Three convolutions and a shortcut past them."""

    def __init__(self, table: BlockTable, dropout: float) -> None:
        super().__init__()
        outputs = table.outputs
        self.convs = nn.ModuleList(
            [
                SameConv(inputs, outputs, width)
                for inputs, width in zip(
                    (table.inputs, outputs, outputs), table.widths, strict=True
                )
            ]
        )
        self.shortcut = (
            SameConv(table.inputs, outputs, 1, table.shortcut)
            if table.shortcut
            else nn.BatchNorm2d(outputs, EPS, MOMENTUM)
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, W, T) to (B, outputs, W, T)."""
        first, second, third = self.convs
        y = functional.relu(self.dropout(first(x)))
        y = third(functional.relu(self.dropout(second(y))))
        return functional.relu(self.dropout(y + self.shortcut(x)))


class Model(nn.Module):
    """SlumberNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        tables = block_tables(config.blocks, config.filters, config.network)
        self.blocks = nn.Sequential(*(ResidualBlock(table, config.dropout) for table in tables))
        self.linear = nn.Linear(tables[-1].outputs, config.stages)
        self.apply(init_glorot)

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, signals, T) float32, uV.

        Returns
        -------
        logits
            (B, stages); their softmax is the hypnodensity.
        """
        if self.config.layout == "authors":
            x = x.reshape(x.shape[0], x.shape[2], x.shape[1]).transpose(1, 2)
        maps = self.blocks(x[:, None])  # (B, 256 or 512, signals, T)
        logits: Tensor = self.linear(maps.mean((2, 3)))  # (B, stages)
        return logits
