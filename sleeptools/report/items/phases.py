"""Which hours of a mouse's recording are which: a small TOML, for figures over zeitgeber time.

light_hours = 12.0            # of light, from zeitgeber time 0

[start]                       # zeitgeber time at which a recording begins, h
m10 = 0.0                     # by subject, or by recording where a subject has several

[[phase]]
name = "baseline"
from = 0.0                    # zeitgeber time, counted on from the first light phase, h
to = 24.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sleeptools import store
from sleeptools.errors import DataError


@dataclass(frozen=True)
class DayPhase:
    """A stretch of the experiment, from one zeitgeber time to another, h."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class PhaseTable:
    """The time line of an experiment.

    Parameters
    ----------
    path
        File that it was read from.
    start
        Zeitgeber time at which a recording begins, h, by subject or recording.
    phases
        In their order, without overlap.
    light_hours
        Hours of light of a day, from zeitgeber time 0.
    """

    path: Path
    start: Mapping[str, float]
    phases: tuple[DayPhase, ...]
    light_hours: float = 12.0

    def begins(self, recording: str, subject: str) -> float:
        """Zeitgeber time at which a recording begins, h.

        Raises
        ------
        DataError
            If the table does not say.
        """
        for name in (recording, subject):
            if name in self.start:
                return self.start[name]
        raise DataError(
            f"{self.path}: [start] has neither {recording} nor {subject}",
            hint=f"{subject} = 0.0 under [start] says that it begins with the light",
            code="FACT-MISSING",
        )

    def phase(self, hour: float) -> str:
        """Name of the phase that holds a zeitgeber time; "" where none does."""
        return next((p.name for p in self.phases if p.begin <= hour < p.end), "")


def read_phases(path: Path) -> PhaseTable:
    """Read a table of phases.

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If it lacks something, or a phase ends before it begins, or in the next one.
    """
    values = store.read_toml(store.need(path))
    store.check_facts(
        values, path, {"start": "table", "phase": "tables", "light_hours": "positive?"}
    )
    for name in values["start"]:
        store.check_facts(values["start"], path, {name: "number"}, place="start")
    phases = []
    for number, entry in enumerate(values["phase"], 1):
        kinds = {"name": "text", "from": "number", "to": "number"}
        store.check_facts(entry, path, kinds, place=f"phase {number}")
        phases.append(DayPhase(entry["name"], float(entry["from"]), float(entry["to"])))
    _check_order(phases, path)
    start = {name: float(hour) for name, hour in values["start"].items()}
    return PhaseTable(path, start, tuple(phases), float(values.get("light_hours", 12.0)))


def _check_order(phases: list[DayPhase], path: Path) -> None:
    end = float("-inf")
    for phase in phases:
        if phase.end <= phase.begin or phase.begin < end:
            raise DataError(
                f"{path}: phase {phase.name!r} is from {phase.begin:g} to {phase.end:g} h, the one "
                f"before it to {end:g} h",
                hint="each phase begins where the one before it has ended, or later",
                code="FACT-KIND",
            )
        end = phase.end
