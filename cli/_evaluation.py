"""An evaluation as tables in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ._console import emit_table, plural, printable, talk
from ._published import show_published

if TYPE_CHECKING:
    import polars as pl

    from sleeptools.commands.evaluate import Evaluation
    from sleeptools.evaluation.bootstrap import Interval

Protocols = dict[str, str]
"""Protocol to the name under which people see it."""
SLEEP_STATISTICS = (
    "minutes",
    "tst",
    "se",
    "sme",
    "sol",
    "waso",
    "rem_latency_from_sleep_onset",
    "transitions",
)


def show_evaluation(evaluation: Evaluation) -> None:
    """Print everything that fits; `--json` and the tables on disk have the rest."""
    from sleeptools.evaluation.uncertain_epochs import share_of_errors
    from sleeptools.report.numbers import is_missing
    from sleeptools.runs.folds import NAMED

    run = evaluation.run
    simulated = ", simulated data" if run.simulated else ""
    typer.echo(printable(f"{run.name} (model {run.model}{simulated})"))
    protocols = {p: NAMED.get(p, p) for p in evaluation.protocols}
    _pooled(evaluation, protocols)
    _subject_means(evaluation, protocols)
    _selection(evaluation)
    _stages(evaluation, protocols)
    _confusions(evaluation, protocols)
    _sleep(evaluation)
    _scorers(evaluation)
    _calibration(evaluation, protocols)
    _subjects(evaluation, protocols)
    show_published(evaluation)
    errors = share_of_errors(evaluation.ranking)
    share = "" if is_missing(errors) else f", {errors:.0%} of all wrong ones among them"
    epochs = plural(len(evaluation.table("review")), "epoch")
    talk(f"review.csv: {epochs} worth a second look{share}")
    for line in (evaluation.leakage, *evaluation.notes):
        talk(line)


def show_comparison(table: pl.DataFrame) -> None:
    """Print runs two by two."""
    rows = [
        [
            f"{r['second']} less {r['first']}",
            r["protocol"],
            r["metric"].replace("_", " "),
            r["subjects"],
            _span(r["value"], r["low"], r["high"], "+.3f"),
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


def _span(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """Write a value and its interval: "0.736 [0.712, 0.755]"."""
    from sleeptools.report.numbers import interval_number

    return interval_number(value, low, high, form, missing="-")


def _interval(evaluation: Evaluation, protocol: str, metric: str, **selection: str) -> Interval:
    from sleeptools.evaluation.subject_metrics import find_interval

    return find_interval(evaluation.intervals[protocol], metric, **selection)


def _pooled(evaluation: Evaluation, protocols: Protocols) -> None:
    import polars as pl

    from sleeptools.evaluation import metrics

    gain = evaluation.table("gain")
    head = ["metric", *protocols.values(), *(["difference"] if len(gain) else [])]
    rows = []
    for name in metrics.OVERALL:
        row = [name.replace("_", " "), *(_span(*_interval(evaluation, p, name)) for p in protocols)]
        if len(gain):
            r = gain.filter(pl.col("stage").is_null(), metric=name).to_dicts()[0]
            row.append(_span(r["value"], r["low"], r["high"], "+.3f"))
        rows.append(row)
    seeds = max(len(evaluation.pooled[p].seeds) for p in protocols)
    title = f"Pooled over folds{f', mean of {seeds} seeds' if seeds > 1 else ''}"
    emit_table(f"{title}; 95 % intervals over subjects", head, rows)


def _subject_means(evaluation: Evaluation, protocols: Protocols) -> None:
    from sleeptools.evaluation.metrics import COMPARED
    from sleeptools.evaluation.subject_metrics import SUBJECT_MEAN, SUBJECT_MEDIAN

    rows = []
    for p, name in protocols.items():
        for metric in COMPARED:
            mean = _interval(evaluation, p, metric, level=SUBJECT_MEAN)
            median = _interval(evaluation, p, metric, level=SUBJECT_MEDIAN).value
            sd = evaluation.intervals[p].filter(metric=metric, level="pooled")["seed_sd"][0]
            rows.append([name, metric.replace("_", " "), _span(*mean), median, sd])
    head = ["protocol", "metric", "mean of subjects [95 %]", "median", "SD of seeds, pooled"]
    emit_table("Subjects, and seeds apart from them", head, rows)


def _selection(evaluation: Evaluation) -> None:
    """Print what choosing the pass on the test fold gains, within one training."""
    import polars as pl

    if not len(evaluation.table("selection")):
        return
    means = (
        evaluation.table("selection")
        .group_by("protocol", "metric", maintain_order=True)
        .agg(pl.len(), pl.col("optimism").mean(), pl.col("against_last").mean())
    )
    rows = [
        [p, metric.replace("_", " "), n, optimism, last]
        for p, metric, n, optimism, last in means.iter_rows()
    ]
    head = ["protocol", "metric", "trainings", "less the chosen pass", "less the last pass"]
    emit_table("Best pass on the test fold, within one training", head, rows)


def _stages(evaluation: Evaluation, protocols: Protocols) -> None:
    import polars as pl

    for p, name in protocols.items():
        minutes = evaluation.table("agreement").filter(pl.col("stage").is_not_null(), protocol=p)
        bias = {r["stage"]: r for r in minutes.filter(statistic="minutes").to_dicts()}
        rows = [
            [
                stage,
                *(_span(*_interval(evaluation, p, m, stage=stage)) for m in ("f1", "stage_kappa")),
                _minutes(bias[stage]),
                int(evaluation.pooled[p].support[i]),
            ]
            for i, stage in enumerate(evaluation.run.stages)
        ]
        head = ["stage", "F1", "kappa", "min too many", "epochs"]
        emit_table(f"Per stage, {name} (kappa against the rest; minutes a night)", head, rows)


def _minutes(row: dict[str, Any]) -> str:
    return _span(row["bias"], row["bias_low"], row["bias_high"], "+.1f")


def _confusions(evaluation: Evaluation, protocols: Protocols) -> None:
    for p, name in protocols.items():
        pooled = evaluation.pooled[p]
        seeds = f"\nsummed over {len(pooled.seeds)} seeds" if len(pooled.seeds) > 1 else ""
        matrix = pooled.summed.tolist()
        rows = [[stage, *matrix[i]] for i, stage in enumerate(evaluation.run.stages)]
        emit_table(f"Confusion, {name}{seeds}", ["scored", *evaluation.run.stages], rows)


def _sleep(evaluation: Evaluation) -> None:
    """Print bias and limits of the sleep statistics, under the headline's protocol."""
    rows = []
    for r in evaluation.table("agreement").filter(protocol=evaluation.headline).to_dicts():
        if r["statistic"] in SLEEP_STATISTICS:
            form = ".3f" if r["unit"] == "fraction" else ".1f"
            grows = {"bias": r["proportional"], "spread": r["heteroscedastic"]}
            rows.append(
                [
                    _statistic(r),
                    _span(r["bias"], r["bias_low"], r["bias_high"], f"+{form}"),
                    *(_span(r[limit], None, None, form) for limit in ("lower", "upper")),
                    r["nights"],
                    r["undefined"],
                    ", ".join(name for name, does in grows.items() if does),
                ]
            )
    if rows:
        head = ["statistic", "bias", "lower", "upper", "nights", "undef.", "grows"]
        columns = [i for i in range(len(head)) if head[i] != "grows" or any(r[i] for r in rows)]
        emit_table(
            "Sleep statistics, predicted less scored (Bland-Altman: bias, limits; grows with size)",
            [head[i] for i in columns],
            [[row[i] for i in columns] for row in rows],
        )


def _statistic(row: dict[str, Any]) -> str:
    """Name a statistic with its unit: "tst, min", "REM, min", "transitions"."""
    unit = {"count": "", "fraction": ""}.get(row["unit"], f", {row['unit']}")
    return f"{row['stage'] or row['statistic'].replace('_', ' ')}{unit}"


def _scorers(evaluation: Evaluation) -> None:
    rows = [
        [
            r["pair"],
            r["metric"].replace("_", " "),
            _span(r["value"], r["low"], r["high"]),
            r["subjects"],
            r["epochs"],
        ]
        for r in evaluation.table("scorers").filter(protocol=evaluation.headline).to_dicts()
    ]
    if rows:
        head = ["pair", "metric", "value", "subjects", "epochs"]
        emit_table("Model and scorers, on the same epochs", head, rows)


def _calibration(evaluation: Evaluation, protocols: Protocols) -> None:
    names = {"nll": "log loss", "ece": "calibration error"}
    rows = [
        [
            protocols[r["protocol"]],
            names[r["measure"]],
            r["variant"],
            _span(r["value"], r["low"], r["high"]),
        ]
        for r in evaluation.table("calibration").to_dicts()
    ]
    head = ["protocol", "measure", "probabilities", "value"]
    emit_table("Calibration (scaled: temperature from validation subjects)", head, rows)


def _subjects(evaluation: Evaluation, protocols: Protocols) -> None:
    columns = ["protocol", "seed", "fold", "subject", "nights", "epochs", "accuracy", "kappa"]
    columns += ["macro_f1", "stages"]
    stages = len(evaluation.run.stages)
    rows = [
        [protocols[p], seed, "all" if fold is None else fold, *numbers]
        for p, seed, fold, *numbers in evaluation.table("subjects").select(columns).iter_rows()
    ]
    constant = [i for i in (0, 1) if len({row[i] for row in rows}) == 1]  # the title says these
    title = [
        str(rows[0][i]) if columns[i] == "protocol" else f"seed {rows[0][i]}" for i in constant
    ]
    numbers = [i for i in range(len(columns)) if i not in constant]
    emit_table(
        f"{', '.join(['Subjects', *title])} (macro f1: mean over so many of {stages} stages)",
        [columns[i].replace("_", " ") for i in numbers],
        [[row[i] for i in numbers] for row in rows],
    )
