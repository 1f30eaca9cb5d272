"""Label schemes: what the labels that scoring programs write mean as sleep stages.

A bare number means nothing without a scheme: 4 is REM in one program and deep sleep in another.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sleeptools.errors import DataError, UndecidedError, UsageError, did_you_mean
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, REASONS

SEPARATORS: Final = re.compile(r"[\s_-]+")

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


_BASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("w", "wake", "awake", "s0", "wk"), "W"),
    **{form.format(i): f"N{min(i, 3)}" for i in (1, 2, 3, 4) for form in ("n{}", "s{}", "nrem{}")},
    **{
        form.format(i): f"N{min(i, 3)}"
        for i in (1, 2, 3, 4)
        for form in ("nrem {}", "n {}", "s {}")
    },
    **dict.fromkeys(("r", "rem"), "REM"),
    **dict.fromkeys(("nr", "nrem", "non rem", "n rem"), "NREM"),
    **dict.fromkeys(("?", "u", "uns", "unscored", "not scored", "unknown", "undefined"), "unknown"),
    **dict.fromkeys(("m", "mt", "movement", "art", "artefact", "artifact"), "movement"),
}
"""Stage, or reason for being unscored, by the words that may follow "stage" or "sleep stage"."""
_AWAKE: Final = (
    *("éveil", "eveil", "éveillé", "wach", "vigilia", "veglia", "vigília", "vaka", "vaken"),
    *("våken", "vågen", "wakker", "czuwanie", "hereillä", "wakefulness"),
)
"""Being awake in other languages; the names of the other stages are alike in all of them."""

STAGE_WORDS: Final[Mapping[str, str]] = {
    **{
        form.format(word): name
        for form in ("{}", "stage {}", "stage{}", "sleep stage {}", "sleep {}", "stage {} sleep")
        for word, name in (*_BASES.items(), *((str(i), f"N{min(i, 3)}") for i in (1, 2, 3, 4)))
        if form != "{}" or not word.isdecimal()
    },
    **dict.fromkeys(_AWAKE, "W"),
    **dict.fromkeys(("rem sleep", "paradoxical sleep"), "REM"),
    **dict.fromkeys(("nrem sleep", "non rem sleep", "sleep stage n"), "NREM"),
    **dict.fromkeys(("movement time", "movement epoch"), "movement"),
    **dict.fromkeys(("unannotated", "out of bounds", "n/a", "l", "g", "gap"), "unannotated"),
}
"""Stage, or reason for being unscored, by the names that programs use: one table for every reader.

The words are in lower case, with a blank for each row of blanks, hyphens and underscores."""


@lru_cache(4096)
def word_meaning(text: str) -> str:
    """Return the stage, or reason for being unscored, that a word names; "" if it names none."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return STAGE_WORDS.get(" ".join(SEPARATORS.sub(" ", plain).split()), "")


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
    completes
        Whether labels that are not in `labels` mean what the file's own form says; see `of_form`.
    """

    names: tuple[str, ...]
    labels: Mapping[str, str]
    default: str = ""
    completes: bool = False


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
        similar = did_you_mean(name, [*SCHEMES])
        listed = f"there are: {', '.join(SCHEMES)}"
        raise UsageError(
            f"unknown scheme {name!r}",
            hint=f"{similar} {listed}" if similar else listed,
            code="USE-NAME",
        )
    return SCHEMES[name]


def of_form(form: str, by: str | Scheme | None, labels: Iterable[str], source: str) -> str | Scheme:
    """Find the scheme of a file whose form, such as its header, tells that of its labels.

    A scheme that `completes` is that of the form with its own labels in place of the form's. If it
    gives a number another stage than the form does, it stands alone: then the form's other numbers
    mean nothing either.

    Parameters
    ----------
    form
        Name of the form's scheme, which counts if none is given.
    by
        The scheme that is given.
    labels
        The labels as the file writes them.
    source
        File name for messages.

    Raises
    ------
    DataError
        If a scheme that `completes` does not know a label and has other stages than the form.
    """
    if by is None:
        return form
    if not isinstance(by, Scheme) or not by.completes or all(_meanings(labels, by).values()):
        return by
    own = SCHEMES[form]
    if not {*own.names} <= {*by.names}:
        listed = ", ".join(f'"{name}"' for name in own.names)
        raise DataError(
            f"{source}: has the form of {form}, whose stages are {', '.join(own.names)}, and not "
            f"{', '.join(by.names)}",
            hint=f"`stages=[{listed}]`",
            code="HYP-SCHEME",
        )
    pairs = [{name, own.labels.get(t, name)} for t, name in by.labels.items() if is_number(t)]
    if any(len(pair) > 1 and not pair <= {*REASONS} for pair in pairs):
        return by
    return Scheme(by.names, {**own.labels, **by.labels}, by.default or own.default)


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
    meaning = _meanings(labels, by)
    unknown = [t for t in meaning if not meaning[t]]
    if unknown:
        meanings = label_scheme(by).labels if by else {}
        raise _unknown(unknown, meanings, by, f"{source}: label {labels.index(unknown[0]) + 1}")
    present = {m for m in meaning.values() if m} - set(REASONS)
    names = label_scheme(by).names if by else MOUSE_STAGES if "NREM" in present else HUMAN_STAGES
    wake_names = {"W": "Wake"} if "Wake" in names else {"Wake": "W"}
    stages = {t: wake_names.get(m, m) for t, m in meaning.items() if m}
    strange = {m for m in stages.values() if m not in (*names, *REASONS)}
    if strange:
        raise DataError(
            f"{source}: stage {', '.join(sorted(strange))} is none of {', '.join(names)}",
            hint=f"`scheme` names another; there are: {', '.join(SCHEMES)}",
            code="HYP-SCHEME",
        )
    return stages, names


def _meanings(labels: Iterable[str], by: str | Scheme | None) -> dict[str, str]:
    """Stage, or reason for being unscored, of each distinct label; "" of an unknown one."""
    meanings, default = (label_scheme(by).labels, label_scheme(by).default) if by else ({}, "")
    return {t: meanings.get(t) or default or word_meaning(t) for t in dict.fromkeys(labels)}


def stray_labels(labels: Sequence[str], by: str | Scheme | None) -> dict[str, int]:
    """Count the unknown labels if they can only be slips of the pen; else return none.

    They can if at most 1 % of the labels are unknown, and none of these could be a stage of
    another scheme: a number, a letter with a number, or a name that some scheme knows.
    """
    known = _meanings(labels, by)
    unknown = Counter(t for t in labels if not known[t])
    few = unknown.total() <= STRAY * len(labels)
    return dict(unknown) if few and not any(map(_could_be_stage, unknown)) else {}


STRAY: Final = 0.01  # of the labels
OTHER_STAGES: Final = ("d", "sws", "ds", "ps", "as", "qs", "is", "deep", "light", "tst", "twt")
NUMBERED: Final = re.compile(r"\W*([a-z&]{0,5}|sleep|stage|sleep stage)\W*\d\W*", re.IGNORECASE)


def _could_be_stage(text: str) -> bool:
    plain = text.strip().lower()
    lettered = any(plain == t.lower() for s in SCHEMES.values() for t in s.labels)
    named = plain in OTHER_STAGES or plain.startswith(("stage", "sleep"))
    return named or lettered or is_number(text) or bool(NUMBERED.fullmatch(text)) or not plain


def _unknown(
    unknown: Sequence[str], meanings: Mapping[str, str], by: str | Scheme | None, location: str
) -> UndecidedError:
    examples = ", ".join(repr(t[:40]) for t in unknown[:5])
    if not isinstance(by, str) and all(map(is_number, unknown)):
        names = label_scheme(by).names if by else ()
        known = [n for n, s in SCHEMES.items() if set(unknown) <= set(s.labels)]
        fitting = [n for n in known if not names or SCHEMES[n].names == names] or known
        return UndecidedError(
            f"{location}: stages are numbers ({examples}), which mean different stages in "
            "different programs",
            hint=f"say which with `scheme=NAME`; it could be: {', '.join(fitting or SCHEMES)}",
            code="HYP-SCHEME",
            texts=unknown,
        )
    long = unknown[0].lower().startswith("sleep stage")
    alike = list(EDF_TEXTS) if long else ["wake", *dict.fromkeys(_BASES.values())]
    texts = ", ".join(dict.fromkeys([*meanings, *alike]))
    fitting = [n for n, s in SCHEMES.items() if set(unknown) <= set(s.labels)]
    return UndecidedError(
        f"{location}: unknown stage text {examples}"
        + (f" in scheme {by}" if isinstance(by, str) else ""),
        hint=f"known texts: {texts}, and other spellings of them"
        + (f"; `scheme` can be: {', '.join(fitting)}" if fitting else ""),
        code="HYP-TEXT",
        texts=unknown,
    )


def is_number(text: str) -> bool:
    """Tell whether a label is a bare number, which means nothing without a scheme."""
    return text.lstrip("+-").replace(".", "", 1).isdecimal()
