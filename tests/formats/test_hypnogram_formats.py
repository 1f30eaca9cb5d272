"""Hypnogram formats: round trips through every writable one, and real files."""

import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hypnogram_codes import hypnogram_of
from sleeptools import formats
from sleeptools.errors import DataError
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.hypnogram import Hypnogram

ARCHIVE = Path(__file__).parents[1] / "data" / "archive" / "hypnograms-1"

SAME = {r: r for r in stages.REASONS[1:]}
TIMED = {  # format and file: what each reason for having no stage reads back as
    ("edf", "h.edf"): SAME,
    ("bids", "h_events.tsv"): SAME,
    ("luna", "h.annot"): SAME,
    ("usleep", "h.ids"): SAME | {"movement": "unknown"},
    ("usleep", "h.tsv"): SAME | {"movement": "unknown"},
}
UNTIMED = {
    ("luna", "h.eannot"): SAME | {"unannotated": "unknown"},
    ("usleep", "h.hyp"): SAME | {"movement": "unknown"},
    ("yasa", "h.csv"): SAME | {"unannotated": "unknown"},
    ("yasa", "h.txt"): SAME | {"unannotated": "unknown"},
    ("accusleepy", "h.csv"): dict.fromkeys(SAME, "unknown"),
}
ONLY = {"usleep": [stages.HUMAN_STAGES], "accusleepy": [stages.MOUSE_STAGES]}


def cases(files: dict[tuple[str, str], dict[str, str]]) -> list:
    return [
        pytest.param(names, to, file, reasons, id=f"{to}-{file}-{names[0]}")
        for (to, file), reasons in files.items()
        for names in ONLY.get(to, [stages.HUMAN_STAGES, stages.MOUSE_STAGES])
    ]


CODES = some.lists(some.integers(-3, 4), min_size=1, max_size=40)
SECONDS = some.sampled_from([1.0, 2.5, 4.0, 20.0, 30.0, 60.0])
LIGHT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


def by_time(hypnogram: Hypnogram, reasons: dict[str, str] = SAME) -> dict[float, str]:
    """What each epoch is, by its onset; unannotated ones are left out."""
    found = {}
    for i, (s, r) in enumerate(zip(hypnogram.stages, hypnogram.reasons, strict=True)):
        name = hypnogram.names[s] if r == stages.SCORED else reasons[stages.REASONS[r]]
        if name != "unannotated":
            found[round(hypnogram.onset + i * hypnogram.epoch_seconds, 3)] = name
    return found


def read_back(path: Path, written: Hypnogram, to: str) -> Hypnogram:
    scheme = "mouse" if written.names == stages.MOUSE_STAGES and to != "accusleepy" else None
    return formats.read_hypnogram(path, scheme=scheme, epoch_seconds=written.epoch_seconds)


def said(notes: list[str], written: Hypnogram, reasons: dict[str, str], lead_in: int = 0) -> None:
    """The notes name exactly the reasons that do not survive."""
    counts = written.counts()
    counts["unannotated"] += lead_in
    lost = {r for r in reasons if reasons[r] != r and counts[r]}
    assert {r for r in SAME if any(f"{r} is written as" in n for n in notes)} == lost


@pytest.mark.parametrize(("names", "to", "file", "reasons"), cases(TIMED))
@LIGHT
@given(codes=CODES, seconds=SECONDS, onset=some.integers(-200, 200))
def test_formats_with_times(names, to, file, reasons, codes, seconds, onset, tmp_path) -> None:
    """Every epoch comes back at its time, before the recording and off its grid too."""
    written = hypnogram_of(names, [min(c, len(names) - 1) for c in codes], seconds, onset / 2)
    path = tmp_path / file
    if not by_time(written) and to in ("edf", "luna"):
        with pytest.raises(DataError, match="unannotated throughout"):
            formats.write_hypnogram(written, path, to=to)
        return
    notes = formats.write_hypnogram(written, path, to=to)
    found = read_back(path, written, to)
    assert (found.names, found.epoch_seconds) == (names, seconds)
    assert by_time(found) == by_time(written, reasons)
    said(notes, written, reasons)
    tail = len(codes) - max((i for i, c in enumerate(codes) if c != -3), default=0) - 1
    assert any("end is unannotated" in n for n in notes) == (tail > 0 and to in ("edf", "luna"))
    lost = tail if to in ("edf", "luna") else 0
    end = written.onset + (len(written) - lost) * seconds
    assert found.onset + len(found) * seconds == pytest.approx(end)


@pytest.mark.parametrize(("names", "to", "file", "reasons"), cases(UNTIMED))
@LIGHT
@given(codes=CODES, seconds=SECONDS, shift=some.integers(-5, 5))
def test_formats_without_times(names, to, file, reasons, codes, seconds, shift, tmp_path) -> None:
    """A row is an epoch of the recording: the lead-in is written, what lies before is said lost."""
    written = hypnogram_of(names, [min(c, len(names) - 1) for c in codes], seconds, shift * seconds)
    path = tmp_path / file
    if shift + len(codes) <= 0:
        with pytest.raises(DataError, match="ends before the recording begins"):
            formats.write_hypnogram(written, path, to=to)
        return
    notes = formats.write_hypnogram(written, path, to=to)
    found = read_back(path, written, to)
    assert (found.names, found.epoch_seconds, found.onset) == (names, seconds, 0)
    assert len(found) == len(written) + shift  # labelled, unknown and dropped: nothing else
    kept = hypnogram_of(
        names, [-3] * shift + [min(c, len(names) - 1) for c in codes][max(-shift, 0) :], seconds, 0
    )
    assert by_time(found) == by_time(kept, reasons)
    said(notes, kept, reasons)
    dropped = [n for n in notes if "before the recording are left out" in n]
    assert dropped == (
        []
        if shift >= 0
        else [
            f"{(Path(file).suffix == '.eannot' and 'luna .eannot') or to} has no times: "
            f"{-shift * seconds:g} s before the recording are left out"
        ]
    )


@pytest.mark.parametrize(("names", "to", "file", "reasons"), cases(UNTIMED))
def test_an_onset_within_an_epoch_needs_times(names, to, file, reasons, tmp_path: Path) -> None:
    del reasons
    with pytest.raises(DataError, match=r"begins 13 s after .* has no times"):
        formats.write_hypnogram(hypnogram_of(names, [0, 1], 30.0, 13.0), tmp_path / file, to=to)
    assert not list(tmp_path.iterdir())


def test_a_sidecar_tells_length_and_stages(tmp_path: Path) -> None:
    """Wake and REM alone are a mouse's where the sidecar says so, without any option."""
    written = hypnogram_of(stages.MOUSE_STAGES, [0, 0, 2, -3], 2.5, 0)
    formats.write_hypnogram(written, tmp_path / "m_events.tsv")
    found = formats.read_hypnogram(tmp_path / "m_events.tsv")
    assert (found.names, found.epoch_seconds) == (stages.MOUSE_STAGES, 2.5)
    assert found.reasons.tolist() == written.reasons.tolist()
    (tmp_path / "m_events.json").write_text('{"EpochLength": "2.5"}')
    with pytest.raises(DataError, match=r"m_events.json: .* EpochLength"):
        formats.read_hypnogram(tmp_path / "m_events.tsv")


def test_epochs_of_one_length_tell_it(tmp_path: Path) -> None:
    for to, file in TIMED:
        if to != "usleep":
            written = hypnogram_of(stages.MOUSE_STAGES, [0, 1, 2, -3, 1], 4.0, 0)
            formats.write_hypnogram(written, tmp_path / file, to=to)
            assert by_time(formats.read_hypnogram(tmp_path / file)) == by_time(written)


# --- real files -----------------------------------------------------------------------------------


def test_the_real_noxturnal_export(real_data: Path) -> None:
    """Counted here by the words of the file, without the reader."""
    path = real_data / "noxturnal/noxturnal_events_example_unicode.csv"
    found = formats.read_hypnogram(path)
    words = [line.split(",")[2] for line in path.read_text("utf-16").splitlines()[2:]]
    names = ("Éveil", "N1", "N2", "N3", "REM")
    assert [found.counts()[n] for n in stages.HUMAN_STAGES] == [words.count(w) for w in names]
    assert sum(words.count(w) for w in names) == 1358
    assert found.begin == datetime(2016, 1, 15, 22, 30)
    assert len(found) == (12 * 3600 + 28 * 60 + 30) / 30  # to 10:58:30, with four gaps
    assert found.counts()["unannotated"] == 1 + 73 + 19 + 46


def test_real_hypnograms_through_every_format(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "sleep-edf/hypnograms").glob("*.edf"))
    assert len(files) == 16
    for source in files[::3]:
        whole = formats.read_hypnogram(source)
        for (to, file), reasons in {**TIMED, **UNTIMED}.items():
            if to == "accusleepy":
                continue
            formats.write_hypnogram(whole, tmp_path / file, to=to)
            found = formats.read_hypnogram(tmp_path / file)
            assert by_time(found) == by_time(whole, reasons), (source.name, file)


def test_real_letters_agree(real_data: Path) -> None:
    """The set's letters were taken from these files by another program."""
    rows = (real_data / "sleep-edf/sc_stage_letters.csv").read_text().splitlines()
    letters = dict(r.split(",") for r in rows)
    code = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "?": -1}
    files = sorted((real_data / "sleep-edf/hypnograms").glob("SC*.edf"))
    assert len(files) == 10
    for path in files:
        found = formats.read_hypnogram(path)
        wanted = [code[c] for c in next(v for k, v in letters.items() if k[:6] == path.name[:6])]
        kept = found.stages[found.reasons != stages.MOVEMENT]
        assert kept[: len(wanted)].tolist() == wanted


def test_real_seconds_per_text(real_data: Path) -> None:
    """Counted here from the bytes of all 16 files, without the reader."""
    tal = re.compile(rb"\+(\d+)\x15(\d+)\x14([^\x14]+)\x14")
    for path in sorted((real_data / "sleep-edf/hypnograms").glob("*.edf")):
        seconds: Counter[str] = Counter()
        for _, duration, text in tal.findall(path.read_bytes()):
            seconds[label_schemes.EDF_TEXTS.get(text.decode(), "other")] += int(duration)
        counts = formats.read_hypnogram(path).counts()
        for name in (*stages.HUMAN_STAGES, "unknown", "movement"):
            assert counts[name] * 30 == seconds[name], (path.name, name)


def test_written_formats_stay_readable(tmp_path: Path) -> None:
    """Files of the first version of every writer, kept in the archive."""
    every = sorted(p for p in ARCHIVE.iterdir() if p.suffix != ".json")
    assert len(every) == len(TIMED) + len(UNTIMED)
    codes = {"human": [0, 1, 2, 3, 4, -1, -2, 0], "mouse": [0, 1, 2, -1, -2, 0]}
    table = {to: reasons for (to, _), reasons in {**TIMED, **UNTIMED}.items()}
    for path in every:
        to, _, file = path.name.partition("-")
        species = "mouse" if to == "accusleepy" else "human"
        names, seconds = (
            (stages.MOUSE_STAGES, 4.0) if to == "accusleepy" else (stages.HUMAN_STAGES, 30.0)
        )
        written = hypnogram_of(names, codes[species], seconds, 0)
        found = formats.read_hypnogram(path, epoch_seconds=seconds)
        assert by_time(found) == by_time(written, table[to]), path.name
        again = tmp_path / file
        formats.write_hypnogram(written, again, to=to)
        assert again.read_bytes() == path.read_bytes(), path.name
