"""`inspect --cross-check`: both readers on good files, on each kind of difference, on refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from edf_plus import write_records
from sleeptools.commands import inspect
from sleeptools.commands.inspect import cross_check, cross_check_file
from sleeptools.commands.simulate import simulate
from sleeptools.errors import UsageError


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=1, hours=0.5)


@pytest.fixture
def psg(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(raw / "SC4001E0-PSG.edf", tmp_path / "night.edf"))


def annotated(path: Path, kind: int = pyedflib.FILETYPE_EDFPLUS) -> Path:
    writer = pyedflib.EdfWriter(str(path), 1, file_type=kind)
    writer.setSignalHeader(0, {"label": "EEG", "dimension": "uV", "sample_frequency": 64})
    writer.writeSamples([np.sin(np.arange(64 * 60.0))])
    writer.writeAnnotation(1.5, 30, "Sleep stage W")
    writer.writeAnnotation(31.5, -1, "Lichts aus, µV")
    writer.close()
    return path


def test_both_readers_agree_on_signals_and_scorings(command, raw: Path) -> None:
    for path in (raw / "SC4001E0-PSG.edf", raw / "SC4001EC-Hypnogram.edf"):
        facts = cross_check_file(path)
        assert facts["agree"] is True
        assert facts["differences"] == []
        assert "samples" in facts["compared"]
        assert facts["reader"] == f"pyedflib {pyedflib.__version__}"
    ran = command("inspect", raw, "--cross-check")
    assert ran.code == 0
    assert ran.out.count("cross-check: both readers agree, ours and pyedflib ") == 2


@pytest.mark.parametrize("kind", [pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS])
def test_annotations_are_compared(tmp_path: Path, kind: int) -> None:
    facts = cross_check_file(annotated(tmp_path / "a.edf", kind))
    assert facts["agree"] is True, facts["differences"]


class Other:
    """pyedflib's reader, with some answers changed."""

    def __init__(self, path: Path, **answers: object) -> None:
        self.reader, self.answers = pyedflib.EdfReader(str(path)), answers

    def __getattr__(self, name: str) -> object:
        return self.answers.get(name, getattr(self.reader, name))

    def readSignal(self, number: int, start: int, size: int, *, digital: bool) -> np.ndarray:  # noqa: N802
        values = self.reader.readSignal(number, start, size, digital=digital)
        if "samples" in self.answers and number == 1:
            k = int(str(self.answers["samples"])) - start
            values[k : k + 3] += 1 if 0 <= k < size else 0
        return values


DIFFERENCES = [
    ({"signals_in_file": 6}, "number of signals", True),
    ({"filetype": 1}, "kind", False),
    ({"starttime_hour": 3}, "start", True),
    ({"starttime_subsecond": 5_000_000}, "start", True),
    ({"getLabel": lambda _: "other"}, "label of signal 1", False),
    ({"getPhysicalDimension": lambda _: "mV"}, "unit of signal 1", False),
    ({"getPhysicalMinimum": lambda _: -1.0}, "physical minimum of 'EEG Fpz-Cz'", True),
    ({"getDigitalMaximum": lambda _: 5}, "digital maximum of 'EEG Fpz-Cz'", True),
    ({"getSampleFrequency": lambda _: 99.0}, "sample rate of 'EEG Fpz-Cz'", True),
    ({"samples": 5000}, "3 samples of 'EEG Pz-Oz', the first at sample 5001", True),
    ({"readAnnotations": lambda: ([0.0], [30.0], ["x"])}, "number of annotations", True),
]


@pytest.mark.parametrize(("answers", "what", "in_data"), DIFFERENCES, ids=lambda v: str(v)[:30])
def test_every_difference_is_told(
    command, psg: Path, monkeypatch: pytest.MonkeyPatch, answers: dict, what: str, in_data: bool
) -> None:
    monkeypatch.setattr(cross_check, "BLOCK", 4096)
    monkeypatch.setattr(cross_check, "_open", lambda path: Other(path, **answers))
    facts = cross_check_file(psg)
    assert facts["agree"] is False
    told = {d["what"]: d for d in facts["differences"]}
    assert told[what]["in_data"] is in_data
    assert told[what]["ours"] != told[what]["theirs"]
    ran = command("inspect", psg, "--cross-check")
    assert what in ran.out
    assert ran.code == (65 if in_data else 0)
    if in_data:
        assert f"the two readers differ in {facts['differences'][0]['what']}" in ran.err
        (described,) = json.loads(command("inspect", psg, "--cross-check", "--json").out)
        assert described["cross_check"]["differences"] == facts["differences"]


def test_a_shifted_annotation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = annotated(tmp_path / "a.edf")
    answers = ([1.5, 31.6], [30.0, -1.0], ["Sleep stage W", "Lichts aus, µV"])
    monkeypatch.setattr(cross_check, "_open", lambda p: Other(p, readAnnotations=lambda: answers))
    (difference,) = cross_check_file(path)["differences"]
    assert difference["what"] == "annotation 2"
    assert difference["theirs"] == "'Lichts aus, µV' at 31.6 s for 0 s"


def test_what_pyedflib_refuses_is_said_with_its_reason(command, psg: Path) -> None:
    data = bytearray(psg.read_bytes())
    data[168:176] = b"03/01/89"
    psg.write_bytes(data)
    facts = cross_check_file(psg)
    assert facts["agree"] is None
    assert "startdate is incorrect" in facts["refused"]
    ran = command("inspect", psg, "--cross-check")
    assert ran.code == 0
    assert f"cross-check: pyedflib {pyedflib.__version__} refuses it: " in ran.out


def test_what_our_reader_refuses_has_a_second_opinion(command, tmp_path: Path, raw: Path) -> None:
    data = bytearray((raw / "SC4001E0-PSG.edf").read_bytes())
    start = 256 + 7 * 104
    data[start : start + 8] = b"1e-400  "  # neither takes it
    (tmp_path / "a.edf").write_bytes(data)
    (tmp_path / "b.edf").write_bytes(bytes(data[:236]) + b"abc     " + bytes(data[244:]))
    ran = command("inspect", "b.edf", "--cross-check")
    assert ran.code == 65
    assert "b.edf: pyedflib refuses it, too: " in ran.err
    assert 'error: b.edf: number of data records is "abc"' in ran.err


def test_other_formats_have_nothing_to_check(command, tmp_path: Path, psg: Path) -> None:
    (tmp_path / "h.txt").write_text("W\nN1\n")
    ran = command("inspect", "h.txt", "--cross-check")
    assert ran.code == 2
    assert "--cross-check is for EDF and BDF files" in ran.err
    with pytest.raises(UsageError):
        inspect.inspect_all([tmp_path / "h.txt", psg], cross_check=True, log=lambda _: None)
    both = json.loads(command("inspect", tmp_path, "--cross-check", "--json").out)
    assert [f["cross_check"] and f["cross_check"]["agree"] for f in both] == [None, True]


def test_real_files(real_data: Path) -> None:
    agree = 0
    for path in sorted((real_data / "edf-samples").iterdir()):
        if "zero-data-records" in path.name:  # both refuse it
            continue
        facts = cross_check_file(path)
        assert facts["differences"] == [], path.name
        agree += facts["agree"] is True
    assert agree >= 12


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 1 GB is compared with 300 MB of addresses to spare."""
    fields = [("EEG", 16), ("", 80), ("uV", 8), (-500, 8), (500, 8), (-32768, 8), (32767, 8)]
    fields += [("", 80), (4500, 8), ("", 32)]
    head = f"{'0':8}{'X':80}{'X':80}01.01.2200.00.00{256 * 5:<8}{'':44}{28800:<8}{1:<8}{4:<4}"
    head += "".join(f"{value:<{width}}" * 4 for value, width in fields)
    path = tmp_path / "large.edf"
    with path.open("wb") as file:
        file.write(head.encode())
        file.truncate(256 * 5 + 28800 * 4 * 4500 * 2)
    code = (
        "import re, resource, sys; from pathlib import Path; import pyedflib;"
        "from sleeptools.commands.inspect import cross_check_file;"
        "used = int(re.search(r'VmSize:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]);"
        "limit = (used << 10) + (300 << 20);"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        "facts = cross_check_file(Path(sys.argv[1])); assert facts['agree'], facts"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_annotations_of_a_file_that_is_not_marked_are_a_signal_to_pyedflib(tmp_path: Path) -> None:
    path = write_records(
        tmp_path / "n.edf",
        {"EEG": np.arange(640).reshape(10, 64)},
        [str(k) for k in range(10)],
        kind="EDF C",
        events=[(0.0, 2.0, "Sleep stage W")],
    )
    facts = cross_check_file(path)
    assert {d["what"]: d["in_data"] for d in facts["differences"]} == {
        "kind": False,
        "number of annotations": False,
    }
