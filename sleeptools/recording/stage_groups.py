"""Stages merged into fewer, such as N1 and N2 into light sleep, to compare lists that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sleeptools.errors import DataError, UsageError
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES, UNSCORED, WAKE

Stages = npt.NDArray[np.int8]

GROUPS: Final = {
    "2": "Wake,Sleep=N1+N2+N3+Light+Deep+NREM+REM",
    "3": "Wake,NREM=N1+N2+N3+Light+Deep+NREM,REM",
    "4": "Wake,Light=N1+N2+Light,Deep=N3+Deep,REM",
    "5": "W,N1,N2,N3,REM",
}
"""Groups by how many there are: wake and sleep; REM apart; light and deep sleep; all stages."""
LIGHT_AND_DEEP: Final = ("W", "Light", "Deep", "REM")
"""Stages of a scoring that tells light from deep sleep only, as those of wearables do."""
KNOWN: Final = tuple(dict.fromkeys((*HUMAN_STAGES, *LIGHT_AND_DEEP, *MOUSE_STAGES)))


class StageGroup(NamedTuple):
    """Stages that count as one.

    Parameters
    ----------
    name
        Name of the group.
    stages
        Names of its stages.
    """

    name: str
    stages: tuple[str, ...]


def parse_groups(text: str) -> tuple[StageGroup, ...]:
    """Read groups of stages: a number of `GROUPS`, or a list such as "W,Light=N1+N2,N3,REM".

    A group without a name is called as its stages: "N1+N2". The one with wake is put first.

    Raises
    ------
    UsageError
        For an unknown stage, one in two groups, a single group, or none with wake.
    """
    groups = tuple(_group(entry) for entry in GROUPS.get(text.strip(), text).split(","))
    stages = [stage for group in groups for stage in group.stages if stage not in WAKE]
    awake = sum(bool(set(WAKE) & {*group.stages}) for group in groups)
    names = [group.name for group in groups]
    if len({*stages}) < len(stages) or awake > 1 or len({*names}) < len(names):
        raise UsageError(f"`stages={text}`: a stage or a name stands in two groups")
    if len(groups) < 2 or not awake:  # noqa: PLR2004
        raise UsageError(f"`stages={text}`: expected wake and at least one other group")
    return tuple(sorted(groups, key=lambda group: not set(WAKE) & {*group.stages}))


def _group(entry: str) -> StageGroup:
    name, equals, listed = (word.strip() for word in entry.partition("="))
    stages = tuple(stage.strip() for stage in (listed if equals else name).split("+"))
    for stage in stages:
        if stage not in KNOWN:
            raise UsageError(
                f"`stages`: {stage!r} is no stage",
                hint=f"stages are {', '.join(KNOWN)}; for example W,Light=N1+N2,N3,REM, or one of "
                f"{', '.join(GROUPS)}",
                code="USE-NAME",
            )
    return StageGroup(name, stages + (WAKE if set(stages) & set(WAKE) else ()))


def merge(
    stages: Stages, names: Sequence[str], groups: Sequence[StageGroup], source: str
) -> Stages:
    """Replace stages by the numbers of their groups.

    Parameters
    ----------
    stages
        (epochs,) index into `names`, -1 where unscored.
    names
        The stage list.
    source
        Scoring, for messages.

    Raises
    ------
    DataError
        If a stage that occurs is in no group.
    """
    number = {stage: i for i, group in enumerate(groups) for stage in group.stages}
    lacking = [n for i, n in enumerate(names) if n not in number and np.any(stages == i)]
    if lacking:
        listed = ", ".join("+".join(dict.fromkeys(group.stages)) for group in groups)
        raise DataError(
            f"{source}: stage {', '.join(lacking)} is in none of the groups {listed}",
            hint="fewer groups take every list: `stages=3`, or `stages=2` for wake and sleep",
            code="HYP-STAGES",
        )
    table = np.array([*(number.get(name, UNSCORED) for name in names), UNSCORED], np.int8)
    return table[stages]
