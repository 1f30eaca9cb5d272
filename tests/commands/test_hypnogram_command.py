"""`sleeptools hypnogram`: formats by name and ending, clock times placed in their recording."""

import os
import re
import shlex
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import numpy as np
import pytest
from sleeptools.cli import run

from sleeptools import formats
from sleeptools.commands.hypnogram import convert_hypnogram
from sleeptools.errors import DataError, MissingInputError, OutputError, UsageError
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal, write_recording

NOX = [
    "Start Time,End Time,Event,Duration,",
    "[],[],[],[s],",
    *(
        f"15/01/2016 23:{m:02}:{s:02},15/01/2016 23:{m + s // 30:02}:{30 - s:02},{stage},30,"
        for m, s, stage in ((58, 0, "Wake"), (58, 30, "N1"), (59, 0, "N2"))
    ),
    "15/01/2016 23:59:30,16/01/2016 00:00:00,N3,30,",
    "16/01/2016 00:00:00,16/01/2016 00:00:30,REM,30,",
]


@pytest.fixture
def nox(tmp_path: Path) -> Path:
    path = tmp_path / "nox.csv"
    path.write_text("\r\n".join(NOX), "utf-16")
    return path


def night(folder: Path, start: datetime, seconds: int = 120) -> Path:
    """An EDF recording of one flat signal."""
    samples = np.zeros(seconds, np.float32)
    signal = Signal("EEG", 1.0, "uV", "eeg", seconds, lambda: samples)
    head = SignalHeader("EEG", "", "uV", -100, 100, -2048, 2047, "", 1, 0)
    path = folder / f"night-{start:%H%M%S}.edf"
    edf.write(path, Recording("a", "a", 1, {"EEG": signal}, None, start), [head], record_seconds=1)
    return path


@pytest.mark.parametrize(
    ("start", "onset"),
    [
        (datetime(2016, 1, 15, 23, 57, 13), 47.0),
        (datetime(2016, 1, 15, 23, 58, 0), 0.0),
        (datetime(2016, 1, 16, 0, 0, 0), -120.0),
    ],
    ids=["after", "with", "before"],
)
def test_times_place_a_hypnogram(nox: Path, tmp_path: Path, start: datetime, onset: float) -> None:
    out = tmp_path / "out.edf"
    found, notes = convert_hypnogram(nox, out, recording=night(tmp_path, start))
    again = formats.read_hypnogram(out)
    assert not notes
    assert found.onset == again.onset + 30 * max(onset // 30, 0) == onset
    scored = again.stages[again.stages >= 0]
    assert scored.tolist() == [0, 1, 2, 3, 4]
    assert edf.read_start(out) == start


@pytest.mark.parametrize("shift", [-2, 0, 3])
def test_at_shifts_labels_by_epochs(nox: Path, tmp_path: Path, shift: int) -> None:
    _, notes = convert_hypnogram(nox, tmp_path / "out.hyp", start=shift * 30.0)
    found = formats.read_hypnogram(tmp_path / "out.hyp")
    labels = [0, 1, 2, 3, 4]
    assert found.stages.tolist() == [-1] * max(shift, 0) + labels[max(-shift, 0) :]
    assert notes == (
        ["usleep has no times: 60 s before the recording are left out"] if shift < 0 else []
    )


def test_a_clock_time_finds_its_day(tmp_path: Path) -> None:
    """Before and after midnight, in a file whose clock times have no days."""
    source = tmp_path / "clock.annot"
    source.write_text("W\t23:59:30\t...\nN1\t00:00:30\t+30\n")
    for start, onset in ((datetime(2016, 1, 15, 23, 0), 3570), (datetime(2016, 1, 16, 0, 0), -30)):
        recording = night(tmp_path, start, 7200)
        found, _ = convert_hypnogram(source, tmp_path / f"{onset}.ids", recording=recording)
        assert found.onset == onset
        assert found.begin == datetime(2016, 1, 15, 23, 59, 30)


def test_at_by_the_clock(nox: Path, tmp_path: Path) -> None:
    start = datetime(2016, 1, 15, 22, 0)
    recording = night(tmp_path, start, 9000)
    for first_epoch in (time(0, 1), datetime(2016, 1, 16, 0, 1)):
        out = tmp_path / "out.ids"
        found, _ = convert_hypnogram(nox, out, start=first_epoch, recording=recording, force=True)
        assert found.onset == 7260
        assert out.read_text().startswith("7260,30,W\n")
    labels = tmp_path / "h.txt"
    labels.write_text("W\nN1\n")
    with pytest.raises(UsageError, match="a clock time needs the recording's start"):
        convert_hypnogram(labels, tmp_path / "x.ids", start=time(0, 1))
    with pytest.raises(
        UsageError, match="`start=2018-01-16 00:01:00` lies 731 days from 2016-01-15"
    ):
        convert_hypnogram(nox, tmp_path / "x.ids", start=datetime(2018, 1, 16, 0, 1))
    recording_start = datetime(2016, 1, 15, 23, 58)  # an EDF+ hypnogram says it itself
    convert_hypnogram(nox, tmp_path / "h.edf")
    found, _ = convert_hypnogram(tmp_path / "h.edf", tmp_path / "y.edf", start=time(23, 59))
    assert found.onset == 60
    assert edf.read_start(tmp_path / "y.edf") == recording_start


def test_an_edf_hypnogram_without_a_start_says_so(tmp_path: Path) -> None:
    formats.write_hypnogram(Hypnogram(np.array([0], np.int8)), tmp_path / "h.edf")
    assert formats.read_hypnogram(tmp_path / "h.edf").begin is None
    assert edf.read_start(tmp_path / "h.edf") is None
    raw = bytearray((tmp_path / "h.edf").read_bytes())
    raw[176:184] = b"22.30.00"  # the day unknown, the time not
    (tmp_path / "h.edf").write_bytes(raw)
    assert formats.read_hypnogram(tmp_path / "h.edf").begin == time(22, 30)


def test_a_start_between_seconds_is_said(tmp_path: Path) -> None:
    begin = datetime(2020, 1, 1, 22, 0, 0, 250_000)
    scored = Hypnogram(np.array([0], np.int8), begin=begin)
    (note,) = formats.write_hypnogram(scored, tmp_path / "h.edf")
    assert "22:00:00.250000, is written in whole seconds" in note


def test_refuses_another_night(nox: Path, tmp_path: Path) -> None:
    later = night(tmp_path, datetime(2016, 1, 16, 0, 0, 30))
    with pytest.raises(DataError, match="they do not overlap"):
        convert_hypnogram(nox, tmp_path / "out.ids", recording=later)
    assert not (tmp_path / "out.ids").exists()


def test_nothing_is_replaced_unasked(nox: Path, tmp_path: Path) -> None:
    convert_hypnogram(nox, tmp_path / "a_events.tsv")
    (tmp_path / "a_events.tsv").rename(tmp_path / "kept.tsv")  # the sidecar still stands there
    (tmp_path / "a_events.json").write_text("{}")
    with pytest.raises(OutputError, match=r"a_events.json: exists"):
        convert_hypnogram(nox, tmp_path / "a_events.tsv")
    convert_hypnogram(nox, tmp_path / "a_events.tsv", force=True)
    labels = tmp_path / "own.hyp"
    labels.write_text("W\n")
    with pytest.raises(OutputError, match=r"own.hyp: exists"):
        convert_hypnogram(labels, labels, force=True)
    assert labels.read_text() == "W\n"


def test_our_own_recordings_give_their_hypnogram(tmp_path: Path) -> None:
    scored = Hypnogram(np.array([0, 4, -1], np.int8), onset=15.0, scorer="A")
    signal = Signal("EEG", 1.0, "uV", "eeg", 120, lambda: np.zeros(120, np.float32))
    start = datetime(1989, 4, 24, 16, 13)
    made = Recording("SC4001", "SC400", 1, {"EEG": signal}, scored, start)
    ours = tmp_path / "SC4001.safetensors"
    write_recording(ours, made, {})
    convert_hypnogram(ours, tmp_path / "out.edf")
    found = formats.read_hypnogram(tmp_path / "out.edf")
    assert (found.stages.tolist(), found.onset) == ([0, 4, -1], 15)
    assert edf.read_start(tmp_path / "out.edf") == start
    write_recording(ours, replace(made, hypnogram=None), {})
    with pytest.raises(DataError, match="has no hypnogram"):
        convert_hypnogram(ours, tmp_path / "other.edf")


# --- the command line -----------------------------------------------------------------------------


def test_command(command, nox: Path) -> None:
    ran = command("hypnogram", nox, "out.csv", "--to", "yasa", "--at", "60")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        "out.csv: 5 epochs of 30 s from 60 s on: W 1, N1 1, N2 1, N3 1, REM 1",
        "note: yasa: unannotated is written as 'UNS', which reads back as unknown (2 of 7 epochs)",
    ]
    ran = command("inspect", "out.csv", nox)
    assert ran.code == 0
    assert "out.csv: yasa hypnogram, 0.06 h, 7 epochs of 30 s\n" in ran.out
    assert "noxturnal hypnogram, 0.04 h, 5 epochs of 30 s, starts 2016-01-15T23:58:00" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["nox.csv", "out.csv"], 2, "ending does not tell", ": bids, edf, luna"),
        (["nox.csv", "out.csv", "--to", "nsrr"], 2, "not written as 'nsrr'", "usleep, yasa"),
        (["nox.csv", "out.ids", "--scheme", "x"], 2, "unknown scheme 'x'", "human, mouse, aasm"),
        (["nox.csv", "out.csv", "--to", "yaas"], 2, "written as 'yaas'", "did you mean 'yasa'?"),
        (["nox.csv", "out.ids", "--scheme", "acusleepy"], 2, "'acusleepy'", "mean 'accusleepy'?"),
        (["nox.csv", "out.ids", "--at", "noon"], 2, "--at 'noon' is no time", "seconds"),
        (["nox.csv", "out.ids", "--at", "nan"], 2, "--at 'nan' is no time", "seconds"),
        (["nox.csv", "out.ids", "--epoch-seconds", "0"], 2, "an epoch of 0 s", ""),
        (["nox.csv", "out.csv", "--to", "accusleepy"], 65, "accusleepy has no stage W", "Wake"),
        (["numbers.txt", "out.ids"], 65, "stages are numbers ('0', '4')", "--scheme NAME"),
        (["numbers.txt", "out.ids", "--scheme", "isruc"], 65, "stage text '4' in", "known texts"),
        (["gone.txt", "out.ids"], 66, "gone.txt: no such file", "holds: "),
        (["nox.csv", "numbers.txt", "--to", "yasa"], 73, "numbers.txt: exists", "--force"),
    ],
)
def test_command_refuses(
    capsys, monkeypatch, nox: Path, arguments: list[str], code: int, message: str, hint: str
) -> None:
    monkeypatch.chdir(nox.parent)
    Path("numbers.txt").write_text("0\n4\n")
    assert run(["hypnogram", *arguments]) == code
    error, advice = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert advice.startswith("hint: ")
    assert hint in advice
    assert {p.name for p in nox.parent.iterdir()} == {"nox.csv", "numbers.txt"}


def test_inspect_takes_a_scheme(command, tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("1\n2\n3\n3\n-1\n")
    ran = command("inspect", "h.txt")
    assert ran.code == 65
    assert "could be: aasm, yasa, rk, accusleepy" in ran.err
    ran = command("inspect", "h.txt", "--scheme", "accusleepy", "--epoch-seconds", "2.5", "--json")
    assert ran.code == 0, ran.err
    assert '"NREM": 2' in ran.out
    assert '"epoch_seconds": 2.5' in ran.out


def test_options_for_onsets_and_scorers(command, tmp_path: Path) -> None:
    edf.write_annotations(
        tmp_path / "n.edf", [(30.0 * i, 0, "Sleep stage W") for i in range(4)], None
    )
    ran = command("hypnogram", "n.edf", "o.ids")
    assert ran.code == 65
    assert "--epoch-from-onsets lets each last to the next" in ran.err
    ran = command("hypnogram", "n.edf", "o.ids", "--epoch-from-onsets")
    assert ran.code == 0
    assert (tmp_path / "o.ids").read_text() == "0,30,W\n30,30,W\n60,30,W\n90,30,W\n"
    rows = ["onset\tduration\ttrial_type\tscorer", "0\t30\tW\ta", "0\t30\tN1\tb", ""]
    (tmp_path / "x_events.tsv").write_text("\n".join(rows))
    for name in ("hypnogram", "inspect"):
        rest = ["y.ids"] if name == "hypnogram" else []
        ran = command(name, "x_events.tsv", *rest)
        assert ran.code == 65
        assert "2 scorers: a, b" in ran.err
        assert command(name, "x_events.tsv", *rest, "--scorer", "b").code == 0
    assert (tmp_path / "y.ids").read_text() == "0,30,N1\n"


def test_labels_that_do_not_fit_the_recording(command, tmp_path: Path) -> None:
    recording = night(tmp_path, datetime(2020, 1, 1, 22), 7200)
    (tmp_path / "h.txt").write_text("W\n" * 360)
    ran = command("hypnogram", "h.txt", "o.ids", "--recording", recording)
    assert ran.code == 65
    assert "360 labels x 30 s = 10800 s, but the signals last 7200 s" in ran.err
    assert "hint: give --epoch-seconds 20" in ran.err
    ran = command("hypnogram", "h.txt", "o.ids", "--recording", recording, "--epoch-seconds", 20)
    assert ran.code == 0


def test_clock_times_on_a_recording_of_unknown_start(command, nox: Path, tmp_path: Path) -> None:
    recording = night(tmp_path, datetime(2016, 1, 15, 23, 57), 600)
    raw = bytearray(recording.read_bytes())
    raw[176:184] = b"25.61.61"
    recording.write_bytes(raw)
    ran = command("hypnogram", nox, "o.ids", "--recording", recording)
    assert ran.code == 65
    assert "does not say when it began" in ran.err
    assert command("hypnogram", nox, "o.ids", "--recording", recording, "--at", 60).code == 0
    assert (tmp_path / "o.ids").read_text().startswith("60,30,W")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Neither read, which would wait for ever, nor replaced."""
    os.mkfifo(tmp_path / "pipe.edf")
    (tmp_path / "a.txt").write_text("W\nN1\n")
    for read in (formats.read, formats.read_hypnogram):
        with pytest.raises(MissingInputError, match="is a pipe or a device"):
            read(tmp_path / "pipe.edf")
    with pytest.raises(OutputError, match="exists"):
        convert_hypnogram(tmp_path / "a.txt", tmp_path / "pipe.edf")


def test_formats_of_mice_alone_are_offered_for_mice(command, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("Wake\nNREM\nREM\n")
    ran = command("hypnogram", "m.txt", "out.csv", "--epoch-seconds", "4")
    assert (ran.code, "name it with --to: accusleepy, bids, edf, luna" in ran.err) == (2, True)
    assert " usleep" not in ran.err


def test_wake_and_rem_alone_name_the_scheme(command, tmp_path: Path) -> None:
    words = ("hypnogram", "m.txt", "out.csv", "--to", "accusleepy", "--epoch-seconds", "4")
    (tmp_path / "m.txt").write_text("W\nREM\nW\n")
    ran = command(*words)
    assert (ran.code, "accusleepy has no stage W" in ran.err) == (65, True)
    assert "--scheme mouse if it is of a mouse" in ran.err
    assert command(*words, "--scheme", "mouse").code == 0
    assert (tmp_path / "out.csv").read_text().split() == ["brain_state", "2", "1", "2"]
    (tmp_path / "m.txt").write_text("W\nN2\nW\n")
    assert "--scheme" not in command(*words[:2], "o.csv", *words[3:]).err


def test_a_folder_that_holds_no_scores_names_one_of_its_files(command, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/m 1.txt").write_text("W\nN2\nREM\n")
    ran = command("hypnogram", "lab", "out", "--to", "yasa")
    assert (ran.code, "lab: is not a folder that 'sleeptools score' wrote" in ran.err) == (65, True)
    line = re.search(r"one at a time: 'sleeptools ([^']+)'", ran.err)
    assert line is not None
    assert command(*shlex.split(line[1])).code == 0
    assert (tmp_path / "out/m 1.csv").is_file()
