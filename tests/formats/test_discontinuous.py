"""EDF+D: records lie where their stamps say, gaps cost nothing, and no epoch is cut across one."""

import json
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from edf_plus import write_records
from sleeptools import formats
from sleeptools.commands.inspect import inspect
from sleeptools.datasets.edf import find, read
from sleeptools.errors import DataError
from sleeptools.formats import edf
from sleeptools.preprocessing import epoching, presets
from sleeptools.preprocessing.epochs import read_epoch_file
from sleeptools.preprocessing.recording_epochs import write_recording_epochs
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, read_recording, write_recording

START = datetime(2020, 3, 1, 22)
DAY = 86400.0
LIGHT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


def preset(**changes: object) -> presets.Preset:
    values: dict[str, Any] = {
        "name": "own",
        "data_set": "edf",
        "sample_rate": 64.0,
        "epoch_seconds": 4.0,
        "montage": ["EEG", "EMG"],
        "trim": {"rule": "none"},
    }
    return presets.resolve(values | changes, source="test")


def noise(records: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, (records, size))


def ones(path: Path, stamps: list[str], kind: str = "EDF+D", length: str = "1") -> Path:
    return write_records(
        path, {"EEG": noise(len(stamps), 64)}, stamps, kind=kind, record_seconds=length
    )


def cut(
    wanted: presets.Preset, recording: Recording, onsets: np.ndarray, folder: Path
) -> epoching.CutEpochs:
    signals = montage.pick(recording, wanted.montage, wanted.assume_unit)
    return epoching.cut_epochs(wanted, recording, signals, onsets, folder)


Length = tuple[str, float, int, int]
"""Length of a record as the header has it, and truly, s; its samples; and records in a row."""
LENGTHS: tuple[Length, ...] = (
    ("1", 1.0, 64, 3),
    ("0.5", 0.5, 32, 6),
    ("6", 6.0, 384, 1),
    ("0.195313", 0.1953125, 12, 16),
)


@pytest.mark.parametrize(("kind", "quality"), [("EDF", "count"), ("BDF", "exclude")])
@LIGHT
@given(
    length=some.sampled_from(LENGTHS),
    runs=some.lists(some.booleans(), min_size=15, max_size=25).filter(any),
)
def test_kept_epochs_have_the_samples_of_the_whole_file(
    kind: str, quality: str, length: Length, runs: list[bool], tmp_path: Path
) -> None:
    """Whatever records are left out, an epoch is as in the whole file, or touches a gap."""
    text, seconds, size, repeats = length
    kept = np.repeat(runs, repeats)
    numbers = np.flatnonzero(kept)
    signals = {"EEG": noise(len(kept), size), "EMG": noise(len(kept), size // 4, 1)}
    stamps = [f"{k * seconds:.7f}".rstrip("0").rstrip(".") for k in range(len(kept))]
    own = {label: s[numbers] for label, s in signals.items()}
    one, two = (
        formats.read(write_records(tmp_path / n, s, t, kind=kind + n[:2], record_seconds=text))
        for n, s, t in (
            ("+C.edf", signals, stamps),
            ("+D.edf", own, [stamps[k] for k in numbers]),
        )
    )
    first = numbers[0] * seconds
    assert two.start == START + timedelta(seconds=first)
    for label in ("EEG", "EMG"):
        rate = one.signals[label].sample_rate
        wanted = preset(sample_rate=rate, quality=quality, montage=[label])
        end = epoching.scorable_seconds(wanted, [two.signals[label]]) + first
        onsets = np.arange(np.ceil(first / 4) * 4, end - 4 + 1e-6, 4.0)
        found = cut(wanted, two, onsets - first, tmp_path)
        reference = cut(wanted, one, onsets, tmp_path)
        assert np.array_equal(found.values[:], reference.values[found.kept])
        bounds = zip(
            (onsets + 1e-9) // seconds, np.ceil((onsets + 4 - 1e-9) / seconds), strict=True
        )
        recorded = [bool(kept[int(a) : int(b)].all()) for a, b in bounds]
        assert found.kept.tolist() == recorded
        assert [r == "gap" for r in found.reasons] == [not k for k in recorded]


PROCESSING = [
    {"do": "band-pass", "low_hz": 0.3, "high_hz": 20.0},
    {"do": "notch", "hz": 25.0},
]


@LIGHT
@given(
    lengths=some.lists(some.integers(1, 40), min_size=2, max_size=6),
    pauses=some.lists(some.floats(1.1, 5000), min_size=6, max_size=6),
)
def test_filters_end_at_a_gap(lengths: list[int], pauses: list[float], tmp_path: Path) -> None:
    """The epochs of every stretch are those of the stretch as a file of its own."""
    records = sum(lengths)
    signals = {"EEG": noise(records, 100), "EMG": noise(records, 64)}
    bounds = np.cumsum([0, *lengths])
    begins = [round(float(b + sum(pauses[:i])), 2) for i, b in enumerate(bounds[:-1])]
    stamps = [f"{b + k:.2f}" for b, n in zip(begins, lengths, strict=True) for k in range(n)]
    stamps = [s.rstrip("0").rstrip(".") for s in stamps]
    night = formats.read(write_records(tmp_path / "d.edf", signals, stamps))
    wanted = preset(processing=PROCESSING)
    begins = night.signals["EEG"].stretches.begins.tolist()
    assert len(begins) == len(lengths)
    onsets = [
        np.arange(np.ceil(b / 4) * 4, b + n - 4 + 1e-6, 4.0)
        for b, n in zip(begins, lengths, strict=True)
    ]
    found = cut(wanted, night, np.concatenate(onsets), tmp_path)
    assert found.kept.all()
    alone = []
    for i, at in enumerate(onsets):
        own = {n: s[bounds[i] : bounds[i + 1]] for n, s in signals.items()}
        path = write_records(
            tmp_path / "c.edf", own, [str(k) for k in range(lengths[i])], kind="EDF+C"
        )
        alone.append(cut(wanted, formats.read(path), at - begins[i], tmp_path).values[:])
    assert np.array_equal(found.values[:], np.concatenate(alone))


STAGES = ("W", "N1", "N2", "N3", "R")


@LIGHT
@given(
    shift=some.integers(-200_000, 200_000),
    first=some.integers(0, 5000),
    kept=some.lists(some.booleans(), min_size=40, max_size=80).filter(lambda k: sum(k) > 25),
    own=some.booleans(),
)
def test_labels_move_with_the_samples(
    shift: int, first: int, kept: list[bool], own: bool, tmp_path: Path
) -> None:
    """Every sample holds the number of its epoch: the label of an epoch is that of its samples."""
    start = START + timedelta(seconds=shift)
    numbers = np.flatnonzero(np.repeat(kept, 2))
    values = np.repeat(numbers[:, None] // 2 + 1, 64, axis=1)
    values = values * 10 + np.tile([0, 3000], 32) * np.ones_like(values)  # no epoch is flat
    stamps = [str(first + 2 * k) for k in numbers]
    events = [(4.0 * k, 4.0, f"Sleep stage {STAGES[(k + 1) % 5]}") for k in range(len(kept))]
    root = tmp_path / "raw"
    root.mkdir(exist_ok=True)
    inside = [(onset + first, length, text) for onset, length, text in events] if own else []
    write_records(
        root / "a.edf",
        {"EEG": values, "EMG": values},
        stamps,
        record_seconds="2",
        start=start,
        events=inside,
    )
    if not own:
        edf.write_annotations(root / "a-h.edf", events, start + timedelta(seconds=first))
    (root / "edf.toml").write_text(
        'signals = "{subject}.edf"\nepoch_seconds = 4\nleast_overlap = 0\nhypnograms = '
        + ('"{subject}.edf"' if own else '"{subject}-h.edf"')
    )
    night = read(find(root)[0])
    assert night.start == start + timedelta(seconds=first + 2 * int(numbers[0]))
    write_recording(tmp_path / "rec.safetensors", night, {})
    again = read_recording(tmp_path / "rec.safetensors")
    assert again.gaps == night.gaps
    wanted = preset(sample_rate=32.0)
    write_recording_epochs(wanted, again, tmp_path / "a.safetensors", {})
    file = read_epoch_file(tmp_path / "a.safetensors")
    count = np.rint(file.signals[:, 0, ::2].mean(-1)).astype(int)
    assert count.tolist() == [k + 1 for k in range(len(kept)) if kept[k]]
    assert file.stages.tolist() == (count % 5).tolist()
    assert (file.signals[:, 0, ::2] == count[:, None]).all()  # no epoch holds samples of two
    between = kept[numbers[0] // 2 : numbers[-1] // 2]
    assert file.facts["excluded"].get("gap", 0) == between.count(False)


# --- what stamps may be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "gaps"),
    [
        (["0", "1", "2"], ()),
        (["0", "1.004", "1.997", "3.003"], ()),  # within half a sample of 1/64 s
        (["600", "601", "700"], ((2.0, 100.0),)),
        (["-1", "0", "10"], ((2.0, 11.0),)),
        (["0", "1.02", "2.02"], ((1.0, 1 + 1 / 64),)),
        (["0", "1.5", "3"], ((1.0, 1.5), (2.5, 3.0))),
        (["0", "5.123", "6.123"], ((1.0, round(5.123 * 64) / 64),)),
    ],
)
def test_gaps_lie_where_the_stamps_say(
    stamps: list[str], gaps: tuple[tuple[float, float], ...], tmp_path: Path
) -> None:
    night = formats.read(ones(tmp_path / "d.edf", stamps))
    assert night.gaps == gaps
    assert night.seconds == pytest.approx(len(stamps) + sum(b - a for a, b in gaps))
    assert night.start == START + timedelta(seconds=float(stamps[0]))


@pytest.mark.parametrize(
    ("stamps", "code", "text"),
    [
        (["0", "1", "1.5"], "EDF-OVERLAP", "record 3 starts at 1.5 s, before record 2 ends at 2 s"),
        (["0", "10", "5"], "EDF-OVERLAP", "record 3 starts at 5 s, before record 2 ends at 11 s"),
        (["0", "10", "10"], "EDF-OVERLAP", "record 3 starts at 10 s"),
        (["5", "0", "1"], "EDF-OVERLAP", "record 2 starts at 0 s, before record 1 ends at 6 s"),
        (["0", "1", "31536002"], "EDF-GAP", "a gap of 31536000 s from 2 s on"),
        (["0", "9" * 400], "EDF-GAP", "record 2 starts at inf s, a gap of inf s"),
        (["9" * 400, "1"], "EDF-GAP", "record 1 starts at inf s"),
        (["1" + "0" * 15], "EDF-GAP", "record 1 starts at 1e+15 s"),
        (["0", "1", ""], "EDF-STAMP", "1 of 3 records have no time stamp"),
        ([f"{k * 1.001:.3f}" for k in range(50)], "EDF-GAP", "records last 1.001 s, by the header"),
    ],
)
def test_stamps_that_cannot_be(stamps: list[str], code: str, text: str, tmp_path: Path) -> None:
    path = ones(tmp_path / "d.edf", [s or "x" for s in stamps])
    with pytest.raises(DataError) as caught:
        formats.read(path)
    assert caught.value.code == code
    assert text in str(caught.value)
    assert str(caught.value).startswith("d.edf: ")


def test_drift_between_gaps_is_no_gap(tmp_path: Path) -> None:
    stamps = [f"{k * 1.001 + 100 * (k > 30):.3f}" for k in range(60)]
    with pytest.raises(DataError, match=r"record 9 .*records last 1\.001 s, by the header 1 s"):
        formats.read(ones(tmp_path / "d.edf", stamps))


def test_a_gap_of_a_month_takes_no_memory(tmp_path: Path) -> None:
    path = ones(tmp_path / "d.edf", ["0", "1", f"{30 * DAY:.0f}", f"{30 * DAY + 1:.0f}"])
    formats.read(path)
    tracemalloc.start()
    facts = inspect(path)
    night = formats.read(path)
    write_recording(tmp_path / "a.safetensors", night, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20
    assert facts["seconds"] == 30 * DAY + 2
    assert facts["problems"][-1:] != []
    assert "86400 of 86400 epochs touch a gap" in facts["problems"]
    assert (tmp_path / "a.safetensors").stat().st_size < 4096


def test_many_gaps_are_read_quickly(tmp_path: Path) -> None:
    night = formats.read(ones(tmp_path / "d.edf", [str(2 * k) for k in range(20_000)]))
    assert len(night.gaps) == 19_999
    signal = night.signals["EEG"]
    onsets = np.arange(0, 40_000, 0.5)
    wanted = np.where(onsets % 2 < 1, onsets // 2 * 64 + onsets % 2 * 64, (onsets // 2 + 1) * 64)
    assert np.array_equal(signal.sample_numbers(onsets), wanted)


def test_hypnograms_without_signals_are_read(tmp_path: Path) -> None:
    events = [(30.0 * k, 30.0, f"Sleep stage {STAGES[k]}") for k in range(4)]
    path = write_records(tmp_path / "h.edf", {}, ["0", "900"], record_seconds="0", events=events)
    assert formats.read_hypnogram(path).stages.tolist() == [0, 1, 2, 3]


# --- our own format -------------------------------------------------------------------------------


def test_recordings_keep_their_gaps(tmp_path: Path) -> None:
    night = formats.read(ones(tmp_path / "d.edf", ["0", "1.5", "300"]))
    write_recording(tmp_path / "a.safetensors", night, {})
    again = read_recording(tmp_path / "a.safetensors")
    assert again.gaps == night.gaps == ((1.0, 1.5), (2.5, 300.0))
    assert again.seconds == night.seconds == 301


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gaps", [[1.0, 0.5]]),
        ("gaps", [[0.0, 1.0]]),
        ("gaps", [[-1.0, 1.0]]),
        ("gaps", [[1.0, 2.0], [1.5, 3.0]]),
        ("gaps", [[5.0, 6.0]]),
        ("gaps", [[1.0, 3e7]]),
        ("gaps", [[1.0]]),
        ("gaps", [1.0]),
        ("gaps", {"1": 2}),
        ("gaps", [[1.0, "2"]]),
        ("gaps", [[1.0, None]]),
        ("ranges", [1]),
        ("ranges", {"EEG": [1]}),
        ("ranges", {"EEG": 5}),
        ("ranges", {"EEG": "ab"}),
    ],
)
def test_damaged_spans_are_refused(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_recording(path, formats.read(ones(tmp_path / "d.edf", ["0", "1", "2"])), {})
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"][key] = json.dumps(value)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    with pytest.raises(DataError) as caught:
        read_recording(path)
    assert caught.value.code in ("EDF-GAP", "FACT-KIND")


def test_signals_made_of_others_keep_the_gaps(tmp_path: Path) -> None:
    signals = {"C4": noise(8, 64), "M1": noise(8, 64, 1)}
    stamps = [str(k + 10 * (k > 3)) for k in range(8)]
    night = formats.read(write_records(tmp_path / "d.edf", signals, stamps))
    wanted = preset(montage=["C4-M1"])
    found = cut(wanted, night, np.arange(0, 18, 2.0), tmp_path)
    assert found.kept.tolist() == [True, *[False] * 6, True, False]
    flat = (signals["C4"] - signals["M1"]).reshape(2, 1, -1) / 10
    np.testing.assert_allclose(found.values[:], flat, atol=1e-3)
    assert replace(night, signals={}).gaps == ()
