"""Files and subjects: endings in any case, files that nobody took, names of mice, subjects.csv."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from sleeptools import datasets, registry, store
from sleeptools.commands import convert
from sleeptools.datasets import edf, isruc, kjaerby, sleep_edf, slumbernet
from sleeptools.datasets.shared.subjects import look_alike, same_subject, subject_of
from sleeptools.errors import DataError
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording.recording import Recording, Signal, read_recording

BEGAN = datetime(2024, 5, 6, 22, 30)
FORMAT = registry.load("formats", "edf")
HEAD = SignalHeader("A", "", "uV", -200, 200, -32768, 32767, "", 64, 0)


def psg(path: Path) -> None:
    samples = np.zeros(60 * 64, np.float32)
    signals = {"A": Signal("A", 64, "uV", "other", len(samples), lambda: samples)}
    night = Recording("x", "x", 1, signals, start=BEGAN)
    FORMAT.write(path, night, [HEAD], record_seconds=1.0)


def scored(path: Path) -> None:
    FORMAT.write_annotations(path, [(0.0, 60.0, "Sleep stage W")], BEGAN)


def found(root: Path) -> dict[str, tuple[str, int]]:
    return {s.id: (s.subject, s.night) for s in datasets.find_recordings(edf, root)}


def folder(root: Path, *stems: str) -> Path:
    root.mkdir(exist_ok=True)
    for stem in stems:
        psg(root / f"{stem}.edf")
        scored(root / f"{stem}_h.edf")
    names = {"signals": "{subject}.edf", "hypnograms": "{subject}_h.edf"}
    store.write_toml(root / "edf.toml", names)
    return root


@pytest.mark.parametrize("ending", [".EDF", ".Edf"])
def test_endings_in_any_case(tmp_path: Path, ending: str) -> None:
    root = folder(tmp_path, "P1", "P2")
    (root / "P2.edf").rename(root / f"P2{ending}")
    (root / "P2_h.edf").rename(root / f"P2_h{ending}")
    assert list(found(root)) == ["P1", "P2"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_endings_of_published_sets_in_any_case(tmp_path: Path) -> None:
    cassette = touch(tmp_path / "s", "SC4001E0-PSG.EDF", "SC4001EC-Hypnogram.Edf")
    assert [s.problem for s in sleep_edf.find(cassette)] == [""]
    slumber = touch(tmp_path / "b", "m1-256HZ.TXT", "m1-SCO.txt")
    assert [(s.id, s.problem) for s in slumbernet.find(slumber)] == [("m1", "")]
    assert [s.id for s in kjaerby.find(touch(tmp_path / "k", "m1.MAT"))] == ["m1"]
    patients = touch(tmp_path / "subgroupI", "1/1.REC", "1/1_1.TXT", "1/1_2.txt")
    (source,) = isruc.find(patients)
    assert [f.name for f in source.files] == ["1.REC", "1_1.TXT", "1_2.txt"]


@pytest.mark.parametrize("name", ["P3.bdf", "P1.rec", "old.ANNOT", "P1.TXT"])
def test_a_file_that_no_pattern_took_is_named(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path / "raw", "P1")
    (root / name).write_text("W\nN2\n")
    (root / "README.txt").write_text("What this is.\n")
    (root / "._P1.edf").write_text("a resource fork")
    with pytest.raises(DataError, match=f"1 belong to none: {name}$") as caught:
        convert.convert("edf", root, tmp_path / "rec")
    assert caught.value.code == "SET-UNMATCHED"
    said: list[str] = []
    convert.convert("edf", root, tmp_path / "rec", ignore_unmatched=True, log=said.append)
    assert "P1.edf: subject P1, night 1" in said
    assert any(name in line for line in said)
    facts = store.read_json(tmp_path / "rec/manifest.json")
    assert facts["passed over"] == [name]


def test_names_with_letters_of_any_language_and_blanks(tmp_path: Path) -> None:
    root = folder(tmp_path, "Jürgen 2", "Анна", "P 1")
    assert found(root) == {
        "Jurgen_2": ("Jürgen 2", 1),
        "P_1": ("P 1", 1),
        "u410u43du43du430": ("Анна", 1),
    }
    psg(root / "Jurgen 2.edf")
    scored(root / "Jurgen 2_h.edf")
    with pytest.raises(DataError, match="two recordings would be called Jurgen_2"):
        found(root)


@pytest.mark.parametrize(
    "stems",
    [
        ("m1_day1", "m1_day2", "M1-Day3", "m1d4", "m01_day5"),
        ("mouse3-baseline", "mouse3-sd", "mouse3"),
        ("WT01_light", "WT01_dark", "WT01.night2"),
        ("EKyo1-D1", "EKyo1-D2", "EKyo1-20180305"),
        ("20190401_M3", "20190402_M3", "2019-04-03_M3", "sd_M3"),
        ("chr2_590_freq", "chr2_590_base", "chr2_590"),
        ("Alice_baseline", "Alice_recovery"),
        ("WT_light_1", "WT_dark_1"),
        ("m1_1", "m1_2"),
    ],
)
def test_days_of_one_mouse_are_one_mouse(stems: tuple[str, ...], tmp_path: Path) -> None:
    assert len({same_subject(s) for s in stems}) == 1
    sources = kjaerby.find(touch(tmp_path, *(f"{s}.mat" for s in stems)))
    assert len({s.subject for s in sources}) == 1
    assert sorted(s.night for s in sources) == list(range(1, len(stems) + 1))


def test_mice_are_told_apart() -> None:
    stems = ("m1_day1", "m2_day1", "chr2_590_a", "chr2_61_a", "mouse-01-1", "mouse-02-1", "Alice")
    assert len({same_subject(s) for s in stems}) == len(stems)
    assert subject_of("m1_day1") == "m1"
    assert look_alike(["m1_day1", "m1_day2", "m2"]) == [["m1_day1", "m1_day2"]]


def test_the_table_says_who_is_who(tmp_path: Path) -> None:
    root = folder(tmp_path / "raw", "a", "b", "c")
    said: list[str] = []
    convert.convert("edf", root, tmp_path / "rec", log=said.append)
    table = root / "subjects.csv"
    table.write_text("File;Subject;Night\r\na.edf;X y;2\r\nb;X y;\r\nc;Z;\r\n", encoding="utf-16")
    assert found(root) == {"a": ("X y", 2), "b": ("X y", 3), "c": ("Z", 1)}
    convert.convert("edf", root, tmp_path / "rec", log=said.append)
    again = read_recording(tmp_path / "rec/a.safetensors")
    assert (again.subject, again.night) == ("X y", 2)
    assert len({s.stages.tobytes() for s in again.scorings}) == 1
    assert np.isfinite(next(iter(again.signals.values())).samples()).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,subject\na,X\n", "does not say whose 1 recordings are: b.edf"),
        ("file,subject\na,X\nb,X\nc,X\n", "no recording is named 'c'"),
        ("file,subject\na,X\na,Y\nb,X\n", "line 3 names a again"),
        ("file,subject,night\na,X,1\nb,X,1\n", "two recordings are night 1 of subject X"),
        ("file,subject,night\na,X,0\nb,X,1\n", "line 2 is 'a,X,0'"),
        ("file,subject\na,\nb,X\n", "line 2 is 'a,'"),
        ("name,who\na,X\n", "its columns are name, who"),
        ("", "its columns are none"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    root = folder(tmp_path, "a", "b")
    (root / "subjects.csv").write_text(text)
    with pytest.raises(DataError, match=words.replace(".", r"\.")):
        found(root)
