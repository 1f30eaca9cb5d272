"""What the papers printed, with what they printed it for: data set, folds, split, selection.

A published number means nothing without its protocol, so a row never travels without it, and
`list_differences` says in words what forbids a direct comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from sleeptools.recording.stages import HUMAN, MOUSE

if TYPE_CHECKING:
    import polars as pl

REFERENCE_MODELS = ("mmasleepnet", "slumbernet", "mouse-cnn")
"""The models whose rows are shown where a run's own model has none."""
DATASET_FAMILIES = {
    "sleep-edf": "Sleep-EDF",
    "isruc": "ISRUC-Sleep",
    "slumbernet": "SlumberNet",
    "slumbernet-authors": "SlumberNet",
    "kjaerby": "Kjaerby",
}
"""Preset to the beginning of the papers' data set names."""
PRINTED_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mmasleepnet": {
        "kernels": "paper",
        "tokens": "authors",
        "se": "authors",
        "dropout": 0.5,
        "modalities": "all",
        "fusion": "full",
    },
}
"""Settings of the models whose results were printed, as far as they are a matter of choice."""
PRINTED_RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mmasleepnet": {
        "paper": {
            "passes": 150,
            "batch": 256,
            "learning_rate": 1e-4,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 1e-3,
            "amsgrad": False,
            "class_weights": (1.0, 1.8, 1.0, 1.25, 1.2),
            "loss": "weighted_ce_n",
        },
        "authors": {
            "passes": 150,
            "batch": 256,
            "learning_rate": 1e-4,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 1e-2,
            "amsgrad": True,
            "class_weights": (1.0, 1.8, 1.0, 1.25, 1.2),
            "loss": "softmax_ce",
        },
    },
}
"""Recipes behind the printed results: as the paper has it, and as its authors' program does."""
RESULT_METRICS = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")
"""Metrics over all stages that `published_results` has a column of."""
KappaInterval = tuple[float, float, float]
"""Kappa, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class StudyDesign:
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
    split
        "subjects", or "epochs" where a subject's epochs are on both sides.
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
    split: str = "subjects"


def published_values() -> pl.DataFrame:
    """Every printed number, tidy.

    Returns
    -------
    table
        A row per number: id, kind ("model"; "rival", cited by the authors of another model; "data",
        "scorers", "cost"), species, source, place (table or figure), dataset, subjects, epochs,
        rules, printed_model, model (ours), folds, split ("subjects", "epochs" or "unknown"),
        selection, aggregate ("pooled", "mean of folds", "mean of subjects"), note; then subject
        (null where it is about all), metric, stage (null where it is over all), value (a fraction
        of 1; hours; or a count), low and high. Null where a paper does not say.
    """
    return _read("published_results").join(_read("published_values"), on="id", how="inner")


def _read(name: str) -> pl.DataFrame:
    import polars as pl

    text = resources.files("sleeptools.evaluation").joinpath(f"{name}.csv").read_bytes()
    return pl.read_csv(text, infer_schema_length=None)


def published_results(species: str) -> pl.DataFrame:
    """Table of the printed results of models, a row per result.

    Parameters
    ----------
    species
        "human" or "mouse".

    Returns
    -------
    table
        The columns of `published_values` up to note, and `RESULT_METRICS` and f1_STAGE as fractions
        of 1.
    """
    import polars as pl

    numbers = published_values().filter(pl.col("subject").is_null())
    one = pl.concat_str("metric", pl.concat_str(pl.lit("_"), "stage"), ignore_nulls=True)
    wide = numbers.select("id", one.alias("name"), "value").pivot("name", index="id")
    stages = HUMAN if species == "human" else MOUSE
    kept = [n for n in (*RESULT_METRICS, *(f"f1_{s}" for s in stages)) if n in wide.columns]
    of = pl.col("kind").is_in(["model", "rival"]) & (pl.col("species") == species)
    table = _read("published_results").filter(of)
    return table.join(wide.select("id", *kept), on="id", how="left", maintain_order="left")


def scorer_kappas() -> dict[str, KappaInterval | float]:
    """Kappa of two human scorers, of a meta-analysis of 11 studies (Lee et al. 2022).

    Returns
    -------
    kappas
        "all": kappa over all stages with its 95 % interval; and the kappa of each stage.
    """
    table = published_values().filter(id="scorers-lee-2022")
    found: dict[str, KappaInterval | float] = {}
    for row in table.to_dicts():
        if row["stage"] is None:
            found["all"] = (row["value"], row["low"], row["high"])
        else:
            found[row["stage"]] = row["value"]
    return found


def nearest_results(ours: StudyDesign) -> pl.DataFrame:
    """Rows to set beside a result of ours: the printed data set of the same kind and nearest size.

    The run's own model comes first, then `REFERENCE_MODELS`, then the others; no rows where nothing
    is printed for data of this kind, or the kind is unknown. For mice, results that authors cite of
    other models come last.
    """
    import polars as pl

    family = DATASET_FAMILIES.get(ours.preset)
    if family is None:
        return published_results("human").head(0)
    table = published_results("human" if family in ("Sleep-EDF", "ISRUC-Sleep") else "mouse")
    same = pl.col("dataset").str.starts_with(family)
    sizes = table.filter(same)["subjects"].unique().to_list()
    nearest = min(sizes, key=lambda n: abs(math.log(n / max(ours.subjects, 1))))
    cited = (pl.col("kind") == "rival") & (family == "SlumberNet")
    first = (
        pl.when(pl.col("model") == ours.model).then(0).when(pl.col("model").is_in(REFERENCE_MODELS))
    )
    order = [(pl.col("kind") == "rival"), first.then(1).otherwise(2), "accuracy"]
    return table.filter((same & (pl.col("subjects") == nearest)) | cited).sort(
        order, descending=[False, False, True], maintain_order=True
    )


def list_differences(ours: StudyDesign, row: dict[str, object]) -> list[str]:
    """Say what differs between a result of ours and a printed one, in words.

    Parameters
    ----------
    row
        Of `published_results`.

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
    found += _divided(ours, row)
    theirs_optimistic = str(row["selection"]).startswith("best pass on the test fold")
    if row["selection"] == "unknown":
        found.append("how they chose the pass is not known")
    elif theirs_optimistic != ours.optimistic:
        mine = "on the scored test fold" if ours.optimistic else "without the test fold"
        found.append(f"pass chosen {mine} against {row['selection']}")
    return found


def _divided(ours: StudyDesign, row: Mapping[str, object]) -> list[str]:
    """Say what differs in how subjects were divided, and over what the printed number is taken."""
    found = []
    sides = {
        "subjects": "whole subjects",
        "epochs": "epochs, so that it is tested on the subjects that it was trained on",
    }
    if row["split"] == "unknown":
        found.append("whether they kept subjects apart is not known")
    elif row["split"] != ours.split:
        found.append(f"ours divides {sides[ours.split]}; theirs {sides[str(row['split'])]}")
    if row["aggregate"] not in ("pooled", "unknown"):
        found.append(f"ours is of all test epochs pooled, theirs the {row['aggregate']}")
    return found


def _otherwise(ours: StudyDesign) -> list[str]:
    """List the settings in which a model of ours and its training differ from the paper's."""
    found = _unlike("setting", ours.settings, PRINTED_SETTINGS.get(ours.model, {}))
    recipes = PRINTED_RECIPES.get(ours.model, {})
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
