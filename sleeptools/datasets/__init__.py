"""Data sets, one module each: how their files are named and paired, and what their labels mean.

A data set module has `CITATION` (how to cite it, with its licence), `PATTERN` (for messages),
`find(root)` and `read(source)`; and, where it has them, `SUBSETS` (name to what a recording's id
must be) and `absent(root, sources)` (recordings that the set's own list has and the folder has
not). What can be simulated has `plan(subjects, nights, subset)` and `write(recording, root,
events)`. What can be fetched has `ADDRESS`, `SUMS_SHA256` and `published(names, subset)`; any other
set says in `HOW_TO_GET` how a person gets it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sleeptools import store
from sleeptools.errors import DataError, UsageError

SUMS = "SHA256SUMS.txt"
SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*?)\s*")


@dataclass(frozen=True)
class Source:
    """The files of one recording, found but not yet read.

    Parameters
    ----------
    id, subject, night
        As in `Recording`.
    files
        Signals first, then hypnograms, then tables and settings that say more about it.
    problem
        Why it cannot be read although it is there, or empty.
    """

    id: str
    subject: str
    night: int
    files: tuple[Path, ...]
    problem: str = ""

    @property
    def inputs(self) -> dict[str, Path]:
        """The files by name; two of one name by their folder's name too."""
        times = Counter(f.name for f in set(self.files))
        return {
            (f.name if times[f.name] == 1 else f"{f.parent.name}/{f.name}"): f for f in self.files
        }


@dataclass(frozen=True)
class Channel:
    """A signal that a simulated recording has.

    Parameters
    ----------
    label
        As the data set's files name it.
    source
        What of the simulated body it shows, by the names that `simulate.night` gives.
    sample_rate
        Hz.
    low, high
        Range that the recorder clips to, in `unit`.
    """

    label: str
    source: str
    sample_rate: float
    low: float
    high: float
    unit: str = "uV"


@dataclass(frozen=True)
class Planned:
    """A recording to simulate.

    Parameters
    ----------
    id, subject, night
        As in `Recording`.
    person
        Number of the simulated person, 0 or more.
    channels
        What is recorded.
    files
        What `write` will write, relative to the root.
    scorers
        How many scored it.
    hours
        How long such a recording is, h; None for about 22 h with a day around the night.
    animal
        "human" or "mouse".
    epoch_seconds
        Of the scoring, s.
    """

    id: str
    subject: str
    night: int
    person: int
    channels: tuple[Channel, ...]
    files: tuple[str, ...]
    scorers: int = 1
    hours: float | None = None
    animal: str = "human"
    epoch_seconds: float = 30.0


def find_recordings(
    module: ModuleType, root: Path, *, subset: str | None = None, settings: Path | None = None
) -> list[Source]:
    """Find a data set's recordings, or those of a subset.

    Parameters
    ----------
    subset
        One of the module's `SUBSETS`.
    settings
        File that says what the files are called, for the data set `edf`.

    Raises
    ------
    UsageError
        For a subset or settings that the data set does not have.
    DataError
        If there are none.
    """
    name = module.__name__.rsplit(".", 1)[-1].replace("_", "-")
    if settings is not None and not hasattr(module, "SETTINGS"):
        raise UsageError(f"`config` is for the data set edf; the files of {name} are known")
    found: list[Source] = module.find(root, settings) if settings else module.find(root)
    times = Counter(s.id for s in found)
    if twice := next((s for s in found if times[s.id] > 1), None):
        places = ", ".join(str(s.files[0]) for s in found if s.id == twice.id)
        raise DataError(f"{root}: two recordings would be called {twice.id}: {places}")
    kept = [s for s in found if in_subset(module, s.id, subset)]
    if not kept:
        raise DataError(f"{root}: holds no recordings of the subset {subset!r} of {name}")
    return kept


def in_subset(module: ModuleType, id_: str, subset: str | None) -> bool:
    """Tell whether a recording belongs to a subset; every one belongs to None.

    Raises
    ------
    UsageError
        For a subset that the data set does not have.
    """
    if subset is None:
        return True
    known = getattr(module, "SUBSETS", {})
    if subset not in known:
        raise UsageError(f"unknown subset {subset!r}; there are: {', '.join(known) or 'none'}")
    return bool(known[subset](id_))


def absent(module: ModuleType, root: Path, sources: list[Source], subset: str | None) -> list[str]:
    """Name the recordings that the set's own list has and `root` has not."""
    if not hasattr(module, "absent"):
        return []
    lacking: list[str] = module.absent(root, sources)
    return [name for name in lacking if in_subset(module, name, subset)]


def beside(root: Path, name: str) -> Path | None:
    """Find a table of the whole set: in the folder, in one above it, or in one below."""
    places = [root / name, root.parent / name, *sorted(root.glob(f"*/{name}"))]
    return next((p for p in places if p.is_file()), None)


def read_sums(text: str, where: str) -> dict[str, str]:
    """Read a publisher's list of SHA-256 sums: from the file's name to its sum.

    Raises
    ------
    DataError
        If a line is something else.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if not (match := SUM_LINE.fullmatch(line)):
            raise DataError(
                f"{where}: line {number} is {line[:60]!r}; expected a SHA-256 and a file's name"
            )
        sums[match[2]] = match[1].lower()
    return sums


def check_sums(source: Source) -> None:
    """Compare the files of a source with the sums that its publisher gives, where they are known.

    Raises
    ------
    DataError
        If a file is not what was published.
    """
    wanted: Mapping[str, str] = {}
    for table in (f for f in source.files if f.name == SUMS):
        sums = read_sums(table.read_text(), str(table))
        wanted = {Path(name).name: digest for name, digest in sums.items()}
    for path in source.files:
        if path.name in wanted and store.sha256(path) != wanted[path.name]:
            raise DataError(
                f"{path.name}: its SHA-256 is not the one in {SUMS}",
                hint="it was cut or changed on the way here: fetch it again",
            )


def check_plan(
    subjects: int,
    most: int,
    nights: int,
    most_nights: int,
    subset: str | None = None,
    subsets: Collection[str] = (),
) -> None:
    """Refuse to simulate a subset that there is not, or more than its names have room for.

    Raises
    ------
    UsageError
        Naming the option.
    """
    if subset is not None and subset not in subsets:
        raise UsageError(f"unknown subset {subset!r}; there are: {', '.join(subsets) or 'none'}")
    if not 1 <= subjects <= most:
        raise UsageError(f"`subjects={subjects}`; expected 1 to {most}")
    if not 1 <= nights <= most_nights:
        one = "1" if most_nights == 1 else f"1 to {most_nights}"
        raise UsageError(f"`nights={nights}`; expected {one}")
