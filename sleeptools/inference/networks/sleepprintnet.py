"""SleepPrintNet on NumPy arrays: native streams and classifier; the map of the EEG by NumPy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedStreams
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision, as_floats, classifier, prepared
from sleeptools.native.check import check_shape
from sleeptools.native.conv_streams import ConvStream, stream_starts
from sleeptools.native.layer_tables import sleepprintnet
from sleeptools.native.layer_tables.sleepprintnet import PIXELS, POOL, POOL_STRIDE, POOLED
from sleeptools.native.prepared import NetworkPool
from sleeptools.preprocessing.sequences import InputSpan

HALF = True  # the streams multiply in bfloat16 where asked to
MODALITIES = ("eeg", "eog", "emg")


class Network:
    """A trained SleepPrintNet.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the streams.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        variant = config["variant"]
        self.electrodes = len(config["electrodes"])
        sizes = (self.electrodes, int(config["eog"]), int(config["emg"]))
        self.channels = sum(sizes)
        self.samples = round(config["sample_rate"] * sleepprintnet.EPOCH_SECONDS)
        self.span = InputSpan(context=sleepprintnet.context(variant))
        chains, arrays, first = list[ConvStream](), list[Floats](), 0
        for name, count, width in zip(MODALITIES, sizes, sleepprintnet.WIDTHS, strict=True):
            layers = sleepprintnet.stream_layers(width, variant, config["sample_rate"])
            for stream, chain in zip(("small", "large"), layers, strict=True):
                chains.append(ConvStream(first, count, chain))
                arrays += weights.fold_stream(f"{name}.{stream}", count, chain)
            first += count
        slope = sleepprintnet.leak(variant)
        self.streams = PackedStreams(chains, arrays, "leaky_relu", slope, precision)
        self.map = SpectralMap(config, self.samples)
        self.spatial = MapNetwork(variant, weights)
        _, maps, steps = stream_starts(chains, self.samples * (1 + 2 * self.span.context))
        hidden = sleepprintnet.hidden_units(variant)
        inputs = maps * steps + self.spatial.features
        self.dense = (
            *weights.linear("linear1", hidden, inputs),
            *weights.linear("linear2", config["stages"], hidden),
        )
        self.pool = NetworkPool(self._prepare)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs: the probability of each stage of the middle one, (B, stages).

        Parameters
        ----------
        x
            (B, 3, channels, samples), uV: the epoch before, the epoch, the one after; without
            context (B, channels, samples).
        """
        epochs = (1 + 2 * self.span.context,) if self.span.several else ()
        check_shape("sleepprintnet", "x", x.shape, (len(x), *epochs, self.channels, self.samples))
        if self.span.several:
            x = np.ascontiguousarray(x.swapaxes(1, 2)).reshape(len(x), self.channels, -1)
        return self.pool(x)

    def _prepare(self, size: tuple[int, ...]) -> PreparedSleepPrintNet:
        return PreparedSleepPrintNet(self, size)

    def map_features(self, x: Floats) -> Floats:
        """Give the map's features (B, features) of epochs (B, channels, samples of all)."""
        start = self.span.context * self.samples
        middle = x[:, : self.electrodes, start : start + self.samples]
        with np.errstate(invalid="ignore", over="ignore"):  # not finite: so is the result
            return self.spatial(self.map(middle))


class PreparedSleepPrintNet(prepared.PreparedNetwork):
    """The network for one size of its input; NumPy puts both kinds of features side by side."""

    def __init__(self, network: Network, size: tuple[int, ...]) -> None:
        self.map_features = network.map_features
        x = np.empty(size, np.float32)
        streams = network.streams.prepare(x)
        maps = streams.out.reshape(len(x), -1)
        both = np.empty((len(x), network.dense[0].shape[1]), np.float32)
        self.target = both[:, maps.shape[1] :]
        copy = functools.partial(np.copyto, both[:, : maps.shape[1]], maps)
        dense = classifier.classifier.prepare(both, None, *network.dense)
        super().__init__(x, [streams, prepared.by_numpy(copy, (maps, both), both), dense])

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples of all): the probability of each stage."""
        self.target[:] = self.map_features(x)
        return super().__call__(x)


class SpectralMap:
    """Power of the EEG in five bands over the head."""

    def __init__(self, config: Mapping[str, Any], samples: int) -> None:
        variant, spectrum = config["variant"], config["spectrum"]
        self.standardised = variant == "original"
        self.centred = spectrum == "multitaper"
        self.tapers = as_floats(sleepprintnet.tapers(samples, spectrum))
        self.bands = as_floats(sleepprintnet.band_weights(variant, samples, spectrum))
        spread = sleepprintnet.spread_weights(config["electrodes"], variant, spectrum)
        self.pixels = as_floats(spread.reshape(len(spread), -1))

    def __call__(self, x: Floats) -> Floats:
        """(B, electrodes, samples) to (B, 16, 16, 5)."""
        if self.centred:
            x = x - x.mean(2, keepdims=True)
        spectra = np.fft.rfft(x[:, :, None] * self.tapers)  # (B, electrodes, tapers, frequencies)
        squares = as_floats(spectra.real**2 + spectra.imag**2)
        power = squares.sum(2) @ self.bands  # (B, electrodes, 5)
        if self.standardised:
            deviation = np.maximum(power.std((1, 2), keepdims=True), np.float32(1e-6))
            power = (power - power.mean((1, 2), keepdims=True)) / deviation
        spread: Floats = self.pixels.T @ power  # (B, 256, 5)
        return spread.reshape(len(x), PIXELS, PIXELS, -1)


class MapNetwork:
    """Residual network over the map, maps last."""

    def __init__(self, variant: str, weights: Weights) -> None:
        width, count = sleepprintnet.map_width(variant), len(sleepprintnet.BANDS[variant])
        self.slope = np.float32(sleepprintnet.map_leak(variant))
        self.features = 2 * width * POOLED**2
        original = variant == "original"

        def take(name: str, norm: str | None, *shape: int) -> tuple[Floats, Floats]:
            weight = weights.take(f"spatial.{name}.weight", *shape)
            bias = weights.take(f"spatial.{name}.bias", shape[0]) if original else None
            if norm:
                weight, bias = weights.fold(weight, bias, f"spatial.{norm}")
            assert bias is not None  # the original has one, the other variant its norm
            return weight.transpose(2, 3, 1, 0), bias  # (rows, columns, inputs, outputs)

        self.first = take("first", "norm", width, count, 1, 1)
        self.wide = take("wide", "wide_norm", 2 * width, width, 3, 3)
        self.skip = take("skip", None if original else "skip_norm", 2 * width, width, 1, 1)

    def __call__(self, x: Floats) -> Floats:
        """(B, 16, 16, 5) to (B, features)."""
        x = self._rectified(self._convolve(x, *self.first))
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = self._convolve(padded, *self.wide) + self._convolve(x, *self.skip)
        pooled = self._rectified(highest(highest(x).swapaxes(1, 2)))  # (B, columns, rows, maps)
        return pooled.transpose(0, 3, 2, 1).reshape(len(x), -1)

    def _convolve(self, x: Floats, weight: Floats, bias: Floats) -> Floats:
        rows, columns = (x.shape[i + 1] - weight.shape[i] + 1 for i in range(2))
        total = np.zeros((len(x) * rows * columns, len(bias)), np.float32) + bias
        for i, j in np.ndindex(*weight.shape[:2]):
            seen = x[:, i : i + rows, j : j + columns].reshape(len(total), -1)
            total += seen @ weight[i, j]
        return total.reshape(len(x), rows, columns, -1)

    def _rectified(self, x: Floats) -> Floats:
        return np.maximum(x, 0) + self.slope * np.minimum(x, 0)


def highest(x: Floats) -> Floats:
    """Take the maximum of windows of rows: (B, 16, ...) to (B, 7, ...)."""
    rows = (x[:, i : x.shape[1] - POOL + 1 + i : POOL_STRIDE] for i in range(POOL))
    return functools.reduce(np.maximum, rows)
