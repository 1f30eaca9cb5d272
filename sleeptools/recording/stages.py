"""Sleep stages of humans and mice: their names, their order, and reasons for an unscored epoch.

Human stages follow the AASM names; Rechtschaffen & Kales stages 3 and 4 are both N3. Stages are
matched by name, never by number, because 4 is REM in one program and deep sleep in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HUMAN_STAGES: Final = ("W", "N1", "N2", "N3", "REM")
MOUSE_STAGES: Final = ("Wake", "NREM", "REM")
WAKE: Final = ("W", "Wake")
EITHER: Final = frozenset({*WAKE, "REM"})
"""Stages that people and mice have alike: a scoring of no others tells neither from the other."""
UNSCORED: Final = -1
SPECIES: Final = "species"
"""Fact of a recording whose format is for one species."""
MOUSE: Final = "mouse"

REASONS: Final = ("scored", "unknown", "movement", "unannotated")
"""Reasons for an unscored epoch: scored as unknown ("?"), as movement, or not annotated; the first
entry stands for an epoch with a stage."""
SCORED, UNKNOWN, MOVEMENT, UNANNOTATED = range(len(REASONS))


def is_of_mice(names: Sequence[str]) -> bool:
    """Tell a stage list of mice from one of people: it has NREM as one stage."""
    return "NREM" in names


def stage_number(name: str, names: Sequence[str]) -> tuple[int, int]:
    """Turn a stage name, or a reason for being unscored, into numbers.

    Parameters
    ----------
    name
        One of `names`, or one of `REASONS`.
    names
        The stage list, for example `HUMAN_STAGES`.

    Returns
    -------
    stage, reason
        Index into `names` (-1 for unscored) and index into `REASONS`.
    """
    if name in REASONS[1:]:
        return UNSCORED, REASONS.index(name)
    return tuple(names).index(name), SCORED
