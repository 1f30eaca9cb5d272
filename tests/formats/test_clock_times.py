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


WRITERS = [as_edf, as_yasa, as_noxturnal, as_luna, as_nsrr]


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
    names = [placed.names[s] for s in placed.stages]
    assert names == [name_of(i) for i in range(EPOCHS)]
    kept = placed.clipped(recording.seconds)
    assert kept.onset - late == pytest.approx(30 * round((kept.onset - late) / 30))
    with pytest.raises(DataError, match="does not say when it began"):
        placing.place(night(None), found)
    assert placing.place(night(None), found, way="start").onset == 0
