"""A small ONNX file written by hand, sound or spoilt: the mean of each signal, a matrix, a softmax.

The wire format of protobuf takes a few lines, so that no test of a bad file needs the library onnx.
"""

import json
from pathlib import Path

import numpy as np

FLOAT = 1
CARD = {
    "format": "sleeptools-card",
    "version": 1,
    "model": "mean-of-signals",
    "montage": ["EEG Fpz-Cz", "EOG horizontal"],
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": ["W", "N1", "N2", "N3", "REM"],
    "scaling": [],
    "licence": "CC0-1.0",
}
WEIGHTS = np.arange(10, dtype=np.float32).reshape(2, 5) / 100
BIAS = np.arange(5, dtype=np.float32) / 5


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of a message: a whole number, or bytes or a text with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(key, value):
    return field(1, key) + field(2, value)


def tensor(name, values, location=""):
    head = b"".join(field(1, n) for n in values.shape) + field(2, FLOAT) + field(8, name)
    if location:
        return head + field(13, entry("location", location)) + field(14, 1)
    return head + field(9, values.tobytes())


def value_info(name, shape, kind=FLOAT):
    axes = [field(2 if isinstance(n, str) else 1, n) for n in shape]
    dims = b"".join(field(1, axis) for axis in axes)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def node(kind, inputs, output, domain="", attributes=b""):
    names = b"".join(field(1, n) for n in inputs)
    head = names + field(2, output) + field(4, kind) + attributes
    return head + (field(7, domain) if domain else b"")


def network(
    *, batch="N", channels=2, samples=3000, location="", domain="", op="Softmax", metadata=None
):
    """Content of the file; without `op` the output are logits."""
    axes = field(5, field(1, "axes") + field(8, 2) + field(20, 7))
    keep = field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    nodes = [
        node("ReduceMean", ["x"], "means", attributes=axes + keep),
        node("MatMul", ["means", "weights"], "product"),
        node("Add", ["product", "bias"], "logits"),
        *([node(op, ["logits"], "p", domain)] if op else []),
    ]
    graph = (
        b"".join(field(1, n) for n in nodes)
        + field(2, "graph")
        + field(5, tensor("weights", WEIGHTS, location))
        + field(5, tensor("bias", BIAS))
        + field(11, value_info("x", [batch, channels, samples]))
        + field(12, value_info("p" if op else "logits", [batch, 5]))
    )
    opsets = field(8, field(2, 17))
    opsets += field(8, field(1, domain) + field(2, 1)) if domain else b""
    entries = b"".join(field(14, entry(k, v)) for k, v in (metadata or {}).items())
    return field(1, 8) + field(7, graph) + opsets + entries


def write(path, card=None, **settings):
    """Write a file, and its card beside it unless that is {}."""
    path = Path(path)
    path.write_bytes(network(**settings))
    if card != {}:
        path.with_suffix(".json").write_text(json.dumps(CARD | (card or {})))
    return path


def expected(x):
    """What the network gives for (epochs, 2, samples)."""
    logits = x.mean(-1) @ WEIGHTS + BIAS
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
