"""Which of our own folders a folder is, in words, and which command takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleeptools.errors import DataError, SleeptoolsError, quoted
from sleeptools.store.files import read_json, read_toml

FACT_FILES: Final = ("config.toml", "manifest.json", "config.json")
"""Files that name the format of a folder: of a run, of most folders, of a model."""
OWN_FOLDERS: Final = {
    "recordings": ("recordings", "'sleeptools inspect {}' shows them"),
    "epochs": ("epochs", "'sleeptools train {} RUN' trains on them"),
    "run": ("a run", "'sleeptools status {}' shows it, 'sleeptools report {}' its results"),
    "model": ("a trained model", "'sleeptools score {} NIGHT `out=scores`' scores with it"),
    "scores": ("scores", "'sleeptools inspect {}' or 'sleeptools report {}' shows them"),
    "simulated": ("simulated raw files", "'sleeptools inspect {}' shows them"),
    "evaluation": ("the evaluation of a run", "'sleeptools report RUN' shows it"),
    "agreement": ("what agree compared", "agreement.html in it opens in a browser"),
    "report": ("tables or figures of a report", "they open in any program"),
}
"""What holds a folder, by its format, and a hint in which {} is the folder."""


def own_kind(folder: Path) -> str:
    """Tell which of our own folders a folder is, by `OWN_FOLDERS`; "" if it is none."""
    for name in FACT_FILES:
        path = folder / name
        if path.is_file():
            try:
                facts = read_toml(path) if path.suffix == ".toml" else read_json(path)
            except SleeptoolsError:
                continue
            format_name = str(facts.get("format")) if isinstance(facts, dict) else ""
            kind = format_name.removeprefix("sleeptools-")
            if kind != format_name and kind in OWN_FOLDERS:
                return kind
    return ""


def refuse_own(folder: Path, kinds: tuple[str, ...], wanted: str) -> None:
    """Refuse a folder of ours that is of another kind than a command takes.

    Parameters
    ----------
    folder
        Any folder; those that are not ours pass.
    kinds
        Kinds that the command takes.
    wanted
        What it takes, for the message: "recordings".

    Raises
    ------
    DataError
        That says what the folder holds, and which command takes it.
    """
    kind = own_kind(folder)
    if kind and kind not in kinds:
        words, hint = OWN_FOLDERS[kind]
        raise DataError(
            f"{folder}: holds {words}; expected {wanted}",
            hint=hint.replace("{}", quoted(folder)),
            code="FACT-FORMAT",
        )
