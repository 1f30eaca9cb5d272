"""A run beside the publications, as `evaluate` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._console import emit_table, talk

if TYPE_CHECKING:
    from sleeptools.commands.evaluate import Evaluation


def show_published(evaluation: Evaluation) -> None:
    """Show our results beside those printed for data of the same kind, and say what differs."""
    from sleeptools.evaluation import comparison, published

    lines = comparison.result_lines(evaluation)
    verdict = comparison.judge_comparability(evaluation)
    if not verdict.printed:
        return
    names = published.RESULT_METRICS[:3]
    rows = [[n.label, n.data, n.split, n.selection, *map(n.values.get, names)] for n in lines]
    head = ["result", "data", "divided", "pass chosen on", *(n.replace("_", " ") for n in names)]
    emit_table("Beside the publications", head, rows)
    talk(verdict.text)
    if "N1" in evaluation.run.stages:
        talk(comparison.scorer_agreement_text())
