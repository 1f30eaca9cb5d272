"""What choosing the training pass on the test fold gains, from the logs of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleeptools.runs.folds import BEST_ON_TEST
from sleeptools.runs.logs import training_logs
from sleeptools.runs.run import Run

if TYPE_CHECKING:
    import polars as pl


def pass_selection(run: Run) -> pl.DataFrame:
    """Tell what choosing the pass on the test fold gains within one training.

    Returns
    -------
    table
        protocol, seed, fold, metric (accuracy, kappa, macro_f1), passes, chosen_by, best_pass
        (of the highest test accuracy, as the papers' programs choose), chosen_pass, best,
        chosen, last (the metric on the test fold at that pass), optimism (best less chosen;
        null under best-on-test, which chooses the best itself), against_last (best less last).
        A row per training whose test fold was judged after every pass: under best-on-test
        always, under leak-free with `watch_test`.
    """
    import polars as pl

    rows = []
    keys = ["protocol", "seed", "fold"]
    logs = training_logs(run).sort(*keys, "pass")
    for where, log in logs.partition_by(keys, as_dict=True, maintain_order=True).items():
        if not len(log) or log["test_accuracy"].null_count():
            continue
        protocol, _, fold = where
        best, last = int(log["test_accuracy"].arg_max() or 0), len(log) - 1
        chosen = int(log["selected"].arg_max() or 0) if log["selected"].any() else last
        by = "test" if protocol == BEST_ON_TEST else "validation"
        by = "last" if fold in run.unchosen(str(protocol)) else by
        for metric in ("accuracy", "kappa", "macro_f1"):
            value = log[f"test_{metric}"]
            at = {"best": value[best], "chosen": value[chosen], "last": value[last]}
            gained = None if by == "test" else _less(at["best"], at["chosen"])
            rows.append(
                dict(zip(keys, where, strict=True))
                | {"metric": metric, "passes": len(log), "chosen_by": by}
                | {"best_pass": log["pass"][best], "chosen_pass": log["pass"][chosen]}
                | at
                | {"optimism": gained, "against_last": _less(at["best"], at["last"])}
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
