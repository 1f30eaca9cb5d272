"""An evaluation as tables in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ._console import cell, emit_table, plural, printable, talk
from ._published import show_published

if TYPE_CHECKING:
    import polars as pl

    from sleeptools.commands.evaluate import Evaluation

Protocols = dict[str, str]
"""Protocol to the name under which people see it."""
HEADLINE = ("accuracy", "macro_f1", "kappa")
SLEEP = ("tst", "se", "sme", "sol", "waso", "rem_latency_from_sleep_onset", "transitions")


def show(found: Evaluation) -> None:
    """Print everything that fits; `--json` and the tables on disk have the rest."""
    from sleeptools.runs.folds import NAMED

    run, simulated = found.run, ", simulated data" if found.run.simulated else ""
    typer.echo(printable(f"{run.name} (model {run.model}{simulated})"))
    protocols = {p: NAMED.get(p, p) for p in found.protocols}
    _pooled(found, protocols)
    _subject_means(found, protocols)
    _selection(found)
    _stages(found, protocols)
    _confusions(found, protocols)
    _sleep(found)
    _scorers(found)
    _calibration(found, protocols)
    _subjects(found, protocols)
    show_published(found)
    wrong = found.errors_found()
    share = "" if wrong != wrong else f", {wrong:.0%} of all wrong ones among them"  # noqa: PLR0124
    talk(f"review.csv: {plural(len(found.review), 'epoch')} worth a second look{share}")
    for line in (found.leakage, *found.notes):
        talk(line)


def compared(table: pl.DataFrame) -> None:
    """Print runs two by two."""
    rows = [
        [
            f"{r['second']} less {r['first']}",
            r["protocol"],
            r["metric"].replace("_", " "),
            r["subjects"],
            _span(r["value"], r["low"], r["high"], sign="+"),
            f"{r['better']} / {r['worse']}",
            r["p"],
            r["p_holm"],
        ]
        for r in table.to_dicts()
    ]
    head = [
        "runs",
        "protocol",
        "metric",
        "subjects",
        "mean difference [95 %]",
        "better / worse",
        "p Wilcoxon",
        "p Holm",
    ]
    emit_table("Comparison by subject", head, rows)
    if not table["same_epochs"].all():
        talk("some runs were not tested on the same epochs: their differences are not the models'")


def _span(value: Any, low: Any, high: Any, sign: str = "", digits: int = 3) -> str:
    """Format a value and its interval: "0.736 [0.712, 0.755]"."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return cell(None)
    shown = f"{value:{sign}.{digits}f}"
    if low is None or low != low:  # noqa: PLR0124 - NaN
        return shown
    return f"{shown} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _pooled(found: Evaluation, protocols: Protocols) -> None:
    import polars as pl

    from sleeptools.evaluation import metrics

    gain = found.gain
    head = ["metric", *protocols.values(), *(["difference"] if len(gain) else [])]
    rows = []
    for name in metrics.OVERALL:
        row = [name.replace("_", " "), *(_span(*found.interval(p, name)) for p in protocols)]
        if len(gain):
            of = gain.filter(pl.col("stage").is_null(), metric=name).to_dicts()[0]
            row.append(_span(of["value"], of["low"], of["high"], sign="+"))
        rows.append(row)
    seeds = max(found.seeds(p) for p in protocols)
    title = f"Pooled over folds{f', mean of {seeds} seeds' if seeds > 1 else ''}"
    emit_table(f"{title}; 95 % intervals over subjects", head, rows)


def _subject_means(found: Evaluation, protocols: Protocols) -> None:
    from sleeptools.evaluation.subject_metrics import SUBJECT_MEAN, SUBJECT_MEDIAN

    rows = []
    for p, name in protocols.items():
        for metric in HEADLINE:
            mean = found.interval(p, metric, level=SUBJECT_MEAN)
            median = found.interval(p, metric, level=SUBJECT_MEDIAN).value
            sd = found.intervals[p].filter(metric=metric, level="pooled")["seed_sd"][0]
            rows.append([name, metric.replace("_", " "), _span(*mean), median, sd])
    head = ["protocol", "metric", "mean of subjects [95 %]", "median", "SD of seeds, pooled"]
    emit_table("Subjects, and seeds apart from them", head, rows)


def _selection(found: Evaluation) -> None:
    """Print what choosing the pass on the test fold gains, within one training."""
    import polars as pl

    if not len(found.selection):
        return
    means = found.selection.group_by("protocol", "metric", maintain_order=True).agg(
        pl.len(), pl.col("optimism").mean(), pl.col("against_last").mean()
    )
    rows = [
        [p, metric.replace("_", " "), n, optimism, last]
        for p, metric, n, optimism, last in means.iter_rows()
    ]
    head = ["protocol", "metric", "trainings", "less the chosen pass", "less the last pass"]
    emit_table("Best pass on the test fold, within one training", head, rows)


def _stages(found: Evaluation, protocols: Protocols) -> None:
    import polars as pl

    for p, name in protocols.items():
        minutes = found.agreement.filter(pl.col("stage").is_not_null(), protocol=p)
        bias = {r["stage"]: r for r in minutes.filter(statistic="minutes").to_dicts()}
        rows = [
            [
                stage,
                *(_span(*found.interval(p, m, stage=stage)) for m in ("f1", "stage_kappa")),
                _minutes(bias[stage]),
                int(found.support(p)[i]),
            ]
            for i, stage in enumerate(found.stages)
        ]
        head = ["stage", "F1", "kappa against the rest", "minutes too many a night", "epochs"]
        emit_table(f"Per stage, {name}", head, rows)


def _minutes(row: dict[str, Any]) -> str:
    return _span(row["bias"], row["bias_low"], row["bias_high"], sign="+", digits=1)


def _confusions(found: Evaluation, protocols: Protocols) -> None:
    for p, name in protocols.items():
        seeds = f"\nsummed over {found.seeds(p)} seeds" if found.seeds(p) > 1 else ""
        matrix = found.matrix(p).tolist()
        rows = [[stage, *matrix[i]] for i, stage in enumerate(found.stages)]
        emit_table(f"Confusion, {name}{seeds}", ["scored", *found.stages], rows)


def _sleep(found: Evaluation) -> None:
    """Print bias and limits of the sleep statistics, under the headline's protocol."""
    rows = []
    for r in found.agreement.filter(protocol=found.headline).to_dicts():
        if r["statistic"] in SLEEP:
            marks = [w for w in ("proportional", "heteroscedastic") if r[w]]
            rows.append(
                [
                    r["statistic"].replace("_", " "),
                    r["unit"],
                    _span(r["bias"], r["bias_low"], r["bias_high"], sign="+", digits=2),
                    _span(r["lower"], r["lower_low"], r["lower_high"], digits=2),
                    _span(r["upper"], r["upper_low"], r["upper_high"], digits=2),
                    r["nights"],
                    r["undefined"],
                    ", ".join(marks),
                ]
            )
    if rows:
        head = [
            "statistic",
            "unit",
            "bias",
            "lower limit",
            "upper limit",
            "nights",
            "undefined",
            "bias or spread grows",
        ]
        emit_table("Sleep statistics, predicted less scored (Bland-Altman)", head, rows)


def _scorers(found: Evaluation) -> None:
    rows = [
        [
            r["pair"],
            r["metric"].replace("_", " "),
            _span(r["value"], r["low"], r["high"]),
            r["subjects"],
            r["epochs"],
        ]
        for r in found.scorers.filter(protocol=found.headline).to_dicts()
    ]
    if rows:
        head = ["pair", "metric", "value", "subjects", "epochs"]
        emit_table("Model and scorers, on the same epochs", head, rows)


def _calibration(found: Evaluation, protocols: Protocols) -> None:
    names = {"nll": "log loss", "ece": "calibration error"}
    rows = [
        [
            protocols[r["protocol"]],
            names[r["measure"]],
            r["variant"],
            _span(r["value"], r["low"], r["high"]),
        ]
        for r in found.calibration.to_dicts()
    ]
    head = ["protocol", "measure", "probabilities", "value"]
    emit_table("Calibration (scaled: temperature from validation subjects)", head, rows)


def _subjects(found: Evaluation, protocols: Protocols) -> None:
    columns = ["protocol", "seed", "fold", "subject", "nights", "epochs", "accuracy", "kappa"]
    columns += ["macro_f1", "stages"]
    rows = [
        [protocols[p], seed, "all" if fold is None else fold, *rest, f"{n} of {len(found.stages)}"]
        for p, seed, fold, *rest, n in found.subjects.select(columns).iter_rows()
    ]
    columns = [c.replace("_", " ") for c in columns]
    emit_table("Subjects (macro f1: mean over so many stages)", columns, rows)
