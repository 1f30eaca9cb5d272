"""MASleepNet on NumPy arrays: the streams, and plans of the native core for what follows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleeptools.inference.plan_network import PackedPlan, PackedStreams, PlanNetwork
from sleeptools.inference.weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.native.check import check_shape
from sleeptools.native.conv_streams import ConvStream, stream_starts
from sleeptools.native.layer_tables import attnsleep, masleepnet
from sleeptools.preprocessing.sequences import InputSpan

HALF = True  # multiplies in bfloat16 where asked to
SAMPLES = 3000


class Network(PlanNetwork):
    """A trained MASleepNet.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the products.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        eeg, layers, stages = int(config["eeg"]), int(config["layers"]), int(config["stages"])
        self.channels = eeg + 2
        self.span = InputSpan(int(config["sequence"]))
        modalities = [(0, eeg), (eeg, 1), (eeg + 1, 1)]
        if config["modalities"] == "eeg":
            del modalities[1:]
        names = ("0",) if config["streams"] == "small" else ("small", "large")
        chains = {
            f"streams.{i}.{name}": ConvStream(*channels, layers)
            for i, channels in enumerate(modalities)
            for name, layers in zip(names, attnsleep.STREAMS, strict=False)
        }
        _, _, steps = stream_starts([*chains.values()], SAMPLES)
        streams = PackedStreams(weights, chains, "gelu", 0.0, precision)
        epochs = self.span.sequence
        sizes, alone = (len(modalities), steps, layers), epochs == 1
        graphs = [
            masleepnet.epoch_graph(
                weights, sizes, stages if alone else 0, excitation=config["excitation"]
            )
        ]
        if not alone:
            graphs.append(masleepnet.sequence_graph(weights, epochs, layers, stages))
        super().__init__([streams, *(PackedPlan(graph, precision) for graph in graphs)], stages)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, 3000), uV: the probability of each stage, (B, stages).

        Sequences are (B, epochs, channels, 3000), and (B, epochs, stages).
        """
        epochs = (self.span.sequence,) if self.span.several else ()
        check_shape("masleepnet", "x", x.shape, (len(x), *epochs, self.channels, SAMPLES))
        return self.pool(x).reshape(len(x), *epochs, self.stages)
