"""MMASleepNet on NumPy arrays: streams, modal-wise SE, attention, feed-forward, classifier.

Five calls of the native core for a batch; `sleeptools.models.mmasleepnet` has the equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools import blocks, streams
from sleeptools.blocks import Weights as Matrix
from sleeptools.engine._weights import Weights
from sleeptools.native import Floats, Precision
from sleeptools.shapes import mmasleepnet as shapes

HALF = True  # multiplies in bfloat16 where asked to
SE = ("conv1", "conv2", "squeeze", "excite")


class Network:
    """A trained MMASleepNet.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Of model.safetensors.
    precision
        Of the streams and of the encoder's matrices; all sums are float32.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        self.precision: Precision = precision
        self.fusion = config["fusion"]
        self.reading = config["tokens"]
        self.modalities = shapes.modalities(config["modalities"])
        self.tokens, self.width = shapes.tokens(config["modalities"], config["tokens"])
        found = shapes.branches(config["eeg"], config["kernels"], config["modalities"])
        self.shape = tuple(streams.describe(c for b in found for c in b.chains.values()))
        self.convolutions = _convolutions(weights, found)
        self.packed = streams.pack(self.convolutions, self.shape, precision)
        if self.fusion == "full":
            self.se: Any = (*_modal_se(weights, self.modalities), config["se"])
        if self.fusion != "mbfe":
            self._take_encoder(weights)
        dense = weights.linear("linear1", shapes.UNITS, self.tokens * self.width)
        self.classifier = (*dense, *weights.linear("linear2", config["stages"], shapes.UNITS))

    def _take_encoder(self, weights: Weights) -> None:
        d, hidden = self.width, shapes.HIDDEN
        inside = weights.take("encoder.self_attn.in_proj_weight", 3 * d, d)
        bias = weights.take("encoder.self_attn.in_proj_bias", 3 * d)
        out, out_bias = weights.linear("encoder.self_attn.out_proj", d, d)
        norms = [
            (weights.take(f"encoder.{n}.weight", d), weights.take(f"encoder.{n}.bias", d))
            for n in ("norm1", "norm2")
        ]
        self.attention = (self._matrix(inside), bias, self._matrix(out), out_bias, *norms[0])
        first, b1 = weights.linear("encoder.linear1", hidden, d)
        second, b2 = weights.linear("encoder.linear2", d, hidden)
        self.feed_forward = (self._matrix(first), b1, self._matrix(second), b2)
        self.norm = norms[1]

    def _matrix(self, w: Floats) -> Matrix:
        return blocks.round_to_bf16(w) if self.precision == "bf16" else np.array(w)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV.

        Returns
        -------
        ndarray
            Logits (B, stages) float32.
        """
        fused = streams.two_stream_conv(
            x, self.convolutions, self.shape, "leaky_relu", shapes.SLOPE, self.precision,
            self.packed,
        )  # fmt: skip
        tokens = self._tokenise(fused)  # (B, T, D)
        gate = None
        if self.fusion != "mbfe":
            encoded = self._encode(tokens).reshape(len(x), -1)
            tokens, gate = (tokens, encoded) if self.fusion == "full" else (encoded, None)
        return blocks.classifier(tokens.reshape(len(x), -1), gate, *self.classifier)

    def _tokenise(self, fused: Floats) -> Floats:
        """(B, 64 M, 24) to (B, T, D), weighed by modality on the way."""
        f = fused.reshape(len(fused), self.modalities, shapes.MAPS, shapes.STEPS)
        if self.fusion == "full":
            f = blocks.modal_se(f, *self.se)
        if self.reading == "paper":
            f = f.swapaxes(2, 3)
        return f.reshape(len(f), self.tokens, self.width)

    def _encode(self, z: Floats) -> Floats:
        """(B, T, D) to the same."""
        z = blocks.attention(z, *self.attention, shapes.HEADS, precision=self.precision)
        rows = z.reshape(-1, self.width)
        return blocks.feed_forward(rows, *self.feed_forward, self.precision, norm=self.norm)


def _convolutions(weights: Weights, branches: list[shapes.Branch]) -> Floats:
    """Weight and bias of every convolution in turn, BatchNorm folded."""
    parts = []
    for branch in branches:
        for stream, chain in branch.chains.items():
            inputs = chain.channels
            for name, layer in zip(shapes.CONVOLUTIONS, chain.layers, strict=True):
                where = f"branches.{branch.modality}.{stream}.{name}"
                w = weights.take(f"{where}.conv.weight", layer.outputs, inputs, layer.kernel)
                parts += [part.ravel() for part in weights.fold(w, None, f"{where}.norm")]
                inputs = layer.outputs
    return np.concatenate(parts)


def _modal_se(weights: Weights, m: int) -> list[Floats]:
    """Weight (M, M) and bias (M,) of the block's four layers, BatchNorm folded into two."""
    found: list[Floats] = []
    for layer in SE:
        w = weights.take(f"se.{layer}.weight", m, m, 1, 1).reshape(m, m)
        bias = weights.take(f"se.{layer}.bias", m)
        if layer.startswith("conv"):
            w, bias = weights.fold(w, bias, f"se.norm{layer[-1]}")
        found += [w, bias]
    return found
