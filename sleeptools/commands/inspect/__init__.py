"""`inspect`: what files hold, and what the nights of a folder are, with what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

from sleeptools import formats
from sleeptools.commands.inspect.cross_check import cross_check_file, second_opinion
from sleeptools.commands.inspect.draft import draft_settings
from sleeptools.commands.inspect.files import (
    FaultyFileError,
    Problem,
    describe,
    inspect,
    read_content,
)
from sleeptools.commands.inspect.folders import files_to_inspect, inspect_folder
from sleeptools.errors import DataError, SleeptoolsError, UsageError
from sleeptools.formats.parsing.edf_header import starts_like_edf
from sleeptools.preprocessing import presets
from sleeptools.recording.recording import IGNORED, check_ignored, ignored_channels
from sleeptools.store import batch

__all__ = [
    "FaultyFileError",
    "Problem",
    "cross_check_file",
    "draft_settings",
    "files_to_inspect",
    "inspect",
    "inspect_all",
    "inspect_folder",
]


UNREADABLE = "unreadable"


def inspect_all(
    paths: Sequence[Path],
    preset: str | None = None,
    on_progress: batch.OnProgress = batch.ignore,
    *,
    details: bool = False,
    ignore_channels: Sequence[str] = (),
    cross_check: bool = False,
    jobs: int = 1,
    log: Callable[[str], None] = lambda _: None,
    **settings: Unpack[formats.ReadSettings],
) -> tuple[list[dict[str, Any]], list[SleeptoolsError]]:
    """Describe files, and the nights of folders; what cannot be read does not stop the rest.

    Parameters
    ----------
    paths
        Files and folders.
    preset
        Name or TOML file of the preset to whose montage the signals are mapped.
    on_progress
        Called after every night of a folder.
    details
        Describe every file of a folder by itself, instead of its nights.
    ignore_channels
        Labels of signals to leave out, as far as the files have them.
    cross_check
        Read EDF and BDF files with pyedflib, too, and tell every difference: `cross_check` among
        the facts of a file has those of `cross_check_file`. Of folders, every file is described.
    jobs
        Number of worker processes for the nights of a folder.
    settings
        As `formats.read_hypnogram` takes them.
    log
        Called with a line for each error of a file.

    Returns
    -------
    descriptions
        The facts of `inspect` for every file that can be read, and those of `inspect_folder`; of
        any other file its `path`, the `kind` "unreadable" and the facts of the `error`.
    errors
        The error of every file and night of which signals or stages cannot be read; if there is
        only one file and nothing of it can be read, its error is raised.

    Raises
    ------
    UsageError
        For a file to cross-check that is no EDF or BDF file.
    """
    details = details or cross_check
    for path in paths if cross_check else ():
        if path.is_file() and not _is_edf(path):
            raise UsageError(f"{path}: `cross_check` is for EDF and BDF files")
    montage_preset = presets.load(preset) if preset else None
    sources = files_to_inspect(paths) if details else [*paths]
    descriptions: list[dict[str, Any]] = []
    errors: list[SleeptoolsError] = []
    ignored: list[str] = []
    for path in sources:
        if path.is_dir():
            folder_facts, folder_errors = inspect_folder(
                path,
                montage_preset,
                on_progress,
                settings=settings,
                ignore_channels=ignore_channels,
                jobs=jobs,
                log=log,
            )
            descriptions += folder_facts
            errors += folder_errors
            ignored += [n for f in folder_facts for s in f["nights"] for n in s[IGNORED]]
            continue
        try:
            content = read_content(path, settings, ignore_channels)
            facts = describe(path, content, montage_preset)
            ignored += ignored_channels(content.recording.facts) if content.recording else []
            if cross_check:
                facts["cross_check"] = cross_check_file(path) if _is_edf(path) else None
            descriptions.append(facts)
            error: SleeptoolsError | None = content.refused or _disagreement(facts)
        except SleeptoolsError as e:
            if cross_check and isinstance(e, DataError) and _is_edf(path):
                log(f"{path}: {second_opinion(path)}")
            if len(sources) == 1:
                raise
            error = e
            descriptions.append({"path": str(path), "kind": UNREADABLE, "error": e.facts()})
        if error is not None:
            errors.append(error)
            if len(sources) > 1:
                log(f"error: {error}")
    if not errors:
        check_ignored(ignore_channels, ignored)
    return descriptions, errors


def _disagreement(facts: dict[str, Any]) -> FaultyFileError | None:
    """Return the error of a file of which two readers read other data."""
    differences = (facts.get("cross_check") or {}).get("differences", [])
    if not (serious := [d["what"] for d in differences if d["in_data"]]):
        return None
    return FaultyFileError(
        f"{facts['path']}: the two readers differ in {', '.join(serious)}",
        hint="one of them reads it wrongly: report the file",
        code="EDF-READERS",
    )


def _is_edf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return starts_like_edf(file.read(8))
    except OSError:
        return False
