"""Sleep-EDF Expanded: Sleep-Cassette (SC, healthy people at home) and Sleep-Telemetry (ST).

`SC4ssNE0-PSG.edf` holds the signals of subject ss, night N; `SC4ssNEC-Hypnogram.edf` the scoring
by Rechtschaffen & Kales rules, its last letter the scorer, so the two are paired by their first
seven characters. The cassette's EMG is a 1-Hz rectified envelope, the telemetry's is sampled at
100 Hz. The hypnogram usually outlasts the signals, with a tail of "Sleep stage ?".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleeptools import store
from sleeptools.datasets import Source, join
from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.formats._edf_header import SignalHeader
from sleeptools.hypnogram import Event
from sleeptools.recording import Recording

CITATION: Final = (
    "B. Kemp, A. Zwinderman, B. Tuk, H. Kamphuisen, J. Oberye, Analysis of a sleep-dependent "
    "neuronal feedback loop: the slow-wave microcontinuity of the EEG, IEEE Trans. Biomed. Eng. "
    "47(9):1185-1194, 2000. Sleep-EDF Database Expanded 1.0.0, PhysioNet, "
    "doi:10.13026/C2X676, ODC-By 1.0."
)
PATTERN: Final = "SC4ssNE0-PSG.edf with SC4ssNEC-Hypnogram.edf (or ST7ssN...)"
RULES: Final = "R&K"
NAME: Final = re.compile(r"(S[CT]\d{3}\d)([A-Z])(\w)-(PSG|Hypnogram)\.edf", re.IGNORECASE)
START_TOLERANCE: Final = 1.0  # s between the start of the signals and of the hypnogram


def find(root: Path) -> list[Source]:
    """Find every recording below a folder, sorted.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    DataError
        If no file in it is named like this data set's.
    """
    groups: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(store.need(root, "folder").rglob("*.edf")):
        if match := NAME.fullmatch(path.name):
            pair = groups.setdefault(path.name[:7].upper(), {"psg": [], "hypnogram": []})
            pair[match[4].lower()].append(path)
    if not groups:
        raise DataError(
            f"{root}: holds no Sleep-EDF recordings", hint=f"expected files named {PATTERN}"
        )
    return [_source(key, pair["psg"], pair["hypnogram"]) for key, pair in groups.items()]


def _source(key: str, psg: list[Path], hypnogram: list[Path]) -> Source:
    problem = ""
    if len(psg) != 1 or len(hypnogram) != 1:
        problem = (
            f"{len(psg)} signal files and {len(hypnogram)} hypnograms begin with {key}; "
            "expected one of each"
        )
    return Source(key[:6], key[:5], int(key[5]), (*psg, *hypnogram), problem)


def read(source: Source, *, allow_truncated: bool = False) -> Recording:
    """Read one recording with its hypnogram, cut to the length of the signals.

    Parameters
    ----------
    allow_truncated
        Take the whole records of a file that is cut short.

    Raises
    ------
    DataError
        If a file is damaged, the two start at different times, or overlap too little.
    """
    if source.problem:
        raise DataError(source.problem)
    psg, scoring = source.files
    recording = edf.read(psg, allow_truncated=allow_truncated)
    hypnogram = edf.read_hypnogram(scoring)
    hypnogram = replace(hypnogram, scorer=hypnogram.scorer or scoring.name[7].upper())
    begin, scored = recording.start, edf.read_start(scoring)
    if begin and scored and abs((scored - begin).total_seconds()) > START_TOLERANCE:
        raise DataError(
            f"{scoring.name}: starts at {scored:%F %T}, but {psg.name} at {begin:%F %T}",
            hint="the two belong to different nights, or one was cut",
        )
    return join(
        source, recording, hypnogram, {"data_set": "sleep-edf", "scoring_rules": RULES}
    )  # fmt: skip


# --- writing the same layout ----------------------------------------------------------------------

CASSETTE_FILTER = "HP:0.5Hz LP:100Hz [enhanced cassette BW]"
ELECTRODE = "Ag-AgCl electrodes"
SIGNALS: Final = tuple(
    SignalHeader(label, transducer, unit, *physical, *digital, prefilter, per_record, 0)
    for label, transducer, unit, physical, digital, prefilter, per_record in (
        ("EEG Fpz-Cz", ELECTRODE, "uV", (-192, 192), (-2048, 2047), CASSETTE_FILTER, 3000),
        ("EEG Pz-Oz", ELECTRODE, "uV", (-197, 196), (-2048, 2047), CASSETTE_FILTER, 3000),
        ("EOG horizontal", ELECTRODE, "uV", (-1009, 1009), (-2048, 2047), CASSETTE_FILTER, 3000),
        ("Resp oro-nasal", "Oral-nasal thermistors", "", (-2048, 2047), (-2048, 2047),
         "HP:0.03Hz LP:0.9Hz", 30),
        ("EMG submental", ELECTRODE, "uV", (-5, 5), (-2500, 2500),
         "HP:16Hz Rectification LP:0.7Hz", 30),
        ("Temp rectal", "Rectal thermistor", "DegC", (34, 40), (-2849, 2731), "", 30),
        ("Event marker", "Marker button", "", (-2047, 2048), (-2047, 2048),
         "Hold during 2 seconds", 30),
    )
)  # fmt: skip
"""The seven signals of a cassette recording as their headers stand in the real files."""
RECORD_SECONDS: Final = 30.0


def write(
    recording: Recording, root: Path, events: Iterable[Event], *, patient: str = "X"
) -> tuple[Path, Path]:
    """Write a recording as Sleep-Cassette has it: two files in `root`.

    Parameters
    ----------
    recording
        With the seven signals of `SIGNALS`; its id is the first six characters of the names.
    events
        The scoring in R&K texts: (onset, duration, text), s.
    patient
        Sex and age as the set writes them, for example "Female_33yr".

    Returns
    -------
    psg, hypnogram
        The two paths.
    """
    note = "simulated" if recording.facts.get("simulated") else ""
    psg = root / f"{recording.id}E0-PSG.edf"
    scoring = root / f"{recording.id}EC-Hypnogram.edf"
    edf.write(psg, recording, SIGNALS, record_seconds=RECORD_SECONDS, patient=patient, note=note)
    edf.write_annotations(scoring, events, recording.start, note=note)
    return psg, scoring
