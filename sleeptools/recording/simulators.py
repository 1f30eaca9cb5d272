"""Which simulator made a recording, and how: the facts `simulated`, `simulator`, ..., and notes.

A file's note is "simulated simulator_2", with "randomised" at its end for nights of a training set
(`randomise`), and "fast" for nights that repeat few epochs (`fast`); nights of simulator 1 say
"simulated" alone. The same seed gives the same night within one version only, and numbers on nights
of two do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

SIMULATOR: Final = 2
"""Version of the simulator."""
SIMULATED, VERSION = "simulated", "simulator"  # facts of a recording
RANDOMISED, FAST = "randomised", "fast"

_NOTE: Final = re.compile(r"simulator[ _](\d{1,6})")


def simulator_of(facts: Mapping[str, object]) -> int | None:
    """Return the version of the simulator that made a recording; None for a real one."""
    version = facts.get(VERSION) or 1
    return int(str(version)) if facts.get(SIMULATED) else None


def simulators_of(rows: Iterable[Mapping[str, object]]) -> list[int]:
    """Return the versions of the simulators among the facts of recordings, in order."""
    versions = {simulator_of(facts) for facts in rows}
    return sorted(version for version in versions if version is not None)


def is_randomised(facts: Mapping[str, object]) -> bool:
    """Return whether a recording was simulated with randomised leads, recorder and levels."""
    return bool(facts.get(SIMULATED)) and bool(facts.get(RANDOMISED))


def is_fast(facts: Mapping[str, object]) -> bool:
    """Return whether a recording was simulated from few epochs, which it repeats."""
    return bool(facts.get(SIMULATED)) and bool(facts.get(FAST))


def made_by(version: int, *, randomised: bool = False, fast: bool = False) -> dict[str, int | bool]:
    """Return the facts of a recording that this version made."""
    variants = {RANDOMISED: randomised, FAST: fast}
    return {SIMULATED: True, VERSION: version} | {name: True for name, so in variants.items() if so}


def note(facts: Mapping[str, object]) -> str:
    """Return the note of a file in which a recording is written; empty for a real one."""
    version = simulator_of(facts)
    if version is None:
        return ""
    words = [SIMULATED] if version == 1 else [SIMULATED, f"{VERSION}_{version}"]
    variants = {RANDOMISED: is_randomised(facts), FAST: is_fast(facts)}
    return " ".join([*words, *(name for name, so in variants.items() if so)])


def facts_of_note(text: str) -> dict[str, int | bool]:
    """Return the facts that a simulated file's note tells."""
    match, words = _NOTE.search(text.lower()), text.lower().split()
    version = int(match[1]) if match else 1
    return made_by(version, randomised=RANDOMISED in words, fast=FAST in words)
