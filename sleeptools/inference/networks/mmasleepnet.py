"""MMASleepNet on NumPy arrays: streams, modal-wise SE, attention, feed-forward, classifier.

Five calls of the native core for a batch, prepared once for its size;
`sleeptools.models.mmasleepnet` has the equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sleeptools.inference.plan_network import PackedStreams
from sleeptools.inference.weights import Weights
from sleeptools.native import (
    Floats,
    Precision,
    attention,
    bfloat16,
    classifier,
    feed_forward,
    modal_se,
    prepared,
)
from sleeptools.native.layer_tables import mmasleepnet
from sleeptools.native.prepared import NetworkPool, PreparedOp
from sleeptools.preprocessing.sequences import InputSpan

HALF = True  # multiplies in bfloat16 where asked to
KERNELS_FOR = {"se_reduction": 1, "gate": "modality", "scale": "head", "projection": True}
"""Settings that the kernels are for: a model with others runs through torch."""
SE = ("conv1", "conv2", "squeeze", "excite")


class Network:
    """A trained MMASleepNet.

    Parameters
    ----------
    config
        Settings of the model, as in config.json.
    weights
        Arrays of model.safetensors.
    precision
        Precision of the streams and of the encoder's matrices; all sums are float32.
    """

    span = InputSpan()

    def __init__(self, config: Mapping[str, Any], weights: Weights, precision: Precision) -> None:
        self.precision: Precision = precision
        self.fusion = config["fusion"]
        self.reading = config["tokens"]
        self.modalities = mmasleepnet.modalities(config["modalities"])
        self.tokens, self.width = mmasleepnet.tokens(config["modalities"], config["tokens"])
        branches = mmasleepnet.branches(config["eeg"], config["kernels"], config["modalities"])
        chains = {
            f"branches.{branch.modality}.{stream}": chain
            for branch in branches
            for stream, chain in branch.chains.items()
        }
        slope = mmasleepnet.SLOPE
        self.streams = PackedStreams(weights, chains, "leaky_relu", slope, precision)
        if self.fusion == "full":
            self.se: Any = (*_modal_se(weights, self.modalities), config["se"])
        if self.fusion != "mbfe":
            self._take_encoder(weights)
        dense = weights.linear("linear1", mmasleepnet.UNITS, self.tokens * self.width)
        self.classifier = (*dense, *weights.linear("linear2", config["stages"], mmasleepnet.UNITS))
        self.pool = NetworkPool(self._prepare)

    def _take_encoder(self, weights: Weights) -> None:
        d, hidden = self.width, mmasleepnet.HIDDEN
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

    def _matrix(self, w: Floats) -> bfloat16.Weights:
        return bfloat16.round_to_bf16(w) if self.precision == "bf16" else np.array(w)

    def __call__(self, x: Floats) -> Floats:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV, C-contiguous.

        Returns
        -------
        ndarray
            The probability of each stage, (B, stages) float32.
        """
        return self.pool(x)

    def _prepare(self, size: tuple[int, ...]) -> prepared.PreparedNetwork:
        x = np.empty(size, np.float32)
        network_ops = [self.streams.prepare(x)]
        network_ops += self._tokenise(network_ops[-1].out)
        flat, gate = network_ops[-1].out.reshape(len(x), self.tokens * self.width), None
        if self.fusion != "mbfe":
            network_ops += self._encode(flat.reshape(-1, self.tokens, self.width))
            encoded = network_ops[-1].out.reshape(flat.shape)
            flat, gate = (flat, encoded) if self.fusion == "full" else (encoded, None)
        network_ops.append(classifier.classifier.prepare(flat, gate, *self.classifier))
        return prepared.PreparedNetwork(x, network_ops)

    def _tokenise(self, fused: Floats) -> list[PreparedOp]:
        """(B, 64 M, 24) to (B, T, D), weighed by modality on the way."""
        token_ops = []
        f = fused.reshape(len(fused), self.modalities, mmasleepnet.MAPS, mmasleepnet.STEPS)
        if self.fusion == "full":
            token_ops.append(modal_se.modal_se.prepare(f, *self.se))
            f = token_ops[-1].out
        if self.reading == "paper":
            token_ops.append(prepared.contiguous(f.swapaxes(2, 3)))  # a row for each step
        return token_ops

    def _encode(self, z: Floats) -> list[PreparedOp]:
        """(B, T, D) to the same, as rows."""
        attended = attention.attention.prepare(
            z, *self.attention, mmasleepnet.HEADS, precision=self.precision
        )
        rows = attended.out.reshape(-1, self.width)
        dense = feed_forward.feed_forward.prepare(
            rows, *self.feed_forward, self.precision, norm=self.norm
        )
        return [attended, dense]


def _modal_se(weights: Weights, m: int) -> list[Floats]:
    """Weight (M, M) and bias (M,) of the block's four layers, BatchNorm folded into two."""
    arrays: list[Floats] = []
    for layer in SE:
        w = weights.take(f"se.{layer}.weight", m, m, 1, 1).reshape(m, m)
        bias = weights.take(f"se.{layer}.bias", m)
        if layer.startswith("conv"):
            w, bias = weights.fold(w, bias, f"se.norm{layer[-1]}")
        arrays += [w, bias]
    return arrays
