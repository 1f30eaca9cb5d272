"""Published results, each with the data set, folds, split and selection that it was printed for.

results.csv has a row for each printed result with its protocol, values.csv its numbers; items.csv
the tables and figures of the papers and how each is arranged; facts.csv every other printed number.
A published number means nothing without its protocol: `study_design` compares one with ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.runs.folds import HELD_OUT, published_members

if TYPE_CHECKING:
    import polars as pl

    from sleeptools.evaluation.published.study_design import StudyDesign

REFERENCE_MODELS = ("mmasleepnet", "slumbernet", "mouse-cnn")
"""Models whose results are shown first where a run's own model has none."""
DATASET_FAMILIES = {
    "sleep-edf": "Sleep-EDF",
    "isruc": "ISRUC-Sleep",
    "slumbernet": "SlumberNet",
    "slumbernet-authors": "SlumberNet",
    "slumbernet-paper": "SlumberNet",
    "kjaerby": "Kjaerby",
}
"""Preset to the first word of the data sets' names in the papers."""
RESULT_METRICS = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")
"""Metrics over all stages that are columns of `published_results`."""
KappaInterval = tuple[float, float, float]
"""Kappa, and the ends of its 95 % interval."""


def published_values() -> pl.DataFrame:
    """Every printed number, tidy.

    Returns
    -------
    table
        A row per number: id, items (of `published_items`, between blanks), kind ("model"; "rival",
        cited by the authors of another model; "data", "scorers", "cost"), species, source, place
        (table or figure), dataset, subjects, epochs, rules, printed_model, model (ours), folds,
        split ("subjects", "epochs" or "unknown"), members ("published": the partition of
        `published_folds`; "each subject" in a fold of its own; "held-out" from all training;
        "unknown"), selection, aggregate
        ("pooled", "mean of folds", "mean of subjects"), designs (of designs.toml, between blanks),
        note; then fold and subject (null where it is about all), statistic ("sem", "sd"; null for
        the number itself), metric, stage (null where it is over all), value (a fraction of 1;
        hours; or a count), low and high. Null where a paper does not say.
    """
    return _read("results").join(_read("values"), on="id", how="inner")


def published_items() -> pl.DataFrame:
    """List the tables and figures of the papers.

    Returns
    -------
    table
        item (its id, for example "s0-table-3"), source, place, paper, shows; rows, columns, unit,
        order, aggregate and drawing as printed; numbers (whether they are printed, or only drawn);
        note. "" where a paper does not say.
    """
    return _read("items").fill_null("")


def published_facts() -> pl.DataFrame:
    """Read the printed numbers that are no scores: sizes, settings, costs, margins of matrices.

    Returns
    -------
    table
        item, source, place, kind, quantity, model, dataset, stage, printed (as in the text where
        it is rounded or a word), value, unit, note. Null where it is about all, or not said.
    """
    return _read("facts")


def _read(name: str) -> pl.DataFrame:
    import polars as pl

    text = resources.files("sleeptools.evaluation.published").joinpath(f"{name}.csv").read_bytes()
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

    overall = [pl.col(column).is_null() for column in ("fold", "subject", "statistic")]
    numbers = published_values().filter(*overall)
    name = pl.concat_str("metric", pl.concat_str(pl.lit("_"), "stage"), ignore_nulls=True)
    wide = numbers.select("id", name.alias("name"), "value").pivot("name", index="id")
    stages = HUMAN_STAGES if species == "human" else MOUSE_STAGES
    columns = [n for n in (*RESULT_METRICS, *(f"f1_{s}" for s in stages)) if n in wide.columns]
    of_models = pl.col("kind").is_in(["model", "rival"]) & (pl.col("species") == species)
    table = _read("results").filter(of_models)
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
    """Results to show beside ours: of the printed data set that ours is, tested alike.

    Of the data sets of one kind, that is the one whose subjects ours are, and then the one that was
    divided alike, by the protocol and never by how many subjects there are. The run's own model
    comes first, then `REFERENCE_MODELS`, then the others; no rows where nothing is printed for data
    of this kind, or the kind is unknown. For mice, results that authors cite of other models come
    last.
    """
    import polars as pl

    family = DATASET_FAMILIES.get(ours.preset)
    if family is None:
        return published_results("human").head(0)
    table = published_results("human" if family in ("Sleep-EDF", "ISRUC-Sleep") else "mouse")
    same_family = pl.col("dataset").str.starts_with(family)
    rows = table.filter(same_family, pl.col("kind") == "model").to_dicts()
    nearest = max(rows, key=lambda row: _likeness(ours, row))["dataset"]
    cited = (pl.col("kind") == "rival") & (family == "SlumberNet")
    first = (
        pl.when(pl.col("model") == ours.model).then(0).when(pl.col("model").is_in(REFERENCE_MODELS))
    )
    order = [(pl.col("kind") == "rival"), first.then(1).otherwise(2), "accuracy"]
    return table.filter((same_family & (pl.col("dataset") == nearest)) | cited).sort(
        order, descending=[False, False, True], maintain_order=True
    )


def _likeness(ours: StudyDesign, row: Mapping[str, Any]) -> tuple[bool, ...]:
    """Say in what a printed result was tested as ours, the weightiest first."""
    subjects = frozenset[str]().union(*ours.members)
    partition = row["subjects"] if row["members"] == "published" else None
    is_optimistic = str(row["selection"]).startswith("best pass on the test fold")
    return (
        (row["members"] == HELD_OUT) == ours.unseen,
        not subjects or published_members(subjects) == partition,
        row["split"] == ours.split,
        row["folds"] == ours.folds,
        is_optimistic == ours.optimistic,
    )
