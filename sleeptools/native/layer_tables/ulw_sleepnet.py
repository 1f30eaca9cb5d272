"""Layers of ULW-SleepNet: one table, from which the model, the engine and the counts are made.

Every signal goes through the same extractor: blocks of a main stream (two units: separable
convolution, BatchNorm, ReLU, pool over two steps) and a shortcut (two separable convolutions of
kernel 1 and stride 2 with nothing between them). Padding is "same", so lengths are halved upwards.
"""

from __future__ import annotations

import math
from typing import NamedTuple

SAMPLES = 3000  # 30 s at 100 Hz
WIDTHS = (8, 16, 32)  # feature maps after each block
KERNEL = 3
HIDDEN = 64
NORM_EPS = 1e-3
STATISTICS = ("running_mean", "running_var")  # of BatchNorm; not trained


class Separable(NamedTuple):
    """A depthwise convolution and a pointwise one with bias; in a unit, what follows them.

    Parameters
    ----------
    name
        Name of the module that holds it, below the model.
    inputs, outputs
        Feature maps.
    kernel, stride
        Length and step of the depthwise convolution.
    steps
        Time steps of the result, before the pool.
    unit
        Whether BatchNorm, ReLU and a pool over two steps follow.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    steps: int
    unit: bool

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, under PyTorch's names; running statistics among them."""
        shapes: dict[str, tuple[int, ...]] = {
            "depthwise.weight": (self.inputs, 1, self.kernel),
            "pointwise.weight": (self.outputs, self.inputs, 1),
            "pointwise.bias": (self.outputs,),
        }
        if self.unit:
            names = ("weight", "bias", *STATISTICS)
            shapes |= {f"norm.{name}": (self.outputs,) for name in names}
        return {f"{self.name}.{name}": shape for name, shape in shapes.items()}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the two convolutions."""
        return self.steps * self.inputs * (self.kernel + self.outputs)

    @property
    def flops(self) -> int:
        """Two for a multiply-accumulate, one for a bias, two for BatchNorm."""
        return 2 * self.macs + self.steps * self.outputs * (3 if self.unit else 1)


class Block(NamedTuple):
    """Main stream and shortcut, to be added."""

    unit1: Separable
    unit2: Separable
    shortcut1: Separable
    shortcut2: Separable


def blocks(samples: int = SAMPLES) -> list[Block]:
    """List the blocks of the extractor for a signal of so many samples."""
    table, inputs, steps = [], 1, samples
    for i, width in enumerate(WIDTHS):
        half = -(-steps // 2)
        quarter = -(-half // 2)
        name = f"extractor.{i}."
        table.append(
            Block(
                Separable(name + "unit1", inputs, width, KERNEL, 1, steps, unit=True),
                Separable(name + "unit2", width, width, KERNEL, 1, half, unit=True),
                Separable(name + "shortcut1", inputs, width, 1, 2, half, unit=False),
                Separable(name + "shortcut2", width, width, 1, 2, quarter, unit=False),
            )
        )
        inputs, steps = width, quarter
    return table


def dense(signals: int, stages: int) -> list[tuple[str, int, int]]:
    """Name, inputs and outputs of the two linear layers after the extractor."""
    return [("linear1", signals * WIDTHS[-1], HIDDEN), ("linear2", HIDDEN, stages)]


def arrays(signals: int, stages: int = 5) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights, under PyTorch's names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in (layer for block in blocks() for layer in block):
        shapes |= layer.arrays
    for name, inputs, outputs in dense(signals, stages):
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return shapes


def parameters(signals: int, stages: int = 5) -> int:
    """Trainable weights; 13,337 for four signals."""
    shapes = arrays(signals, stages).items()
    return sum(math.prod(shape) for name, shape in shapes if not name.endswith(STATISTICS))


def macs(signals: int, stages: int = 5, samples: int = SAMPLES) -> int:
    """Multiply-accumulates of an epoch as the layers are written; 3,498,352 for four signals."""
    extractor = sum(layer.macs for block in blocks(samples) for layer in block)
    return signals * extractor + sum(i * o for _, i, o in dense(signals, stages))


def flops(signals: int, stages: int = 5, samples: int = SAMPLES) -> int:
    """Operations of an epoch by the paper's count, pools and ReLU for nothing; 7.885 million."""
    table = blocks(samples)
    averaged = table[-1].shortcut2.steps * WIDTHS[-1]
    extractor = sum(layer.flops for block in table for layer in block) + averaged
    return signals * extractor + sum((2 * i + 1) * o for _, i, o in dense(signals, stages))
