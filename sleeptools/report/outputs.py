"""Where a report may be written: it replaces a report of ours of the same thing, nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.errors import OutputError
from sleeptools.report.page_source import PageSource, find_source, parse_source, refuse_other

REPORT_KIND: Final = "sleeptools-report"
"""Format of a folder of tables or figures."""
OF: Final = "of"
"""Fact of its manifest: the mark of what it is of."""
HEAD_BYTES: Final = 4096
OTHER_HINT: Final = "give another name with `out`; `force` replaces it"
OURS: Final = {
    "html": b'<meta name="generator" content="sleeptools">',
    "md": b"# Sleep staging report: ",
    "tex": b"% Sleep staging report: ",
}
"""What the beginning of a page or a text of ours has."""
SUFFIXES: Final = (".csv", ".html", ".md", ".pdf", ".png", ".svg", ".tex")
"""Files of a folder of tables or figures."""


@contextlib.contextmanager
def holding(
    out: Path, kind: str, figures: Path | None, source: PageSource, *, force: bool
) -> Iterator[None]:
    """Lock what a report is written to, after a look at what is there.

    Parameters
    ----------
    out
        The file, or for "csv" the folder.
    kind
        "html", "md", "tex" or "csv".
    figures
        Folder of the figures.
    source
        What the report is of.
    force
        Replace a file or files of the same kind that are not ours, or of something else.

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
            _check_file(out, kind, source, force=force)
        for folder in folders:
            stack.enter_context(store.lock(folder))
            _check_folder(folder, source, force=force)
            if not (folder / store.MANIFEST).exists():  # marks it, if the command is interrupted
                _manifest(source).write(folder)
        yield


def write_page(out: Path, kind: str, text: str, source: PageSource) -> None:
    """Write a page or a text ("html", "md", "tex") that says what it is of."""
    if kind == "html":
        mark = OURS[kind].decode()
        text = text.replace(mark, f"{mark}\n{source.in_markup()}", 1)
    else:
        first, rest = text.split("\n", 1)
        comment = f"% {source.in_text()}" if kind == "tex" else f"\n<!-- {source.in_text()} -->"
        text = f"{first}\n{comment}\n{rest}"
    store.write_text(out, text)


def write_manifests(files: Iterable[Path], source: PageSource) -> None:
    """List the files in the manifest of each of their folders."""
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        by_folder.setdefault(path.parent, []).append(path)
    for folder, paths in by_folder.items():
        _manifest(source).write(folder, paths)


def _manifest(source: PageSource) -> store.Manifest:
    return store.Manifest(REPORT_KIND, facts={OF: source.mark})


def _check_file(path: Path, kind: str, source: PageSource, *, force: bool) -> None:
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if OURS[kind] in head:
        if not force:
            present = find_source(head.decode(errors="replace"))
            refuse_other(path, present, source, hint=OTHER_HINT)
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


def _check_folder(folder: Path, source: PageSource, *, force: bool) -> None:
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    alike = all(name.endswith(SUFFIXES) for name in names)
    if force and alike:
        return
    store.refuse_foreign(folder, REPORT_KIND)
    manifest = folder / store.MANIFEST
    if manifest.exists():
        present = parse_source(store.read_json(manifest).get(OF))
        refuse_other(folder, present, source, hint="give a folder of its own")
