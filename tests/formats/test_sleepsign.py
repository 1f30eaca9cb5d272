"""SleepSign text: scores with their times, signals with their rate, and what is refused."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sleeptools import formats
from sleeptools.errors import DataError, NoStagesError
from sleeptools.recording.hypnogram import Hypnogram

HEADER = [
    "File name,mouse.kcd",
    "Result analysis file name,mouse.raf",
    "Subject,mouse",
    "Gender,Male",
    "Age,0Year 3Month",
    "",
    "Memo,",
    *(f"Free comment {i},," for i in range(1, 11)),
    "",
    "Time,Epoch No.,Stage,",
]
START = datetime(2018, 12, 4, 23, 59, 50)


def rows(labels: list[str], seconds: float = 4.0, first: int = 0, form: str = "%d/%m/%Y") -> list:
    lines = []
    for i, label in enumerate(labels):
        at = START + timedelta(seconds=i * seconds)
        lines.append(f"{at:{form} %H:%M:%S},{first + i},{label},")
    return lines


def read(path: Path, lines: list[str], encoding: str = "utf-8", **options: object) -> Hypnogram:
    path.write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    return formats.read_hypnogram(path, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mouse-sco.txt"


@pytest.mark.parametrize("tabs", [False, True])
@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 10.0])
def test_reads_scores(file: Path, tabs: bool, seconds: float) -> None:
    assert len(HEADER) == 19
    labels = ["W", "W", "NR", "N", "R", "M", "W*", "RW", "?", "NR"]
    lines = [t.replace(",", "\t") if tabs else t for t in HEADER + rows(labels, seconds)]
    found = read(file, lines)
    assert found.names == ("Wake", "NREM", "REM")
    assert found.stages.tolist() == [0, 0, 1, 1, 2, -1, -1, 0, -1, 1]
    assert found.counts()["movement"] == 2  # the artefact too
    assert found.counts()["unknown"] == 1
    assert (found.epoch_seconds, found.begin, found.onset) == (seconds, START, 0)


def test_artefacts_may_keep_their_stage(file: Path) -> None:
    lines = HEADER + rows(["W*", "NR*", "R*", "M*"])
    found = read(file, lines, scheme="sleepsign-unmarked")
    assert found.stages.tolist() == [0, 1, 2, -1]


def test_epochs_left_out_are_unannotated(file: Path) -> None:
    lines = HEADER + [t for i, t in enumerate(rows(["W"] * 6, first=7)) if i not in (2, 3)]
    found = read(file, lines)
    assert found.stages.tolist() == [0, 0, -1, -1, 0, 0]
    assert found.counts()["unannotated"] == 2


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d"])
def test_midnight_tells_days_from_months(file: Path, form: str) -> None:
    assert read(file, HEADER + rows(["W"] * 10, form=form)).begin == START


def test_japanese_comments_and_a_units_line_are_passed_over(file: Path) -> None:
    lines = ["File name,マウス", *HEADER, ",,,%,", *(t + "75.7,16" for t in rows(["W", "R"]))]
    assert read(file, lines, "shift_jis").stages.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: [*t, t[-1]], "epoch 9 follows epoch 9"),
        (lambda t: [*t[:3], t[4], t[3], *t[5:]], "epoch 3 follows epoch 4"),
        (lambda t: [*t[:3], "04/12/2018", *t[4:]], "line 23 is '04/12/2018'"),
        (lambda t: [*t[:5], t[5].replace(",W,", ",X,"), *t[6:]], "unknown stage text 'X'"),
        (lambda t: [*t[:5], t[5].replace("00:00:", "00:01:"), *t[6:]], "is at 2018-12-05 00:01:10"),
        (lambda t: t[:1], "one epoch does not tell"),
    ],
    ids=["twice", "out of order", "cut", "label", "time", "one epoch"],
)
def test_refuses(file: Path, change: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(file, HEADER + change(rows(["W"] * 10)))  # type: ignore[operator]


def test_the_real_signals(real_data: Path) -> None:
    path = real_data / "sleepsign/sample.txt"
    found = formats.read(path)
    lines = [t.split(",") for t in path.read_text().splitlines()[19:]]
    wanted = np.array([t[1:5] for t in lines], np.float64) * [1, 1, 1, 1e6]
    assert [s.unit for s in found.signals.values()] == ["uV"] * 4
    for i, signal in enumerate(found.signals.values()):
        assert signal.sample_rate == 128
        np.testing.assert_allclose(signal.samples(), wanted[:, i], rtol=1e-6)
    assert found.start == datetime(2018, 12, 4, 11, 0, 11)
    with pytest.raises(NoStagesError):
        formats.read_hypnogram(path)
