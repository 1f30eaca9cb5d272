"""The labels that scoring programs write for a stage, and the schemes that say what they mean.

A bare number means nothing without a scheme: 4 is REM in one program and deep sleep in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sleeptools.errors import DataError, UsageError
from sleeptools.recording.stages import HUMAN, MOUSE, REASONS

EDF_TEXTS: Final = {
    "Sleep stage W": "W",
    "Sleep stage 1": "N1",
    "Sleep stage 2": "N2",
    "Sleep stage 3": "N3",
    "Sleep stage 4": "N3",
    "Sleep stage R": "REM",
    "Sleep stage N1": "N1",
    "Sleep stage N2": "N2",
    "Sleep stage N3": "N3",
    "Sleep stage REM": "REM",
    "Sleep stage ?": "unknown",
    "Movement time": "movement",
}
"""Annotation texts of EDF+ hypnograms, R&K and AASM, to a stage or the reason for none."""


WORDS: Final[Mapping[str, str]] = {
    **{text.lower(): name for text, name in EDF_TEXTS.items()},
    **dict.fromkeys(("w", "wake", "awake", "stage w"), "W"),
    **{
        form.format(i): f"N{min(i, 3)}"
        for i in (1, 2, 3, 4)
        for form in ("n{}", "s{}", "nrem{}", "stage {}", "stage n{}", "stage {} sleep", "stage{}")
    },
    **dict.fromkeys(("r", "rem", "stage r", "stage rem", "rem sleep"), "REM"),
    **dict.fromkeys(("nr", "nrem", "non rem", "non-rem", "sleep stage n"), "NREM"),
    **dict.fromkeys(("?", "u", "uns", "unscored", "not scored", "unknown", "undefined"), "unknown"),
    **dict.fromkeys(("m", "mt", "movement", "art", "artefact", "artifact"), "movement"),
    **dict.fromkeys(("unannotated", "out_of_bounds", "n/a", "l", "g", "gap"), "unannotated"),
}
"""What programs call a stage, in lower case, to a stage or the reason for none."""


@dataclass(frozen=True)
class Scheme:
    """What a program's numbers or letters mean.

    Parameters
    ----------
    names
        The stage list, `HUMAN` or `MOUSE`.
    labels
        Label as written to a stage or one of `REASONS`; `WORDS` are known besides.
    other
        What every other label means, `WORDS` included; empty where an unknown label is an error.
    """

    names: tuple[str, ...]
    labels: Mapping[str, str]
    other: str = ""


_RK: Final = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "REM", "6": "movement"}


_AASM: Final = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}


SCHEMES: Final[Mapping[str, Scheme]] = {
    "human": Scheme(HUMAN, {}),
    "mouse": Scheme(MOUSE, {}),
    "aasm": Scheme(HUMAN, {**_AASM, "-1": "unknown"}),
    "yasa": Scheme(HUMAN, {**_AASM, "-1": "movement", "-2": "unknown"}),
    "usleep": Scheme(HUMAN, {**_AASM, "5": "unknown", "6": "unannotated"}),
    "rk": Scheme(HUMAN, {**_RK, "-1": "unknown"}),
    "nsrr": Scheme(HUMAN, {**_RK, "9": "unknown"}),
    "isruc": Scheme(HUMAN, {"0": "W", "1": "N1", "2": "N2", "3": "N3", "5": "REM", "6": "unknown"}),
    "accusleepy": Scheme(MOUSE, {"1": "REM", "2": "Wake", "3": "NREM", "-1": "unknown"}),
    "kjaerby": Scheme(MOUSE, {"0": "Wake", "1": "NREM", "2": "REM", "-1": "unknown"}),
    "slumbernet": Scheme(MOUSE, {"W": "Wake", "N": "NREM", "R": "REM"}, other="movement"),
    "sleepsign": Scheme(
        MOUSE,
        {
            "N": "NREM",
            "S": "NREM",
            "RW": "Wake",
            "-": "unknown",
            **dict.fromkeys(("W*", "RW*", "NR*", "N*", "S*", "R*", "M*", "?*"), "movement"),
        },
    ),
    "sleepsign-unmarked": Scheme(
        MOUSE,
        {
            "N": "NREM",
            "S": "NREM",
            "RW": "Wake",
            "-": "unknown",
            "W*": "Wake",
            "RW*": "Wake",
            "NR*": "NREM",
            "N*": "NREM",
            "S*": "NREM",
            "R*": "REM",
            "M*": "movement",
            "?*": "unknown",
        },
    ),
}
"""Named schemes. SleepSign marks an epoch with an artefact by "*": unscored, or not, by scheme."""


def label_scheme(name: str | Scheme) -> Scheme:
    """Return a named scheme, or the one given.

    Raises
    ------
    UsageError
        For a name that is not there.
    """
    if isinstance(name, Scheme):
        return name
    if name not in SCHEMES:
        raise UsageError(f"unknown scheme {name!r}", hint=f"there are: {', '.join(SCHEMES)}")
    return SCHEMES[name]


def translate_labels(
    labels: Iterable[str], *, by: str | Scheme | None, source: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give the meaning of the labels of a file, and the stage list they belong to.

    Without a scheme, NREM makes it a mouse's stage list, anything else a human one.

    Parameters
    ----------
    labels
        As the file has them.
    by
        A scheme or its name; needed for bare numbers.
    source
        File name for messages.

    Returns
    -------
    meaning
        Label to a stage or one of `REASONS`.
    names
        The stage list.

    Raises
    ------
    DataError
        For a number without a scheme, an unknown label, or stages of both lists in one file.
    """
    labels = list(labels)
    found = list(dict.fromkeys(labels))
    known, other = (label_scheme(by).labels, label_scheme(by).other) if by else ({}, "")
    meaning = {t: known.get(t) or other or WORDS.get(" ".join(t.lower().split())) for t in found}
    unknown = [t for t in found if meaning[t] is None]
    if unknown:
        raise _unknown(unknown, known, by, f"{source}: label {labels.index(unknown[0]) + 1}")
    met = {m for m in meaning.values() if m} - set(REASONS)
    names = label_scheme(by).names if by else MOUSE if "NREM" in met else HUMAN
    same = {"W": "Wake"} if names == MOUSE else {"Wake": "W"}
    stages = {t: same.get(m, m) for t, m in meaning.items() if m}
    strange = {m for m in stages.values() if m not in (*names, *REASONS)}
    if strange:
        raise DataError(
            f"{source}: stage {', '.join(sorted(strange))} is none of {', '.join(names)}",
            hint=f"`scheme` names another; there are: {', '.join(SCHEMES)}",
        )
    return stages, names


def _unknown(
    unknown: Sequence[str], known: Mapping[str, str], by: str | Scheme | None, where: str
) -> DataError:
    shown = ", ".join(repr(t[:40]) for t in unknown[:5])
    if by is None and all(is_number(t) for t in unknown):
        fitting = [n for n, s in SCHEMES.items() if set(unknown) <= set(s.labels)]
        return DataError(
            f"{where}: stages are numbers ({shown}), which mean different stages in different "
            "programs",
            hint=f"say which with `scheme=NAME`; it could be: {', '.join(fitting or SCHEMES)}",
        )
    long = unknown[0].lower().startswith("sleep stage")
    alike = [text for text in WORDS if text.startswith("sleep stage") == long]
    return DataError(
        f"{where}: unknown stage text {shown}"
        + (f" in scheme {by}" if isinstance(by, str) else ""),
        hint=f"known texts: {', '.join([*known, *alike])}; `scheme`: {', '.join(SCHEMES)}",
    )


def is_number(text: str) -> bool:
    """Tell a bare number, which means nothing without a scheme."""
    return text.lstrip("+-").replace(".", "", 1).isdecimal()
