"""What the papers printed, with what they printed it for: data set, folds, selection.

A published number means nothing without its protocol, so a row never travels without it, and
`differences` says in words what forbids a direct comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

REFERENCE = "mmasleepnet"
"""The model whose row is shown where a run's own model has none."""
FAMILIES = {"sleep-edf": "Sleep-EDF", "isruc": "ISRUC-Sleep"}
"""Preset to the beginning of the papers' data set names."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mmasleepnet": {
        "kernels": "paper", "tokens": "authors", "se": "authors", "dropout": 0.5,
        "modalities": "all", "fusion": "full",
    },
}  # fmt: skip
"""Settings of the models whose results were printed, as far as they are a matter of choice."""
RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mmasleepnet": {
        "paper": {
            "passes": 150, "batch": 256, "learning_rate": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8,
            "weight_decay": 1e-3, "amsgrad": False, "class_weights": (1.0, 1.8, 1.0, 1.25, 1.2),
            "loss": "weighted_ce_n",
        },
        "authors": {
            "passes": 150, "batch": 256, "learning_rate": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8,
            "weight_decay": 1e-2, "amsgrad": True, "class_weights": (1.0, 1.8, 1.0, 1.25, 1.2),
            "loss": "softmax_ce",
        },
    },
}  # fmt: skip
"""Recipes behind the printed results: as the paper has it, and as its authors' program does."""
PERCENT = ("f1_W", "f1_N1", "f1_N2", "f1_N3", "f1_REM",
           "accuracy", "macro_f1", "kappa", "g_mean_recalls")  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How a number of ours came about, for comparison with a printed one.

    Parameters
    ----------
    preset
        Of the epochs, for example "sleep-edf".
    simulated
        Whether the data is; None if unknown.
    subjects, epochs, folds
        Counts; all test epochs of all folds.
    rules
        Scoring rules, "R&K" or "AASM", or "" if unknown.
    optimistic
        Whether the kept pass was chosen on the scored fold.
    model
        Name of the model.
    settings, recipe
        Of the model and of its training; empty where unknown.
    """

    preset: str
    simulated: bool | None
    subjects: int
    epochs: int
    folds: int
    rules: str
    optimistic: bool
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def human() -> pl.DataFrame:
    """Table of the printed results on human sleep.

    Returns
    -------
    table
        doi, place, dataset, subjects, epochs, rules, printed_model, model (ours), folds, selection,
        note, and as fractions of 1 f1_STAGE, accuracy, macro_f1, kappa, g_mean_recalls; null where
        a paper does not say.
    """
    import polars as pl

    text = resources.files("sleeptools").joinpath("data/published_human.csv").read_bytes()
    return pl.read_csv(text).with_columns(pl.col(PERCENT).cast(pl.Float64) / 100)


def beside(ours: Protocol) -> pl.DataFrame:
    """Rows to set beside a result of ours: the printed data set of the same kind and nearest size.

    The run's own model comes first, then `REFERENCE`, then the others; no rows where the data is
    of another kind (mice) or unknown.
    """
    import polars as pl

    family = FAMILIES.get(ours.preset)
    table = human()
    if family is None:
        return table.head(0)
    table = table.filter(pl.col("dataset").str.starts_with(family))
    sizes = table["subjects"].unique().to_list()
    nearest = min(sizes, key=lambda n: abs(math.log(n / max(ours.subjects, 1))))
    first = pl.when(pl.col("model") == ours.model).then(0).when(pl.col("model") == REFERENCE)
    return (
        table.filter(pl.col("subjects") == nearest)
        .sort(first.then(1).otherwise(2), "accuracy", descending=[False, True])
    )  # fmt: skip


def differences(ours: Protocol, row: dict[str, object]) -> list[str]:
    """Say what differs between a result of ours and a printed one, in words.

    Parameters
    ----------
    row
        Of `human()`.

    Returns
    -------
    lines
        Empty if nothing known differs.
    """
    found = []
    if ours.simulated:
        found.append(f"ours is simulated data, theirs real recordings ({row['dataset']})")
    elif ours.simulated is None:
        found.append("whether ours is simulated data is not known")
    if row["model"] != ours.model:
        found.append(f"model {ours.model} against {row['printed_model']}")
    else:
        found += _otherwise(ours)
    for what in ("subjects", "epochs", "folds"):
        mine, theirs = getattr(ours, what), row[what]
        if theirs is None:
            found.append(f"their number of {what} is not known")
        elif mine != theirs:
            found.append(f"{mine:,} {what[:-1] if mine == 1 else what} against {theirs:,}")
    if row["rules"] and ours.rules and str(row["rules"]) not in ours.rules:
        found.append(f"scoring rules {ours.rules} against {row['rules']}")
    theirs_optimistic = str(row["selection"]).startswith("best pass on the test fold")
    if row["selection"] == "unknown":
        found.append("how they chose the pass is not known")
    elif theirs_optimistic != ours.optimistic:
        mine = "on the scored test fold" if ours.optimistic else "without the test fold"
        found.append(f"pass chosen {mine} against {row['selection']}")
    return found


def _otherwise(ours: Protocol) -> list[str]:
    """List the settings in which a model of ours and its training differ from the paper's."""
    found = _unlike("setting", ours.settings, SETTINGS.get(ours.model, {}))
    recipes = RECIPES.get(ours.model, {})
    variant = str(ours.recipe.get("variant", "")) or "unknown"
    if ours.recipe and recipes and variant not in recipes:
        found.append(f"recipe variant {variant}, neither of {' and '.join(recipes)}")
    theirs = recipes.get(variant, next(iter(recipes.values()), {}))
    return found + _unlike("recipe", ours.recipe, theirs)


def _unlike(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in theirs.items()}
    mine = {k: list(v) if isinstance(v, tuple) else v for k, v in ours.items()}
    return [
        f"{what} {name} {mine[name]} against {value} of the paper"
        for name, value in plain.items()
        if name in mine and mine[name] != value
    ]
