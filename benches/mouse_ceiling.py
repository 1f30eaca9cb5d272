"""The ceiling of simulated mice: what a perfect model reaches against the simulated scorer.

`python benches/mouse_ceiling.py` compares the true stages with the simulated scoring, and
writes benches/results/mouse_ceiling.json and .md. No signals are simulated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from instruments import provenance
from sleeptools import store
from sleeptools.datasets.simulation.mouse import architecture, scorer, traits
from sleeptools.evaluation import metrics
from sleeptools.recording import stages

RESULTS = Path(__file__).parent / "results"
DAYS, SECONDS = 40, 86400
EPOCH_SECONDS = {"slumbernet": 4, "kjaerby": 1}


def day(animal: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Stages of one mouse, and its confusion matrix per data set."""
    rng = np.random.default_rng([provenance.HELD_OUT_SEED, animal])
    truth = architecture.simulate_codes(rng, SECONDS, traits.draw_traits(rng).habits)
    artefacts = scorer.draw_artefacts(rng, truth)
    confusions = {}
    for name, seconds in EPOCH_SECONDS.items():
        written = scorer.score(rng, truth, artefacts, seconds).stages
        scored = written >= 0
        true_stages = architecture.majority(truth, seconds)
        confusions[name] = metrics.confusion_matrix(written[scored], true_stages[scored], 3)
    return truth, confusions


def main() -> None:
    days = [day(animal) for animal in range(DAYS)]
    shares = np.stack([np.bincount(t, minlength=3) / SECONDS for t, _ in days])
    ceilings = {
        name: metrics.overall_metrics(np.sum([c[name] for _, c in days], 0))
        for name in EPOCH_SECONDS
    }
    f1 = {name: metrics.f1(np.sum([c[name] for _, c in days], 0)) for name in EPOCH_SECONDS}
    per_stage = {
        name: dict(zip(stages.MOUSE_STAGES, f.tolist(), strict=True)) for name, f in f1.items()
    }
    result = {
        "days": DAYS,
        "seed": provenance.HELD_OUT_SEED,
        "commit": provenance.commit(),
        "machine": provenance.machine("numpy"),
        "shares": dict(zip(stages.MOUSE_STAGES, shares.mean(0).tolist(), strict=True)),
        "spread": dict(zip(stages.MOUSE_STAGES, shares.std(0).tolist(), strict=True)),
        "ceiling": ceilings,
        "f1": per_stage,
    }
    store.write_json(RESULTS / "mouse_ceiling.json", result)
    store.write_text(RESULTS / "mouse_ceiling.md", _page(result))


def _page(result: dict) -> str:
    shares = ", ".join(f"{n} {100 * v:.1f} %" for n, v in result["shares"].items())
    rows = [
        f"| {name} | {EPOCH_SECONDS[name]} s | {o['accuracy']:.3f} | {o['kappa']:.3f} | "
        + " | ".join(f"{v:.3f}" for v in result["f1"][name].values())
        + " |"
        for name, o in result["ceiling"].items()
    ]
    return "\n".join(
        [
            "# The ceiling of simulated mice",
            "",
            f"The generating stages against the simulated scorer, {result['days']} mice of a day, "
            f"seed {result['seed']}, commit {result['commit']}. Over the day: {shares}.",
            "",
            "| data set | epoch | accuracy | kappa | F1 Wake | F1 NREM | F1 REM |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
