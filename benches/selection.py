"""What does choosing the pass on the scored fold gain? Simulated nights, both protocols.

MMASleepNet learns under `leak-free`, with the test fold watched after every pass, and under
`best-on-test`, on the same folds and seeds. Within one training, the best pass on the test fold
less the pass that validation chose is what choosing alone gains; the protocols' difference also
holds that leak-free trains on fewer subjects. `python benches/selection.py` writes
benches/results/selection.json and .md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from instruments import provenance
from sleeptools import store
from sleeptools.commands import preprocess
from sleeptools.commands.evaluate import evaluate
from sleeptools.commands.simulate import simulate
from sleeptools.preprocessing import presets
from sleeptools.recording.simulators import SIMULATOR
from sleeptools.runs.folds import FOLD_PROTOCOLS, LEAK_FREE

RESULTS = Path(__file__).parent / "results"
METRICS = ("accuracy", "kappa", "macro_f1")


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from sleeptools.commands import train

    raw = simulate(
        "sleep-edf",
        folder / "raw",
        subjects=options.subjects,
        hours=options.hours,
        seed=provenance.HELD_OUT_SEED,
    )
    epochs = preprocess.preprocess(presets.load("sleep-edf"), raw, folder / "epochs")
    recipe = {"batch": options.batch, "learning_rate": options.learning_rate}
    train_options = train.TrainOptions(
        folds=options.folds,
        passes=options.passes,
        protocols=FOLD_PROTOCOLS,
        watch_test=True,
        explain=False,
        seeds=tuple(range(options.seeds)),
        settings={"recipe": recipe},
    )
    begun = time.process_time()
    train.train(epochs, folder / "run", train_options)
    seconds = time.process_time() - begun
    evaluation = evaluate(folder / "run")
    chosen = evaluation.table("selection").filter(protocol=LEAK_FREE)
    gain = evaluation.table("gain")
    gain = gain.filter(pl.col("stage").is_null(), pl.col("metric").is_in(METRICS))
    return {
        "nights": options.subjects,
        "hours": options.hours,
        "folds": options.folds,
        "passes": options.passes,
        "seeds": options.seeds,
        "recipe": recipe,
        "simulator": SIMULATOR,
        "commit": provenance.commit(),
        "machine": provenance.machine("torch"),
        "cpu_seconds": round(seconds),
        "epochs": len(evaluation.tested.unique(["recording", "epoch"])),
        "pooled": {
            p: {m: evaluation.pooled[p].overall_metrics()[m] for m in METRICS}
            for p in FOLD_PROTOCOLS
        },
        "gain": gain.select("metric", "value", "low", "high").to_dicts(),
        "selection": chosen.to_dicts(),
        "notes": list(evaluation.notes),
    }


def markdown(r: dict[str, Any]) -> str:
    chosen = pl.DataFrame(r["selection"], infer_schema_length=None)
    honest, optimistic = (r["pooled"][p] for p in FOLD_PROTOCOLS)
    gain = {row["metric"]: row for row in r["gain"]}
    lines = [
        "# What choosing the pass on the scored fold gains",
        "",
        f"MMASleepNet, {r['nights']} simulated nights of {r['hours']:g} h, {r['epochs']:,} epochs, "
        f"{r['folds']} folds by subject, {r['passes']} passes, batch {r['recipe']['batch']}, "
        f"learning rate {r['recipe']['learning_rate']:g}, {r['seeds']} seed(s). {r['machine']}, "
        f"{r['commit']}; {r['cpu_seconds'] / 60:.0f} minutes of CPU.",
        "",
        "| | accuracy | kappa | macro-F1 |",
        "|---|---|---|---|",
        _row("leak-free", [f"{honest[m]:.3f}" for m in METRICS]),
        _row("best-on-test (optimistic)", [f"{optimistic[m]:.3f}" for m in METRICS]),
        _row("their difference [95 % over subjects]", [_span(gain[m]) for m in METRICS]),
    ]
    for name, column in (
        ("best pass on the test fold less the chosen one", "optimism"),
        ("best pass on the test fold less the last one", "against_last"),
    ):
        values = [chosen.filter(metric=m)[column].cast(pl.Float64).drop_nulls() for m in METRICS]
        cells = [f"{s.mean():+.3f} ({s.min():+.3f} to {s.max():+.3f})" for s in values]
        lines.append(_row(f"within one leak-free training: {name}, mean and range", cells))
    return "\n".join([*lines, "", *(f"- {note}" for note in r["notes"]), ""])


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _span(row: dict[str, Any]) -> str:
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--folder", type=Path, help="keep the data and the run here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = run(options.folder or Path(temporary), options)
    store.write_json(RESULTS / "selection.json", result)
    store.write_text(RESULTS / "selection.md", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
