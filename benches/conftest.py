"""Keeps what `pytest --benchmark-json` writes small, and writes its table."""

from __future__ import annotations

from typing import Any

import torch

from instruments import provenance, timing
from sleeptools import store


def pytest_benchmark_update_json(
    config: Any, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    del benchmarks
    rows = [
        one["extra_info"]
        | {key: round(1e6 * one["stats"][key], 2) for key in ("median", "q1", "q3")}
        for one in output_json["benchmarks"]
    ]
    output_json.clear()
    output_json |= provenance.facts("torch", "numpy")
    output_json |= {"threads": torch.get_num_threads(), "unit": "us", "rows": rows}
    table = config.option.benchmark_json.with_suffix(".md")
    store.write_text(table, markdown(output_json))


def markdown(report: dict[str, Any]) -> str:
    by_case: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in report["rows"]:
        case = (row["op"], row["precision"], row["batch"])
        by_case.setdefault(case, {})[row["which"]] = row["median"]
    lines = [
        "# The native ops, one by one",
        "",
        provenance.describe(report),
        "",
        f"Medians in microseconds on {report['threads']} threads, at MMASleepNet's sizes. The "
        "reference is plain PyTorch; in bf16 under autocast.",
        "",
        *timing.table(
            ["op", "", "batch", "reference", "native", "times reference"],
            [cells(*case, found) for case, found in sorted(by_case.items())],
        ),
        "",
    ]
    return "\n".join(lines)


def cells(op: str, precision: str, batch: int, found: dict[str, float]) -> list[str]:
    start = [op, precision, str(batch), f"{found['reference']:.1f}"]
    if "native" not in found:
        return [*start, "off", ""]
    return [*start, f"{found['native']:.1f}", f"{found['reference'] / found['native']:.2f}"]
