"""How the report and the terminal write numbers: labels, per cent, intervals, p values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

METRIC_LABELS: Final = {
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
HEADLINE_METRICS: Final = ("accuracy", "macro_f1", "kappa", "g_mean_recalls")
DASH: Final = "–"  # noqa: RUF001 - for a number that there is not
SMALLEST_P: Final = 0.001
LONGEST_LIST: Final = 12


class NumberText(str):
    """A number as text, for people, with the numbers themselves, for tables of data.

    Parameters
    ----------
    text
        As it is shown.
    numbers
        The value in the shown unit, or value, low and high.
    """

    __slots__ = ("numbers",)
    numbers: tuple[float, ...]

    def __new__(cls, text: str, *numbers: float) -> NumberText:
        """Make the text, and keep its numbers."""
        made = super().__new__(cls, text)
        made.numbers = numbers
        return made


def is_missing(value: object) -> bool:
    """Tell whether there is no number: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def interval_number(
    value: float | None,
    low: float | None,
    high: float | None,
    form: str = ".3f",
    *,
    missing: str = DASH,
) -> str:
    """Write a value and, where it has one, its interval: "0.736 [0.712, 0.755]".

    Parameters
    ----------
    value, low, high
        The value and the ends of its interval; None or NaN where there is none.
    form
        Format specification of all three numbers.
    missing
        Text in place of a missing value.
    """
    if value is None or is_missing(value):
        return missing
    if low is None or high is None or is_missing(low) or is_missing(high):
        return NumberText(format(value, form), value)
    return NumberText(f"{value:{form}} [{low:{form}}, {high:{form}}]", value, low, high)


def decimals_of(low: float | None, high: float | None, decimals: int) -> int:
    """Count the decimals that an interval allows: two digits of its half width, or `decimals`."""
    if low is None or high is None or is_missing(low) or is_missing(high) or high <= low:
        return decimals
    return max(0, min(decimals, 1 - math.floor(math.log10((high - low) / 2))))


def metric_text(
    name: str,
    value: float | None,
    *,
    within: tuple[float | None, float | None] = (None, None),
    signed: bool = False,
) -> str:
    """Write a metric in per cent, and kappa as a number; a dash where there is none.

    The interval that it lies `within` decides the decimals, and is not written.
    """
    if value is None or is_missing(value):
        return DASH
    factor, decimals = _shown_as(name)
    low, high = (None if x is None else factor * x for x in within)
    form = "+" * signed + f"z.{decimals_of(low, high, decimals)}f"
    return NumberText(format(factor * value, form), factor * value)


def interval_text(
    name: str, value: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Write a metric as `metric_text`, with the ends of its interval, where it has one.

    The interval decides how many decimals there are.
    """
    factor, decimals = _shown_as(name)
    value, low, high = (None if x is None else factor * x for x in (value, low, high))
    return rounded_interval(value, low, high, decimals=decimals, signed=signed)


def _shown_as(name: str) -> tuple[int, int]:
    """Factor of a metric's unit, and its most decimals: kappa is a number, the others per cent."""
    return (1, 3) if name == "kappa" else (100, 2)


def rounded_interval(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    decimals: int,
    signed: bool = False,
) -> str:
    """Write a value and its interval with as many decimals as this allows, at most `decimals`."""
    form = f"z.{decimals_of(low, high, decimals)}f"  # z: a rounded zero has no sign
    return interval_number(value, low, high, "+" * signed + form)


def p_text(p: float | None) -> str:
    """Write a p value; a dash where there is none."""
    if p is None or is_missing(p):
        return DASH
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def number_text(number: float, form: str = ",") -> str:
    """Write a count, or a number in another format."""
    return NumberText(format(number, form), number)


def count_text(number: int, noun: str) -> str:
    """Join number and noun: "1 subject", "2 subjects"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def metric_label(name: str) -> str:
    """Label of a metric with its unit; kappa has none."""
    return METRIC_LABELS[name] if name == "kappa" else f"{METRIC_LABELS[name]}, %"


def value_text(value: object) -> str:
    """Write a fact of a manifest on one line."""
    match value:
        case Mapping():
            return "; ".join(f"{k}: {value_text(v)}" for k, v in value.items()) or "none"
        case list() | tuple():
            text = ", ".join(map(value_text, value[:LONGEST_LIST]))
            return f"{text}, … ({len(value)})" if len(value) > LONGEST_LIST else text or "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)
