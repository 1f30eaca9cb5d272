"""Where a report may be written: what is there and is not a report of ours is never replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import OutputError

REPORT_KIND: Final = "sleeptools-report"
"""Format of a folder of tables or figures."""
HEAD_BYTES: Final = 4096
OURS: Final = {
    "html": b'<meta name="generator" content="sleeptools">',
    "md": b"# Sleep staging report: ",
    "tex": b"% Sleep staging report: ",
}
"""What the beginning of a page or a text of ours has."""
SUFFIXES: Final = (".csv", ".html", ".md", ".pdf", ".png", ".svg", ".tex")
"""Files of a folder of tables or figures."""


@contextlib.contextmanager
def holding(out: Path, kind: str, figures: Path | None, *, force: bool) -> Iterator[None]:
    """Lock what a report is written to, after a look at what is there.

    Parameters
    ----------
    out
        The file, or for "csv" the folder.
    kind
        "html", "md", "tex" or "csv".
    figures
        Folder of the figures.
    force
        Replace a file or files of the same kind that are not ours.

    Raises
    ------
    OutputError
        If something else is there, or another process writes there.
    """
    folders = [out] if kind == "csv" else []
    if figures is not None and figures.resolve() not in [folder.resolve() for folder in folders]:
        folders.append(figures)
    with contextlib.ExitStack() as stack:
        if kind != "csv":
            stack.enter_context(store.lock_file(out))
            _check_file(out, kind, force=force)
        for folder in folders:
            stack.enter_context(store.lock(folder))
            _check_folder(folder, force=force)
            if not (folder / store.MANIFEST).exists():  # marks it, if the command is interrupted
                store.Manifest(REPORT_KIND).write(folder)
        yield


def write_manifests(files: Iterable[Path]) -> None:
    """List the files in the manifest of each of their folders."""
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        by_folder.setdefault(path.parent, []).append(path)
    for folder, paths in by_folder.items():
        store.Manifest(REPORT_KIND).write(folder, paths)


def _check_file(path: Path, kind: str, *, force: bool) -> None:
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if OURS[kind] in head:
        return
    alike = _is_alike(path, kind, head)
    if not (force and alike):
        raise OutputError(
            f"{path}: exists and is no report that this command wrote",
            hint="`force` replaces it, or give another name with `out`"
            if alike
            else "give another name with `out`",
            code="OUT-OURS",
        )


def _is_alike(path: Path, kind: str, head: bytes) -> bool:
    """Tell whether a file is a page or a text at all."""
    if kind == "html":
        return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    suffixes = {".tex"} if kind == "tex" else {".md", ".markdown"}
    return path.suffix.lower() in suffixes and b"\0" not in head


def _check_folder(folder: Path, *, force: bool) -> None:
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    alike = all(name.endswith(SUFFIXES) for name in names)
    if not (force and alike):
        store.refuse_foreign(folder, REPORT_KIND)
