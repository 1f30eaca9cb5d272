"""Data sets, one module each: how their files are named and paired, and what their labels mean.

A data set module has `CITATION` (how to cite it, with its licence), `PATTERN` (its file names, for
messages), `find(root)` and `read(source)`; and, where it has them, `SUBSETS` (a test of a
recording's id by name of the subset), `absent(root, sources)` (recordings that the set's own list
names and the folder lacks), `ENDINGS` (of its files, beside those of EDF and BDF) and `FREE_NAMES`
(true where the laboratory's own names of files tell the subjects). A set that can be simulated has
`plan(subjects, nights, subset)` and `write(recording, root, events)`. A set that can be fetched has
`ADDRESS`, `SUMS_SHA256` and `published(names, subset)`; any other set says in `HOW_TO_GET` how a
person obtains it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from sleeptools import registry, store
from sleeptools.datasets.shared.subjects import assigned
from sleeptools.datasets.shared.unmatched import unmatched
from sleeptools.errors import DataError, NoRecordingsError, SleeptoolsError, UsageError

SUMS = "SHA256SUMS.txt"
NAMED = 20  # files in a message
SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*?)\s*")


@dataclass(frozen=True)
class RecordingFiles:
    """The files of one recording, found but not yet read.

    Parameters
    ----------
    id, subject, night
        As in `Recording`.
    files
        Signals first, then hypnograms, then tables and settings about the recording.
    problem
        Why the recording cannot be read although files of it exist; empty if it can.
    subjects
        The table that says whose the recording is, if not the files' names do.
    ignore_channels
        Labels of signals to leave out, as far as the files have them.
    """

    id: str
    subject: str
    night: int
    files: tuple[Path, ...]
    problem: str = ""
    subjects: Path | None = None
    ignore_channels: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Path]:
        """The files by name, or by folder and name where two have one name."""
        files = [*self.files, *([self.subjects] if self.subjects else [])]
        count = Counter(f.name for f in set(files))
        return {(f.name if count[f.name] == 1 else f"{f.parent.name}/{f.name}"): f for f in files}


@dataclass(frozen=True)
class SimulatedChannel:
    """A signal of a simulated recording.

    Parameters
    ----------
    label
        Label in the data set's files.
    source
        Name of the simulated signal that is recorded, as in `simulation.night`.
    sample_rate
        Sample rate, Hz.
    low, high
        Range that the recorder clips to, in `unit`.
    unit
        Physical unit.
    """

    label: str
    source: str
    sample_rate: float
    low: float
    high: float
    unit: str = "uV"


@dataclass(frozen=True)
class PlannedRecording:
    """A recording to simulate.

    Parameters
    ----------
    id, subject, night
        As in `Recording`.
    person
        Number of the simulated person or animal, 0 or more; it decides how they sleep.
    channels
        The signals that are recorded.
    files
        Files that `write` will write, relative to the root.
    scorers
        Number of scorers.
    hours
        Usual length of such a recording, h; None for about 22 h, a night and the day around it.
    animal
        "human" or "mouse".
    epoch_seconds
        Length of a scored epoch, s.
    """

    id: str
    subject: str
    night: int
    person: int
    channels: tuple[SimulatedChannel, ...]
    files: tuple[str, ...]
    scorers: int = 1
    hours: float | None = None
    animal: str = "human"
    epoch_seconds: float = 30.0


def find_recordings(
    module: ModuleType,
    root: Path,
    *,
    subset: str | None = None,
    settings: Path | None = None,
    ignore_unmatched: bool = False,
    ignore_channels: Sequence[str] = (),
) -> list[RecordingFiles]:
    """Find a data set's recordings, or those of a subset.

    A table subjects.csv in the folder says who is who, instead of the files' names.

    Parameters
    ----------
    module
        The data set's module.
    root
        Folder of raw files.
    subset
        One of the module's `SUBSETS`; None for all recordings.
    settings
        File that names the recordings' files, for the data set `edf`.
    ignore_unmatched
        Pass over files that end like signals or scorings and belong to no recording.
    ignore_channels
        Labels of signals that the recordings are read without.

    Raises
    ------
    UsageError
        For a subset or settings that the data set does not have.
    DataError
        If there are no recordings, two with the same id, or files beside them that end like
        signals or scorings and belong to none.
    """
    name = module.__name__.rsplit(".", 1)[-1].replace("_", "-")
    if settings is not None and not hasattr(module, "SETTINGS"):
        raise UsageError(
            f"`config` is for the data set edf; the file names of {name} are fixed",
            code="USE-TOGETHER",
        )
    try:
        sources: list[RecordingFiles] = module.find(root, *([settings] if settings else []))
    except NoRecordingsError as e:
        raise _of_another_set(e, root) or e from None
    count = Counter(s.id for s in sources)
    if duplicate := next((s for s in sources if count[s.id] > 1), None):
        paths = ", ".join(str(s.files[0]) for s in sources if s.id == duplicate.id)
        raise DataError(
            f"{root}: two recordings would be called {duplicate.id}: {paths}", code="SET-TWICE"
        )
    if not ignore_unmatched:
        _refuse_unmatched(module, root, sources, settings)
    sources = assigned(root, sources)
    selected = [
        replace(s, ignore_channels=tuple(ignore_channels))
        for s in sources
        if in_subset(module, s.id, subset)
    ]
    if not selected:
        raise DataError(
            f"{root}: holds no recordings of the subset {subset!r} of {name}", code="SET-SUBSET"
        )
    return selected


def _of_another_set(error: NoRecordingsError, root: Path) -> NoRecordingsError | None:
    """Say which data set names its files as those of a folder are named; None if none does."""
    for name in registry.names("datasets"):
        try:
            registry.load("datasets", name).find(root)
        except SleeptoolsError:
            continue
        hint = f"its files are named as those of the data set {name} are"
        return NoRecordingsError(str(error), hint=f"{hint}; {error.hint}")
    return None


def unmatched_files(
    module: ModuleType, root: Path, sources: list[RecordingFiles], settings: Path | None = None
) -> list[Path]:
    """List the files below a folder that end like data and belong to none of the recordings."""
    endings: Collection[str] = getattr(module, "ENDINGS", ())
    if hasattr(module, "endings"):
        endings = module.endings(root, settings)
    return unmatched(root, (f for s in sources for f in s.files), endings)


def _refuse_unmatched(
    module: ModuleType, root: Path, sources: list[RecordingFiles], settings: Path | None
) -> None:
    """Refuse files that lie beside those of recordings, end like them, and belong to none."""
    folders = {f.parent for s in sources for f in s.files if f.suffix != ".toml"}
    files = [
        p.relative_to(root).as_posix()
        for p in unmatched_files(module, root, sources, settings)
        if p.parent in folders
    ]
    if files:
        shown = ", ".join(files[:NAMED]) + (", ..." if len(files) > NAMED else "")
        raise DataError(
            f"{root}: of the files beside the recordings, {len(files)} belong to none: {shown}",
            hint="rename them, mend the pattern, or pass over them by `ignore_unmatched`",
            code="SET-UNMATCHED",
        )


def in_subset(module: ModuleType, id_: str, subset: str | None) -> bool:
    """Return whether a recording, by its id, belongs to a subset; every one belongs to None.

    Raises
    ------
    UsageError
        For a subset that the data set does not have.
    """
    if subset is None:
        return True
    subsets = getattr(module, "SUBSETS", {})
    if subset not in subsets:
        raise UsageError(
            f"unknown subset {subset!r}; there are: {', '.join(subsets) or 'none'}", code="USE-NAME"
        )
    return bool(subsets[subset](id_))


def absent_recordings(
    module: ModuleType, root: Path, sources: list[RecordingFiles], subset: str | None
) -> list[str]:
    """Return the recordings that the data set's own list names and `root` lacks, by id."""
    if not hasattr(module, "absent"):
        return []
    names: list[str] = module.absent(root, sources)
    return [name for name in names if in_subset(module, name, subset)]


def find_table(root: Path, name: str) -> Path | None:
    """Find a table of the whole data set: in the folder, the folder above it, or one below."""
    candidates = [root / name, root.parent / name, *sorted(root.glob(f"*/{name}"))]
    return next((p for p in candidates if p.is_file()), None)


def read_sums(text: str, list_name: str) -> dict[str, str]:
    """Read a publisher's list of SHA-256 sums.

    Parameters
    ----------
    text
        The list, a sum and a file name per line.
    list_name
        Name of the list, for messages.

    Returns
    -------
    sums
        SHA-256 in hexadecimal by file name.

    Raises
    ------
    DataError
        If a line is something else.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if not (match := SUMS_LINE.fullmatch(line)):
            raise DataError(
                f"{list_name}: line {number} is {line[:60]!r}; expected a SHA-256 and a "
                "file's name",
                code="SUM-LINE",
            )
        sums[match[2]] = match[1].lower()
    return sums


def check_sums(source: RecordingFiles) -> None:
    """Compare the files of a recording with the publisher's SHA-256 sums, where they are known.

    Raises
    ------
    DataError
        If a file differs from the published one.
    """
    published: Mapping[str, str] = {}
    for table in (f for f in source.files if f.name == SUMS):
        sums = read_sums(store.read_text(table), str(table))
        published = {Path(name).name: digest for name, digest in sums.items()}
    for path in source.files:
        if path.name in published and store.sha256(path) != published[path.name]:
            raise DataError(
                f"{path.name}: its SHA-256 is not the one in {SUMS}",
                hint="it was cut or changed on the way here: fetch it again",
                code="SUM-HASH",
            )


def check_plan(
    subjects: int,
    max_subjects: int,
    nights: int,
    max_nights: int,
    subset: str | None = None,
    subsets: Collection[str] = (),
) -> None:
    """Check the subset and the numbers of subjects and nights to simulate.

    Raises
    ------
    UsageError
        For an unknown subset, or a number that the data set's file names have no room for.
    """
    if subset is not None and subset not in subsets:
        raise UsageError(
            f"unknown subset {subset!r}; there are: {', '.join(subsets) or 'none'}", code="USE-NAME"
        )
    if not 1 <= subjects <= max_subjects:
        raise UsageError(f"`subjects={subjects}`; expected 1 to {max_subjects}")
    if not 1 <= nights <= max_nights:
        allowed = "1" if max_nights == 1 else f"1 to {max_nights}"
        raise UsageError(f"`nights={nights}`; expected {allowed}")
