"""The files of a scored night: one function for each kind that can be asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sleeptools.commands.score import sleep_table
from sleeptools.commands.score.scoring import Scoring
from sleeptools.errors import UsageError
from sleeptools.formats import bids, edf, hypnodensity
from sleeptools.store import batch

if TYPE_CHECKING:
    from sleeptools.commands.score.night_page import NightPage

BIDS_SUFFIX: Final = re.compile(r"_(?:eeg|ieeg|meg|nirs|psg)$", re.IGNORECASE)
"""Ending of a recording's name that its events do not share."""
KINDS: Final = ("edf", "bids", "csv", "html")
BATCH_FILES: Final = (sleep_table.SLEEP, sleep_table.SLEEP_BINS, batch.FAILURES)


def file_names(name: str, kinds: Sequence[str]) -> list[str]:
    """List the files of a night of that name."""
    events = f"{BIDS_SUFFIX.sub('', name)}_events"
    every = {
        "edf": [f"{name}-hypnogram.edf"],
        "bids": [f"{events}.json", f"{events}.tsv"],
        "csv": [f"{name}.csv"],
        "html": [f"{name}.html"],
    }
    return [file for kind in kinds for file in every[kind]]


def check_apart(nights: Mapping[str, Sequence[str]]) -> None:
    """Check that no file of a night is one of another night or of the batch.

    Parameters
    ----------
    nights
        Files by the night's name.

    Raises
    ------
    UsageError
        Naming the first two that share a file.
    """
    owners = dict.fromkeys(BATCH_FILES, "the whole batch")
    for name, files in nights.items():
        for file in files:
            if (other := owners.setdefault(file, name)) != name:
                raise UsageError(
                    f"{name}: its scores and those of {other} would both be {file}",
                    hint="give the recording another name, or score it into another folder",
                )


def write_files(
    night: Scoring, page: Callable[[], NightPage], kinds: Sequence[str], out: Path
) -> None:
    """Write the files of a night, those of some `KINDS`; `page` makes its page, where asked for."""
    for kind in kinds:
        path = out / file_names(night.name, [kind])[-1]
        if kind == "edf":
            edf.write_hypnogram(night.hypnogram, path, night.confidence.tolist())
        elif kind == "bids":
            bids.write_hypnogram(night.hypnogram, path, night.confidence.tolist())
        elif kind == "csv":
            hypnodensity.write_table(path, night.hypnogram, night.hypnodensity, night.left_out)
        else:
            page().write(night, path)


def chosen_kinds(only: Sequence[str]) -> tuple[str, ...]:
    """Check which kinds of files are asked for; all of them if none is.

    Raises
    ------
    UsageError
        For an unknown kind.
    """
    for kind in only:
        if kind not in KINDS:
            raise UsageError(
                f"no file {kind!r} is written of a night",
                hint=f"there are: {', '.join(KINDS)}",
                code="USE-NAME",
            )
    return tuple(kind for kind in KINDS if kind in only) if only else KINDS
