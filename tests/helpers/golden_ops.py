"""Makes the golden vectors in tests/data/golden, and reads them.

Run `python tests/helpers/golden_ops.py OP` to make those of a new op; without names, all are made.

Format "sleeptools-golden", version 1, one safetensors file an op, `op_NAME.safetensors`: tensors
`CASE.arg0`, `CASE.arg1`, ... and `CASE.expected`; the metadata entry `arguments` is a JSON list of
the arguments of each case, with null where a tensor stands. The expected output is the reference in
float64, rounded to float32. Run again only when an op's meaning changes, and say why in CHANGELOG.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sleeptools import registry

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LARGEST = 300  # numbers in all tensors of a case; keeps a file at a few kilobytes


def op_path(name: str) -> Path:
    return GOLDEN / f"op_{name.replace('-', '_')}.safetensors"


def write_op(name: str) -> None:
    """Write the small examples of an op with the output of its reference."""
    module = registry.load("ops", name)
    tensors: dict[str, torch.Tensor] = {}
    arguments: list[list[Any]] = []
    for example in module.examples("cpu"):
        values = [a for a in example if isinstance(a, torch.Tensor)]
        if not 0 < values[0].numel() <= sum(v.numel() for v in values) <= LARGEST:
            continue
        case = len(arguments)
        arguments.append([None if isinstance(a, torch.Tensor) else a for a in example])
        for i, a in enumerate(example):
            if isinstance(a, torch.Tensor):
                tensors[f"{case}.arg{i}"] = a.contiguous()
        tensors[f"{case}.expected"] = reference_in_double(module, example).float().contiguous()
    metadata = {"format": "sleeptools-golden", "version": "1", "arguments": json.dumps(arguments)}
    GOLDEN.mkdir(exist_ok=True)
    save_file(tensors, op_path(name), metadata)


def read_op(name: str) -> list[tuple[list[Any], torch.Tensor]]:
    """Read (arguments, expected output) of every case."""
    with safe_open(op_path(name), "pt") as file:
        arguments = json.loads(file.metadata()["arguments"])
        return [
            (
                [
                    file.get_tensor(f"{case}.arg{i}") if a is None else a
                    for i, a in enumerate(given)
                ],
                file.get_tensor(f"{case}.expected"),
            )
            for case, given in enumerate(arguments)
        ]


def reference_in_double(module: Any, example: tuple[Any, ...]) -> torch.Tensor:
    double = [
        a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in example
    ]
    result: torch.Tensor = module.reference(*double)
    return result


def main() -> None:
    for name in sys.argv[1:] or registry.names("ops"):
        write_op(name)
    # models: one seeded small input and its hypnodensity each, to be added here


if __name__ == "__main__":
    main()
