"""Mouse CNN, with or without attention: spectra of the signals, branches, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sleeptools.models.layers.config import MouseConfig
from sleeptools.models.layers.dropout import Dropout, MapDropout, draw_seed
from sleeptools.models.layers.native_training import (
    batch_counted,
    to_float32,
    training_precision,
    trains_native,
)
from sleeptools.models.ops.attention import attention
from sleeptools.models.ops.conv_block import conv_block
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables.mouse_cnn import (
    FEATURES,
    HIDDEN,
    KERNEL,
    POOLED,
    STRIDE,
    WIDTHS,
)

_PAPER = Recipe(
    variant="paper",
    passes=30,
    batch=64,
    learning_rate=0.01,
    schedule=Schedule(kind="one_cycle"),
    selection="macro_f1",
    selection_on_test="macro_f1",
)
RECIPES = {
    "default": _PAPER.model_copy(update={"variant": "default"}),
    "paper": _PAPER,
}
MODEL_SETTINGS = {"paper": {"classifier": "two-blocks"}}
"""Settings of the model that a recipe brings along."""

HEAD = 6
"""Layers behind the blocks of a branch."""

GROUPS = {"encoder": ("spectrum", "branches"), "classifier": ("classifier",)}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(MouseConfig):
    """Settings of the mouse CNN, beside those of `MouseConfig`.

    Parameters
    ----------
    dropout
        Dropout probability after each block.
    dropout_flat
        Dropout probability before the linear layer of a branch.
    classifier
        "plain": linear, PReLU, linear. "two-blocks": as the report writes it, linear and activation
        twice, so that the stages' values go through a PReLU, too.
    """

    dropout: float = Field(default=0.1, ge=0, lt=1)
    dropout_flat: float = Field(default=0.5, ge=0, lt=1)
    classifier: Literal["plain", "two-blocks"] = "plain"


class Spectrum(nn.Module):
    """log(1 + magnitude) of the Hann-windowed epoch, standardised by the training epochs."""

    window: Tensor

    def __init__(self, channels: int, samples: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(samples), persistent=False)
        self.norm = nn.BatchNorm1d(channels * (samples // 2 + 1), affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) to (B, channels, T // 2 + 1)."""
        magnitude = torch.fft.rfft(x * self.window).abs().log1p()
        out: Tensor = self.norm(magnitude.flatten(1)).view_as(magnitude)
        return out


class StepAttention(nn.Module):
    """Self-attention over the steps of a branch, added to its input and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, steps) to the same."""
        z = x.transpose(1, 2)
        attended: Tensor = self.attention(z, z, z, need_weights=False)[0]  # (B, steps, width)
        out: Tensor = self.norm(z + attended)
        return out.transpose(1, 2)

    def block(self, z: Tensor) -> Tensor:
        """Train by one native op: (B, steps, width) to the same."""
        inner, norm = self.attention, self.norm
        assert inner.in_proj_weight is not None
        project = inner.in_proj_weight, inner.in_proj_bias
        out = inner.out_proj.weight, inner.out_proj.bias
        weights = (*project, *out, norm.weight, norm.bias)
        return attention(z, *weights, inner.num_heads, norm.eps, training_precision())


class SignalBranch(nn.Sequential):
    """One signal or spectrum, (B, 1, T) to (B, 64); `heads` of attention after each block."""

    def __init__(self, config: Config, heads: int = 0) -> None:
        layers: list[nn.Module] = []
        for inputs, width in zip((1, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv1d(inputs, width, KERNEL, STRIDE, KERNEL // 2),
                nn.PReLU(width),
                nn.BatchNorm1d(width),
                MapDropout(config.dropout),
                *([StepAttention(width, heads)] if heads else []),
            ]
        super().__init__(
            *layers,  # (B, 64, T / 16)
            nn.AdaptiveAvgPool1d(POOLED),
            nn.Flatten(),
            Dropout(config.dropout_flat),
            nn.Linear(WIDTHS[-1] * POOLED, FEATURES),
            nn.PReLU(FEATURES),
            nn.BatchNorm1d(FEATURES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T) to (B, 64)."""
        layers: list[Any] = list(self)
        blocks, head = layers[:-HEAD], layers[-HEAD:]
        modules = (module for layer in blocks for module in layer.modules())
        # with a module in evaluation mode, as a frozen BatchNorm, PyTorch computes
        if not trains_native(x) or not all(module.training for module in modules):
            for layer in layers:
                x = layer(x)
            return x
        x, parts = to_float32(x).mT.contiguous(), len(blocks) // len(WIDTHS)  # (B, T, 1)
        for first in range(0, len(blocks), parts):
            x = self.block(x, *blocks[first : first + parts])  # (B, steps, width)
        x = x.mT
        for layer in head:
            x = layer(x)
        return x

    @staticmethod
    def block(
        x: Tensor,
        conv: nn.Conv1d,
        prelu: nn.PReLU,
        norm: nn.BatchNorm1d,
        dropout: nn.Dropout,
        attention: StepAttention | None = None,
    ) -> Tensor:
        """Train a block by the native ops: (B, T, inputs) to (B, T', outputs)."""
        x = conv_block(
            x,
            conv.weight,
            norm.weight,
            norm.bias,
            [conv.stride[0], int(conv.padding[0]), 1, 1, 0],
            eps=norm.eps,
            dropout=dropout.p,
            seed=draw_seed(dropout.p),
            precision=training_precision(),
            bias=conv.bias,
            slopes=prelu.weight,
            running=batch_counted(norm),
        )
        return attention.block(x) if attention else x


class MouseCNN(nn.Module):
    """Mouse CNN: a branch for each signal and for each spectrum, joined and classified.

    Parameters
    ----------
    config
        Settings of the model.
    heads
        Heads of the attention after each block of a branch, the signals' branches first and then
        the spectra's; 0 for no attention.
    """

    def __init__(self, config: Config, heads: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.spectrum = Spectrum(config.channels, config.samples)
        self.branches = nn.ModuleList([SignalBranch(config, count) for count in heads])
        self.classifier = nn.Sequential(
            nn.Linear(len(heads) * FEATURES, HIDDEN),
            nn.PReLU(HIDDEN),
            nn.Linear(HIDDEN, config.stages),
            *([nn.PReLU(config.stages)] if config.classifier == "two-blocks" else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, T) float32, standardised over the recording.

        Returns
        -------
        logits
            (B, stages); their softmax is the hypnodensity.
        """
        inputs = [s[:, i : i + 1] for s in (x, self.spectrum(x)) for i in range(x.shape[1])]
        features = [
            branch(s) for branch, s in zip(self.branches, inputs, strict=True)
        ]  # (B, 64) each
        logits: Tensor = self.classifier(torch.cat(features, 1))  # (B, stages)
        return logits
