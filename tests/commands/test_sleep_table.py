"""sleep.csv: equal to YASA where definitions agree, and never computed from unknown lights."""

import csv
import dataclasses
from datetime import datetime, time
from pathlib import Path

import numpy as np
import pytest

from edf_plus import write_records
from sleeptools import formats
from sleeptools.commands.score.lights import Lights, lights_of
from sleeptools.commands.score.sleep_table import bin_rows, sleep_row, write_rows
from sleeptools.errors import DataError
from sleeptools.recording.hypnogram import Hypnogram

YASA = {  # yasa.sleep_statistics of YASA 0.8.1 for `night()`
    "tib_min": 490.0,
    "spt_min": 463.0,
    "waso_min": 59.5,
    "tst_min": 403.5,
    "sol_min": 16.5,
    "rem_latency_from_lights_off_min": 30.5,
    "se_percent": 82.34693877551021,
    "sme_percent": 87.14902807775378,
    "N1_min": 45.5,
    "N2_min": 176.0,
    "N3_min": 101.0,
    "REM_min": 81.0,
    "N1_percent": 11.27633209417596,
    "N2_percent": 43.6183395291202,
    "N3_percent": 25.030978934324658,
    "REM_percent": 20.074349442379184,
}


def night() -> Hypnogram:
    rng = np.random.default_rng(8)
    bouts = np.repeat(rng.choice([0, 1, 2, 2, 2, 3, 3, 4, 4], 120), rng.integers(1, 15, 120))
    stages = np.concatenate([np.zeros(33, int), np.ones(5, int), bouts, np.zeros(21, int)])
    return Hypnogram(stages.astype(np.int8), begin=datetime(2024, 3, 1, 22, 30))


def test_statistics_are_those_of_yasa() -> None:
    row = sleep_row(night(), Lights(0.0, 980 * 30.0, ("option", "option")))
    assert {name: row[name] for name in YASA} == pytest.approx(YASA, rel=1e-12)
    assert row["rem_latency_from_sleep_onset_min"] == YASA["rem_latency_from_lights_off_min"] - 16.5
    assert (row["lights_off"], row["lights_from"]) == ("2024-03-01T22:30:00", "option")
    assert row["undefined"] == ""


def test_without_lights_nothing_is_guessed() -> None:
    row = sleep_row(night(), Lights())
    lacking = ["tib_min", "se_percent", "sol_min", "rem_latency_from_lights_off_min"]
    assert [name for name in row if row[name] is None and "lights" not in name[:6]] == lacking
    assert row["tst_min"] == YASA["tst_min"]
    assert row["undefined"] == (
        "tib_min, se_percent: lights off and on not known; "
        "sol_min, rem_latency_from_lights_off_min: lights off not known"
    )
    only_off = sleep_row(night(), Lights(0.0, None, ("annotation", "")))
    assert only_off["sol_min"] == YASA["sol_min"]
    assert only_off["undefined"] == "tib_min, se_percent: lights on not known"


def test_a_night_without_sleep_or_rem_says_so() -> None:
    awake = dataclasses.replace(night(), stages=np.zeros(980, np.int8))
    assert sleep_row(awake, Lights(0.0, 29400.0))["undefined"].endswith("no sleep")
    no_rem = dataclasses.replace(night(), stages=np.minimum(night().stages, 3))
    assert "REM" not in sleep_row(no_rem, Lights(0.0, 29400.0))["undefined"].split("no REM")[1]


def test_cells_keep_twelve_digits(tmp_path: Path) -> None:
    row = sleep_row(night(), Lights(0.0, 980 * 30.0))
    write_rows(tmp_path / "sleep.csv", [{"recording": "=a"} | row, {"recording": "b"}])
    lines = (tmp_path / "sleep.csv").read_text().splitlines()
    first, second = csv.DictReader(lines)
    assert first["recording"] == "'=a"  # no formula
    assert {n: float(first[n]) for n in YASA} == pytest.approx(YASA, rel=1e-9)
    assert second["tst_min"] == second["undefined"] == ""


def test_a_mouse_has_bins_of_two_hours() -> None:
    stages = np.tile(np.array([0, 1, 1, 2], np.int8), 5400)  # 6 h of 1-s epochs
    mouse = Hypnogram(stages, ("Wake", "NREM", "REM"), 1.0)
    rows = bin_rows(mouse)
    assert [(r["from_h"], r["to_h"]) for r in rows] == [(0, 2), (2, 4), (4, 6)]
    assert all((r["Wake_min"], r["NREM_min"], r["REM_min"]) == (30, 60, 30) for r in rows)
    assert bin_rows(night()) == []
    assert "tst_min" not in sleep_row(mouse, Lights())


# --- lights ---------------------------------------------------------------------------------------


def recording_file(path: Path, *events: tuple[float, str]) -> Path:
    signals = {"EEG C4-M1": np.zeros((10, 60), np.int64)}
    stamps = [str(60 * k) for k in range(10)]
    told = [(onset, 0.0, text) for onset, text in events]
    return write_records(path, signals, stamps, record_seconds="60", kind="EDF+C", events=told)


@pytest.mark.parametrize(
    ("off", "on"), [("Lights off", "Lights on"), ("LIGHTS OUT", "lights-on"), ("Lights_Off", "x")]
)
def test_annotations_tell_the_lights(tmp_path: Path, off: str, on: str) -> None:
    path = recording_file(tmp_path / "n.edf", (60, off), (540, on))
    lights = lights_of(formats.read(path), None, None, path)
    assert lights.off == 60
    assert lights.on == (None if on == "x" else 540)
    asked = lights_of(formats.read(path), 30.0, None, path)
    assert (asked.off, asked.sources[0]) == (30, "option")


def test_two_annotations_that_differ_tell_nothing(tmp_path: Path) -> None:
    path = recording_file(tmp_path / "n.edf", (60, "Lights off"), (90, "Lights off"))
    lights = lights_of(formats.read(path), None, None, path)
    assert (lights.off, lights.sources[0]) == (None, "2 annotations differ")


@pytest.mark.parametrize(
    ("off", "on", "why"),
    [(540, 60, ["on before off, so not taken"] * 2), (-60, 9e5, ["outside the recording"] * 2)],
)
def test_annotations_that_cannot_be_tell_nothing(
    tmp_path: Path, off: float, on: float, why: list[str]
) -> None:
    path = recording_file(tmp_path / "n.edf", (off, "Lights off"), (on, "Lights on"))
    lights = lights_of(formats.read(path), None, None, path)
    assert (lights.off, lights.on) == (None, None)
    assert all(text in source for text, source in zip(why, lights.sources, strict=True))


def test_clock_times_are_placed_by_the_recordings_start(tmp_path: Path) -> None:
    path = recording_file(tmp_path / "n.edf")
    recording = dataclasses.replace(formats.read(path), start=datetime(2024, 3, 1, 23, 55))
    lights = lights_of(recording, time(23, 56), datetime(2024, 3, 2, 0, 1), path)
    assert (lights.off, lights.on) == (60, 360)
    assert lights_of(recording, time(0, 1), None, path).off == 360
    for off, on in [(time(22, 0), None), (601.0, None), (-1.0, None), (360.0, 60.0)]:
        with pytest.raises(DataError) as caught:
            lights_of(recording, off, on, path)
        assert caught.value.code == "REC-LIGHTS"
    with pytest.raises(DataError) as caught:
        lights_of(recording, time(22, 0), None, path)
    assert caught.value.hint == "score this night by itself, with its own times or without"
    unknown = dataclasses.replace(recording, start=None)
    with pytest.raises(DataError, match="does not say when it began"):
        lights_of(unknown, time(23, 56), None, path)


def test_a_data_set_tells_the_lights(tmp_path: Path) -> None:
    path = recording_file(tmp_path / "n.edf")
    recording = dataclasses.replace(formats.read(path), facts={"lights_off": 120})
    lights = lights_of(recording, None, None, path)
    assert (lights.off, lights.on, lights.sources) == (120.0, None, ("data set", ""))
