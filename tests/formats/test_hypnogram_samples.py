"""Hypnograms as other programs write them: read by content, and refused with one clear error."""

import itertools
from datetime import datetime, time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from hypnogram_codes import hypnogram_of
from sleeptools import formats, registry
from sleeptools.errors import DataError, UsageError

XML = '<?xml version="1.0" encoding="UTF-8" standalone="no"?>'
NSRR = (
    XML
    + """
<PSGAnnotation><SoftwareVersion>Compumedics</SoftwareVersion><EpochLength>30</EpochLength>
<ScoredEvents>
<ScoredEvent><EventType/><EventConcept>Recording Start Time</EventConcept><Start>0</Start>
<Duration>210.0</Duration><ClockTime>01.01.85 23.58.30</ClockTime></ScoredEvent>
<ScoredEvent><EventType>Respiratory|Respiratory</EventType><EventConcept>Hypopnea|Hypopnea
</EventConcept><Start>33.5</Start><Duration>12.25</Duration></ScoredEvent>
"""
    + "".join(
        f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}.0</Start><Duration>{duration}.0</Duration></ScoredEvent>"
        for concept, start, duration in (
            ("Wake|0", 0, 30),
            ("Stage 1 sleep|1", 30, 30),
            ("Stage 2 sleep|2", 60, 30),
            ("Stage 3 sleep|3", 90, 30),
            ("Stage 4 sleep|4", 120, 30),
            ("REM sleep|5", 150, 30),
            ("Movement|6", 180, 30),
            ("Unscored|9", 210, 30),
        )
    )
    + "</ScoredEvents></PSGAnnotation>"
)
PROFUSION = XML + (
    "<CMPStudyConfig><EpochLength>30</EpochLength><ScoredEvents></ScoredEvents><SleepStages>"
    + "".join(f"<SleepStage>{n}</SleepStage>" for n in (0, 1, 2, 3, 4, 5, 6, 9))
    + "</SleepStages></CMPStudyConfig>"
)
R_K = [0, 1, 2, 3, 3, 4, -2, -1]
NOXTURNAL = "\r\n".join(
    [
        "Start Time,End Time,Event,Duration,",
        "[],[],[],[s],",
        "15/01/2016 23:59:00,15/01/2016 23:59:30,Wake,30,",
        "15/01/2016 23:59:08,15/01/2016 23:59:09,Notification,1,",
        "15/01/2016 23:59:30,16/01/2016 00:00:00,N1,30,",
        "16/01/2016 00:00:00,16/01/2016 00:00:30,N2,30,",
        "16/01/2016 00:01:00,16/01/2016 00:01:30,N3,30,",
        "16/01/2016 00:01:30,16/01/2016 00:02:00,REM,30,",
        "",
    ]
)
VISBRAIN = (
    "*Duration_sec\t300.0\n*Datafile\tnight.edf\nWake\t60.0\nN1\t90\nN2\t150.0\nREM\t240\n"
    "Art\t270\n"
)
FILES = {  # name: content, options, stages (reasons below 0), begin
    "nsrr": (NSRR, {}, R_K, time(23, 58, 30)),
    "profusion": (PROFUSION, {}, R_K, None),
    "noxturnal": (NOXTURNAL, {}, [0, 1, 2, -3, 3, 4], datetime(2016, 1, 15, 23, 59)),
    "visbrain": (VISBRAIN, {}, [0, 0, 1, 2, 2, 4, 4, 4, -2, -3], None),
    "labels": ("W\nN1\nS2\nstage 4\nREM\nMT\n?\n\n\n", {}, [0, 1, 2, 3, 4, -2, -1], None),
    "labels numbers": ("0\n1\n2\n3\n5\n\n", {"scheme": "isruc"}, [0, 1, 2, 3, 4], None),
    "yasa": (
        "Time,Stage\n2020-01-01 23:59:30,WAKE\n2020-01-02 00:00:00,UNS\n",
        {},
        [0, -1],
        datetime(2020, 1, 1, 23, 59, 30),
    ),
    "yasa numbers": ("Epoch,Stage\n0,-2\n1,-1\n2,4\n", {"scheme": "yasa"}, [-1, -2, 4], None),
    "usleep": ("init,duration,stage\n0,60,W\n60,30,UNKNOWN\n", {}, [0, 0, -1], None),
    "usleep ids": ("0,60,W\n60,30,N2\n120,30,REM\n", {}, [0, 0, 2, -3, 4], None),
    "accusleepy": (
        "brain_state,confidence_score\n1,0.9\n2,1\n3,0.5\n-1,0\n",
        {"epoch_seconds": 2.5},
        [2, 0, 1, -1],
        None,
    ),
    "bids": (
        "onset\tduration\ttrial_type\n-30\t30\tW\n0\t30\tN1\n12.5\t3\tarousal\n",
        {},
        [0, 1],
        None,
    ),
    "luna": (
        "# N1 | stage one\nclass\tinstance\tchannel\tstart\tstop\tmeta\nW\t.\t.\t0\t30\t.\n"
        "spindle\t1\tC3\t12.1\t13.0\t.\nN1\t.\t.\t30\t+30\t.\nR\t.\t.\te:3\te:4\t.\n",
        {},
        [0, 1, 4, 4],
        None,
    ),
    "luna clock": (
        "W\t23:59:30\t...\nN2\t00:00:30\t+60\nR\t00:01:30\t00:02:00\n",
        {},
        [0, 0, 2, 2, 4],
        time(23, 59, 30),
    ),
    "luna unsorted": (
        "N1\t00:00:00\t00:00:30\nW\t23:59:00\t00:00:00\n",
        {},
        [0, 0, 1],
        time(23, 59),
    ),
    "luna elapsed": ("N1\t.\t0+00:01:00\t0+00:01:30\n", {}, [-3, -3, 1], None),
}


def put(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["plain", "bom", "utf-16", "crlf"])
def test_reads_by_content(name: str, form: str, tmp_path: Path) -> None:
    content, options, codes, begin = FILES[name]
    if form == "crlf":
        content = content.replace("\r\n", "\n").replace("\n", "\r\n")
    if form == "utf-16":
        content = content.replace('encoding="UTF-8"', 'encoding="UTF-16"')
    encoding = {"bom": "utf-8-sig", "utf-16": "utf-16"}.get(form, "utf-8")
    path = put(tmp_path / "any.name", content, encoding)
    found = formats.read_hypnogram(path, **options)
    wanted = hypnogram_of(found.names, codes, found.epoch_seconds, found.onset)
    assert found.stages.tolist() == wanted.stages.tolist()
    assert found.reasons.tolist() == wanted.reasons.tolist()
    assert found.begin == begin
    assert found.epoch_seconds == options.get("epoch_seconds", 30)
    assert found.onset == (-30 if name == "bids" else 0)


@pytest.mark.parametrize("name", FILES)
def test_only_one_format_accepts(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "any.name", FILES[name][0])
    head = path.read_bytes()[: formats.HEAD_BYTES]
    modules = {n: registry.load("formats", n) for n in registry.names("formats")}
    assert [n for n, m in modules.items() if m.accepts(path, head)] == [name.split(maxsplit=1)[0]]


@pytest.mark.parametrize("scheme", [None, "isruc"])
def test_numbers_need_a_scheme_that_knows_them(scheme: str | None, tmp_path: Path) -> None:
    path = put(tmp_path / "h.txt", "0\n1\n2\n3\n4\n")
    with pytest.raises(DataError) as caught:
        formats.read_hypnogram(path, scheme=scheme)
    hint = str(caught.value.hint)
    assert "`scheme" in hint
    if scheme is None:
        assert "aasm, yasa, usleep, rk, nsrr" in hint
        assert "isruc" not in hint
    else:
        assert "unknown stage text '4' in scheme isruc" in str(caught.value)


def test_four_is_what_the_scheme_says(tmp_path: Path) -> None:
    path = put(tmp_path / "h.txt", "0\n4\n")
    found = {s: formats.read_hypnogram(path, scheme=s).stages.tolist() for s in ("yasa", "rk")}
    assert found == {"yasa": [0, 4], "rk": [0, 3]}
    with pytest.raises(UsageError, match="unknown scheme 'nonsense'"):
        formats.read_hypnogram(path, scheme="nonsense")


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in itertools.pairwise("abcdefghi"))
    + "]><PSGAnnotation>&i;</PSGAnnotation>"
)
BAD = {  # name: content, message
    "empty": ("", "not a file of a known format"),
    "blank": ("\n\n\n", "not a file of a known format"),
    "text": ("It was a dark night.\n", "not a file of a known format"),
    "blank line": ("W\n\nN1\n", "line 2 is blank"),
    "unknown label": ("W\nX9\n", "label 2: unknown stage text 'X9'"),
    "huge line": ("W\n" + "x" * 3_000_000 + "\n", "unknown stage text 'xxxxxxxxxxxxxxxxxxxxxxxxx"),
    "both species": ("W\nN2\nNREM\n", "stage N2 is none of Wake, NREM, REM"),
    "mouse without length": ("W\nNREM\n", "does not tell how long an epoch is"),
    "decimal comma": ("init\tduration\tstage\n0\t30,0\tW\n", "line 2: '30,0' is not a number"),
    "not a number": ("init\tduration\tstage\n0\tnan\tW\n", "'nan' is not a number"),
    "endless": ("init,duration,stage\n1e300,30,W\n", "lasts from 1e+300 s"),
    "infinite": ("0,30,W\n1" + "0" * 400 + ",30,W\n", "is not a number"),
    "tiny epochs": (NSRR.replace("Length>30", "Length>1e-9"), "an epoch of 1e-09 s"),
    "endless night": (VISBRAIN.replace("300.0", "1e300"), "a recording of 1e+300 s"),
    "huge onset": ("0,30,W\n30000000000,30,W\n", "'W' lasts from 3e+10 s"),
    "cut row": ("0,30,W\n30,3", "line 2 is '30,3'"),
    "overlap": ("0,60,W\n30,30,N1\n", "two different stages on the epochs from 30 s to 60 s"),
    "off the grid": ("0,30,W\n45,30,N1\n", "not a whole number of 30-s epochs"),
    "negative duration": ("class\tstart\tstop\nW\t30\t0\n", "lasts -30 s"),
    "clock among seconds": ("W\t0\t30\nN1\t22:00:00\t+30\n", "rows have times from the start"),
    "seconds among clocks": ("W\t22:00:00\t22:00:30\nN1\t30\t60\n", "rows have clock times"),
    "last ellipsis": ("W\t0\t...\n", "'...' is not a number"),
    "cells": ("onset\tduration\ttrial_type\n0\t30\n", "line 2 has 2 cells, the header 3"),
    "epochs in disorder": ("Epoch,Stage\n0,WAKE\n2,N1\n1,N1\n", "epoch 1 follows 2"),
    "epoch twice": ("Epoch,Stage\n0,WAKE\n0,WAKE\n", "epoch 0 follows 0"),
    "uneven times": (
        "Time,Stage\n2020-01-01 22:00:00,WAKE\n2020-01-01 22:00:30,WAKE\n"
        "2020-01-01 22:02:10,WAKE\n",
        "no whole number of epochs of 30 s",
    ),
    "end before": (VISBRAIN.replace("N1\t90", "N1\t30"), "line 4: the stage ends at 30 s"),
    "past the end": (VISBRAIN.replace("270", "330"), "ends at 330 s, expected 240 to 300"),
    "entity bomb": (BOMB, "declares XML entities"),
    "cut XML": (NSRR[:-40], "not well-formed XML"),
    "unknown concept": (NSRR.replace("REM sleep|5", "Deep|7"), "unknown stage text 'Deep'"),
    "no start": (NSRR.replace("<Start>90.0</Start>", ""), "'' is not a number"),
    "unknown number": (PROFUSION.replace(">9<", ">8<"), "unknown stage text '8' in scheme nsrr"),
    "no stages": (PROFUSION.replace("SleepStage>", "Other>"), "holds no SleepStage"),
    "EpochLength": (PROFUSION.replace("Length>30", "Length>0"), "an epoch of 0 s"),
    "unknown language": (NOXTURNAL.replace("Wake", "Despierto"), "'Despierto' at -30 s fills"),
    "date": (NOXTURNAL.replace("16/01/2016 00:01:00", "16/13/2016 00:01:00"), "are no dates"),
    "summer time": (
        NOXTURNAL.replace("16/01/2016 00:00:30,N2", "16/01/2016 01:00:30,N2"),
        "line 6: 'N2' lasts 30 s, but 3630 s from start to end",
    ),
    "short row": (NOXTURNAL + "16/01/2016 00:02:00\r\n", "expected start, end and event"),
    "only events": ("onset\tduration\ttrial_type\n0\t3\tarousal\n", "holds no sleep stages"),
    "BIDS numbers": ("onset\tduration\ttrial_type\n0\t30\t4\n", "stages are numbers ('4')"),
    "Confidence": ("brain_state\n1\n7\n", "unknown stage text '7' in scheme accusleepy"),
    "no rows": ("brain_state\n", "holds no labels"),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_files_give_one_clear_error(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    with pytest.raises(DataError) as caught:
        formats.read_hypnogram(put(tmp_path / "h.txt", content))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "h.csv", NOXTURNAL.replace("Wake", "Éveil"), "latin-1")
    with pytest.raises(DataError, match=r"byte 0xc9 at \d+ is not utf-8"):
        formats.read_hypnogram(path)
    zeros = tmp_path / "zeros.txt"
    zeros.write_bytes(b"W\n\0\0\0\n")
    with pytest.raises(DataError, match="not a file of a known format"):
        formats.read_hypnogram(zeros)


def refusal(path: Path, options: dict) -> str:
    """What is said against a file, or "" where it is read."""
    try:
        found = formats.read_hypnogram(path, **options)
    except DataError as error:
        return str(error)
    assert len(found) == len(found.stages) == len(found.reasons) > 0
    return ""


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
@given(data=some.data())
@pytest.mark.parametrize("name", FILES)
def test_damage_never_ends_in_a_traceback(name: str, data: some.DataObject, tmp_path: Path) -> None:
    """A piece replaced, cut out or repeated: stages, or an error that says what is wrong."""
    content, options, _, _ = FILES[name]
    start = data.draw(some.integers(0, len(content)))
    stop = min(len(content), start + data.draw(some.integers(0, 12)))
    piece = data.draw(
        some.sampled_from(
            [
                "",
                "\0",
                "\t",
                ",",
                "\n",
                "-",
                "9" * 40,
                "1e308",
                "nan",
                "'",
                '"',
                "\x85",
                "\u2028",
                "&x;",
                "0" * 350 + "1",
                "99:99:99",
                "31/02/2016",
                content[start : stop + 60] * 2,
            ]
        )
    )
    path = put(tmp_path / "h", content[:start] + piece + content[stop:])
    assert len(refusal(path, options)) < 400
