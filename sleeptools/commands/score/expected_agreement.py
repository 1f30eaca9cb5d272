"""What agreement with a scorer may be expected of a model: as its run was tested, or nothing.

A fold's model and `final` lie in the run whose cross-validation tells how such models do on people
that they have not seen. A model whose folder has a `card` says it itself.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.errors import SleeptoolsError
from sleeptools.runs.parent import tuned_on_real

METRICS: Final = "metrics.csv"
ROW: Final = {"protocol": "leak-free", "metric": "kappa", "level": "pooled", "seed": ""}
LEVELS: Final = 4
"""A fold's model lies so deep in its run."""
CARD: Final = "card"


def expected_agreement(model: Path, facts: Mapping[str, Any]) -> str:
    """Say in a sentence what is known of a model's agreement with scorers, and with which.

    Parameters
    ----------
    model
        Model folder.
    facts
        Contents of its config.json.
    """
    card = facts.get(CARD)
    if isinstance(card, dict) and isinstance(card.get("expected_agreement"), str):
        return str(card["expected_agreement"])
    for folder in list(model.resolve().parents)[:LEVELS]:
        if (folder / METRICS).is_file():
            return (
                _tested(folder, _scorers(facts)) or "not known: its run has no leak-free evaluation"
            )
    return "not known: its run was not evaluated (`sleeptools evaluate RUN`)"


def _scorers(facts: Mapping[str, Any]) -> str:
    """Say with whom the run of a model was compared, as far as is known."""
    simulated = facts.get("simulated")
    if simulated and not tuned_on_real(facts):
        return "with the simulated scorer "
    return "with the human scorer " if simulated is not None else ""


def _tested(run: Path, scorers: str) -> str:
    """Say the pooled kappa of a run's leak-free test folds."""
    try:
        rows = list(csv.DictReader(io.StringIO(store.read_text(run / METRICS))))
    except SleeptoolsError:
        return ""
    pooled = [row for row in rows if all(row.get(key) == value for key, value in ROW.items())]
    if not pooled:
        return ""
    row = pooled[0]
    interval = f" [{float(row['low']):.3f}, {float(row['high']):.3f}]" if row.get("low") else ""
    return f"kappa {float(row['value']):.3f}{interval} {scorers}in its run's leak-free test folds"
