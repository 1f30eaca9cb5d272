"""How long `evaluate` takes on a run of Sleep-EDF-78's size, and whether torch is loaded.

The run has 78 subjects, 153 nights, 195,479 test epochs, 10 folds and 3 seeds, with validation
predictions as `train` writes them; the predictions are drawn, the command is the real one, as a
process of its own with two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from instruments import provenance
from sleeptools import store
from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.runs.folds import LEAK_FREE, folds_table, make_folds, protocol_folds

RESULTS = Path(__file__).parent / "results"
SUBJECTS, NIGHTS, EPOCHS, FOLDS = 78, 153, 195_479, 10
LIMIT = 10.0  # s, of the issue that asked for it


def night(rng: np.random.Generator, number: int, count: int) -> pl.DataFrame:
    """Draw one night: stages that stay for a while, and probabilities that lean to them."""
    turns = rng.integers(0, 5, count)
    truth = np.repeat(turns, rng.integers(4, 30, count))[:count].astype(np.int8)
    logits = rng.normal(0, 1, (count, 5))
    logits[np.arange(count), truth] += 2.2
    p = np.exp(1.5 * logits)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    subject = number // 2 if number < 2 * (NIGHTS - SUBJECTS) else number - (NIGHTS - SUBJECTS)
    columns = {
        "recording": [f"SC4{subject:02d}{number % 2 + 1}"] * count,
        "subject": [f"SC4{subject:02d}"] * count,
        "night": np.full(count, number % 2 + 1, np.int16),
        "epoch": np.arange(count, dtype=np.int32),
        "onset": 3600 + 30.0 * np.arange(count),
        "stage": truth,
        "predicted": p.argmax(1).astype(np.int8),
    }
    return pl.DataFrame(columns | {f"p_{name}": p[:, i] for i, name in enumerate(HUMAN_STAGES)})


def write(folder: Path, seeds: range) -> None:
    """Write the run."""
    sizes = np.full(NIGHTS, EPOCHS // NIGHTS)
    sizes[: EPOCHS % NIGHTS] += 1
    subjects = [f"SC4{i:02d}" for i in range(SUBJECTS)]
    under = protocol_folds(LEAK_FREE, make_folds(subjects, FOLDS, 0), 0)
    config = {
        "format": "sleeptools-run",
        "version": 1,
        "model": {"name": "mmasleepnet"},
        "folds": FOLDS,
        "folds_from": "seed",
        "protocols": [LEAK_FREE],
        "seeds": list(seeds),
    }
    store.write_toml(folder / "config.toml", config)
    store.write_table(folder / "folds.parquet", pl.DataFrame(folds_table({LEAK_FREE: under})))
    for seed in seeds:
        rng = np.random.default_rng(seed)
        predictions = pl.concat([night(rng, i, int(n)) for i, n in enumerate(sizes)])
        assert len(predictions) == EPOCHS
        for fold in under:
            roles = {"val": fold.validation, "test": fold.test}
            by_role = [
                predictions.filter(pl.col("subject").is_in(subjects)).with_columns(
                    role=pl.lit(role)
                )
                for role, subjects in roles.items()
            ]
            path = folder / LEAK_FREE / f"seed-{seed}" / f"fold-{fold.number:02d}"
            store.write_table(path / "predictions.parquet", pl.concat(by_role))
    facts = {"model": "mmasleepnet", "epoch_seconds": 30.0, "simulated": True}
    store.Manifest("sleeptools-run", facts=facts).write(folder)


def measure(folder: Path, cache: Path) -> dict[str, float]:
    """Evaluate once, in a new process."""
    environment = provenance.environment(cache) | {
        "POLARS_MAX_THREADS": "2",
        "OMP_NUM_THREADS": "2",
    }
    program = (
        "import sys; from sleeptools import cli;"
        f"code = cli.run(['evaluate', {str(folder)!r}, '--json']);"
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - begun, os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    assert re.search(r"^False$", done.stderr, re.M), "torch was imported"
    assert json.loads(done.stdout)[0]["results"][0]["epochs"] == EPOCHS
    return {"wall": round(wall, 2), "cpu": round(cpu, 2)}


def markdown(report: dict) -> str:
    wall = [row["wall"] for row in report["runs"]]
    cpu = [row["cpu"] for row in report["runs"]]
    return "\n".join(
        [
            "# Evaluating a run of Sleep-EDF-78's size",
            "",
            f"{EPOCHS:,} test epochs x {report['seeds']} seeds, {SUBJECTS} subjects, 2,000 draws; "
            "`python benches/evaluate.py`. torch was not imported.",
            "",
            "| | median | all |",
            "|---|---|---|",
            f"| wall, s | {statistics.median(wall):.2f} | {', '.join(map(str, wall))} |",
            f"| CPU, s | {statistics.median(cpu):.2f} | {', '.join(map(str, cpu))} |",
            "",
            f"{report['machine']}; commit {report['commit']}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="'-' writes nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        write(folder, range(args.seeds))
        runs = [measure(folder, Path(temporary) / "cache") for _ in range(args.repeat + 1)][1:]
    report = {
        "seeds": args.seeds,
        "runs": runs,
        "limit": LIMIT,
        "commit": provenance.commit(),
        "machine": provenance.machine("numpy", "polars", "scipy"),
    }
    print(markdown(report))
    if str(args.out) != "-":
        (args.out / "evaluate.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "evaluate.md").write_text(markdown(report))


if __name__ == "__main__":
    main()
