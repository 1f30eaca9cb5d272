"""How the report and the terminal write numbers: labels, percent, intervals, p values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LABELS: Final = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "kappa": "Cohen's kappa",
    "g_mean_recalls": "G-mean of recalls",
    "g_mean_eq17": "G-mean, Eq. 17",
    "macro_recall": "Macro recall",
    "macro_precision": "Macro precision",
    "weighted_f1": "Weighted F1",
    "weighted_recall": "Weighted recall",
    "weighted_precision": "Weighted precision",
}


HEADLINE: Final = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")


def metric_text(name: str, value: float | None, *, signed: bool = False) -> str:
    """Per cent, except kappa, which is a number; a dash where there is none."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "–"  # noqa: RUF001 - a dash for "none"
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if name == "kappa" else f"{100 * value:{sign}.2f}"


def interval_text(
    name: str, value: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Show a value with the ends of its interval, where it has one."""
    shown = metric_text(name, value, signed=signed)
    if low is None or high is None or low != low or high != high:  # noqa: PLR0124 - NaN
        return shown
    ends = (metric_text(name, end, signed=signed) for end in (low, high))
    return f"{shown} [{', '.join(ends)}]"


def p_text(p: float | None) -> str:
    """Show a p value; a dash where there is none."""
    if p is None or p != p:  # noqa: PLR0124 - NaN
        return "–"  # noqa: RUF001 - a dash for "none"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def count_text(number: int, what: str) -> str:
    """Join number and noun: "1 subject", "2 subjects"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def metric_label(name: str) -> str:
    """Label of a metric with its unit; kappa has none."""
    return LABELS[name] if name == "kappa" else f"{LABELS[name]}, %"


def value_text(value: object) -> str:
    """Show a fact of a manifest on one line."""
    match value:
        case Mapping():
            return "; ".join(f"{k}: {value_text(v)}" for k, v in value.items()) or "none"
        case list() | tuple():
            shown = ", ".join(map(value_text, value[:12]))
            return f"{shown}, … ({len(value)})" if len(value) > 12 else shown or "none"  # noqa: PLR2004
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)
