"""`agree`: which nights belong together, how they are read, and what is written."""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest

import sleeptools
from sleeptools import formats, store
from sleeptools.commands.agree import AgreeOptions, agree, output
from sleeptools.commands.agree.nights import find_scorings, night_key
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import spreadsheets
from sleeptools.errors import DataError, UsageError
from sleeptools.formats import edf, hypnodensity
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal, write_recording
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.store import folders

START = datetime(2024, 3, 9, 22)
WRITTEN = {  # name of the file by format and kind; those of people, then those of mice
    "edf": "n.edf",
    "bids": "n_events.tsv",
    "luna": "n.annot",
    "luna-epochs": "n.eannot",
    "usleep": "n.ids",
    "usleep-table": "n.tsv",
    "usleep-list": "n.hyp",
    "yasa": "n.csv",
    "yasa-list": "n.txt",
}
CLOCKED = ("edf",)


def stages_of(seed: int, count: int = 400, names: tuple[str, ...] = HUMAN_STAGES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bouts = [np.full(rng.integers(1, 12), rng.integers(len(names))) for _ in range(count)]
    return np.concatenate(bouts)[:count].astype(np.int8)


def scoring(seed: int = 0, begin: datetime | time | None = START, **more) -> Hypnogram:
    names = more.get("names", HUMAN_STAGES)
    return Hypnogram(stages_of(seed, names=names), begin=begin, **more)


def confused(hypnogram: Hypnogram, seed: int = 9, share: float = 0.1) -> Hypnogram:
    """Some epochs get another stage."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(hypnogram)) < share
    stages = np.where(wrong, (hypnogram.stages + 1) % len(hypnogram.names), hypnogram.stages)
    return replace(hypnogram, stages=stages.astype(np.int8))


def write(hypnogram: Hypnogram, path: Path, to: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.write_hypnogram(hypnogram, path, to=to)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def result(command: Callable, *words: object) -> dict:
    ran = command("agree", *words, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", WRITTEN)
@pytest.mark.parametrize("other", WRITTEN)
def test_every_format_agrees_with_every_other(one: str, other: str, tmp_path: Path) -> None:
    a = write(scoring(), tmp_path / "a" / WRITTEN[one], one.partition("-")[0])
    b = write(scoring(), tmp_path / "b" / WRITTEN[other], other.partition("-")[0])
    found = agree(a, b, options=AgreeOptions(same_start=True))
    assert found.kappa() == 1
    assert found.confusions.sum() == 400


@pytest.mark.parametrize("file", ["m.edf", "m_events.tsv", "m.annot", "m.eannot", "m.csv", "m.txt"])
def test_formats_of_mice_agree(file: str, tmp_path: Path) -> None:
    mouse = scoring(names=MOUSE_STAGES, epoch_seconds=4.0)
    a = write(mouse, tmp_path / "accu.csv", "accusleepy")
    b = write(mouse, tmp_path / file, "yasa" if file in ("m.csv", "m.txt") else None)
    options = AgreeOptions(same_start=True, epoch_seconds=4.0, scheme=("mouse",))
    assert agree(a, b, options=options).kappa() == 1


def test_formats_that_are_only_read(tmp_path: Path) -> None:
    """A text of each, of the same eight epochs as the EDF+ file."""
    stages, code = [0, 0, 1, 2, 2, 3, 4, 0], [0, 0, 1, 2, 2, 3, 5, 0]
    names = [HUMAN_STAGES[s] for s in stages]
    edf = write(Hypnogram(np.array(stages, np.int8), begin=START), tmp_path / "n.edf")
    texts = {
        "nsrr.xml": "<PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>"
        "<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start>"
        "<Duration>240</Duration><ClockTime>00.00.00 22.00.00</ClockTime></ScoredEvent>"
        + "".join(
            f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{name}|{n}</EventConcept>"
            f"<Start>{30 * i}</Start><Duration>30</Duration></ScoredEvent>"
            for i, (n, name) in enumerate(zip(code, names, strict=True))
        )
        + "</ScoredEvents></PSGAnnotation>",
        "profusion.xml": "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>"
        + "".join(f"<SleepStage>{n}</SleepStage>" for n in code)
        + "</SleepStages></CMPStudyConfig>",
        "visbrain.txt": "*Duration_sec\t240\n*Datafile\tn\n"
        + "".join(
            f"{HUMAN_STAGES[s]}\t{30 * (i + 1)}\n".replace("W\t", "Wake\t")
            for i, s in enumerate(stages)
        ),
        "numbers.txt": "".join(f"{n}\n" for n in code),
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text)
        options = AgreeOptions(same_start=True, scheme=("rk",))
        assert agree(edf, path, options=options).confusions.trace(0, 1, 2).tolist() == [8], name


def test_the_real_noxturnal_export_agrees_with_itself(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "noxturnal/noxturnal_events_example_unicode.csv"
    copy = write(formats.read_hypnogram(path), tmp_path / "n.edf")
    found = agree(path, copy)  # dates and times in one, a start and onsets in the other
    assert (found.kappa(), found.confusions.sum()) == (1, 1358)


def test_real_hypnograms_agree_with_themselves(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "sleep-edf/hypnograms/SC4001EC-Hypnogram.edf"
    copy = write(formats.read_hypnogram(path), tmp_path / "SC4001.edf")
    found = agree(path, copy)
    assert (found.kappa(), found.nights[0].shifts[0].epochs) == (1, 0)


# --- matching by the clock ------------------------------------------------------------------------


def test_a_shift_is_told_and_not_applied(command: Callable, tmp_path: Path) -> None:
    night = scoring()
    late = replace(night, begin=START + timedelta(seconds=60))
    a, b = write(night, tmp_path / "a.edf"), write(late, tmp_path / "b.edf")
    ran = command("agree", a, b)
    assert ran.code == 0
    text = re.search(r"b agrees best 2 epochs earlier: 1.00 against 0.\d\d", ran.err)
    assert text, ran.err
    facts = result(command, a, b, "--out", "out")
    assert facts["nights"][0]["shifts"]["b - a"]["epochs"] == -2
    assert facts["nights"][0]["shifts"]["b - a"]["kappa"] == 1
    assert facts["by_night"][0]["kappa"] < 0.8
    page = (tmp_path / "out/agreement.html").read_text()
    assert "SHIFTED" in page
    assert text[0] in page
    consensus = formats.read_hypnogram(tmp_path / "out/a-consensus.edf")
    assert consensus.stages.tolist()[:400] == night.stages.tolist()  # the first named wins ties


def test_no_clock_is_an_error_with_two_cures(command: Callable, tmp_path: Path) -> None:
    a = write(scoring(), tmp_path / "a.edf")
    b = write(scoring(), tmp_path / "b.csv", "yasa")
    ran = command("agree", a, b)
    assert (ran.code, ran.out) == (65, "")
    assert "b (has no clock time)" in ran.err
    assert "--same-start" in ran.err
    assert "--recording" in ran.err
    assert command("agree", a, b, "--same-start").code == 0
    signal = Signal("EEG", 1.0, "uV", "eeg", 12000, lambda: np.zeros(12000, np.float32))
    recording = Recording("n", "n", 1, {"EEG": signal}, start=START)
    write_recording(tmp_path / "n.safetensors", recording, {})
    facts = result(command, a, b, "--recording", "n.safetensors")
    assert facts["by_night"][0]["kappa"] == 1


@pytest.mark.parametrize(
    ("other", "code", "message"),
    [
        (scoring(begin=START + timedelta(days=2)), 65, "HYP-SPAN"),
        (scoring(names=MOUSE_STAGES, epoch_seconds=4.0), 65, "HYP-STAGES"),
        (scoring(names=MOUSE_STAGES), 65, "HYP-STAGES"),
    ],
)
def test_what_cannot_be_compared(other, code, message, command: Callable, tmp_path: Path) -> None:
    a, b = write(scoring(), tmp_path / "a.edf"), write(other, tmp_path / "b.edf")
    ran = command("agree", a, b)
    assert ran.code == code
    assert f"[{message}]" in ran.err


def test_stages_are_merged_on_request(command: Callable, tmp_path: Path) -> None:
    five = scoring()
    three = replace(
        five, stages=np.array([0, 1, 1, 1, 2], np.int8)[five.stages], names=MOUSE_STAGES
    )
    a, b = write(five, tmp_path / "a.edf"), write(three, tmp_path / "b.edf")
    assert "--stages 3" in command("agree", a, b).err
    facts = result(command, a, b, "--stages", "3", "--out", "out")
    assert facts["stages"] == ["Wake", "NREM", "REM"]
    assert facts["by_night"][0]["kappa"] == 1
    named = result(command, a, a, "--stages", "W,Light=N1+N2,N3,REM", "--out", "out2")
    assert named["stages"] == ["W", "Light", "N3", "REM"]
    lines = (tmp_path / "out2/a-consensus.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("onset,duration,stage", 401)
    assert command("agree", a, b, "--stages", "light").code == 2


def test_light_and_deep_sleep_are_read_and_merged(command: Callable, tmp_path: Path) -> None:
    """As wearables and YASA's four stages have them."""
    five = scoring(begin=None)
    words = ["WAKE", "LIGHT", "LIGHT", "DEEP", "REM"]
    lines = [f"{i},{words[s]}" for i, s in enumerate(five.stages)]
    (tmp_path / "four.csv").write_text("\n".join(["Epoch,Stage", *lines, ""]))
    a = write(five, tmp_path / "a.csv", "yasa")
    options = ["--same-start", "--epoch-seconds", "30"]
    ran = command("agree", a, "four.csv", *options)
    assert (ran.code, "HYP-STAGES" in ran.err, "--stages 4" in ran.err) == (65, True, True)
    for stages in ("4", "3", "2", "W,Light=N1+N2+Light,Deep=N3+Deep,REM"):
        facts = result(command, a, "four.csv", *options, "--stages", stages)
        assert facts["by_night"][0]["kappa"] == 1, stages
    assert "HYP-EPOCH" in command("agree", a, "four.csv", "--same-start").err


# --- which nights ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "night", "scorer"),
    [
        ("SC4001EC-Hypnogram", "SC4001", ""),
        ("SC4001E0-PSG-hypnogram", "SC4001", ""),
        ("ST7011JP-Hypnogram", "ST7011JP", ""),
        ("sub-01_ses-1_task-sleep_events", "sub-01_ses-1_task", ""),
        ("P12_scorer1", "P12", "scorer1"),
        ("P12-Rater_B-Hypnogram", "P12", "Rater_B"),
        ("night 7 scored", "night 7", ""),
        ("hypnogram", "hypnogram", ""),
        ("events", "events", ""),
        ("1_1", "1_1", ""),
    ],
)
def test_names_say_night_and_scorer(name: str, night: str, scorer: str) -> None:
    assert night_key(name) == (night, scorer)


def test_nights_are_matched_by_name(command: Callable, tmp_path: Path) -> None:
    for number, (one, other) in enumerate(
        (("P1-Hypnogram.edf", "p1.annot"), ("P2.EDF", "P2_scored.annot"), ("P3.edf", "P4.annot"))
    ):
        write(scoring(number), tmp_path / "human" / one, "edf")
        write(scoring(number, begin=None), tmp_path / "model" / other)
    (tmp_path / "human/notes.txt").write_text("nothing\n")
    facts = result(command, "human", "model", "--same-start")
    assert [night["night"] for night in facts["nights"]] == ["P1", "P2"]
    assert facts["scorings"] == ["human", "model"]
    assert facts["notes"] == [
        "not compared, as model lacks it: p3",
        "not compared, as human lacks it: p4",
    ]


def test_a_night_in_two_files_is_told_and_left_out(command: Callable, tmp_path: Path) -> None:
    for name in ("P1.edf", "P1-Hypnogram.edf", "P2.edf"):
        write(scoring(), tmp_path / "a" / name)
    for name in ("P1.edf", "P2.edf"):
        write(scoring(), tmp_path / "b" / name)
    ran = command("agree", "a", "b", "--out", "out")
    assert ran.code == 65
    assert "HYP-NIGHTS" in ran.err
    assert "failures.csv" in ran.err
    (row,) = rows_of(tmp_path / "out/failures.csv")
    assert "P1-Hypnogram.edf, P1.edf" in row["error"]
    assert (tmp_path / "out/P2-consensus.edf").exists()
    assert "NOT COMPARED" in (tmp_path / "out/agreement.html").read_text()


def test_no_night_in_common_names_similar_ones(command: Callable, tmp_path: Path) -> None:
    write(scoring(), tmp_path / "a/P001.edf")
    write(scoring(), tmp_path / "b/P01.edf")
    ran = command("agree", "a", "b")
    assert ran.code == 65
    assert "P001 like P01" in ran.err
    assert "--pairs" in ran.err


def test_names_that_look_alike_are_one_night(command: Callable, tmp_path: Path) -> None:
    """Capitals do not count, nor how a file system stores an accent; none of two is dropped."""
    for name in ("P1.edf", "p1.edf", unicodedata.normalize("NFD", "Müller.edf")):
        write(scoring(len(name)), tmp_path / "a" / name)
    for name in ("P1.edf", unicodedata.normalize("NFC", "Müller.edf")):
        write(scoring(len(name)), tmp_path / "b" / name)
    ran = command("agree", "a", "b", "--out", "out")
    assert ran.code == 65
    (row,) = rows_of(tmp_path / "out/failures.csv")
    assert "P1.edf, p1.edf" in row["error"]
    (night,) = json.loads((tmp_path / "out/agreement.json").read_text())["nights"]
    assert unicodedata.normalize("NFC", night["night"]) == "Müller"


DAMAGED = {
    "P2.csv": b"\x00\xff" * 40,
    "P2.tsv": b"",
    "P2-Hypnogram.edf": b"0" + b" " * 300,
    "P2.xlsx": b"PK\x03\x04 and no more",
    "P2.txt": b"time;stage\n22:00:00;W\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_no_missing_one(name: str, command: Callable, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(scoring(1), tmp_path / folder / "P1.edf")
    write(scoring(2), tmp_path / "a/P2.edf")
    (tmp_path / "b" / name).write_bytes(DAMAGED[name])
    ran = command("agree", "a", "b", "--out", "out")
    assert ran.code == 65
    (row,) = rows_of(tmp_path / "out/failures.csv")
    assert row["night"] == "p2"
    assert name in row["error"]
    assert "lacks it" not in ran.err
    (tmp_path / "a/P2.edf").unlink()
    (tmp_path / "a" / name).write_bytes(DAMAGED[name])
    ran = command("agree", "a", "b")
    assert f"no scoring can be read there: {name}" in ran.err


def test_signals_of_a_night_are_no_damaged_scoring(command: Callable, tmp_path: Path) -> None:
    simulate("sleep-edf", tmp_path / "b", subjects=1, hours=0.5)
    next((tmp_path / "b").glob("*Hypnogram.edf")).unlink()
    for folder, names in (("a", ("P1", "SC4001E0")), ("b", ("P1",))):
        for name in names:
            write(scoring(), tmp_path / folder / f"{name}.edf")
    assert result(command, "a", "b")["notes"] == ["not compared, as b lacks it: sc4001"]


def test_a_table_of_pairs_by_a_spreadsheet(command: Callable, tmp_path: Path) -> None:
    for name in ("x/one.edf", "y/two.edf", "x/three.edf"):
        write(scoring(), tmp_path / name)
    table = tmp_path / "p.csv"
    for separator in ";\t":
        lines = ["night,human,model", "", "Ü7,x/one.edf,y/two.edf"]
        text = "\r\n".join(line.replace(",", separator) for line in lines)
        table.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert result(command, "--pairs", "p.csv")["nights"][0]["night"] == "Ü7"
    for rows, says in (
        ("N1,x/one.edf,y/two.edf\nN2,x/three.edf,y/../y/two.edf", "two.edf is of N1 and of N2"),
        ("N1,x/one.edf,y/two.edf\nn1,x/three.edf,x/one.edf", "two rows are of the night n1"),
        ("\n\nN1,x/one.edf,", "line 4 has not"),
    ):
        table.write_text(f"night,human,model\n{rows}\n")
        ran = command("agree", "--pairs", "p.csv")
        assert (ran.code, says in ran.err) == (65, True), ran.err


def test_two_recordings_of_one_night_are_told(command: Callable, tmp_path: Path) -> None:
    for name in ("SC4001", "P2"):
        write(scoring(), tmp_path / f"a/{name}.edf")
        write(scoring(), tmp_path / f"b/{name}.edf")
    signal = Signal("EEG", 1.0, "uV", "eeg", 12000, lambda: np.zeros(12000, np.float32))
    (tmp_path / "rec").mkdir()
    for name in ("SC4001E0", "SC4001F0", "P2"):
        recording = Recording(name, name, 1, {"EEG": signal}, start=START)
        write_recording(tmp_path / "rec" / f"{name}.safetensors", recording, {})
    ran = command("agree", "a", "b", "--recording", "rec")
    assert ran.code == 65
    assert "two recordings are of sc4001: SC4001E0.safetensors, SC4001F0.safetensors" in ran.err


def test_a_table_of_pairs(command: Callable, tmp_path: Path) -> None:
    write(scoring(), tmp_path / "x/one.edf")
    write(scoring(), tmp_path / "y/two.edf")
    (tmp_path / "p.csv").write_text("night,human,model\nN7,x/one.edf,y/two.edf\n")
    facts = result(command, "--pairs", "p.csv")
    assert (facts["scorings"], facts["nights"][0]["night"]) == (["human", "model"], "N7")
    for text in (
        "night,human\nN7,x/one.edf\n",
        "a,b\nx/one.edf\n",
        "a,b\nx/one.edf,\n",
        "",
        "a,a\nx,y\n",
    ):
        (tmp_path / "p.csv").write_text(text)
        ran = command("agree", "--pairs", "p.csv")
        assert (ran.code, "HYP-NIGHTS" in ran.err) == (65, True), text
    assert command("agree", "x", "--pairs", "p.csv").code == 2
    assert command("agree").code == 2
    assert command("agree", "x").code == 2
    assert command("agree", "x", "nowhere").code == 66


def test_two_scorers_in_one_file(command: Callable, tmp_path: Path) -> None:
    """Rows of an expert and of a program, which differ in 3 of 6 epochs."""
    rows = [f"{30 * i}\t30\tW\texpert" for i in range(6)]
    rows += [f"{30 * i}\t30\t{'W' if i < 3 else 'N2'}\tyasa" for i in range(6)]
    (tmp_path / "x_events.tsv").write_text(
        "\n".join(["onset\tduration\ttrial_type\tscorer", *rows, ""])
    )
    facts = result(command, "x_events.tsv", "--same-start")
    assert facts["pairs"] == ["yasa - expert"]
    assert facts["confusions"]["yasa - expert"][0][:3] == [3, 0, 3]
    third = write(scoring(begin=None), tmp_path / "m.csv", "yasa")
    assert result(command, "x_events.tsv", third, "--same-start")["pairs"] == [
        "yasa - expert",
        "m - expert",
        "m - yasa",
    ]
    facts = result(command, "x_events.tsv", third, "--same-start", "--scorer", "yasa")
    assert facts["scorings"] == ["x_events", "m"]


def test_two_scorers_of_a_folder_and_a_model(command: Callable, tmp_path: Path) -> None:
    for night in range(3):
        truth = scoring(night)
        write(confused(truth, 1), tmp_path / f"human/P{night}_scorer1.edf")
        write(confused(truth, 2), tmp_path / f"human/P{night}_scorer2.edf")
        write(truth, tmp_path / f"model/P{night}.edf")
    facts = result(command, "model", "human")
    assert facts["scorings"] == ["model", "scorer1", "scorer2"]
    assert facts["pairs"] == ["scorer1 - model", "scorer2 - model", "scorer2 - scorer1"]
    kappas = [row for row in facts["agreement"] if row["metric"] == "kappa" and not row["stage"]]
    assert len(kappas) == 6
    assert all(row["nights"] == 3 and row["low"] < row["value"] for row in kappas)


def test_isruc_texts_workbooks_and_a_model(command: Callable, tmp_path: Path) -> None:
    """Three in one table, as in reports: two scorers of the data set and a model."""
    raw = simulate("isruc", tmp_path / "raw", subjects=2, hours=0.5, subset="III")
    for number in (1, 2):
        path = raw / f"subgroupIII/{number}/{number}_1.txt"
        h = formats.read_hypnogram(path, scheme="isruc", epoch_seconds=30)
        write(confused(h), tmp_path / f"scores/{number}.csv", "yasa")
    facts = result(command, raw, "scores", "--same-start")
    assert facts["scorings"] == ["scorer 1", "scorer 2", "scores"]
    assert [night["night"] for night in facts["nights"]] == ["1", "2"]
    folder = raw / "subgroupIII/1"
    text_and_workbook = result(command, folder / "1_1.txt", folder / "1_1.xlsx", "--same-start")
    assert text_and_workbook["by_night"][0]["kappa"] == 1
    (folder / "1_2.txt").unlink()  # then the workbook is taken
    assert result(command, raw, "scores", "--same-start")["by_night"] == facts["by_night"]


def test_a_workbook_that_is_none_is_refused(command: Callable, tmp_path: Path) -> None:
    a = write(scoring(), tmp_path / "a.edf")
    (tmp_path / "1_1.xlsx").write_bytes(b"PK\3\4 nothing")
    ran = command("agree", a, "1_1.xlsx", "--same-start")
    assert (ran.code, "SHEET-READ" in ran.err) == (65, True)
    spreadsheets.write_xlsx(tmp_path / "1_1.xlsx", [["Epoch", "Stage"], [1.0, "N9"]])
    assert "HYP-TEXT" in command("agree", a, "1_1.xlsx", "--same-start").err


def test_our_recordings_and_scores(command: Callable, tmp_path: Path) -> None:
    signal = Signal("EEG", 1.0, "uV", "eeg", 12000, lambda: np.zeros(12000, np.float32))
    recording = Recording("P1", "P1", 1, {"EEG": signal}, start=START)
    two = recording.scored([scoring(), confused(scoring(), 3)])
    (tmp_path / "recordings").mkdir()
    write_recording(tmp_path / "recordings/P1.safetensors", two, {})
    b = write(scoring(), tmp_path / "scores/P1-hypnogram.edf")
    facts = result(command, "recordings", b.parent)
    assert facts["scorings"] == ["scorer 1", "scorer 2", "scores"]
    assert (
        facts["confusions"]["scores - scorer 1"]
        == np.diag(np.bincount(stages_of(0), minlength=5)).tolist()
    )


def test_settings_are_used_where_a_file_needs_them(command: Callable, tmp_path: Path) -> None:
    a = write(scoring(), tmp_path / "a.edf")
    (tmp_path / "n.txt").write_text("".join(f"{s}\n" for s in stages_of(0)))
    ran = command("agree", a, "n.txt", "--same-start")
    assert (ran.code, "HYP-SCHEME" in ran.err) == (65, True)
    for words in (["aasm"], ["n=aasm"], ["rk", "--scheme", "n=aasm"]):
        facts = result(command, a, "n.txt", "--same-start", "--scheme", *words)
        assert facts["by_night"][0]["kappa"] == 1, words
    assert result(command, a, "n.txt", "--same-start", "--scheme", "rk")["by_night"][0]["kappa"] < 1


def test_names_of_the_scorings(command: Callable, tmp_path: Path) -> None:
    a = write(scoring(), tmp_path / "x/n.edf")
    b = write(scoring(), tmp_path / "y/n.edf")
    assert result(command, a, b)["scorings"] == ["x/n.edf", "y/n.edf"]
    assert result(command, a, a)["scorings"] == ["n 1", "n 2"]
    assert result(command, a, b, "--name", "human", "--name", "model")["pairs"] == ["model - human"]
    for names in (["human"], ["a", "a"], ["night", "b"]):
        words = [word for name in names for word in ("--name", name)]
        assert command("agree", a, b, *words).code == 2, names


# --- probabilities --------------------------------------------------------------------------------


def test_ties_go_by_confidence(tmp_path: Path) -> None:
    from sleeptools.formats import bids, hypnodensity

    one = Hypnogram(np.array([0, 1], np.int8), begin=START)
    sure = np.array([[0.6, 0.4, 0, 0, 0], [0.05, 0.95, 0, 0, 0]], np.float32)
    hypnodensity.write_table(tmp_path / "a.csv", one, sure)
    two = Hypnogram(np.array([1, 0], np.int8))
    bids.write_hypnogram(two, tmp_path / "b_events.tsv", [0.9, 0.5])
    options = AgreeOptions(same_start=True)
    (night,) = agree(tmp_path / "a.csv", tmp_path / "b_events.tsv", options=options).nights
    assert night.consensus.stages.tolist() == [1, 1]
    assert night.consensus.by_probability == 2
    merged = AgreeOptions(same_start=True, stages="2")
    (night,) = agree(tmp_path / "a.csv", tmp_path / "b_events.tsv", options=merged).nights
    assert night.consensus.stages.tolist() == [1, 1]


def test_confidence_of_accusleepy(tmp_path: Path) -> None:
    rows = "brain_state,confidence_score\n2,0.9\n3,0.2\n"
    (tmp_path / "a.csv").write_text(rows)
    (tmp_path / "b.csv").write_text("brain_state,confidence_score\n3,0.5\n2,0.8\n")
    options = AgreeOptions(same_start=True, epoch_seconds=4.0)
    (night,) = agree(tmp_path / "a.csv", tmp_path / "b.csv", options=options).nights
    assert night.consensus.stages.tolist() == [0, 0]


# --- what is written ------------------------------------------------------------------------------


def test_the_folder(command: Callable, tmp_path: Path) -> None:
    for night in range(3):
        write(scoring(night), tmp_path / f"a/P{night}.edf")
        write(confused(scoring(night)), tmp_path / f"b/P{night}.edf")
    ran = command("agree", "a", "b", "--out", "out")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[1].split() == ["pair", "stage", "kappa", "F1", "PABAK"]
    out = tmp_path / "out"
    files = {p.name for p in out.iterdir() if p.name[0] != "."}
    tables = {"agreement", "nights", "confusion", "sleep", "bland_altman", "hours", "differing"}
    assert files == {f"{t}.csv" for t in tables} | {f"P{n}-consensus.edf" for n in range(3)} | {
        "agreement.html",
        "agreement.json",
        "manifest.json",
    }
    assert folders.verify(out) == []
    facts = json.loads((out / "agreement.json").read_text())
    assert facts == result(command, "a", "b")
    differ = sum(row["differ"] for row in facts["by_night"])
    assert len(rows_of(out / "differing.csv")) == differ > 0
    (tmp_path / "b/P2.edf").unlink()
    assert command("agree", "a", "b", "--out", "out").code == 0
    assert not (out / "P2-consensus.edf").exists()
    assert folders.verify(out) == []


def test_the_consensus_is_a_scoring_like_any_other(command: Callable, tmp_path: Path) -> None:
    truth = scoring()
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        write(confused(truth, seed), tmp_path / f"{name}.edf")
    assert command("agree", "a.edf", "b.edf", "c.edf", "--out", "out").code == 0
    write(truth, tmp_path / "truth.edf")
    found = agree(tmp_path / "truth.edf", tmp_path / "out/a-consensus.edf")
    assert found.kappa() > 0.95  # three scorers with 10 % of errors each have 3 % together
    header = (tmp_path / "out/a-consensus.edf").read_bytes()[:256]
    assert b"09.03.2422.00.00" in header


def test_foreign_folders_and_inputs_are_left_alone(command: Callable, tmp_path: Path) -> None:
    a, b = write(scoring(), tmp_path / "in/a.edf"), write(scoring(), tmp_path / "in/b.edf")
    ran = command("agree", a, b, "--out", "in")
    assert (ran.code, "OUT-OURS" in ran.err) == (73, True)
    assert command("agree", a, b, "--out", "out").code == 0
    ran = command("agree", "out/a-consensus.edf", b, "--out", "out")
    assert (ran.code, "OUT-INPUT" in ran.err) == (73, True)


def test_nothing_is_written_into_what_is_compared(command: Callable, tmp_path: Path) -> None:
    for name in ("a/P1.edf", "b/P1.edf"):
        write(scoring(), tmp_path / name)
    ran = command("agree", "a", "b", "--out", "a/agreement")
    assert (ran.code, "OUT-INPUT" in ran.err) == (73, True)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["P1.edf"]


def test_a_place_that_cannot_be_written_is_told_first(command: Callable, tmp_path: Path) -> None:
    for name in ("a/P1.edf", "b/P1.edf"):
        write(scoring(), tmp_path / name)
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        ran = command("agree", "a", "b", "--out", out)
        assert ran.code == 73, ran.err
        assert "[1/1]" not in ran.err
    assert (tmp_path / "file").read_text() == "mine"
    assert command("agree", "a", "c", "--out", "out").code == 66
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", ["0", "-30", "nan", "inf", "1e9"])
def test_a_length_that_no_epoch_has_is_refused(
    seconds: str, command: Callable, tmp_path: Path
) -> None:
    write(scoring(begin=None), tmp_path / "a.txt", "yasa")
    write(scoring(), tmp_path / "b.edf")
    for one in ("a.txt", "b.edf"):
        ran = command("agree", one, "b.edf", "--same-start", "--epoch-seconds", seconds)
        assert (ran.code, "--epoch-seconds" in ran.err) == (2, True), ran.err


def test_an_interrupted_comparison_is_begun_again(
    command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/P1.edf", "b/P1.edf"):
        write(scoring(), tmp_path / name)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(output, "agreement_html", interrupted)
        assert command("agree", "a", "b", "--out", "out").code != 0
    assert (tmp_path / "out/agreement.csv").exists()
    assert not (tmp_path / "out/agreement.html").exists()
    ran = command("agree", "a", "b", "--out", "out")
    assert ran.code == 0, ran.err
    assert folders.verify(tmp_path / "out") == []


def test_hostile_names_are_text(command: Callable, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    a, b = write(scoring(), tmp_path / "a.edf"), write(confused(scoring()), tmp_path / "b.edf")
    ran = command("agree", a, b, "--out", "out", "--name", name, "--name", "=1+1")
    assert ran.code == 0, ran.err
    page = (tmp_path / "out/agreement.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "=1+1" not in (tmp_path / "out/differing.csv").read_text().splitlines()[0].split(",")


# --- Python ---------------------------------------------------------------------------------------


def test_the_api_takes_hypnograms_paths_and_nights(tmp_path: Path) -> None:
    night, other = scoring(), confused(scoring())
    path = write(other, tmp_path / "b.edf")
    first = sleeptools.agree(night, path)
    assert first.pairs == ["scoring 2 - scoring 1"]
    named = sleeptools.agree({"x": night, "y": night}, {"x": other, "y": path})
    assert [n.night for n in named.nights] == ["x", "y"]
    assert named.kappa() == pytest.approx(first.kappa())
    assert first.nights[0].consensus_hypnogram().stages.tolist() == night.stages.tolist()
    with pytest.raises(UsageError, match="different nights"):
        sleeptools.agree({"x": night}, {"y": night})
    with pytest.raises(UsageError):
        sleeptools.agree(night)
    with pytest.raises(DataError, match="nothing says when"):
        sleeptools.agree(replace(night, begin=None), night)


def test_a_failed_night_raises_in_python(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(scoring(), tmp_path / folder / "P1.edf")
    write(scoring(), tmp_path / "a/P2.edf")
    store.write_text(tmp_path / "b/P2.annot", "W\t.\t.\t0\t30\t.\nN2\t.\t.\t30\t60\t.\n")
    with pytest.raises(DataError, match="nothing says when"):
        sleeptools.agree(tmp_path / "a", tmp_path / "b")


def test_wake_and_rem_alone_may_be_of_either(command: Callable, tmp_path: Path) -> None:
    events = [(4.0 * k, 4.0, "Sleep stage W" if k % 3 else "Sleep stage R") for k in range(90)]
    edf.write_annotations(tmp_path / "a.edf", events, START)
    mice = Hypnogram(np.tile(np.int8([2, 0, 0]), 30), MOUSE_STAGES, 4.0, begin=START)
    write(mice, tmp_path / "b_events.tsv")
    ran = command("agree", tmp_path / "a.edf", tmp_path / "b_events.tsv", "--same-start")
    assert ran.code == 65
    assert "--scheme a=mouse if it is of a mouse" in ran.err
    words = (tmp_path / "a.edf", tmp_path / "b_events.tsv", "--same-start", "--scheme", "a=mouse")
    assert result(command, *words)["pairs"]


# --- scorings of mice, beside their signals or in one file with them ------------------------------


@pytest.fixture(scope="module")
def mice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short recordings of kjaerby: signals and scores in one file."""
    raw = tmp_path_factory.mktemp("mice")
    return simulate("kjaerby", raw / "raw", subjects=2, nights=1, hours=0.5, seed=3)


def test_a_folder_is_read_as_its_files_are(command: Callable, mice: Path, tmp_path: Path) -> None:
    names = [path.stem for path in sorted(mice.glob("*.mat"))]
    for name in names:
        read = formats.read_hypnogram(mice / f"{name}.mat")
        density = np.full((len(read), 3), 1 / 3, np.float32)
        hypnodensity.write_table(tmp_path / f"scores/{name}.csv", read, density)
    both = result(command, mice, tmp_path / "scores")
    assert [night["night"] for night in both["nights"]] == names
    one = result(command, mice / f"{names[0]}.mat", tmp_path / f"scores/{names[0]}.csv")
    assert one["nights"][0]["consensus"] == both["nights"][0]["consensus"]
    assert any("simulated" in note for note in one["nights"][0]["notes"])


def test_a_scoring_beside_signals_counts_before_their_own(mice: Path, tmp_path: Path) -> None:
    file = next(mice.glob("*.mat"))
    shutil.copy(file, tmp_path / "m.mat")
    write(Hypnogram(np.int8([0, 1, 2]), MOUSE_STAGES, 4.0), tmp_path / "m_events.tsv")
    (found,) = find_scorings([tmp_path], AgreeOptions())
    assert [f.path.name for f in found.nights.values()] == ["m_events.tsv"]


def test_a_folder_without_scorings_says_what_it_holds(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text("a b c\n")
    ran = command("agree", tmp_path / "a", tmp_path / "a")
    assert (ran.code, "1 files that are no scorings (notes.txt)" in ran.err) == (65, True)


def lab(root: Path, **values: object) -> Path:
    """Make a folder of one recording, with a scoring without times and an edf.toml."""
    samples = np.zeros(64 * 600, np.float32)
    signal = Signal("EEG1", 64.0, "uV", "eeg", len(samples), lambda: samples)
    head = SignalHeader("EEG1", "", "uV", -200, 200, -32768, 32767, "", 64, 0)
    root.mkdir()
    edf.write(
        root / "m1.edf",
        Recording("m1", "m1", 1, {"EEG1": signal}, start=START),
        [head],
        record_seconds=1.0,
    )
    rows = "".join(f"{k % 3 + 1}\n" for k in range(150))
    (root / "m1.csv").write_text(f"brain_state\n{rows}")
    settings = {"signals": "{subject}.edf", "hypnograms": "{subject}.csv", "epoch_seconds": 4.0}
    store.write_toml(root / "edf.toml", settings | values)
    return root


@pytest.mark.parametrize("values", [{}, {"stages": ["Wake", "NREM", "REM"]}])
def test_edf_toml_says_how_a_scoring_is_read_and_where(
    values: dict, command: Callable, tmp_path: Path
) -> None:
    root = lab(tmp_path / "lab", **values)
    stages = np.tile(np.int8([2, 0, 1]), 50)
    clocked = Hypnogram(stages[10:], MOUSE_STAGES, 4.0, begin=START + timedelta(seconds=40))
    write(clocked, tmp_path / "scored/m1_events.tsv")
    hypnodensity.write_table(tmp_path / "s/m1.csv", clocked, np.zeros((140, 3), np.float32))
    for words in ((root, tmp_path / "s"), (tmp_path / "s/m1.csv", root / "m1.csv")):
        (confusion,) = result(command, *words)["confusions"].values()
        assert np.diag(confusion).tolist() == [47, 47, 46]
        assert np.sum(confusion) == 140


def test_options_count_before_edf_toml(command: Callable, tmp_path: Path) -> None:
    root = lab(tmp_path / "lab", epoch_seconds=1.0)
    ran = command("agree", root / "m1.csv", root / "m1.csv")
    assert (ran.code, "4 s an epoch would fit" in ran.err) == (65, True)
    ran = command("agree", root / "m1.csv", root / "m1.csv", "--epoch-seconds", "4")
    assert ran.code == 0, ran.err


def test_an_edf_toml_of_other_files_is_passed_over(command: Callable, tmp_path: Path) -> None:
    root = lab(tmp_path / "lab")
    (root / "m1.edf").unlink()
    words = (root / "m1.csv", root / "m1.csv", "--same-start")
    assert command("agree", *words).code == 0  # the length of an epoch is known even so
    shutil.copy(root / "m1.csv", root / "other.txt")
    ran = command("agree", root / "other.txt", root / "other.txt", "--same-start")
    assert (ran.code, "does not tell how long an epoch is" in ran.err) == (65, True)
