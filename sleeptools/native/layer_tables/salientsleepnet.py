"""Layers of SalientSleepNet: two U-shaped streams of small U-Nets, their fusion, a classifier.

The one table behind the model in PyTorch (`sleeptools.models.salientsleepnet`) and the graph with
which it scores without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from sleeptools.native.conv_graph import GraphBuilder, LayerWeights, Maps

Variant = Literal["original", "mmasleepnet"]

KERNEL = 5
LEVELS = 5
FILTERS = 16  # maps of the first level; each level has twice those of the one before
POOLS = (10, 8, 6, 4, 4)  # of a level's U-unit, and after all encoders but the last
DEPTH = 4  # of a U-unit
INNER = 8  # maps inside a U-unit, of 16 in the first level
DILATIONS = (1, 2, 3, 4)
MSE = {"original": (32, 24, 16, 8, 5), "mmasleepnet": (32, 24, 46, 8, 5)}
REDUCTION = 4  # of the squeeze
NORM_EPS = 1e-3


def scaled(width: int, filters: int) -> int:
    """Scale a width that is published for 16 maps in the first level."""
    return max(1, width * filters // FILTERS)


class SalientGraph:
    """Writes the network down.

    Parameters
    ----------
    weights
        The model's arrays.
    variant, filters, stages
        Settings of the model.
    """

    def __init__(self, weights: LayerWeights, variant: Variant, filters: int, stages: int) -> None:
        self.builder = GraphBuilder()
        self.weights = weights
        self.rectified = variant == "original"
        self.stages = stages
        self.inner = scaled(INNER, filters)
        self.scales = [scaled(width, filters) for width in MSE[variant]]
        self.maps = [filters << level for level in range(LEVELS)]

    def write(self, epochs: int, samples: int) -> GraphBuilder:
        """Write down how a sequence is scored.

        Parameters
        ----------
        epochs, samples
            Epochs of a sequence, and samples of an epoch. The graph reads the sequence's EEG and
            then its EOG, and gives (epochs, stages).
        """
        builder, width = self.builder, self.maps[0]
        inputs = [builder.input(1, epochs * samples) for _ in range(2)]
        eeg, eog = (
            self._stream(name, maps) for name, maps in zip(("eeg", "eog"), inputs, strict=True)
        )
        fused = builder.multiply(eeg, eog, added=[eeg, eog])
        squeezed = self._conv(
            "squeeze", builder.average(fused, 1), width // REDUCTION, activation="relu"
        )
        shares = self._conv("excite", squeezed, width, activation="sigmoid")
        weighed = builder.multiply(fused, shares)
        mixed = self._conv("mix", weighed, width, activation="tanh")
        means = builder.average(mixed, epochs)
        builder.transpose(self._conv("classify", means, self.stages, kernel=KERNEL))
        return builder

    def _conv(
        self,
        name: str,
        x: Maps,
        outputs: int,
        target: Maps | None = None,
        *,
        kernel: int = 1,
        dilation: int = 1,
        **after: Any,
    ) -> Maps:
        """Add a convolution, or a linear layer, that keeps the steps."""
        linear = name in {"squeeze", "excite"}
        shape = (outputs, x.width) if linear else (outputs, x.width, kernel)
        weight = self.weights.take(f"{name}.weight", *shape).reshape(outputs, x.width, kernel)
        return self.builder.convolve(
            x,
            weight,
            target,
            dilation=dilation,
            pad=dilation * (kernel // 2),
            bias=self.weights.take(f"{name}.bias", outputs),
            **after,
        )

    def _dilated(
        self, name: str, x: Maps, outputs: int, target: Maps | None = None, dilation: int = 1
    ) -> Maps:
        """Add a convolution, ReLU and BatchNorm."""
        return self._conv(
            f"{name}.conv",
            x,
            outputs,
            target,
            kernel=KERNEL,
            dilation=dilation,
            activation="relu" if self.rectified else "none",
            scale=self.weights.scale(f"{name}.norm", outputs, NORM_EPS),
        )

    def _stream(self, name: str, x: Maps) -> Maps:
        """Add the U2-structure over one channel."""
        builder = self.builder
        below = [*(m // 2 for m in self.maps[1:-1]), self.scales[-1]]
        joined: list[Maps] = []
        scales: list[Maps] = []
        for level in range(LEVELS):
            if level:
                x = builder.pool(x, POOLS[level - 1])
            x = self._halved(f"{name}.encoders.{level}", x, level, rectified=True)
            width = self.scales[level]
            target: Maps | None = None
            if level < LEVELS - 1:
                joined.append(builder.signal(below[level] + width, builder.steps(x)))
                target = joined[-1].pick(below[level], width)
            scales.append(self._multi_scale(f"{name}.scales.{level}", x, width, target))
        x = scales[-1]
        for level in reversed(range(LEVELS - 1)):
            builder.resize(x, joined[level].pick(0, x.width))
            decoder = f"{name}.decoders.{level}"
            if level:
                x = self._halved(decoder, joined[level], level, rectified=self.rectified)
            else:
                first, last = self._unit(decoder, joined[level], level)
                x = builder.signal(last.width, builder.steps(last))
                builder.scale_maps(last, np.ones(last.width), x, added=[first])
        return x

    def _halved(self, name: str, x: Maps, level: int, *, rectified: bool) -> Maps:
        """Add a U-unit and the convolution that halves its maps.

        The unit's output is a sum; the convolution adds it up on its way, with each weight twice.
        """
        first, last = self._unit(f"{name}.0", x, level)
        maps = self.maps[level]
        weight = self.weights.take(f"{name}.1.weight", maps // 2, maps, 1)
        return self.builder.convolve(
            Maps(first.signal, first.first, first.width + last.width),
            np.concatenate([weight, weight], 1),
            bias=self.weights.take(f"{name}.1.bias", maps // 2),
            activation="relu" if rectified else "none",
        )

    def _unit(self, name: str, x: Maps, level: int) -> tuple[Maps, Maps]:
        """Add a U-unit; its output is the sum of two signals' maps, which lie side by side."""
        builder, inner, maps = self.builder, self.inner, self.maps[level]
        pair = builder.signal(2 * maps, builder.steps(x))
        first = self._dilated(f"{name}.first", x, maps, pair.pick(0, maps))
        x, joined = first, list[Maps]()
        for depth in range(DEPTH - 1):
            if joined:
                x = builder.pool(x, POOLS[level])
            joined.append(builder.signal(2 * inner, builder.steps(x)))
            target = joined[-1].pick(inner, inner)
            x = self._dilated(f"{name}.down.{depth}", x, inner, target)
        self._dilated(f"{name}.bottom", x, inner, joined[-1].pick(0, inner))
        for depth, across in enumerate(reversed(joined)):
            if depth:
                builder.resize(x, across.pick(0, inner))
            last = depth == DEPTH - 2
            sides = pair.pick(maps, maps) if last else None
            x = self._dilated(f"{name}.up.{depth}", across, maps if last else inner, sides)
        return first, x

    def _multi_scale(self, name: str, x: Maps, width: int, target: Maps | None) -> Maps:
        """Add dilated convolutions side by side, and two that reduce their maps."""
        builder = self.builder
        wide = builder.signal(len(DILATIONS) * width, builder.steps(x))
        for i, dilation in enumerate(DILATIONS):
            side = wide.pick(i * width, width)
            self._dilated(f"{name}.convs.{i}", x, width, side, dilation)
        reduced = self._conv(
            f"{name}.reduce.0",
            wide,
            2 * width,
            kernel=KERNEL,
            activation="relu" if self.rectified else "none",
        )
        return self._dilated(f"{name}.reduce.2", reduced, width, target)


def unused_arrays(variant: Variant, filters: int, streams: Sequence[str]) -> dict[str, Any]:
    """Give the shapes of what a variant keeps without a use, by name."""
    if variant == "original":
        return {}
    shapes = {"weight": (filters // 2, filters, 1), "bias": (filters // 2,)}
    return {f"{s}.unused.{name}": shape for s in streams for name, shape in shapes.items()}
