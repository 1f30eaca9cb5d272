"""`export`: a trained model as one file that runs without sleeptools; a format a file of this room.

Before the file gets its name, it is loaded again and scores a simulated night as the model does.
A module of `formats` has the `SUFFIXES` of its files, `export(engine, folder, out)`, which writes
them, `load(path, engine)`, which scores with what was written, and `about(path, engine)`, lines for
the user.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sleeptools import registry, store
from sleeptools.commands.export.comparison import EPOCHS, Agreement, compare
from sleeptools.errors import OutputError, UsageError
from sleeptools.inference.engine import Engine
from sleeptools.runs import model_folder
from sleeptools.store.files import write_together

DRAWER: Final = "exporters"


class Export(NamedTuple):
    """What was exported.

    Parameters
    ----------
    files
        The files that were written, the one that was asked for first.
    agreement
        How it scored the simulated night beside the model.
    about
        Lines about it: sizes, and how it is used.
    """

    files: list[Path]
    agreement: Agreement
    about: list[str]


def export(
    model: Path,
    out: Path,
    *,
    kind: str,
    force: bool = False,
    epochs: int = EPOCHS,
    log: Callable[[str], None] = lambda _: None,
) -> Export:
    """Export a model folder.

    Parameters
    ----------
    model
        Model folder of a fold, or `final`.
    out
        File to write, with the ending of the format.
    kind
        "onnx", "pt2" or "c".
    force
        Replace a file of that name.
    epochs
        Length of the simulated night, epochs.
    log
        Called with a warning of a model folder that nothing has the sums of.

    Raises
    ------
    UsageError
        For an unknown format, another ending, or a model that the format is not for.
    MissingInputError, DataError
        If the folder is missing or damaged, or what was written scores the night otherwise.
    UnavailableError
        If a library or a compiler is missing.
    OutputError
        If another file of that name exists, or it would lie in the model's folder.
    """
    kinds = registry.names(DRAWER)
    if kind not in kinds:
        raise UsageError(
            f"unknown format {kind!r}; there are: {', '.join(kinds)}",
            hint=f"`kind={out.suffix[1:] if out.suffix[1:] in kinds else 'onnx'}`",
            code="USE-NAME",
        )
    if out.suffix != f".{kind}":
        raise UsageError(
            f"{out}: does not end with .{kind}",
            hint=f"for example {out.with_suffix(f'.{kind}')}",
            code="USE-VALUE",
        )
    engine = Engine.load(model, calibrated=False)
    if unverified := model_folder.unverified(model):
        log(f"warning: {unverified}")
    exporter = registry.load(DRAWER, kind)
    targets = [out.with_suffix(suffix) for suffix in exporter.SUFFIXES]
    with store.lock_file(*targets), tempfile.TemporaryDirectory(prefix="sleeptools-") as scratch:
        draft = Path(scratch) / out.name
        _check_place(model, out)
        exporter.export(engine, model, draft)
        agreement = compare(engine, exporter.load(draft, engine), epochs, Path(scratch))
        about = exporter.about(draft, engine)
        contents = {path: (Path(scratch) / path.name).read_bytes() for path in targets}
        for path in targets:
            _check_target(path, contents[path], force=force)
        write_together(contents)
    return Export(targets, agreement, about)


def _check_place(model: Path, path: Path) -> None:
    if path.resolve().is_relative_to(model.resolve()):
        raise OutputError(
            f"{path}: lies in the model's folder, which stays as it was trained",
            hint="give a name elsewhere",
            code="OUT-INPUT",
        )


def _check_target(path: Path, content: bytes, *, force: bool) -> None:
    """Check that a file may be written; what an interrupted command left of it is the same."""
    if path.exists() and not (path.is_file() and (force or path.read_bytes() == content)):
        raise OutputError(
            f"{path}: exists",
            hint="give `force` to replace it, or another name"
            if path.is_file()
            else "give another name: it is a folder",
            code="OUT-EXISTS",
        )
