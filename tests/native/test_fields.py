"""What the core refuses: fields by name, held against the structs of csrc/ops.h."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sleeptools import native

pytestmark = pytest.mark.skipif(not native.available(), reason=native.describe())

SOURCE = Path(__file__).parents[2] / "csrc" / "ops.h"
LAUNCH = {"device", "stream"}
UNUSED = {"conv_block_backward": {"out"}, "separable_blocks_backward": {"out"}}  # of the op inside
UNUSED |= {"attention_backward": {"out", "bf16"}}
VALUES = {"address": 0, "address or None": None, "bool": True, "number": 0.5}
WRONG = {"address": ("x", 1.5, None, True), "address or None": ("x", 1.5), "bool": (1, None, 0.0)}
WRONG |= {"number": ("x", None, True)}
OPS = native.module("fields").fields() if native.available() else {}
CASES = [(op, field) for op, fields in OPS.items() for field in fields]


def arguments(op: str) -> dict[str, Any]:
    """Make arguments for an empty input, but for sizes that a kernel divides by."""
    return {field: VALUES.get(kind, 0) for field, kind in OPS[op].items()} | {
        "device": native.CPU,
        "stream": 0,
    }


def members(struct: str, text: str) -> set[str]:
    """List the members of a struct of csrc/ops.h, those of a struct inside it in its place."""
    body = re.search(rf"^struct {struct} {{\n(.*?)^}};", text, re.DOTALL | re.MULTILINE)
    assert body
    names: set[str] = set()
    for line in re.findall(r"^  (?!static|struct|enum|//)([\w: ]+[ *].*?);", code(body[1]), re.M):
        kind, declared = re.fullmatch(r"((?:const )?\w+)(.*)", line).groups()  # type: ignore[union-attr]
        for name in declared.split(","):
            inside = kind in ("Norm", "Attention", "ConvBlock", "SeparableBlocks")
            names |= members(kind, text) if inside else {name.strip(" *")}
    return names


def code(body: str) -> str:
    """Leave the declarations of members: no comments, no nested blocks."""
    body = re.sub(r"//.*", "", body)
    body = re.sub(r"^  \S.*\{.*\};? *$", "", body, flags=re.MULTILINE)
    return re.sub(r"^  \S[^;{]*\{\n.*?^  \};?$", "", body, flags=re.DOTALL | re.MULTILINE)


def test_no_op_is_missing() -> None:
    text = SOURCE.read_text()
    listed = dict(re.findall(r"^  OP\((\w+), (\w+)\)", text, re.MULTILINE))
    assert set(OPS) == set(listed)
    for op, struct in listed.items():
        assert set(OPS[op]) == members(struct, text) - UNUSED.get(op, set()), op


@pytest.mark.parametrize(("op", "field"), CASES)
def test_missing(op: str, field: str) -> None:
    fields = arguments(op)
    del fields[field]
    if OPS[op][field] == "address or None":
        pytest.skip("may be left out")
    with pytest.raises(TypeError, match=rf"^{op}: {field} is missing$"):
        native.launch(op, fields)


@pytest.mark.parametrize(("op", "field"), CASES)
def test_wrong_type(op: str, field: str) -> None:
    for value in WRONG.get(OPS[op][field], ("x", 2.0, None, False)):
        with pytest.raises(TypeError, match=rf"^{op}: {field} is .* \(\w+\); expected "):
            native.launch(op, arguments(op) | {field: value})


@pytest.mark.parametrize(("op", "field"), CASES)
def test_out_of_range(op: str, field: str) -> None:
    kind = OPS[op][field]
    if kind in ("bool", "number"):
        pytest.skip("has no range")
    bits = 64 if kind.startswith("address") else int(kind.lstrip("uint"))
    largest = 2 ** (bits - kind.startswith("int")) - 1
    for value in (-1, largest + 1, 2**80):
        with pytest.raises(
            ValueError, match=rf"^{op}: {field} is {value}; expected 0 to {largest}"
        ):
            native.launch(op, arguments(op) | {field: value})


@pytest.mark.parametrize("op", OPS)
def test_unknown(op: str) -> None:
    with pytest.raises(TypeError, match=rf"^{op}: threads is unknown; expected \w+, .*, stream$"):
        native.launch(op, arguments(op) | {"threads": 0})


@pytest.mark.parametrize("op", OPS)
def test_device_is_a_whole_number(op: str) -> None:
    for name in sorted(LAUNCH):
        with pytest.raises(TypeError, match=rf"^{op}: {name} is 'cpu' \(str\); expected "):
            native.launch(op, arguments(op) | {name: "cpu"})
    with pytest.raises(ValueError, match=rf"^{op}: device is -2; expected -1 to 2147483647$"):
        native.launch(op, arguments(op) | {"device": -2})


@pytest.mark.parametrize("op", OPS)
def test_no_positional_arguments(op: str) -> None:
    with pytest.raises(TypeError, match=f"^{op} takes keyword arguments only$"):
        getattr(native.module(op), op)(0, **arguments(op))


def test_arrays_in_place_of_addresses() -> None:
    x, out = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.zeros((1, 2, 3), np.float32)
    fields = {"batch": 1, "steps": 2, "maps": 3, "tasks": 1, "drop_below": 0, "seed": 0}
    native.launch_on_cpu("dropout", x=x, out=out, **fields)
    np.testing.assert_array_equal(out, x)
    with pytest.raises(TypeError, match="dropout: x has items of 8 bytes; expected 4"):
        native.launch_on_cpu("dropout", x=x.astype(float), out=out, **fields)
    with pytest.raises(ValueError, match="not C-contiguous"):
        native.launch_on_cpu("dropout", x=x.swapaxes(1, 2), out=out, **fields)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        native.launch_on_cpu("dropout", x=x, out=out, **fields)


def test_names_that_are_not_interned() -> None:
    x, out = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    fields = {"x": x, "out": out, "batch": 1, "steps": 1, "maps": 1, "tasks": 1, "drop_below": 0}
    fields |= {"seed": 0}
    native.launch_on_cpu("dropout", **{"".join(list(name)): a for name, a in fields.items()})
    assert out.item() == 1
