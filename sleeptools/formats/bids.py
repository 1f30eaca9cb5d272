"""BIDS events, `*_events.tsv` with `*_events.json`: onset, duration and a column of stages.

BIDS describes such tables as "Task events" and has no standard for sleep stages yet: the column is
`stage`, `sleep_stage` or `trial_type`. The .json file, called the sidecar, has what the table
alone does not say: the length of an epoch and the stage list (`EpochLength`, `StageNames`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.formats.parsing import stage_labels, stage_words, text_files
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.hypnogram import Hypnogram

SUFFIXES: Final = ("_events.tsv",)
STAGE_COLUMNS: Final = ("stage", "sleep_stage", "trial_type")
MISSING: Final = ("n/a", "na", "nan", "")
WORDS: Final = {
    **{n: n for n in (*stages.HUMAN_STAGES, *stages.MOUSE_STAGES, "unknown", "movement")},
    "unannotated": "n/a",
}
LEVELS: Final = {
    "W": "wake",
    "Wake": "wake",
    "N1": "NREM stage 1",
    "N2": "NREM stage 2",
    "N3": "NREM stage 3",
    "NREM": "sleep that is not REM",
    "REM": "rapid eye movement sleep",
    "unknown": "scored as unknown",
    "movement": "scored as movement or artefact",
}


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its first two columns and a column that can hold stages."""
    del path
    columns = text_files.header_cells(head, "\t")
    return columns[:2] == ["onset", "duration"] and any(c in columns for c in STAGE_COLUMNS)


def sidecar(path: Path) -> Path:
    """Path of the JSON file that belongs to a table."""
    return path.with_suffix(".json")


def read_hypnogram(
    path: Path,
    *,
    scheme: str | None = None,
    epoch_seconds: float | None = None,
    epoch_from_onsets: bool = False,
    scorer: str | None = None,
) -> Hypnogram:
    """Read stages with their onsets; entries of `trial_type` that are not stages are ignored.

    Raises
    ------
    DataError
        For a malformed row, an unknown stage, or stages that overlap or are off the epoch grid.
    """
    table = text_files.read_table(path, "\t")
    facts = _facts(sidecar(path))
    if scheme is None and facts.get("StageNames") == list(stages.MOUSE_STAGES):
        scheme = "mouse"
    if epoch_seconds is None:
        epoch_seconds = facts.get("EpochLength")
    lines: list[Mapping[str, str]] = [
        {k: "" if k == "scorer" and _is_missing(v) else v for k, v in row.items()}
        | {"": f"{path.name}: line {i}"}
        for i, row in enumerate(table, 2)
    ]
    rows, name = stage_labels.choose_scorer(lines, scorer, path.name)
    known = label_schemes.label_scheme(scheme).labels if scheme else {}

    def meaning(text: str) -> str:
        return "" if _is_missing(text) else known.get(text) or label_schemes.word_meaning(text)

    column = _stage_column(rows, meaning)
    staged_rows = [r for r in rows if meaning(r[column]) not in ("", *stages.REASONS)]
    _refuse_two_rows(staged_rows, column)
    events, timeless = [], 0
    for row in rows:
        text, location = row[column], row[""]
        staged = bool(meaning(text)) if column == "trial_type" else not _is_missing(text)
        if not staged and (_is_missing(row["onset"]) or _is_missing(row["duration"])):
            timeless += 1
            continue
        onset = text_files.parse_number(row["onset"], f"{location}: onset")
        if _is_missing(row["duration"]) and epoch_from_onsets:
            duration = 0.0
        else:
            duration = text_files.parse_number(row["duration"], f"{location}: duration")
        events.append((onset, duration, text))
    read = stage_labels.from_mixed if column == "trial_type" else stage_labels.from_events
    hypnogram = read(
        events,
        scheme=scheme,
        epoch_seconds=epoch_seconds,
        source=path.name,
        epoch_from_onsets=epoch_from_onsets,
    )
    notes = [f"{timeless} rows without onset or duration are no stages"] if timeless else []
    return replace(hypnogram, scorer=name, notes=(*hypnogram.notes, *notes))


def read_confidence(path: Path, hypnogram: Hypnogram) -> npt.NDArray[np.float64] | None:
    """Read the probability of each epoch's stage.

    Parameters
    ----------
    hypnogram
        What was read from the table: its epochs, and whose rows they are.

    Returns
    -------
    confidence
        (epochs,) NaN where there is none; None without a column `confidence`.

    Raises
    ------
    DataError
        If an entry is no number.
    """
    table = text_files.read_table(path, "\t")
    if "confidence" not in (table[0] if table else {}):
        return None
    values = np.full(len(hypnogram), np.nan)
    rows, _ = stage_labels.choose_scorer(table, hypnogram.scorer or None, path.name)
    for number, row in enumerate(rows, 2):
        cells = [row[column] for column in ("onset", "duration", "confidence")]
        if any(map(_is_missing, cells)):
            continue
        place = f"{path.name}: line {number}"
        onset, duration, confidence = (text_files.parse_number(cell, place) for cell in cells)
        ends = ((t - hypnogram.onset) / hypnogram.epoch_seconds for t in (onset, onset + duration))
        first, stop = (max(round(end), 0) for end in ends)
        values[first:stop] = confidence
    return values


def _is_missing(text: str) -> bool:
    """Tell whether a cell is BIDS' "n/a", or what spreadsheets and programs write for it."""
    return text.lower() in MISSING


def _stage_column(rows: Sequence[Mapping[str, str]], meaning: Callable[[str], str]) -> str:
    """Choose the column that holds stages.

    Raises
    ------
    DataError
        If two columns hold stages, and not the same.
    """
    columns = [c for c in STAGE_COLUMNS if not rows or c in rows[0]]
    staged = [c for c in columns if any(meaning(row[c]) for row in rows)]
    for row in rows if len(staged) > 1 else ():
        texts = {c: row[c] for c in staged if meaning(row[c]) not in ("", *stages.REASONS)}
        if len({meaning(t) for t in texts.values()}) > 1:
            raise DataError(
                f"{row['']}: two columns hold stages that differ: "
                + ", ".join(f"{c} {t[:40]!r}" for c, t in texts.items()),
                hint="keep the column of one scorer",
                code="HYP-SCORER",
            )
    return (staged or columns)[0]


def _refuse_two_rows(rows: Sequence[Mapping[str, str]], column: str) -> None:
    """Refuse two rows of a stage from one onset on that differ in a further column: two scorers."""
    first: dict[str, Mapping[str, str]] = {}
    for row in rows:
        other = first.setdefault(row["onset"], row)
        differing = [c for c in row if c not in ("", "duration", column) and row[c] != other[c]]
        if differing:
            c = differing[0]
            raise DataError(
                f"{row['']}: a second row at {row['onset'][:40]} s, whose {c} is {row[c][:40]!r} "
                f"and not {other[c][:40]!r}: rows of two scorers?",
                hint="keep the rows of one",
                code="HYP-SCORER",
            )


def _facts(path: Path) -> dict[str, Any]:
    facts = store.read_json(path) if path.exists() else {}
    length = facts.get("EpochLength", 1) if isinstance(facts, dict) else None
    if isinstance(length, bool) or not isinstance(length, int | float):
        raise DataError(
            f"{path.name}: expected an object whose EpochLength is a number of seconds",
            code="HYP-EPOCH",
        )
    return facts


def write_hypnogram(
    hypnogram: Hypnogram, path: Path, confidence: Sequence[float] | None = None
) -> list[str]:
    """Write the table and its sidecar; return notes on what the format cannot represent.

    Parameters
    ----------
    confidence
        (epochs,) probability of each stage, for a further column; NaN becomes "n/a".
    """
    events, notes = stage_words.stage_events(hypnogram, WORDS, "bids")
    scorer = " ".join(hypnogram.scorer.split()) or "n/a"
    columns = ["onset", "duration", "trial_type", "scorer"]
    rows = [
        [text_files.decimal_text(onset), text_files.decimal_text(duration), word, scorer]
        for onset, duration, word in events
    ]
    description = describe(hypnogram)
    if confidence is not None:
        columns.append("confidence")
        description["confidence"] = {"Description": "Probability of the stage"}
        for (onset, _, _), row in zip(events, rows, strict=True):
            p = confidence[round((onset - hypnogram.onset) / hypnogram.epoch_seconds)]
            row.append("n/a" if math.isnan(p) else f"{p:.4f}")
    store.write_json(sidecar(path), description)
    store.write_text(path, "\n".join(["\t".join(row) for row in (columns, *rows)] + [""]))
    return notes


def describe(hypnogram: Hypnogram) -> dict[str, Any]:
    """Describe the columns of the table, with the length of an epoch and the stage list."""
    levels = (*hypnogram.names, "unknown", "movement")
    return {
        "onset": {
            "Description": "Start of the epoch from the start of the recording",
            "Units": "s",
        },
        "duration": {"Description": "Length of the epoch", "Units": "s"},
        "trial_type": {
            "Description": "Sleep stage, or why the epoch has none; n/a: not annotated",
            "Levels": {name: LEVELS[name] for name in levels},
        },
        "scorer": {"Description": "Who scored"},
        "EpochLength": hypnogram.epoch_seconds,
        "StageNames": list(hypnogram.names),
    }
