"""SleepPrintNet on NumPy arrays: native streams, map network and classifier; the map by NumPy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedPlan, PackedStreams
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision, as_floats, classifier, prepared
from sleeptools.native.check import check_shape
from sleeptools.native.conv_streams import ConvStream, stream_starts
from sleeptools.native.layer_tables import sleepprintnet
from sleeptools.native.layer_tables.sleepprintnet import PIXELS, POOLED
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
        chains, first = dict[str, ConvStream](), 0
        for name, count, width in zip(MODALITIES, sizes, sleepprintnet.WIDTHS, strict=True):
            layers = sleepprintnet.stream_layers(width, variant, config["sample_rate"])
            for stream, chain in zip(("small", "large"), layers, strict=True):
                chains[f"{name}.{stream}"] = ConvStream(first, count, chain)
            first += count
        slope = sleepprintnet.leak(variant)
        self.streams = PackedStreams(weights, chains, "leaky_relu", slope, precision)
        self.map = BandPower(config, self.samples)
        self.spatial = PackedPlan(sleepprintnet.MapGraph(weights, variant).write(), "fp32")
        _, maps, steps = stream_starts(
            [*chains.values()], self.samples * (1 + 2 * self.span.context)
        )
        hidden = sleepprintnet.hidden_units(variant)
        inputs = maps * steps + 2 * sleepprintnet.map_width(variant) * POOLED**2
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

    def fill_map(self, x: Floats, rows: Floats) -> None:
        """Write the map of epochs (B, channels, samples of all) to rows (B, 6, 16, 18)."""
        start = self.span.context * self.samples
        middle = x[:, : self.electrodes, start : start + self.samples]
        with np.errstate(invalid="ignore", over="ignore"):  # not finite: so is the result
            rows[:, :-1, :, :PIXELS] = self.map(middle)


class PreparedSleepPrintNet(prepared.PreparedNetwork):
    """The network for one size of its input; the map's features are computed first."""

    def __init__(self, network: Network, size: tuple[int, ...]) -> None:
        self.fill_map = network.fill_map
        x = np.empty(size, np.float32)
        bands = network.spatial.values // (PIXELS * sleepprintnet.ROW)
        self.rows = np.zeros((len(x), bands, PIXELS, sleepprintnet.ROW), np.float32)
        self.rows[:, -1, :, :PIXELS] = 1
        self.spatial = network.spatial.prepare(self.rows)
        self.steps = sleepprintnet.pooled_steps()
        streams = network.streams.prepare(x)
        maps = streams.out.reshape(len(x), -1)
        features = np.empty((len(x), network.dense[0].shape[1]), np.float32)
        self.target = features[:, maps.shape[1] :]
        copy = functools.partial(np.copyto, features[:, : maps.shape[1]], maps)
        dense = classifier.classifier.prepare(features, None, *network.dense)
        super().__init__(x, [streams, prepared.by_numpy(copy, (maps, features), features), dense])

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples of all): the probability of each stage."""
        self.fill_map(x, self.rows)
        self.target[:] = self.spatial()[:, :, self.steps].reshape(self.target.shape)
        return super().__call__(x)


class BandPower:
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
        """(B, electrodes, samples) to (B, 5, 16, 16)."""
        if self.centred:
            x = x - x.mean(2, keepdims=True)
        spectra = np.fft.rfft(x[:, :, None] * self.tapers)  # (B, electrodes, tapers, frequencies)
        squares = as_floats(spectra.real**2 + spectra.imag**2)
        power = squares.sum(2) @ self.bands  # (B, electrodes, 5)
        if self.standardised:
            deviation = np.maximum(power.std((1, 2), keepdims=True), np.float32(1e-6))
            power = (power - power.mean((1, 2), keepdims=True)) / deviation
        spread: Floats = power.swapaxes(1, 2) @ self.pixels  # (B, 5, 256)
        return spread.reshape(len(x), -1, PIXELS, PIXELS)
