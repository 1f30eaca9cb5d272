"""Published results, each with the data set, folds, split and selection that it was printed for.

A published number means nothing without its protocol, so that every row holds it, and
`list_differences` says in words what forbids a direct comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES

if TYPE_CHECKING:
    import polars as pl

REFERENCE_MODELS = ("mmasleepnet", "slumbernet", "mouse-cnn")
"""Models whose results are shown first where a run's own model has none."""
DATASET_FAMILIES = {
    "sleep-edf": "Sleep-EDF",
    "isruc": "ISRUC-Sleep",
    "slumbernet": "SlumberNet",
    "slumbernet-authors": "SlumberNet",
    "kjaerby": "Kjaerby",
}
"""Preset to the first word of the data sets' names in the papers."""
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
"""Model to the settings behind its printed results, for settings that can be chosen."""
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
"""Model to the recipes behind its printed results: the paper's, and its authors' program's."""
RESULT_METRICS = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")
"""Metrics over all stages that are columns of `published_results`."""
KappaInterval = tuple[float, float, float]
"""Kappa, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class StudyDesign:
    """How a run's numbers came about, for comparison with printed ones.

    Parameters
    ----------
    preset
        Preset of the epochs, for example "sleep-edf".
    simulated
        Whether the data is simulated; None if unknown.
    subjects, epochs, folds
        Numbers of tested subjects, of test epochs of all folds, and of folds.
    rules
        Scoring rules, "R&K" or "AASM", or "" if unknown.
    optimistic
        Whether the kept pass was chosen on the scored fold.
    model
        Name of the model.
    settings, recipe
        Settings of the model and of its training; empty where unknown.
    split
        "subjects", or "epochs" where a subject's epochs are in training and test.
    fine_tuned
        Whether the trainings began with another model's weights.
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
    fine_tuned: bool = False


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
    name = pl.concat_str("metric", pl.concat_str(pl.lit("_"), "stage"), ignore_nulls=True)
    wide = numbers.select("id", name.alias("name"), "value").pivot("name", index="id")
    stages = HUMAN_STAGES if species == "human" else MOUSE_STAGES
    columns = [n for n in (*RESULT_METRICS, *(f"f1_{s}" for s in stages)) if n in wide.columns]
    of_models = pl.col("kind").is_in(["model", "rival"]) & (pl.col("species") == species)
    table = _read("published_results").filter(of_models)
    return table.join(wide.select("id", *columns), on="id", how="left", maintain_order="left")


def scorer_kappas() -> dict[str, KappaInterval | float]:
    """Kappa of two human scorers in a meta-analysis of 11 studies (Lee et al. 2022).

    Returns
    -------
    kappas
        "all": kappa over all stages with its 95 % interval; and the kappa of each stage.
    """
    table = published_values().filter(id="scorers-lee-2022")
    kappas: dict[str, KappaInterval | float] = {}
    for row in table.to_dicts():
        if row["stage"] is None:
            kappas["all"] = (row["value"], row["low"], row["high"])
        else:
            kappas[row["stage"]] = row["value"]
    return kappas


def nearest_results(ours: StudyDesign) -> pl.DataFrame:
    """Results to show beside ours: of the printed data set of the same kind and nearest size.

    The run's own model comes first, then `REFERENCE_MODELS`, then the others; no rows where nothing
    is printed for data of this kind, or the kind is unknown. For mice, results that authors cite of
    other models come last.
    """
    import polars as pl

    family = DATASET_FAMILIES.get(ours.preset)
    if family is None:
        return published_results("human").head(0)
    table = published_results("human" if family in ("Sleep-EDF", "ISRUC-Sleep") else "mouse")
    same_family = pl.col("dataset").str.starts_with(family)
    sizes = table.filter(same_family)["subjects"].unique().to_list()
    nearest = min(sizes, key=lambda n: abs(math.log(n / max(ours.subjects, 1))))
    cited = (pl.col("kind") == "rival") & (family == "SlumberNet")
    first = (
        pl.when(pl.col("model") == ours.model).then(0).when(pl.col("model").is_in(REFERENCE_MODELS))
    )
    order = [(pl.col("kind") == "rival"), first.then(1).otherwise(2), "accuracy"]
    return table.filter((same_family & (pl.col("subjects") == nearest)) | cited).sort(
        order, descending=[False, False, True], maintain_order=True
    )


def list_differences(ours: StudyDesign, row: dict[str, object]) -> list[str]:
    """Say what differs between a result of ours and a printed one, in words.

    Parameters
    ----------
    ours
        How our result came about.
    row
        Row of `published_results`.

    Returns
    -------
    differences
        One per line; empty if no difference is known.
    """
    differences = []
    if ours.simulated:
        differences.append(f"ours is simulated data, theirs real recordings ({row['dataset']})")
    elif ours.simulated is None:
        differences.append("whether ours is simulated data is not known")
    if row["model"] != ours.model:
        differences.append(f"model {ours.model} against {row['printed_model']}")
    else:
        differences += _setting_differences(ours)
    if ours.fine_tuned:
        differences.append("ours is fine-tuned, and has learnt from other subjects, too")
    for noun in ("subjects", "epochs", "folds"):
        count, printed = getattr(ours, noun), row[noun]
        if printed is None:
            differences.append(f"their number of {noun} is not known")
        elif count != printed:
            singular = noun[:-1] if count == 1 else noun
            differences.append(f"{count:,} {singular} against {printed:,}")
    if row["rules"] and ours.rules and str(row["rules"]) not in ours.rules:
        differences.append(f"scoring rules {ours.rules} against {row['rules']}")
    differences += _split_differences(ours, row)
    optimistic = str(row["selection"]).startswith("best pass on the test fold")
    if row["selection"] == "unknown":
        differences.append("how they chose the pass is not known")
    elif optimistic != ours.optimistic:
        selection = "on the scored test fold" if ours.optimistic else "without the test fold"
        differences.append(f"pass chosen {selection} against {row['selection']}")
    return differences


def _split_differences(ours: StudyDesign, row: Mapping[str, object]) -> list[str]:
    """Say what differs in how subjects were divided, and over what the printed number is taken."""
    differences = []
    splits = {
        "subjects": "whole subjects",
        "epochs": "epochs, so that it is tested on the subjects that it was trained on",
    }
    if row["split"] == "unknown":
        differences.append("whether they kept subjects apart is not known")
    elif row["split"] != ours.split:
        differences.append(f"ours divides {splits[ours.split]}; theirs {splits[str(row['split'])]}")
    if row["aggregate"] not in ("pooled", "unknown"):
        differences.append(f"ours is of all test epochs pooled, theirs the {row['aggregate']}")
    return differences


def _setting_differences(ours: StudyDesign) -> list[str]:
    """List the settings in which our model and its training differ from the paper's."""
    differences = _unequal("setting", ours.settings, PRINTED_SETTINGS.get(ours.model, {}))
    recipes = PRINTED_RECIPES.get(ours.model, {})
    variant = str(ours.recipe.get("variant", "")) or "unknown"
    if ours.recipe and recipes and variant not in recipes:
        differences.append(f"recipe variant {variant}, neither of {' and '.join(recipes)}")
    printed = recipes.get(variant, next(iter(recipes.values()), {}))
    return differences + _unequal("recipe", ours.recipe, printed)


def _unequal(noun: str, ours: Mapping[str, Any], printed: Mapping[str, Any]) -> list[str]:
    ours, printed = (
        {name: list(value) if isinstance(value, tuple) else value for name, value in side.items()}
        for side in (ours, printed)
    )
    return [
        f"{noun} {name} {ours[name]} against {value} of the paper"
        for name, value in printed.items()
        if name in ours and ours[name] != value
    ]
