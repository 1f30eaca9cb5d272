"""`inspect FOLDER`: a row for each night, totals, files that belong to nobody, bad ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sleeptools import store
from sleeptools.commands.inspect import inspect_folder
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError
from sleeptools.store import batch

SIMULATED = ("sleep-edf", "isruc", "slumbernet", "kjaerby", "edf")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("nights") / "raw", subjects=2, hours=0.5)


@pytest.fixture
def raw(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "raw"))


def folder_facts(command, *words: object) -> dict:
    (facts,) = json.loads(command("inspect", *words, "--json").out)
    return facts


@pytest.mark.parametrize("name", SIMULATED)
def test_every_data_set_has_a_row_a_night(command, tmp_path: Path, name: str) -> None:
    raw = simulate(name, tmp_path / "raw", subjects=2, hours=0.5)
    ran = command("inspect", "raw")
    assert ran.code == 0, ran.err
    head, signals, columns, first, second, total, *rest = ran.out.splitlines()
    assert head.startswith(f"raw: {name}, 2 nights of 2 subjects, 1.0 h, ")
    assert signals.startswith("signals: ")
    assert columns.split()[:4] == ["night", "signals", "scoring", "ch"]
    facts = folder_facts(command, raw)
    assert [line.split()[0] for line in (first, second)] == [
        night["recording"] for night in facts["nights"]
    ]
    assert total.split()[:3] == ["total", "1.0", "h"]
    assert not [line for line in rest if line.startswith("belongs")]
    for night in facts["nights"]:
        assert sum(night["stages"].values()) > 0
        assert night["spans"]["signals"]
        assert night["spans"]["scoring"]
        assert night["readable"]
        assert all(set(s["quality"]) for s in night["signals"])
    assert facts["unmatched"] == facts["absent"] == []


def test_the_spans_are_those_that_convert_prints(command, raw: Path) -> None:
    said = command("convert", "sleep-edf", raw, "recordings").err
    for folder in (raw, "recordings"):
        facts = folder_facts(command, folder)
        for night in facts["nights"]:
            spans = night["spans"]
            assert f"scoring {spans['scoring']} on signals {spans['signals']}" in said
    assert facts["data_set"] == "sleeptools-recordings"


def test_totals_are_sums_of_the_rows(raw: Path) -> None:
    ((facts,), errors) = inspect_folder(raw)
    assert errors == []
    totals, nights = facts["totals"], facts["nights"]
    assert (totals["nights"], totals["subjects"], totals["hours"]) == (2, 2, 1.0)
    for stage, count in totals["stages"].items():
        assert count == sum(n["stages"][stage] for n in nights)
    unscored = {"unknown", "movement", "unannotated"}
    assert totals["scored_epochs"] == sum(
        n for stage, n in totals["stages"].items() if stage not in unscored
    )


def test_a_bad_file_hides_no_other_night(command, raw: Path) -> None:
    path = raw / "SC4001E0-PSG.edf"
    path.write_bytes(path.read_bytes()[:200_000])
    ran = command("inspect", "raw")
    assert ran.code == 65
    assert "1 of 2 nights cannot be read" in ran.err
    assert "SC4011  " in ran.out
    assert "problem: SC4001: SC4001E0-PSG.edf: number of data records" in ran.out
    assert "  cure: fetch or export it again; --allow-truncated takes what is there" in ran.out
    facts = folder_facts(command, raw)
    bad, good = facts["nights"]
    assert (bad["readable"], good["readable"]) == (False, True)
    assert good["problems"] == []


def test_signals_are_shown_where_the_scoring_is_refused(raw: Path) -> None:
    scoring = raw / "SC4001EC-Hypnogram.edf"
    scoring.write_bytes(scoring.read_bytes().replace(b"Sleep stage W", b"Sleep stage X"))
    ((facts,), errors) = inspect_folder(raw)
    night = facts["nights"][0]
    assert len(errors) == 1
    assert not night["readable"]
    assert len(night["signals"]) == 7
    assert night["spans"]["signals"]
    assert night["stages"] == {}
    assert night["problems"][0]["code"] == "HYP-TEXT"
    assert night["problems"][0]["cure"]


def test_what_belongs_to_no_night_is_named(command, raw: Path) -> None:
    shutil.copy(raw / "SC4001E0-PSG.edf", raw / "copy.EDF")
    (raw / "scores.txt").write_text("W\nN1\n")
    (raw / "notes.txt").write_text("bought new electrodes\n")
    ran = command("inspect", raw)
    assert ran.code == 0
    named = [line for line in ran.out.splitlines() if line.startswith("belongs to no night")]
    assert named == ["belongs to no night: copy.EDF", "belongs to no night: scores.txt"]


def test_recordings_that_the_set_lists_and_the_folder_lacks(command, raw: Path) -> None:
    store.write_text(raw / "RECORDS", "SC4001E0-PSG.edf\nSC4011E0-PSG.edf\nSC4021E0-PSG.edf\n")
    ran = command("inspect", raw)
    assert "the data set lists 1 recording that are not here: SC4021" in ran.out
    assert folder_facts(command, raw)["absent"] == ["SC4021"]


def test_a_scoring_without_signals_says_what_is_expected(command, raw: Path) -> None:
    (raw / "SC4001E0-PSG.edf").unlink()
    ran = command("inspect", raw)
    assert ran.code == 65
    assert "cure: expected SC4ssNE0-PSG.edf with SC4ssNEC-Hypnogram.edf" in ran.out


def test_other_signals_than_most_nights_are_noted(tmp_path: Path) -> None:
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=3, hours=0.5)
    path = raw / "SC4001E0-PSG.edf"
    data = bytearray(path.read_bytes())
    data[256 + 16 * 5 : 256 + 16 * 6] = b"Light           "
    path.write_bytes(data)
    ((facts,), _) = inspect_folder(raw)
    assert facts["nights"][0]["notes"].endswith(
        "unlike most nights it lacks Temp rectal at 1 Hz and has Light at 1 Hz"
    )
    assert not any("unlike" in n["notes"] for n in facts["nights"][1:])


def test_poor_signals_are_counted_with_a_cure(command, raw: Path) -> None:
    path = raw / "SC4001E0-PSG.edf"
    data = bytearray(path.read_bytes())
    size = int(data[184:192])
    record = (len(data) - size) // int(data[236:244])
    per_record = int(data[256 + 7 * 216 : 256 + 7 * 216 + 8])
    for k in range(4):  # the first signal of four records of 30 s
        data[size + k * record : size + k * record + 2 * per_record] = bytes(2 * per_record)
    path.write_bytes(data)
    ran = command("inspect", raw)
    assert ran.code == 0
    row = next(line for line in ran.out.splitlines() if line.startswith("SC4001"))
    assert "4 flat" in row
    assert row.split()[-1] == "1"
    assert "problem: SC4001: EEG Fpz-Cz: 4 of 60 epochs flat" in ran.out
    assert "  cure: --quality exclude leaves such epochs out" in ran.out


def test_a_folder_of_no_data_set_has_a_row_a_file_and_proposes_a_draft(
    command, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / "a").mkdir(parents=True)
    shutil.copy(whole / "SC4001E0-PSG.edf", folder / "a/one.edf")
    shutil.copy(whole / "SC4001EC-Hypnogram.edf", folder / "a/one scored.edf")
    (folder / "two.txt").write_text("W\nN1\n")
    (folder / "bad.edf").write_bytes(b"nonsense")
    ran = command("inspect", "mine")
    assert ran.code == 65
    assert "1 of 4 files cannot be read" in ran.err
    assert "hint: mine is no data set: 'sleeptools inspect mine --draft'" in ran.err
    assert ran.out.startswith("mine: no data set, 4 files, ")
    rows = {line[:17].strip() for line in ran.out.splitlines()}
    assert {"a/one scored.edf", "a/one.edf", "bad.edf", "two.txt"} <= rows
    assert "problem: bad.edf: not a file of a known format" in ran.out


def test_one_scheme_of_numbers_for_the_files_of_no_data_set(command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("0\n1\n2\n")
    assert command("inspect", "mine").code == 65
    facts = folder_facts(command, "mine", "--scheme", "yasa")
    assert facts["nights"][0]["stages"]["N1"] == 1


def test_settings_of_scorings_are_refused_where_the_data_set_has_them(command, raw: Path) -> None:
    ran = command("inspect", raw, "--scheme", "yasa")
    assert ran.code == 2
    assert "--scheme is for single files; the data set sleep-edf says" in ran.err
    assert command("inspect", raw, "--scheme", "yasa", "--details").code == 0


def test_bad_settings_of_the_folder_are_an_error(command, tmp_path: Path) -> None:
    raw = simulate("edf", tmp_path / "raw", subjects=1, hours=0.5)
    (raw / "edf.toml").write_text('signal = "x"\n')
    ran = command("inspect", raw)
    assert ran.code == 65
    assert "edf.toml" in ran.err
    assert ran.out == ""


def test_details_are_those_of_every_file(command, raw: Path) -> None:
    detailed = json.loads(command("inspect", raw, "--details", "--json").out)
    assert [Path(f["path"]).name for f in detailed] == sorted(p.name for p in raw.glob("*.edf"))
    path = raw / "SC4001E0-PSG.edf"
    (alone,) = json.loads(command("inspect", path, "--json").out)
    assert alone in detailed


def test_an_ignored_channel_is_in_no_row(command, raw: Path) -> None:
    facts = folder_facts(command, raw, "--ignore-channel", "Temp rectal")
    for night in facts["nights"]:
        assert len(night["signals"]) == 6
        assert night["ignored_channels"] == ["Temp rectal"]
    path = raw / "SC4001E0-PSG.edf"
    (alone,) = json.loads(command("inspect", path, "--json", "--ignore-channel", "Temp rectal").out)
    assert len(alone["signals"]) == 6
    for source in (raw, path):
        wrong = command("inspect", source, "--ignore-channel", "Tmep")
        assert wrong.code == 65
        assert "no recording has a signal 'Tmep' to be left out" in wrong.err


def test_jobs_change_nothing(raw: Path) -> None:
    path = raw / "SC4001E0-PSG.edf"
    path.write_bytes(path.read_bytes()[:200_000])
    steps: list[batch.FinishedItem] = []
    one, one_errors = inspect_folder(raw)
    two, two_errors = inspect_folder(raw, None, steps.append, jobs=2)
    assert one == two
    assert [(str(e), e.hint, e.code) for e in one_errors] == [
        (str(e), e.hint, e.code) for e in two_errors
    ]
    assert sorted(s.id for s in steps) == ["SC4001", "SC4011"]
    assert [s.failed for s in sorted(steps, key=lambda s: s.id)] == [True, False]


def test_a_changed_recording_of_ours_is_named(command, raw: Path, tmp_path: Path) -> None:
    assert command("convert", "sleep-edf", raw, "recordings").code == 0
    path = tmp_path / "recordings/SC4001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ran = command("inspect", "recordings")
    assert ran.code == 65
    assert "problem: SC4001: " in ran.out
    assert "SC4011  " in ran.out


def test_hostile_names_reach_no_terminal_raw(command, raw: Path) -> None:
    path = raw / "SC4001E0-PSG.edf"
    data = bytearray(path.read_bytes())
    data[256:272] = b"\x1b[31m[bold]\x07x    "
    path.write_bytes(data)
    shutil.copy(path, raw / "ev\x1bil.edf")
    ran = command("inspect", raw)
    assert "\x1b" not in ran.out + ran.err
    assert "ev\\x1bil.edf" in ran.out


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits_a_terminal(whole: Path, columns: int) -> None:
    """In a pseudo-terminal of that width no row is broken."""
    import pty

    code = "from sleeptools.cli import main; import sys; sys.argv = ['x', 'inspect', 'raw']; main()"
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        cwd=whole.parent,
        env=os.environ | {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"},
    ) as process:
        os.close(follower)
        text = b""
        while True:
            try:
                text += os.read(leader, 65536)
            except OSError:
                break
    assert process.returncode == 0
    lines = text.decode().replace("\r", "").splitlines()
    table = [line for line in lines if line.lstrip().startswith(("night", "SC4", "total"))]
    assert len(table) == 4
    assert len({len(line) for line in table}) == 1
    assert len(table[0]) <= columns


def test_no_signal_of_a_name_is_not_said_of_a_folder_that_failed(raw: Path) -> None:
    """What failed is said, not that its channel is missing."""
    for path in raw.glob("*-PSG.edf"):
        path.write_bytes(b"nonsense")
    _, errors = inspect_folder(raw, ignore_channels=["X"])
    assert len(errors) == 2
    assert all(isinstance(e, DataError) for e in errors)


def test_a_cure_of_many_problems_is_told_once(command, tmp_path: Path) -> None:
    for subject in (0, 1, 2):
        (tmp_path / f"raw/SC40{subject}1EC-Hypnogram.edf").parent.mkdir(exist_ok=True)
        (tmp_path / f"raw/SC40{subject}1EC-Hypnogram.edf").write_bytes(b"x")
    ran = command("inspect", "raw")
    assert ran.code == 65
    assert ran.out.count("problem: ") == 3
    assert ran.out.count("  cure: expected SC4ssNE0-PSG.edf") == 1
