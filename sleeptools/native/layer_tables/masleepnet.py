"""Layers of MASleepNet behind its streams: excitation, LSTM, additive attention, classifier.

The one table behind the model in PyTorch (`sleeptools.models.masleepnet`) and the graphs with which
it scores without torch; the streams are AttnSleep's.
"""

from __future__ import annotations

import numpy as np

from sleeptools.native.conv_graph import GATES, GraphBuilder, LayerWeights, Maps
from sleeptools.native.layer_tables.attnsleep import MAPS

REDUCTION = 16
HIDDEN = 128  # of the LSTM, each way
WAYS = {"": False, "_reverse": True}


def epoch_graph(
    weights: LayerWeights, sizes: tuple[int, int, int], stages: int, *, excitation: bool
) -> GraphBuilder:
    """Write down what follows the streams within an epoch.

    Parameters
    ----------
    sizes
        Modalities, steps and layers of the LSTM; the graph reads maps (modalities * 128, steps).
    stages
        Number of stages: it gives (stages, 1); 0: the pooled features (256, 1).
    excitation
        Whether squeeze-and-excitation weighs the maps.
    """
    modalities, steps, layers = sizes
    builder = GraphBuilder()
    x = builder.input(modalities * MAPS, steps)
    if excitation:
        x = _excite(builder, weights, x, modalities)
    x = _add_lstm(builder, weights, x, "steps", layers)
    pooled = _pool(builder, weights, x)
    if stages:
        _classify(builder, weights, pooled, stages)
    return builder


def sequence_graph(weights: LayerWeights, epochs: int, layers: int, stages: int) -> GraphBuilder:
    """Write down what follows over a sequence: (epochs, 256) features to (epochs, stages)."""
    builder = GraphBuilder()
    x = builder.transpose(builder.input(epochs, 2 * HIDDEN))  # (256, epochs)
    x = _add_lstm(builder, weights, x, "epochs", layers)
    builder.transpose(_classify(builder, weights, x, stages))
    return builder


def _classify(builder: GraphBuilder, weights: LayerWeights, x: Maps, stages: int) -> Maps:
    """Add the linear layer."""
    weight, bias = weights.linear("linear", stages, 2 * HIDDEN)
    return builder.convolve(x, weight[:, :, None], bias=bias)


def _excite(builder: GraphBuilder, weights: LayerWeights, x: Maps, modalities: int) -> Maps:
    """Add the squeeze-and-excitation of each modality."""
    weighed = builder.signal(x.width, builder.steps(x))
    for i in range(modalities):
        maps, name = x.pick(i * MAPS, MAPS), f"excitations.{i}"
        bottleneck = MAPS // REDUCTION
        squeeze, squeeze_bias = weights.linear(f"{name}.squeeze", bottleneck, MAPS)
        excite, excite_bias = weights.linear(f"{name}.excite", MAPS, bottleneck)
        squeezed = builder.convolve(
            builder.average(maps, 1), squeeze[:, :, None], bias=squeeze_bias, activation="relu"
        )
        shares = builder.convolve(
            squeezed, excite[:, :, None], bias=excite_bias, activation="sigmoid"
        )
        builder.multiply(maps, shares, weighed.pick(i * MAPS, MAPS))
    return weighed


def _add_lstm(
    builder: GraphBuilder, weights: LayerWeights, x: Maps, name: str, layers: int
) -> Maps:
    """Add a bidirectional LSTM, (inputs, steps) to (256, steps)."""
    rows = GATES * HIDDEN
    for layer in range(layers):
        states = builder.signal(2 * HIDDEN, builder.steps(x))
        for i, (way, is_reversed) in enumerate(WAYS.items()):
            suffix = f"l{layer}{way}"
            inputs = weights.take(f"{name}.weight_ih_{suffix}", rows, x.width)
            state = weights.take(f"{name}.weight_hh_{suffix}", rows, HIDDEN)
            bias = sum(
                np.array(weights.take(f"{name}.bias_{kind}_{suffix}", rows), np.float64)
                for kind in ("ih", "hh")
            )
            gates = builder.convolve(x, inputs[:, :, None], bias=bias)
            target = states.pick(i * HIDDEN, HIDDEN)
            builder.lstm(gates, state, target, is_reversed=is_reversed)
        x = states
    return x


def _pool(builder: GraphBuilder, weights: LayerWeights, x: Maps) -> Maps:
    """Add additive attention: the mean over the steps, weighed by the softmax of their scores."""
    hidden, hidden_bias = weights.linear("pool.hidden", HIDDEN, 2 * HIDDEN)
    score = weights.take("pool.score.weight", 1, HIDDEN)
    inner = builder.convolve(x, hidden[:, :, None], bias=hidden_bias, activation="tanh")
    scores = builder.convolve(inner, score[:, :, None])
    query = builder.convolve(builder.average(scores, 1), np.zeros((1, 1, 1)), bias=np.ones(1))
    return builder.attend(query, scores, x, 1)
