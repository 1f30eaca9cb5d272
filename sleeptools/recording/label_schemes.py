"""Label schemes: what the labels that scoring programs write mean as sleep stages.

A bare number means nothing without a scheme: 4 is REM in one program and deep sleep in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sleeptools.errors import DataError, UsageError
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, REASONS

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
"""Stage, or reason for being unscored, by annotation text of EDF+ hypnograms (R&K and AASM)."""


STAGE_WORDS: Final[Mapping[str, str]] = {
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
"""Stage, or reason for being unscored, by the names that programs use, in lower case."""


@dataclass(frozen=True)
class Scheme:
    """The meaning of a program's labels, such as numbers or letters.

    Parameters
    ----------
    names
        The stage list, `HUMAN_STAGES` or `MOUSE_STAGES`.
    labels
        Stage, or one of `REASONS`, of each label as the file writes it. `STAGE_WORDS` are
        understood in addition.
    default
        Meaning of every label not in `labels`, those of `STAGE_WORDS` included; if empty, an
        unknown label is an error.
    """

    names: tuple[str, ...]
    labels: Mapping[str, str]
    default: str = ""


_RK: Final = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "REM", "6": "movement"}


_AASM: Final = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}


SCHEMES: Final[Mapping[str, Scheme]] = {
    "human": Scheme(HUMAN_STAGES, {}),
    "mouse": Scheme(MOUSE_STAGES, {}),
    "aasm": Scheme(HUMAN_STAGES, {**_AASM, "-1": "unknown"}),
    "yasa": Scheme(HUMAN_STAGES, {**_AASM, "-1": "movement", "-2": "unknown"}),
    "usleep": Scheme(HUMAN_STAGES, {**_AASM, "5": "unknown", "6": "unannotated"}),
    "rk": Scheme(HUMAN_STAGES, {**_RK, "-1": "unknown"}),
    "nsrr": Scheme(HUMAN_STAGES, {**_RK, "9": "unknown"}),
    "isruc": Scheme(
        HUMAN_STAGES, {"0": "W", "1": "N1", "2": "N2", "3": "N3", "5": "REM", "6": "unknown"}
    ),
    "accusleepy": Scheme(MOUSE_STAGES, {"1": "REM", "2": "Wake", "3": "NREM", "-1": "unknown"}),
    "kjaerby": Scheme(MOUSE_STAGES, {"0": "Wake", "1": "NREM", "2": "REM", "-1": "unknown"}),
    "slumbernet": Scheme(MOUSE_STAGES, {"W": "Wake", "N": "NREM", "R": "REM"}, default="movement"),
    "sleepsign": Scheme(
        MOUSE_STAGES,
        {
            "N": "NREM",
            "S": "NREM",
            "RW": "Wake",
            "-": "unknown",
            **dict.fromkeys(("W*", "RW*", "NR*", "N*", "S*", "R*", "M*", "?*"), "movement"),
        },
    ),
    "sleepsign-unmarked": Scheme(
        MOUSE_STAGES,
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
"""Label schemes by name. SleepSign marks an epoch with an artefact by "*": such an epoch is
unscored in the scheme "sleepsign", and keeps its stage in "sleepsign-unmarked"."""


def label_scheme(name: str | Scheme) -> Scheme:
    """Return the scheme of a name; a `Scheme` is returned as it is.

    Raises
    ------
    UsageError
        For an unknown name; the hint lists the known ones.
    """
    if isinstance(name, Scheme):
        return name
    if name not in SCHEMES:
        raise UsageError(f"unknown scheme {name!r}", hint=f"there are: {', '.join(SCHEMES)}")
    return SCHEMES[name]


def translate_labels(
    labels: Iterable[str], *, by: str | Scheme | None, source: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the meaning of a file's labels, and the stage list they belong to.

    Without a scheme, the stage list is that of mice if a label means NREM, else the human one.

    Parameters
    ----------
    labels
        The labels as the file writes them.
    by
        A scheme or its name; needed for bare numbers.
    source
        File name for messages.

    Returns
    -------
    meaning
        Stage, or one of `REASONS`, by label.
    names
        The stage list.

    Raises
    ------
    DataError
        For a number without a scheme, an unknown label, or stages of mice and humans in one file.
    """
    labels = list(labels)
    distinct = list(dict.fromkeys(labels))
    meanings, default = (label_scheme(by).labels, label_scheme(by).default) if by else ({}, "")
    meaning = {
        t: meanings.get(t) or default or STAGE_WORDS.get(" ".join(t.lower().split()))
        for t in distinct
    }
    unknown = [t for t in distinct if meaning[t] is None]
    if unknown:
        raise _unknown(unknown, meanings, by, f"{source}: label {labels.index(unknown[0]) + 1}")
    present = {m for m in meaning.values() if m} - set(REASONS)
    names = label_scheme(by).names if by else MOUSE_STAGES if "NREM" in present else HUMAN_STAGES
    wake_names = {"W": "Wake"} if names == MOUSE_STAGES else {"Wake": "W"}
    stages = {t: wake_names.get(m, m) for t, m in meaning.items() if m}
    strange = {m for m in stages.values() if m not in (*names, *REASONS)}
    if strange:
        raise DataError(
            f"{source}: stage {', '.join(sorted(strange))} is none of {', '.join(names)}",
            hint=f"`scheme` names another; there are: {', '.join(SCHEMES)}",
        )
    return stages, names


def _unknown(
    unknown: Sequence[str], meanings: Mapping[str, str], by: str | Scheme | None, location: str
) -> DataError:
    examples = ", ".join(repr(t[:40]) for t in unknown[:5])
    if by is None and all(is_number(t) for t in unknown):
        fitting = [n for n, s in SCHEMES.items() if set(unknown) <= set(s.labels)]
        return DataError(
            f"{location}: stages are numbers ({examples}), which mean different stages in "
            "different programs",
            hint=f"say which with `scheme=NAME`; it could be: {', '.join(fitting or SCHEMES)}",
        )
    long = unknown[0].lower().startswith("sleep stage")
    alike = [text for text in STAGE_WORDS if text.startswith("sleep stage") == long]
    return DataError(
        f"{location}: unknown stage text {examples}"
        + (f" in scheme {by}" if isinstance(by, str) else ""),
        hint=f"known texts: {', '.join([*meanings, *alike])}; `scheme`: {', '.join(SCHEMES)}",
    )


def is_number(text: str) -> bool:
    """Tell whether a label is a bare number, which means nothing without a scheme."""
    return text.lstrip("+-").replace(".", "", 1).isdecimal()
