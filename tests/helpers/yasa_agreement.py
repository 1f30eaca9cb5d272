"""Agreement of two scorers on generated nights as YASA computes it: `python yasa_agreement.py`.

Run by a Python that has YASA, it prints the JSON that is kept as tests/data/yasa_agreement.json and
that tests/evaluation/test_agreement.py compares with ours. The nights need numpy alone.
"""

from __future__ import annotations

import json

import numpy as np

NAMES = ("WAKE", "N1", "N2", "N3", "REM")
NEXT = (
    (0.93, 0.06, 0.01, 0.0, 0.0),
    (0.08, 0.60, 0.28, 0.0, 0.04),
    (0.01, 0.03, 0.89, 0.05, 0.02),
    (0.01, 0.01, 0.05, 0.93, 0.0),
    (0.02, 0.03, 0.02, 0.0, 0.93),
)
"""Probability of the next epoch's stage."""
KEPT = ["bias_mean_center", "loa_lower_center", "loa_upper_center"]
MISTAKEN = (1, 2, 1, 2, 1)


def scored_nights(count: int = 6, epochs: int = 900) -> dict[str, tuple[list[int], list[int]]]:
    """Stages of a reference and of another scorer: 0 W, 1 to 3 N1 to N3, 4 REM."""
    rng = np.random.default_rng(11)
    nights = {}
    for night in range(count):
        stages = [0]
        for draw in rng.random(epochs - 1):
            stages.append(int(np.searchsorted(np.cumsum(NEXT[stages[-1]]), draw)))
        wrong = rng.random(epochs) < 0.08 + 0.02 * night
        other = [MISTAKEN[s] if w else s for s, w in zip(stages, wrong, strict=True)]
        nights[f"night-{night}"] = (stages, other)
    return nights


def main() -> None:
    """Print what YASA says."""
    import pandas
    import yasa

    reference, observed = [], []
    for stages, other in scored_nights().values():
        for values, scorer, scored in ((stages, "A", reference), (other, "B", observed)):
            scored.append(yasa.Hypnogram([NAMES[s] for s in values], freq="30s", scorer=scorer))
    agreement = yasa.EpochByEpochAgreement(reference, observed)
    measured = (
        pandas.DataFrame([h.sleep_statistics() for h in scored]) for scored in (reference, observed)
    )
    sleep = yasa.SleepStatsAgreement(*measured).summary()
    sleep.columns = ["_".join(filter(None, column)) for column in sleep.columns]
    by_stage = agreement.get_agreement_bystage().reset_index()
    facts = {
        "yasa": yasa.__version__,
        "nights": agreement.get_agreement().to_dict("records"),
        "stages": by_stage.to_dict("records"),
        "confusion": agreement.get_confusion_matrix(agg_func="sum").to_numpy().tolist(),
        "sleep": sleep[KEPT].reset_index().to_dict("records"),
    }
    print(json.dumps(facts, indent=1, default=str))


if __name__ == "__main__":
    main()
