"""Sleep-EDF Expanded: Sleep-Cassette (SC, healthy people at home) and Sleep-Telemetry (ST).

`SC4ssNE0-PSG.edf` holds the signals of subject ss, night N; `SC4ssNEC-Hypnogram.edf` the scoring
by Rechtschaffen & Kales rules, its last letter the scorer, so the two are paired by their first
seven characters. The cassette's EMG is a 1-Hz rectified envelope, the telemetry's is sampled at
100 Hz. The hypnogram usually outlasts the signals, with a tail of "Sleep stage ?". Where the set's
RECORDS, SHA256SUMS.txt and tables of subjects lie in the folder, they are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.datasets import (
    SUMS,
    PlannedRecording,
    RecordingFiles,
    SimulatedChannel,
    check_plan,
    check_sums,
    find_table,
    spreadsheets,
)
from sleeptools.errors import DataError, NoRecordingsError
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording import placing, simulators
from sleeptools.recording.hypnogram import Event
from sleeptools.recording.recording import Recording

CITATION: Final = (
    "B. Kemp, A. Zwinderman, B. Tuk, H. Kamphuisen, J. Oberye, Analysis of a sleep-dependent "
    "neuronal feedback loop: the slow-wave microcontinuity of the EEG, IEEE Trans. Biomed. Eng. "
    "47(9):1185-1194, 2000. Sleep-EDF Database Expanded 1.0.0, PhysioNet, "
    "doi:10.13026/C2X676, ODC-By 1.0."
)
PATTERN: Final = "SC4ssNE0-PSG.edf with SC4ssNEC-Hypnogram.edf (or ST7ssN...)"
ADDRESS: Final = "https://physionet.org/files/sleep-edfx/1.0.0/"
SUMS_SHA256: Final = "1bc88e19e2e921f7851d7cf61e31ceb8f6d670211ca546a323e9db5a77525edf"
"""SHA-256 of version 1.0.0's SHA256SUMS.txt, which names 398 files; it makes any mirror safe."""
RULES: Final = "R&K"
FILE_NAME: Final = re.compile(r"(S[CT]\d{3}\d)([A-Z])(\w)-(PSG|Hypnogram)\.edf", re.IGNORECASE)
START_TOLERANCE: Final = 1.0  # s between the start of the signals and of the hypnogram
LEAST_OVERLAP: Final = 0.5  # fraction of the signals that the hypnogram must cover
SUBSETS: Final[Mapping[str, Callable[[str], bool]]] = {
    "20": lambda id_: id_.startswith("SC4") and int(id_[3:5]) < 20,  # noqa: PLR2004 - 0 to 19
    "78": lambda id_: id_.startswith("SC4"),
    "telemetry": lambda id_: id_.startswith("ST7"),
}
TABLES: Final = {"SC": "SC-subjects", "ST": "ST-subjects"}
DAY: Final = 86400.0  # s
EARLIEST: Final = 7200.0  # the lights may have gone off at most so long before the recording, s


def find(root: Path) -> list[RecordingFiles]:
    """Find every recording below a folder, sorted.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    NoRecordingsError
        If no file in it is named like this data set's.
    """
    groups: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(store.need(root, "folder").rglob("*")):
        if match := FILE_NAME.fullmatch(path.name):
            pair = groups.setdefault(path.name[:7].upper(), {"psg": [], "hypnogram": []})
            pair[match[4].lower()].append(path)
    if not groups:
        raise NoRecordingsError(
            f"{root}: holds no Sleep-EDF recordings", hint=f"expected files named {PATTERN}"
        )
    tables = {
        study: [
            p
            for name in (SUMS, *(f"{stem}{end}" for end in (".xls", ".xlsx", ".csv")))
            if (p := find_table(root, name))
        ]
        for study, stem in TABLES.items()
    }
    return [
        _source(key, pair["psg"], pair["hypnogram"], tables[key[:2]])
        for key, pair in groups.items()
    ]


def absent(root: Path, sources: Iterable[RecordingFiles]) -> list[str]:
    """Return the recordings that RECORDS lists and `root` lacks, of the studies in `root`."""
    records = find_table(root, "RECORDS")
    names = [Path(line).name[:6] for line in store.read_text(records).split()] if records else []
    ids = {s.id for s in sources}
    studies = {id_[:2] for id_ in ids}
    return [name for name in names if name not in ids and name[:2] in studies]


def published(names: Iterable[str], subset: str | None) -> list[str]:
    """Select the files of a subset from the publisher's list, with its lists and tables."""
    studies = {None: (*TABLES.values(),), "telemetry": (TABLES["ST"],)}.get(subset, (TABLES["SC"],))
    tables = {"RECORDS", "RECORDS-v1", *(f"{stem}.xls" for stem in studies)}
    selected = []
    for name in names:
        base = Path(name).name
        if match := FILE_NAME.fullmatch(base):
            selected += [name] if subset is None or SUBSETS[subset](match[1].upper()) else []
        elif base in tables:
            selected.append(name)
    return sorted(selected)


def _source(key: str, psg: list[Path], hypnogram: list[Path], tables: list[Path]) -> RecordingFiles:
    problem = ""
    if len(psg) != 1 or len(hypnogram) != 1:
        problem = (
            f"{len(psg)} signal files and {len(hypnogram)} hypnograms begin with {key}; "
            "expected one of each"
        )
    return RecordingFiles(key[:6], key[:5], int(key[5]), (*psg, *hypnogram, *tables), problem)


def read(source: RecordingFiles, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnogram, cut to the length of the signals.

    Parameters
    ----------
    source
        The recording's files, from `find`.
    allow_truncated
        Read the complete data records of a file that is cut short; its sum is not checked.

    Raises
    ------
    DataError
        If a file is damaged or not the published one, signals and hypnogram start at different
        times, or the hypnogram covers less than half of the signals.
    """
    if source.problem:
        raise DataError(source.problem, code="SET-PAIR")
    if not allow_truncated:
        check_sums(source)
    psg, scoring, *tables = source.files
    ignored = edf.present_channels(psg, source.ignore_channels)
    signals = edf.read(psg, allow_truncated=allow_truncated, ignore_channels=ignored)
    hypnogram = edf.read_hypnogram(scoring)
    hypnogram = replace(hypnogram, scorer=hypnogram.scorer or scoring.name[7].upper())
    begin, scored = signals.start, edf.read_start(scoring)
    if begin and scored and abs((scored - begin).total_seconds()) > START_TOLERANCE:
        raise DataError(
            f"{scoring.name}: starts at {scored:%F %T}, but {psg.name} at {begin:%F %T}",
            hint="the two belong to different nights, or one was cut",
            code="HYP-SPAN",
        )
    hypnogram = placing.place(signals, hypnogram, source=scoring.name, any_length=True)
    facts = {
        **signals.facts,
        **edf.read_sex_and_age(psg),
        **_subject(source, tables, begin),
        "data_set": "sleep-edf",
        "scoring_rules": RULES,
    }
    recording = replace(
        signals, id=source.id, subject=source.subject, night=source.night, facts=facts
    ).scored([hypnogram])
    (clipped,) = recording.scorings
    covered = len(clipped) * clipped.epoch_seconds / recording.seconds
    if covered < LEAST_OVERLAP:
        raise DataError(
            f"{scoring.name}: covers only {covered:.0%} of {psg.name}: "
            f"{placing.span_text(recording)}",
            code="HYP-SPAN",
        )
    return recording


def _subject(
    source: RecordingFiles, tables: Iterable[Path], begin: datetime | None
) -> dict[str, str | int]:
    """Look up age, sex and lights off in the study's table of subjects, if there is one."""
    stem = TABLES[source.id[:2]]
    for path in (p for p in tables if p.stem == stem):
        rows = spreadsheets.read_table(path)
        of_night = _cassette_row if stem == TABLES["SC"] else _telemetry_row
        age, sex, clock = of_night(path, rows, int(source.subject[3:]), source.night)
        facts = {
            "age": None if age is None else int(age),
            "sex": sex,
            "lights_off": _lights_off(clock, begin),
        }
        return {name: value for name, value in facts.items() if value is not None}
    return {}


SubjectRow = tuple[float | None, str | None, str | float | None]
"""Age, years; sex, F or M; and the time when the lights went off, as the table gives it."""


def _cassette_row(
    path: Path, rows: list[spreadsheets.TableRow], subject: int, night: int
) -> SubjectRow:
    """Find a night in a table with a row per night, in which sex 1 is female."""
    names = ("subject", "night", "age", "sex (F=1)", "LightsOff")
    heads, columns = spreadsheets.find_columns(rows, *names, source=path)
    for row in rows[heads + 1 :]:
        number, night_number, age, sex, clock = (row[column] for column in columns)
        if (number, night_number) == (subject, night):
            return _number(age), {1.0: "F", 2.0: "M"}.get(_number(sex) or 0), clock
    return None, None, None


def _telemetry_row(
    path: Path, rows: list[spreadsheets.TableRow], subject: int, night: int
) -> SubjectRow:
    """Find a night in a table with a row per subject of two nights, in which sex 2 is female."""
    names = ("Nr", "Age", "M1/F2", "night nr", "lights off")
    heads, columns = spreadsheets.find_columns(rows, *names, source=path)
    for row in rows[heads + 1 :]:
        number, age, sex, first_night, clock = (row[column] for column in columns)
        if number == subject:
            second_clock = row[columns[-1] + 2]
            lights_off = clock if first_night == night else second_clock
            return _number(age), {1.0: "M", 2.0: "F"}.get(_number(sex) or 0), lights_off
    return None, None, None


def _number(cell: str | float | None) -> float | None:
    return cell if isinstance(cell, float) else None


def _lights_off(clock: str | float | None, begin: datetime | None) -> int | None:
    """Convert a time of day, as a fraction of a day or "23:05", to s from the recording's start."""
    if isinstance(clock, str):
        digits = clock.split(":") if re.fullmatch(r"[\d:]+", clock) else []
        clock = sum(float(n) / 24 / 60**i for i, n in enumerate(digits)) if digits else None
    if clock is None or begin is None:
        return None
    midnight = begin.replace(hour=0, minute=0, second=0)
    seconds = (clock * DAY - (begin - midnight).total_seconds()) % DAY
    return round(seconds if seconds < DAY - EARLIEST else seconds - DAY)


# --- writing the same layout ----------------------------------------------------------------------

CASSETTE_FILTER = "HP:0.5Hz LP:100Hz [enhanced cassette BW]"
ELECTRODE = "Ag-AgCl electrodes"
RECORD_SECONDS: Final = 30.0


def _heads(
    *rows: tuple[str, str, str, tuple[int, int], tuple[int, int], str, int],
) -> tuple[SignalHeader, ...]:
    """Make EDF headers of label, transducer, unit, physical and digital range, filter and Hz."""
    return tuple(
        SignalHeader(
            label, transducer, unit, *physical, *digital, filtered, round(hertz * RECORD_SECONDS), 0
        )
        for label, transducer, unit, physical, digital, filtered, hertz in rows
    )


SIGNALS: Final = _heads(
    ("EEG Fpz-Cz", ELECTRODE, "uV", (-192, 192), (-2048, 2047), CASSETTE_FILTER, 100),
    ("EEG Pz-Oz", ELECTRODE, "uV", (-197, 196), (-2048, 2047), CASSETTE_FILTER, 100),
    ("EOG horizontal", ELECTRODE, "uV", (-1009, 1009), (-2048, 2047), CASSETTE_FILTER, 100),
    (
        "Resp oro-nasal",
        "Oral-nasal thermistors",
        "",
        (-2048, 2047),
        (-2048, 2047),
        "HP:0.03Hz LP:0.9Hz",
        1,
    ),
    ("EMG submental", ELECTRODE, "uV", (-5, 5), (-2500, 2500), "HP:16Hz Rectification LP:0.7Hz", 1),
    ("Temp rectal", "Rectal thermistor", "DegC", (34, 40), (-2849, 2731), "", 1),
    ("Event marker", "Marker button", "", (-2047, 2048), (-2047, 2048), "Hold during 2 seconds", 1),
)
"""The seven signals of a cassette recording, with the headers of the real files."""
TELEMETRY: Final = _heads(
    ("EEG Fpz-Cz", ELECTRODE, "uV", (-200, 200), (-2048, 2047), "", 100),
    ("EEG Pz-Oz", ELECTRODE, "uV", (-200, 200), (-2048, 2047), "", 100),
    ("EOG horizontal", ELECTRODE, "uV", (-1000, 1000), (-2048, 2047), "", 100),
    ("EMG submental", ELECTRODE, "uV", (-100, 100), (-2048, 2047), "", 100),
    ("Marker", "Marker button", "", (-2047, 2048), (-2047, 2048), "", 1),
)
"""The five signals of a telemetry recording, with the EMG at 100 Hz; ranges are assumed."""
NUMBERS: Final[Mapping[str | None, Sequence[int]]] = {
    None: range(100),
    "20": range(20),
    "78": [n for n in range(83) if n not in (39, 68, 69, 78, 79)],
    "telemetry": [1, 2, *range(4, 23), 24],
}
"""Numbers of the subjects by subset; without a subset, as many as two digits allow."""
TELEMETRY_HOURS: Final = 9.0
TELEMETRY_PERSONS: Final = 200  # added to a number: other simulated persons than the cassette's


def _channels(
    heads: Iterable[SignalHeader], sources: Mapping[str, str]
) -> tuple[SimulatedChannel, ...]:
    """Assign a simulated signal to each header; one of the same name where `sources` has none."""
    return tuple(
        SimulatedChannel(
            h.label,
            sources.get(h.label, h.label),
            h.samples_per_record / RECORD_SECONDS,
            h.physical_min,
            h.physical_max,
            h.unit,
        )
        for h in heads
    )


CASSETTE_CHANNELS: Final = _channels(
    SIGNALS,
    {
        "EMG submental": "EMG envelope",
        "Resp oro-nasal": "breath",
        "Temp rectal": "temperature",
        "Event marker": "marker",
    },
)
TELEMETRY_CHANNELS: Final = _channels(TELEMETRY, {"EMG submental": "EMG chin", "Marker": "marker"})


def plan(subjects: int, nights: int, subset: str | None) -> list[PlannedRecording]:
    """Plan simulated nights of the Cassette study, or of the study and numbers of a subset.

    Raises
    ------
    UsageError
        For an unknown subset, or more subjects or nights than it has.
    """
    numbers = NUMBERS.get(subset, ())
    check_plan(subjects, len(numbers), nights, 2, subset, SUBSETS)
    return [
        _planned(number, night, telemetry=subset == "telemetry")
        for number in numbers[:subjects]
        for night in range(1, nights + 1)
    ]


def _planned(number: int, night: int, *, telemetry: bool) -> PlannedRecording:
    subject = f"{'ST7' if telemetry else 'SC4'}{number:02d}"
    id_ = f"{subject}{night}"
    channels = TELEMETRY_CHANNELS if telemetry else CASSETTE_CHANNELS
    hours = TELEMETRY_HOURS if telemetry else None
    person = number + TELEMETRY_PERSONS * telemetry
    return PlannedRecording(id_, subject, night, person, channels, _files(id_), hours=hours)


def _files(id_: str) -> tuple[str, str]:
    middle, scorer = ("J", "P") if id_.startswith("ST") else ("E", "C")
    return f"{id_}{middle}0-PSG.edf", f"{id_}{middle}{scorer}-Hypnogram.edf"


def write(recording: Recording, root: Path, events: Iterable[Event]) -> tuple[Path, Path]:
    """Write a recording in the layout of Sleep-EDF: signals and hypnogram, two files in `root`.

    Parameters
    ----------
    recording
        A recording with the signals of `SIGNALS`, or of `TELEMETRY` if its id begins with "ST". The
        id gives the first six characters of both names.
    root
        Folder to write.
    events
        The scoring as R&K annotations: onset and duration, s, and text.

    Returns
    -------
    psg, hypnogram
        Paths of the two files.
    """
    facts = recording.facts
    note = simulators.note(facts)
    patient = f"{'Female' if facts.get('sex') == 'F' else 'Male'}_{facts.get('age', 0)}yr"
    psg, scoring = (root / name for name in _files(recording.id))
    heads = TELEMETRY if recording.id.startswith("ST") else SIGNALS
    edf.write(psg, recording, heads, record_seconds=RECORD_SECONDS, patient=patient, note=note)
    edf.write_annotations(scoring, events, recording.start, note=note)
    return psg, scoring
