"""Times every op of the drawer, native against reference, at batch 1, 32 and 256.

pytest benches/bench_ops.py --benchmark-group-by=group [--benchmark-json=FILE]
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sleeptools import native, registry


@pytest.mark.parametrize("batch", [1, 32, 256])
@pytest.mark.parametrize("which", ["native", "reference"])
@pytest.mark.parametrize("name", registry.names("ops"))
def test_bench_op(benchmark: Any, name: str, which: str, batch: int) -> None:
    if which == "native" and not native.available():
        pytest.skip(native.describe())
    op = registry.load("ops", name)
    example = op.examples("cpu", batch=batch)[0]
    if which == "native" and hasattr(op, "ready"):
        example = op.ready(example)
    function = op.reference if which == "reference" else getattr(op, name.replace("-", "_"))
    benchmark.group = f"{name}, batch {batch}"
    benchmark.extra_info.update(native=native.describe(), threads=torch.get_num_threads())
    with torch.inference_mode():
        benchmark(function, *example)
