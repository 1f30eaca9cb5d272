"""Layers of SleepPrintNet: streams of three modalities, and the fixed map of the EEG's power.

The one table behind the model in PyTorch (`sleeptools.models.sleepprintnet`) and the network that
scores without torch. The map has power in five bands over the head: an electrode's power is spread
over 16 x 16 pixels from its place in a grid of 5 x 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sleeptools.native import Floats
from sleeptools.native.conv_graph import GraphBuilder, LayerWeights, Maps
from sleeptools.native.conv_streams import ConvLayer
from sleeptools.native.layer_tables import mmasleepnet

Doubles = NDArray[np.float64]

GRID = 5
ROWS = (
    ("", "Fp1", "Fpz", "Fp2", ""),
    ("F7", "F3", "Fz", "F4", "F8"),
    ("T3", "C3", "Cz", "C4", "T4"),
    ("T5", "P3", "Pz", "P4", "T6"),
    ("", "O1", "Oz", "O2", ""),
)
CELLS = {name: (r, c) for r, row in enumerate(ROWS) for c, name in enumerate(row) if name}
PIXELS = 16
BANDS = {  # Hz, both ends included
    "original": ((1, 3), (4, 7), (8, 13), (14, 30), (31, 50)),
    "mmasleepnet": ((0, 4), (4, 8), (8, 13), (13, 30), (30, 50)),
}
AUTHORS_PIXELS = {  # row and column in the program of the MMASleepNet authors
    "F3": (4, 3),
    "C3": (7, 4),
    "O1": (14, 5),
    "F4": (4, 12),
    "C4": (7, 11),
    "O2": (14, 10),
}
EPOCH_SECONDS = 30
HALF_BANDWIDTH = 4  # of the tapers, in steps of the spectrum
CONCENTRATION = 0.9  # tapers with less of their energy within the bandwidth are left out
WIDTHS = (64, 32, 32)  # maps of the first layers: EEG, EOG, EMG
POOL, POOL_STRIDE = 4, 2  # of the map
POOLED = 7  # pixels a side after the map's pool
GAP = 2  # zeros after a row of the map
ROW = PIXELS + GAP
CUBIC = -0.75  # sharpness of the interpolation, as PyTorch's


def hidden_units(variant: str) -> int:
    """Units of the classifier's hidden layer."""
    return 128 if variant == "original" else 256


def leak(variant: str) -> float:
    """Slope of the streams' LeakyReLU."""
    return 0.3 if variant == "original" else 0.01


def map_width(variant: str) -> int:
    """Give the maps of the map network's first layer; the second has twice as many."""
    return 16 if variant == "original" else 32


def map_leak(variant: str) -> float:
    """Slope of the LeakyReLU in the map's network."""
    return 0.0 if variant == "original" else 0.01


def context(variant: str) -> int:
    """Neighbouring epochs on either side that the model takes to score one."""
    return int(variant == "original")


def stream_layers(
    width: int, variant: str, sample_rate: float
) -> tuple[tuple[ConvLayer, ...], tuple[ConvLayer, ...]]:
    """Layers of the short-kernel and of the long-kernel stream of a modality."""
    if variant == "mmasleepnet":
        return mmasleepnet.layers(width, (64, 512), 24)
    rate, wide = int(sample_rate), 2 * width
    first = [(rate // 2, rate // 16), (4 * rate, rate // 2)]  # kernel, stride
    short, long = ((k, s, (k - s) // 2) for k, s in first)
    return (
        (
            ConvLayer(width, *short, (8, 8, 0)),
            ConvLayer(wide, 8, 1, 4),
            ConvLayer(wide, 8, 1, 3),
            ConvLayer(wide, 8, 1, 4, (4, 4, 0)),
        ),
        (
            ConvLayer(width, *long, (4, 4, 0)),
            ConvLayer(wide, 6, 1, 3),
            ConvLayer(wide, 6, 1, 2),
            ConvLayer(wide, 6, 1, 3, (2, 2, 0)),
        ),
    )


def tapers(samples: int, spectrum: str) -> Doubles:
    """Windows of the spectra whose squares add up to the power: (windows, samples).

    "hann", or "multitaper": discrete prolate spheroidal sequences, weighted by their concentration,
    as in MNE's `psd_array_multitaper` with its defaults; the power that they give is in uV^2, not
    divided by the rate.
    """
    if spectrum == "hann":
        phase = 2 * np.pi / samples * np.arange(samples)
        return np.asarray(0.5 - 0.5 * np.cos(phase))[None]
    from scipy.signal.windows import dpss  # takes a second, and only this spectrum needs it

    windows, ratios = dpss(samples, HALF_BANDWIDTH, 2 * HALF_BANDWIDTH, return_ratios=True)
    concentrated = ratios > CONCENTRATION
    windows, ratios = windows[concentrated], ratios[concentrated]
    return np.asarray(windows * np.sqrt(2 * ratios / ratios.sum())[:, None])


def band_weights(variant: str, samples: int, spectrum: str) -> Doubles:
    """Weight of each frequency in each band, of its mean or of its sum: (frequencies, 5)."""
    steps = np.arange(samples // 2 + 1)  # of 1/30 Hz: a band's ends are whole ones
    inside = [
        (steps >= low * EPOCH_SECONDS) & (steps <= high * EPOCH_SECONDS)
        for low, high in BANDS[variant]
    ]
    bands = np.stack(inside, 1).astype(np.float64)
    if spectrum == "hann":
        return np.asarray(bands / bands.sum(0))
    bands[0] /= 2  # 0 Hz and, as the number of samples is even, half the rate have no twin
    bands[-1] /= 2
    return bands


def spread_weights(electrodes: Sequence[str], variant: str, spectrum: str) -> Doubles:
    """Weight of each electrode in each pixel: (electrodes, 16, 16)."""
    images = np.zeros((len(electrodes), PIXELS, PIXELS))
    along = _cubic_weights()
    for image, name in zip(images, electrodes, strict=True):
        row, column = CELLS[name]
        if variant == "original":
            image[:] = np.outer(along[:, row], along[:, column])
        else:
            pixel = (3 * row + 2, 3 * column + 2)
            image[AUTHORS_PIXELS.get(name, pixel) if spectrum == "multitaper" else pixel] = 1
    return images


def _cubic_weights() -> Doubles:
    """Weight of each place of the grid in each pixel of a side, (16, 5): a cubic convolution.

    Keys, "Cubic convolution interpolation for digital image processing", 1981; the grid's edge goes
    on outside.
    """
    positions = np.arange(PIXELS) * (GRID - 1) / (PIXELS - 1)
    weights = np.zeros((PIXELS, GRID))
    for pixel, position in enumerate(positions):
        below = int(position)
        for cell in range(below - 1, below + 3):
            weights[pixel, min(max(cell, 0), GRID - 1)] += _cubic(abs(position - cell))
    return weights


def _cubic(x: float) -> float:
    if x <= 1:
        return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    return CUBIC * (((x - 5) * x + 8) * x - 4) if x < 2 else 0.0  # noqa: PLR2004 - its reach


class MapGraph:
    """Writes down the residual network over the map.

    The map's rows follow each other, with `GAP` zeros after each, so that a convolution over two
    axes is three over one, and a pool two. The graph reads the bands and a last map, 1 in the
    pixels and 0 between the rows, which the biases come from: (6, 288).

    Parameters
    ----------
    weights
        The model's arrays.
    variant
        Setting of the model.
    """

    def __init__(self, weights: LayerWeights, variant: str) -> None:
        self.weights = weights
        self.variant = variant
        self.width = map_width(variant)

    def write(self) -> GraphBuilder:
        """Write the graph down; it gives (maps, 116), the pooled map at `pooled_steps()`."""
        builder, width = GraphBuilder(), self.width
        x = builder.input(len(BANDS[self.variant]) + 1, PIXELS * ROW)
        first, bias = self._take("first", "norm", width, x.width - 1, 1)
        joined = np.concatenate([first[:, :, 0], bias[:, None, None]], 1)
        slope = map_leak(self.variant)
        x = builder.convolve(
            x, joined, activation="prelu", slopes=np.full(width, slope, np.float32)
        )
        wide, bias = self._take("wide", "wide_norm", 2 * width, width, 3)
        original = self.variant == "original"
        skip, skip_bias = self._take("skip", None if original else "skip_norm", 2 * width, width, 1)
        wide = wide.copy()
        wide[:, :, 1, 1] += skip[:, :, 0, 0]
        rows: list[Maps] = []
        for row in range(3):
            target = builder.signal(2 * width, PIXELS * ROW)
            last: dict[str, Any] = {"bias": bias + skip_bias} if row == 2 else {}  # noqa: PLR2004
            pad = 1 - (row - 1) * ROW
            rows = [builder.convolve(x, wide[:, :, row], target, pad=pad, added=rows, **last)]
        across = builder.pool(rows[0], POOL, stride=POOL_STRIDE)
        builder.pool(
            across,
            POOL,
            stride=1,
            dilation=ROW // POOL_STRIDE,
            activation="prelu",
            slopes=np.full(2 * width, slope, np.float32),
        )
        return builder

    def _take(
        self, name: str, norm: str | None, outputs: int, inputs: int, kernel: int
    ) -> tuple[Floats, Floats]:
        """Take a convolution, the BatchNorm after it folded: (outputs, inputs, rows, columns)."""
        weight = self.weights.take(f"spatial.{name}.weight", outputs, inputs, kernel, kernel)
        original = self.variant == "original"
        bias = self.weights.take(f"spatial.{name}.bias", outputs) if original else None
        if norm:
            return self.weights.fold(weight, bias, f"spatial.{norm}")
        assert bias is not None  # the original has one, the other variant its norm
        return weight, bias


def pooled_steps() -> NDArray[np.intp]:
    """Give the steps of the map graph's output that are the pooled map, row by row: (49,)."""
    side = np.arange(POOLED)
    return np.asarray(ROW * side[:, None] + side).ravel()
