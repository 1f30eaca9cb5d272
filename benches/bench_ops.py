"""Times every op of the drawer, native against reference, at batch 1, 32 and 256.

`pytest benches/bench_ops.py --benchmark-json=benches/results/ops.json`; conftest.py keeps the JSON
small and writes the table beside it. Both use OpenMP's threads. bfloat16 natively is compared with
autocast of the reference.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from sleeptools import native, registry

PRECISIONS = ("fp32", "bf16")


def cases() -> list[tuple[str, str]]:
    """List op and precision; bfloat16 where the op takes a precision."""
    found = []
    for name in registry.names("ops"):
        function = public(name)
        takes = "precision" in inspect.signature(function).parameters
        found += [(name, precision) for precision in PRECISIONS if takes or precision == "fp32"]
    return found


def public(name: str) -> Any:
    return getattr(registry.load("ops", name), name.replace("-", "_"))


def arguments(name: str, batch: int, precision: str) -> dict[str, Any]:
    """Arguments of the op at the published size, its weights packed as a caller would keep them."""
    op = registry.load("ops", name)
    example = op.examples("cpu", batch=batch)[0]
    if hasattr(op, "ready"):
        example = op.ready(example, precision)
    found = inspect.signature(public(name)).bind(*example).arguments
    return found | ({"precision": "bf16"} if precision == "bf16" else {})


@pytest.mark.parametrize("batch", [1, 32, 256])
@pytest.mark.parametrize("which", ["native", "reference"])
@pytest.mark.parametrize(("name", "precision"), cases())
def test_bench_op(benchmark: Any, name: str, precision: str, which: str, batch: int) -> None:
    if which == "native" and not native.available():
        pytest.skip(native.describe())
    benchmark.extra_info.update(op=name, precision=precision, which=which, batch=batch)
    autocast = which == "reference" and precision == "bf16"
    function = public(name) if which == "native" else registry.load("ops", name).reference
    values = arguments(name, batch, "fp32" if which == "reference" else precision)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        benchmark(function, **values)
