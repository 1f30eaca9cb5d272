"""What choosing the pass on the test fold gains: within a training, and between the protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sleeptools.evaluation import metrics
from sleeptools.evaluation.confusion import PooledConfusions
from sleeptools.evaluation.subject_metrics import SubjectConfusions, metric_differences
from sleeptools.runs.folds import BEST_ON_TEST, FOLD_PROTOCOLS, LEAK_FREE
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import Run

if TYPE_CHECKING:
    import polars as pl


def pass_selection(run: Run) -> pl.DataFrame:
    """Compare, within each training, the passes on the test fold: best, chosen and last.

    Returns
    -------
    table
        protocol, seed, fold, metric (accuracy, kappa, macro_f1), passes, chosen_by, best_pass
        (of the highest test accuracy, or what else the recipe chooses by on the test fold),
        chosen_pass, best, chosen, last (the metric on the test fold at that pass), optimism (best
        less chosen; null under best-on-test, which chooses the best itself), against_last (best
        less last).
        A row per training whose test fold was judged after every pass: under best-on-test
        always, under leak-free with `watch_test`.
    """
    import polars as pl

    rows = []
    keys = ["protocol", "seed", "fold"]
    logs = training_logs(run).sort(*keys, "pass")
    criterion = f"test_{run.recipe.get('selection_on_test', 'accuracy')}"
    for key, log in logs.partition_by(keys, as_dict=True, maintain_order=True).items():
        if not len(log) or log[criterion].null_count():
            continue
        protocol, _, fold = key
        best, last = int(log[criterion].arg_max() or 0), len(log) - 1
        chosen = int(log["selected"].arg_max() or 0) if log["selected"].any() else last
        by = "test" if protocol == BEST_ON_TEST else "validation"
        by = "last" if fold in run.unchosen(str(protocol)) else by
        for metric in ("accuracy", "kappa", "macro_f1"):
            value = log[f"test_{metric}"]
            tested = {"best": value[best], "chosen": value[chosen], "last": value[last]}
            optimism = None if by == "test" else _less(tested["best"], tested["chosen"])
            rows.append(
                dict(zip(keys, key, strict=True))
                | {"metric": metric, "passes": len(log), "chosen_by": by}
                | {"best_pass": log["pass"][best], "chosen_pass": log["pass"][chosen]}
                | tested
                | {"optimism": optimism, "against_last": _less(tested["best"], tested["last"])}
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def protocol_gain(run: Run, by_subject: Mapping[str, SubjectConfusions]) -> pl.DataFrame:
    """Subtract leak-free from best-on-test, with intervals over subjects.

    Two things differ between the protocols: what chose the pass, and that leak-free trains on
    fewer subjects. `pass_selection` tells the first alone.

    Returns
    -------
    table
        Columns as of `subject_metrics.metric_differences`. Empty unless both protocols have
        finished the same folds with the same seeds.
    """
    import polars as pl

    if not _both_finished(run):
        return pl.DataFrame()
    leak_free, best_on_test = (by_subject[protocol] for protocol in FOLD_PROTOCOLS)
    return metric_differences(leak_free, best_on_test, run.stages)


def protocol_difference(run: Run, pooled: Mapping[str, PooledConfusions]) -> dict[str, float]:
    """Subtract leak-free from best-on-test in the overall metrics; empty where `protocol_gain` is.

    The means over seeds are subtracted, so that the difference is that of the two printed values.
    """
    if not _both_finished(run):
        return {}
    low, high = pooled[LEAK_FREE].overall_metrics(), pooled[BEST_ON_TEST].overall_metrics()
    return {name: high[name] - low[name] for name in metrics.OVERALL}


def _both_finished(run: Run) -> bool:
    finished = [
        {(training.seed, training.fold) for training in run.done if training.protocol == protocol}
        for protocol in FOLD_PROTOCOLS
    ]
    return bool(finished[0]) and finished[0] == finished[1]
