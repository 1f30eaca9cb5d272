"""sleep.csv: the sleep statistics of each scored night, a row per night.

Definitions are those of `evaluation.sleep_statistics`. A statistic that cannot be told is empty,
and the last column says why; nothing is computed from a time of lights off that is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import store
from sleeptools.commands.score.lights import Lights
from sleeptools.evaluation.sleep_statistics import (
    UNITS,
    Clock,
    StatisticKey,
    measure_night,
    minutes_in_bins,
)
from sleeptools.recording.hypnogram import Hypnogram, add_seconds
from sleeptools.recording.stages import UNSCORED

SLEEP, SLEEP_BINS = "sleep.csv", "sleep_bins.csv"
BIN_HOURS: Final = 2.0  # of mice, which sleep around the clock
DIGITS: Final = 12  # significant ones of a value
NEED_LIGHTS: Final = {
    "tib": ("off", "on"),
    "se": ("off", "on"),
    "sol": ("off",),
    "rem_latency_from_lights_off": ("off",),
}
"""Statistics that need the times of lights off and on."""


def sleep_row(hypnogram: Hypnogram, lights: Lights) -> dict[str, Any]:
    """Measure a scored night, as a row of sleep.csv.

    Returns
    -------
    row
        By column; None where a statistic is undefined, and `undefined` says why.
    """
    onset = hypnogram.onset + np.arange(len(hypnogram)) * hypnogram.epoch_seconds
    scored = hypnogram.stages != UNSCORED
    clock = Clock(hypnogram.epoch_seconds, lights.off, lights.on)
    values = measure_night(
        hypnogram.stages[scored].astype(np.int64), onset[scored], hypnogram.names, clock
    )
    begin = hypnogram.begin
    row: dict[str, Any] = {
        "start": None if begin is None else begin.isoformat(),
        "epochs": len(hypnogram),
        "unscored": int((~scored).sum()),
        "lights_off_s": lights.off,
        "lights_on_s": lights.on,
        "lights_off": _clock_text(hypnogram, lights.off),
        "lights_on": _clock_text(hypnogram, lights.on),
        "lights_from": " / ".join(dict.fromkeys(filter(None, lights.sources))),
    }
    row |= {sleep_column(*key): _value(key, value) for key, value in values.items()}
    row["undefined"] = _undefined(values, hypnogram, lights)
    return row


def statistics(
    hypnogram: Hypnogram, lights_off: float | None = None, lights_on: float | None = None
) -> dict[str, float]:
    """Compute the sleep statistics of a hypnogram.

    Parameters
    ----------
    lights_off, lights_on
        s from the start of the recording; what needs them is NaN where they are not known.

    Returns
    -------
    statistics
        By name with its unit, as the columns of sleep.csv: `tst_min`, `se_percent`, `N2_min`, ...;
        docs/metrics.md has the definitions.
    """
    row = sleep_row(hypnogram, Lights(lights_off, lights_on))
    first = list(row).index("lights_from") + 1
    values = [(name, row[name]) for name in list(row)[first:] if name != "undefined"]
    return {name: math.nan if value is None else value for name, value in values}


def sleep_column(statistic: str, stage: str | None = None) -> str:
    """Name a column, with its unit: `tst_min`, `se_percent`, `N2_min`, `transitions`."""
    unit = {"min": "_min", "fraction": "_percent", "count": ""}[UNITS[statistic]]
    return f"{stage or statistic}{unit}"


def _value(key: StatisticKey, value: float) -> float | None:
    if math.isnan(value):
        return None
    return 100 * value if UNITS[key[0]] == "fraction" else value


def _clock_text(hypnogram: Hypnogram, seconds: float | None) -> str | None:
    moment = None if seconds is None else add_seconds(hypnogram.begin, seconds - hypnogram.onset)
    return None if moment is None else moment.isoformat(timespec="seconds")


def _undefined(values: Mapping[StatisticKey, float], hypnogram: Hypnogram, lights: Lights) -> str:
    """Say of each statistic without a value why it has none."""
    reasons: dict[str, list[str]] = {}
    for (statistic, stage), value in values.items():
        if not math.isnan(value):
            continue
        lacking = [
            name
            for name in NEED_LIGHTS.get(statistic, ())
            if (lights.off if name == "off" else lights.on) is None
        ]
        if lacking:
            why = f"lights {' and '.join(lacking)} not known"
        elif not np.any(hypnogram.stages > 0):
            why = "no sleep"
        elif statistic.startswith("rem"):
            why = "no REM"
        else:
            why = "not scored from lights off on"
        reasons.setdefault(why, []).append(sleep_column(statistic, stage))
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())


def bin_rows(hypnogram: Hypnogram) -> list[dict[str, Any]]:
    """Minutes of each stage of a mouse in bins of two hours from the recording's start."""
    if "NREM" not in hypnogram.names:
        return []
    onset = hypnogram.onset + np.arange(len(hypnogram)) * hypnogram.epoch_seconds
    scored = hypnogram.stages != UNSCORED
    numbers, minutes = minutes_in_bins(
        hypnogram.stages[scored].astype(np.int64),
        onset[scored],
        len(hypnogram.names),
        hypnogram.epoch_seconds,
        BIN_HOURS,
    )
    return [
        {"from_h": number * BIN_HOURS, "to_h": (number + 1) * BIN_HOURS}
        | {f"{n}_min": m for n, m in zip(hypnogram.names, row.tolist(), strict=True)}
        for number, row in zip(numbers.tolist(), minutes, strict=True)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of equal or different columns; those that any has, in order of appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if "undefined" in columns:
        columns.append(columns.pop(columns.index("undefined")))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    store.write_text(path, store.csv_text([columns, *cells]))


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value
