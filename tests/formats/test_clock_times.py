"""Every reader of clock times: shift recording and scoring by any time, and the labels follow."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sleeptools import formats
from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.recording import placing
from sleeptools.recording.recording import Recording, Signal

EPOCHS = 40
LIGHT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)


def times_of(begin: datetime) -> list[datetime]:
    return [begin + timedelta(seconds=30 * i) for i in range(EPOCHS + 1)]


def name_of(i: int) -> str:
    return ("W", "N1", "N2", "N3")[i * i % 4 if i < EPOCHS // 2 else i % 4]


def as_edf(path: Path, begin: datetime) -> Path:
    events = [(30.0 * i, 30.0, f"Sleep stage {name_of(i)}") for i in range(EPOCHS)]
    edf.write_annotations(path, events, begin)
    return path


def as_yasa(path: Path, begin: datetime) -> Path:
    rows = [f"{t:%Y-%m-%d %H:%M:%S},{name_of(i)}" for i, t in enumerate(times_of(begin)[:-1])]
    path.write_text("\n".join(["Time,Stage", *rows, ""]))
    return path


def as_yasa_by_clock(path: Path, begin: datetime) -> Path:
    """Write times of day alone, and leave every seventh epoch out."""
    rows = [
        f"{i + 1},{t:%H:%M:%S},{name_of(i)}"
        for i, t in enumerate(times_of(begin)[:-1])
        if i % 7 or not i
    ]
    path.write_text("\n".join(["Epoch,Time,Stage", *rows, ""]))
    return path


def as_noxturnal(path: Path, begin: datetime) -> Path:
    ts = [f"{t:%d/%m/%Y %H:%M:%S}" for t in times_of(begin)]
    rows = [f"{ts[i]},{ts[i + 1]},{name_of(i)},30," for i in range(EPOCHS)]
    path.write_text("\n".join(["Start Time,End Time,Event,Duration,", "[],[],[],[s],", *rows]))
    return path


def as_luna(path: Path, begin: datetime) -> Path:
    ts = [f"{t:%H:%M:%S}" for t in times_of(begin)]
    rows = [f"{name_of(i)}\t.\t.\t{ts[i]}\t{ts[i + 1]}\t.\n" for i in range(EPOCHS)]
    path.write_text("".join(rows))
    return path


def as_nsrr(path: Path, begin: datetime) -> Path:
    event = "<ScoredEvent><EventType>{}</EventType><EventConcept>{}</EventConcept>{}</ScoredEvent>"
    clock = f"<ClockTime>01.01.85 {begin:%H.%M.%S}</ClockTime>"
    rows = [
        event.format("Stages|Stages", name_of(i), f"<Start>{30 * i}</Start><Duration>30</Duration>")
        for i in range(EPOCHS)
    ]
    body = event.format("", "Recording Start Time", clock) + "".join(rows)
    path.write_text(f"<PSGAnnotation><ScoredEvents>{body}</ScoredEvents></PSGAnnotation>")
    return path


WRITERS = [as_edf, as_yasa, as_yasa_by_clock, as_noxturnal, as_luna, as_nsrr]


def night(start: datetime | None, clock: time | None = None) -> Recording:
    samples = np.zeros(36000, np.float32)
    signal = Signal("EEG", 1.0, "uV", "eeg", 36000, lambda: samples)
    facts = {placing.START_TIME: clock.isoformat()} if clock else {}
    return Recording("p", "p", 1, {"EEG": signal}, None, start, facts)


@pytest.mark.parametrize("write", WRITERS)
@LIGHT
@given(
    start=some.datetimes(datetime(2000, 1, 13), datetime(2030, 1, 1)),
    late=some.integers(-1190, 35990),
    dated=some.booleans(),
)
def test_labels_follow_the_clocks(
    write: Callable[[Path, datetime], Path],
    start: datetime,
    late: int,
    dated: bool,
    tmp_path: Path,
) -> None:
    start = start.replace(microsecond=0)
    found = formats.read_hypnogram(write(tmp_path / "n", start + timedelta(seconds=late)))
    recording = night(start) if dated else night(None, start.time())
    placed = placing.place(recording, found)
    assert placed.onset == late
    names = [placed.names[s] if s >= 0 else "" for s in placed.stages]
    holes = range(7, EPOCHS, 7) if write is as_yasa_by_clock else ()
    assert names == ["" if i in holes else name_of(i) for i in range(EPOCHS)]
    kept = placed.clipped(recording.seconds)
    assert kept.onset - late == pytest.approx(30 * round((kept.onset - late) / 30))
    with pytest.raises(DataError, match="does not say when it began"):
        placing.place(night(None), found)
    assert placing.place(night(None), found, way="start").onset == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("Time,Stage\n22:00:00,W\n22:00:30,N1\n22:01:10,N2\n", "no whole number of epochs of"),
        ("Time,Stage\n22:00:00,W\n22:00:30,N1\n22:00:30,N2\n", "22:00:30 follows 22:00:30"),
        (
            "Time,Stage\n22:00:00,W\n22:00:30,N1\n21:59:30,N2\n22:00:00,N2\n",
            "21:59:30 follows 22:00:30",
        ),
        ("Epoch,Time,Stage\n1,22:00:00,W\n2,22:00:30,N1\n3,22:02:00,N2\n", "4 epochs after epoch"),
        ("Epoch,Stage\n1,W\n2,N1\n2,N2\n", "epoch 2 follows 2"),
        ("Epoch,Stage\n1,W\n2,N1\n1,N2\n", "epoch 1 follows 2"),
        ("Epoch,Stage\n1,W\n2.5,N1\n", "2.5 is no number of an epoch"),
        ("Epoch,Stage\n1,W\n1e9,N1\n", "the last epoch begins"),
    ],
)
def test_rows_that_do_not_follow_each_other_are_refused(
    tmp_path: Path, rows: str, words: str
) -> None:
    (tmp_path / "h.csv").write_text(rows)
    with pytest.raises(DataError, match=words):
        formats.read_hypnogram(tmp_path / "h.csv")


def test_an_hour_without_rows_may_be_the_change_of_the_clock(tmp_path: Path) -> None:
    times = [datetime(2024, 3, 31, 1, 50) + timedelta(seconds=30 * i) for i in range(20)]
    times += [datetime(2024, 3, 31, 3, 0) + timedelta(seconds=30 * i) for i in range(20)]
    rows = [f"{t:%Y-%m-%d %H:%M:%S},N2" for t in times]
    (tmp_path / "h.csv").write_text("\n".join(["Time,Stage", *rows, ""]))
    with pytest.raises(DataError, match="one hour") as caught:
        formats.read_hypnogram(tmp_path / "h.csv")
    assert caught.value.code == "HYP-CLOCK"


def test_epochs_left_out_are_counted(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("Epoch,Stage\n3,W\n4,N1\n7,N2\n")
    found = formats.read_hypnogram(tmp_path / "h.csv")
    assert found.counts() == {"W": 1, "N1": 1, "N2": 1, "unannotated": 2} | {
        k: 0 for k in found.counts() if k not in ("W", "N1", "N2", "unannotated")
    }
    assert found.onset == 60
    assert "2 epochs between the rows have none and are unscored" in found.notes


def test_numbers_count_beside_times(tmp_path: Path) -> None:
    rows = [f"{41 + i},2020-01-01 22:0{i // 2}:{30 * (i % 2):02d},N2" for i in range(4)]
    (tmp_path / "h.csv").write_text("\n".join(["Epoch,Time,Stage", *rows, ""]))
    found = formats.read_hypnogram(tmp_path / "h.csv")
    assert (found.first_epoch, found.onset) == (41, 1200)
    assert placing.place(night(None), found, way="start").onset == 1200
    assert any("number 41" in note for note in found.notes)
    (tmp_path / "h.csv").write_text("Epoch,Time,Stage\n1.5,22:00:00,W\n2.5,22:00:30,W\n")
    with pytest.raises(DataError, match=r"1\.5 is no number of an epoch"):
        formats.read_hypnogram(tmp_path / "h.csv")
