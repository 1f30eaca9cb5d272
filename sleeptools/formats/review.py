"""A night corrected by hand: the file that the page of `review` exports, as CSV or as BIDS events.

One row an epoch: what the scorer says (`stage`), what was proposed, and whether a hand confirmed or
changed it. Each row also names the scorer, the model, and the recording by id and SHA-256, so that
no cut or sorted copy loses whose night it is. The BIDS table has the same columns, `trial_type` for
`stage`, and a row of no duration for lights off and on. Times count from the recording's start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.formats import bids
from sleeptools.formats.parsing import stage_labels, text_files
from sleeptools.formats.parsing.review_times import GRID_SLACK, LIGHTS, check_event, first_time
from sleeptools.formats.parsing.stage_words import stage_names
from sleeptools.recording.hypnogram import LONGEST_RECORDING, Hypnogram, add_seconds
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, REASONS, stage_number

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

REVIEW_VERSION: Final = 1
PROBABILITY: Final = "p_"
PROPOSED, CONFIRMED, CHANGED = HAND = ("", "confirmed", "changed")
"""What a hand did to an epoch: nothing, agreed with the stage proposed, or gave another."""
FACTS: Final = ("lights_off", "lights_on", "scorer", "model", "recording", "sha256")
CSV_HEAD: Final = ("epoch", "onset", "duration", "time", "stage", "hand", "artefact", "proposed")
BIDS_HEAD: Final = (
    *("onset", "duration", "trial_type", "epoch", "time", "hand", "artefact", "proposed"),
)
MISSING: Final = "n/a"
LONGEST_NAME: Final = 80  # letters of a scorer or a model
UNSAFE: Final = re.compile(r"^[=+\-@'\s]+")
SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Review:
    """A night corrected by hand.

    Parameters
    ----------
    recording, sha256
        Id of the recording and the SHA-256 of its file.
    hypnogram
        Stages after the correction; its `scorer` is who corrected.
    proposed
        The stages that were there before, on the same grid.
    touched
        (epochs,) whether a hand confirmed or changed the epoch.
    artefact
        (epochs,) whether the epoch is marked as an artefact, whatever its stage.
    density
        (epochs, stages) probabilities behind the stages proposed; NaN where there are none.
    lights_off, lights_on
        s from the recording's start; None where not known.
    model
        What proposed the stages; empty if nothing did.
    """

    recording: str
    sha256: str
    hypnogram: Hypnogram
    proposed: Hypnogram = field(repr=False)
    touched: Flags = field(repr=False)
    artefact: Flags = field(repr=False)
    density: Floats = field(repr=False)
    lights_off: float | None = None
    lights_on: float | None = None
    model: str = ""

    @property
    def changed(self) -> Flags:
        """(epochs,) whether a hand gave an epoch another stage than was proposed."""
        old, new = self.proposed, self.hypnogram
        different = (old.stages != new.stages) | (old.reasons != new.reasons)
        flags: Flags = self.touched & different
        return flags

    def hands(self) -> list[str]:
        """Say of each epoch what a hand did: an entry of `HAND`."""
        return [
            CHANGED if changed else CONFIRMED if touched else PROPOSED
            for changed, touched in zip(self.changed, self.touched, strict=True)
        ]


def plain_name(text: str) -> str:
    """Make the name of a scorer or a model fit for a cell: one line, no formula, of some length."""
    line = store.visible(" ".join(text_files.composed(text).split())).replace('"', "")
    return UNSAFE.sub("", line)[:LONGEST_NAME].strip()


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the table by its columns; a BIDS table of a review is also one of BIDS events."""
    del path
    return any(
        tuple(text_files.header_cells(head, separator)[: len(columns)]) == columns
        for separator, columns in ((",", CSV_HEAD), ("\t", BIDS_HEAD))
    )


def read_hypnogram(path: Path) -> Hypnogram:
    """Read the stages after the correction.

    Raises
    ------
    DataError
        As `read_review`.
    """
    return read_review(path).hypnogram


def read_review(path: Path) -> Review:
    """Read an exported review, of either kind.

    Raises
    ------
    DataError
        If a row or a column is missing, rows are of two nights, or a cell cannot be what it says.
    """
    tabbed = text_files.read_lines(path)[0].lower().startswith("onset\t")
    table = text_files.read_table(path, "\t" if tabbed else ",")
    rows = [{k: "" if v == MISSING else v for k, v in row.items()} for row in table]
    stage = "trial_type" if tabbed else "stage"
    _check_columns(rows, BIDS_HEAD if tabbed else CSV_HEAD, path)
    locations = [f"{path.name}: line {i}" for i in range(2, len(rows) + 2)]
    epochs = [(r, p) for r, p in zip(rows, locations, strict=True) if r["epoch"]]
    for row, location in zip(rows, locations, strict=True):
        check_event(row, tabbed=tabbed, location=location)
    if not epochs:
        raise DataError(f"{path.name}: has no epochs", code="HYP-ROW")
    return _checked_hands(_review(epochs, stage, path), [r["hand"] for r, _ in epochs], path)


def _check_columns(rows: Sequence[Mapping[str, str]], head: Sequence[str], path: Path) -> None:
    first = rows[0] if rows else {}
    lacking = [c for c in (*head, *FACTS, "review_version") if c not in first]
    if lacking:
        raise DataError(
            f"{path.name}: is no review: it lacks {', '.join(lacking)}",
            hint="give what the page of the command review exports, with all its columns",
            code="TEXT-COLUMNS",
        )
    store.check_format(
        {"format": REVIEW_KIND, "version": _whole(first["review_version"], path)},
        path,
        REVIEW_KIND,
        REVIEW_VERSION,
    )
    for column in FACTS:
        values = list(dict.fromkeys(row[column] for row in rows))
        if len(values) > 1:
            raise DataError(
                f"{path.name}: column {column} has {values[0][:40]!r} and {values[1][:40]!r}: "
                "rows of two nights?",
                hint="export each night from its own page",
                code="HYP-ROW",
            )
    if not SHA256.fullmatch(first["sha256"]):
        raise DataError(f"{path.name}: {first['sha256'][:70]!r} is no SHA-256", code="HYP-ROW")


REVIEW_KIND: Final = "review"


def _whole(text: str, path: Path) -> int:
    if not text.isascii() or not text.isdigit():
        raise DataError(f"{path.name}: {text[:20]!r} is no whole number", code="HYP-ROW")
    return int(text)


def _review(epochs: Sequence[tuple[Mapping[str, str], str]], stage: str, path: Path) -> Review:
    first, line = epochs[0]
    names = _names(first, path)
    number = text_files.parse_number
    onset = number(first["onset"], f"{line}: onset")
    seconds = stage_labels.check_epoch(number(first["duration"], f"{line}: duration"), path.name)
    if not abs(onset) + len(epochs) * seconds <= LONGEST_RECORDING:
        raise DataError(f"{line}: the first epoch begins at {onset:g} s", code="HYP-ROW")
    for i, (row, location) in enumerate(epochs):
        begins, lasts = (number(row[c], f"{location}: {c}") for c in ("onset", "duration"))
        due = onset + i * seconds
        if row["epoch"] != str(i) or max(abs(begins - due), abs(lasts - seconds)) > GRID_SLACK:
            raise DataError(
                f"{location}: epoch {row['epoch'][:20]!r} at {begins:g} s of {lasts:g} s; expected "
                f"epoch {i} at {due:g} s of {seconds:g} s",
                code="HYP-ROW",
            )
    rows = [row for row, _ in epochs]
    begin = first_time(epochs, seconds)
    template = Hypnogram(np.empty(0, np.int8), names, seconds, onset, begin=begin)
    lights = [number(first[c], f"{line}: {c}") if first[c] else None for c in LIGHTS]
    return Review(
        first["recording"],
        first["sha256"],
        replace(_staged(template, epochs, stage), scorer=first["scorer"]),
        _staged(template, epochs, "proposed"),
        np.array([row["hand"] != PROPOSED for row in rows]),
        np.array([_flag(row["artefact"], spot) for row, spot in epochs]),
        _density(rows, names, path),
        lights[0],
        lights[1],
        first["model"],
    )


def _names(row: Mapping[str, str], path: Path) -> tuple[str, ...]:
    present = [column for column in row if column.startswith(PROBABILITY)]
    for names in (HUMAN_STAGES, MOUSE_STAGES):
        if present == [PROBABILITY + name.lower() for name in names]:
            return names
    raise DataError(
        f"{path.name}: columns of probabilities are {', '.join(present)[:80] or 'none'}",
        hint="expected those of W N1 N2 N3 REM, or of Wake NREM REM",
        code="TEXT-COLUMNS",
    )


def _staged(
    template: Hypnogram, epochs: Sequence[tuple[Mapping[str, str], str]], column: str
) -> Hypnogram:
    """Read a column of stages, in which an empty cell is an unannotated epoch."""
    words = (*template.names, *REASONS[1:])
    pairs = []
    for row, location in epochs:
        word = row[column] or REASONS[-1]
        if word not in words:
            raise DataError(
                f"{location}: {column} {word[:40]!r}; expected one of {', '.join(words)}",
                code="HYP-ROW",
            )
        pairs.append(stage_number(word, template.names))
    numbers = np.array(pairs, np.int8)
    return replace(template, stages=numbers[:, 0].copy(), reasons=numbers[:, 1].copy())


def _flag(text: str, location: str) -> bool:
    if text not in ("0", "1"):
        raise DataError(f"{location}: artefact {text[:20]!r}; expected 0 or 1", code="HYP-ROW")
    return text == "1"


def _density(rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path) -> Floats:
    columns = [PROBABILITY + name.lower() for name in names]
    try:
        density = np.array([[row[c] or "nan" for c in columns] for row in rows], np.float32)
    except ValueError as e:
        raise DataError(f"{path.name}: a probability is no number: {e}", code="HYP-ROW") from e
    if np.any((density < 0) | (density > 1)):
        raise DataError(f"{path.name}: a probability is not within 0 to 1", code="HYP-ROW")
    return density


def _checked_hands(review: Review, hands: Sequence[str], path: Path) -> Review:
    """Refuse a row that was altered without saying so: it would count as proposed."""
    old, new = stage_names(review.proposed), stage_names(review.hypnogram)
    for i, hand in enumerate(hands):
        if hand not in HAND or (hand == CHANGED) != (old[i] != new[i]):
            raise DataError(
                f"{path.name}: epoch {i}: hand is {hand[:20]!r}, and {old[i]} was proposed where "
                f"the stage is {new[i]}",
                hint=f"write {CHANGED!r} where the two differ, {CONFIRMED!r} where a hand agreed",
                code="HYP-ROW",
            )
    return review


# --- writing --------------------------------------------------------------------------------------


def write_review(review: Review, path: Path) -> None:
    """Write a review as the page exports it: as BIDS events with their sidecar if it ends in .tsv.

    The page writes the same bytes; `rows` of its files.js is the same table.
    """
    if path.suffix.lower() == ".tsv":
        lines = ["\t".join(row) for row in _bids_rows(review)]
        store.write_json(bids.sidecar(path), sidecar_facts(review))
        store.write_text(path, "\n".join([*lines, ""]))
        return
    store.write_text(path, store.csv_text(_csv_rows(review)))


def sidecar_facts(review: Review) -> dict[str, object]:
    """Describe the columns of the BIDS table, with the length of an epoch and the stage list."""
    return bids.describe(review.hypnogram) | {
        "epoch": {"Description": "Number of the epoch, from 0"},
        "time": {"Description": "Clock time of the epoch's start"},
        "hand": {"Description": "confirmed or changed by the scorer; n/a: not touched"},
        "artefact": {"Description": "1 where the scorer marked an artefact, whatever the stage"},
        "proposed": {"Description": "Stage before the correction"},
        **{
            f"{PROBABILITY}{name}": {"Description": f"Probability of {name} before the correction"}
            for name in review.hypnogram.names
        },
        "lights_off": {"Description": "Lights off, from the recording's start", "Units": "s"},
        "lights_on": {"Description": "Lights on, from the recording's start", "Units": "s"},
        "model": {"Description": "What proposed the stages"},
        "recording": {"Description": "Id of the recording"},
        "sha256": {"Description": "SHA-256 of the recording's file"},
        "review_version": {"Description": "Version of this table's format"},
    }


def _probabilities(review: Review) -> list[list[str]]:
    return [
        ["" if np.isnan(p) else text_files.decimal_text(round(float(p), 4)) for p in row]
        for row in review.density
    ]


def _facts(review: Review) -> list[str]:
    lights = ["" if t is None else text_files.decimal_text(t) for t in _lights(review)]
    names = [plain_name(review.hypnogram.scorer), plain_name(review.model)]
    return [*lights, *names, review.recording, review.sha256, str(REVIEW_VERSION)]


def _lights(review: Review) -> tuple[float | None, float | None]:
    return review.lights_off, review.lights_on


def _epoch_rows(review: Review) -> list[tuple[list[str], list[str]]]:
    """Return of each epoch its cells in the order of `CSV_HEAD`, and its probabilities."""
    h = review.hypnogram
    columns = zip(
        stage_names(h),
        review.hands(),
        review.artefact,
        stage_names(review.proposed),
        _probabilities(review),
        strict=True,
    )
    rows = []
    for i, (stage, hand, artefact, proposed, p) in enumerate(columns):
        begin = add_seconds(h.begin, i * h.epoch_seconds)
        onset = text_files.decimal_text(h.onset + i * h.epoch_seconds)
        cells = [str(i), onset, text_files.decimal_text(h.epoch_seconds)]
        cells += ["" if begin is None else begin.isoformat(), stage, hand]
        rows.append(([*cells, str(int(artefact)), proposed], p))
    return rows


def _csv_rows(review: Review) -> list[list[str]]:
    head = [*CSV_HEAD, *(PROBABILITY + n for n in review.hypnogram.names), *FACTS]
    facts = _facts(review)
    rows = [[*cells, *p, *facts] for cells, p in _epoch_rows(review)]
    return [[*head, "review_version"], *rows]


def _bids_rows(review: Review) -> list[list[str]]:
    """Write the table of BIDS; the lights' rows lie where their times are, before the epoch."""
    names, facts = review.hypnogram.names, _facts(review)
    head = [*BIDS_HEAD, *(PROBABILITY + n for n in names), *FACTS, "review_version"]
    rows = []
    for (epoch, onset, duration, moment, stage, *cells), p in _epoch_rows(review):
        word = MISSING if stage == REASONS[-1] else stage
        rows.append([onset, duration, word, epoch, moment, *cells, *p, *facts])
    gap = [""] * (len(BIDS_HEAD) - 3 + len(names))
    for seconds, text in zip(_lights(review), LIGHTS.values(), strict=True):
        if seconds is not None:
            rows.append([text_files.decimal_text(seconds), "0", text, *gap, *facts])
    rows.sort(key=lambda row: (float(row[0]), row[2] not in LIGHTS.values()))
    return [head, *([cell or MISSING for cell in row] for row in rows)]
