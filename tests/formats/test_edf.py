"""EDF and BDF files: real ones equal to pyedflib's reading, damaged ones refused by name."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from edf_plus import annotation_file, plus_file
from sleeptools import formats, registry, store
from sleeptools.datasets import sleep_edf
from sleeptools.errors import DataError, NoStagesError, StorageError
from sleeptools.formats import edf
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal
from sleeptools.store.settings import read_settings

READ_BY_BOTH = (
    "edf-samples/edfio__short_psg.bdf",
    "edf-samples/edfio__test_subsecond.edf",
    "edf-samples/edfize__simulated-01.edf",
    "edf-samples/mne__duplicate_channel_labels.edf",
    "edf-samples/mne__test_bdf_stim_channel.bdf",
    "edf-samples/mne__test_edf_stim_channel.edf",
    "edf-samples/pyedflib__test_generator.bdf",
    "edf-samples/pyedflib__test_generator_datarec_generator_0_5.bdf",
    "edf-samples/pyedflib__test_generator_datarec_generator_2.bdf",
    "edf-samples/pyedflib__test_subsecond.edf",
    "edf-samples/pyedflib__test_utf8.edf",
    "sleep-edf/SC4001E0-PSG_first300s.edf",
)
READ_BY_US = {  # and what pyedflib refuses; the samples are right in each
    "edf-samples/EDFjl__test_uneven_samp.edf": "the startdate is incorrect",  # day 42 of month 0
    "edf-samples/EDFjl__bdf_test.edf": "the label is incorrect",  # EDF+ without annotations
    "edf-samples/mne__test.bdf": "Number of Datarecords",  # one
    "noxturnal/subject1.edf": "the label is incorrect",  # accents in UTF-8
}
NO_SIGNALS = {
    "edf-samples/edfize__zero-data-records.edf": "no data records",
    "edf-samples/edfio__SC4001EC-Hypnogram.bdf": "annotations only",
}
REFUSED_BY_PYEDFLIB = ("ST7021JM-Hypnogram.edf", "ST7022JM-Hypnogram.edf")  # "Recordingfield"
TELEMETRY_LEAD_IN = {"ST7041JO": (1033, 1008), "ST7042JO": (1149, 1131)}


def test_every_format_has_its_functions() -> None:
    for name in registry.names("formats"):
        module = registry.load("formats", name)
        assert callable(module.accepts)
        assert hasattr(module, "read") or hasattr(module, "read_hypnogram")


@pytest.mark.parametrize("name", READ_BY_BOTH)
def test_samples_equal_pyedflib(real_data: Path, name: str) -> None:
    ours = list(formats.read(real_data / name).signals.values())
    with pyedflib.EdfReader(str(real_data / name)) as theirs:
        assert len(ours) == theirs.signals_in_file
        for i, signal in enumerate(ours):
            wanted = theirs.readSignal(i)
            unit = theirs.getPhysicalDimension(i).strip()
            wanted = wanted * {"V": 1e6, "mV": 1e3}.get(unit, 1.0)
            assert signal.size == len(wanted)
            assert signal.sample_rate == pytest.approx(theirs.getSampleFrequency(i))
            scale = float(np.abs(wanted).max()) or 1.0
            np.testing.assert_allclose(signal.samples(), wanted, rtol=2e-6, atol=2e-6 * scale)


FIELDS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "p-": 8,
    "p+": 8,
    "d-": 8,
    "d+": 8,
    "filter": 80,
    "samples": 8,
}


def decoded(path: Path) -> list[np.ndarray]:
    """Every signal in its own unit, by the standard's offsets alone."""
    data = path.read_bytes()
    count, width = int(data[252:256]), 3 if data[0] == 255 else 2
    head = int(data[184:192])

    def field(name: str) -> list[str]:
        begin = 256 + count * sum(list(FIELDS.values())[: list(FIELDS).index(name)])
        size = FIELDS[name]
        return [
            data[begin + k * size : begin + (k + 1) * size].decode("latin-1").strip()
            for k in range(count)
        ]

    per_record = [int(n) for n in field("samples")]
    raw = np.frombuffer(data[head:], np.uint8)
    raw = raw[: len(raw) // (width * sum(per_record)) * width * sum(per_record)]
    parts = raw.reshape(-1, sum(per_record), width)
    bits = [parts[..., k].astype(np.int64) << 8 * k for k in range(width)]
    digits = np.sum(bits, axis=0)
    digits -= (digits >> (8 * width - 1)) << (8 * width)
    ends = np.cumsum(per_record)
    found = []
    numbers = [[float(v) for v in field(n)] for n in ("p-", "p+", "d-", "d+")]
    for k, label in enumerate(field("label")):
        if "Annotations" in label:
            continue
        low, high, least, most = (n[k] for n in numbers)
        scale = {"V": 1e6, "mV": 1e3}.get(field("unit")[k], 1.0)
        own = digits[:, ends[k] - per_record[k] : ends[k]].ravel()
        found.append(((own - least) * (high - low) / (most - least) + low) * scale)
    return found


@pytest.mark.parametrize("name", READ_BY_US)
def test_reads_what_pyedflib_refuses(real_data: Path, name: str) -> None:
    with pytest.raises(OSError, match=READ_BY_US[name]):
        pyedflib.EdfReader(str(real_data / name))
    ours = list(formats.read(real_data / name).signals.values())
    wanted = decoded(real_data / name)
    assert len(ours) == len(wanted)
    for signal, values in zip(ours, wanted, strict=True):
        scale = float(np.abs(values).max()) or 1.0
        np.testing.assert_allclose(signal.samples(), values, rtol=2e-6, atol=2e-6 * scale)


def test_no_real_file_is_left_out(real_data: Path) -> None:
    every = [p for p in real_data.rglob("*") if p.suffix in (".edf", ".bdf")]
    names = {str(p.relative_to(real_data)) for p in every if p.parent.name != "hypnograms"}
    assert names == {*READ_BY_BOTH, *READ_BY_US, *NO_SIGNALS}


def test_all_real_hypnograms(real_data: Path) -> None:
    files = sorted((real_data / "sleep-edf/hypnograms").glob("*.edf"))
    assert len(files) == 16
    for path in files:
        found = formats.read_hypnogram(path)
        annotated = len(found) - found.counts()["unannotated"]
        if path.name.startswith("SC"):
            assert (len(found), annotated) == (2880, 2880)
        elif path.name[:8] in TELEMETRY_LEAD_IN:
            assert (len(found), annotated) == TELEMETRY_LEAD_IN[path.name[:8]]
            assert found.reasons[0] == 3  # the lead-in comes first
        else:
            assert len(found) == annotated
        if path.name in REFUSED_BY_PYEDFLIB:
            continue
        with pyedflib.EdfReader(str(path)) as theirs:
            onsets, durations, texts = theirs.readAnnotations()
        ours = edf.read_annotations(path)
        assert [e[2] for e in ours] == list(texts)
        np.testing.assert_allclose([e[0] for e in ours], onsets)
        np.testing.assert_allclose([e[1] for e in ours], durations)


def test_the_real_annotations_in_bdf(real_data: Path) -> None:
    """The same scoring as in the EDF+ file that it was made from."""
    path = real_data / "edf-samples/edfio__SC4001EC-Hypnogram.bdf"
    with pyedflib.EdfReader(str(path)) as theirs:
        onsets, durations, texts = theirs.readAnnotations()
    assert edf.read_annotations(path) == list(zip(onsets, durations, texts, strict=True))
    same = formats.read_hypnogram(real_data / "sleep-edf/hypnograms/SC4001EC-Hypnogram.edf")
    found = formats.read_hypnogram(path)
    assert np.array_equal(found.stages, same.stages)
    assert np.array_equal(found.reasons, same.reasons)


@pytest.mark.parametrize(
    ("name", "words"),
    [*NO_SIGNALS.items(), ("README.md", "not a file of a known format")],
)
def test_refuses_real_files_it_cannot_read(real_data: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        formats.read(real_data / name)


# --- files made here ------------------------------------------------------------------------------


def sine_night(seconds: int = 90) -> Recording:
    rng = np.random.default_rng(0)
    signals = {}
    for head in sleep_edf.SIGNALS:
        rate = head.samples_per_record / 30
        middle, half = (
            (head.physical_max + head.physical_min) / 2,
            head.physical_max - head.physical_min,
        )
        samples = (middle + 0.05 * half * rng.standard_normal(round(seconds * rate))).astype(
            np.float32
        )
        signals[head.label] = Signal(
            head.label, rate, head.unit, "eeg", len(samples), lambda s=samples: s
        )
    start = datetime(1989, 4, 24, 16, 13)
    return Recording("SC4001", "SC400", 1, signals, None, start, {"simulated": True})


@pytest.fixture
def night(tmp_path: Path) -> tuple[Recording, Path]:
    recording = sine_night()
    psg, _ = sleep_edf.write(recording, tmp_path, [(0, 90, "Sleep stage W")])
    return recording, psg


def test_written_files_read_back_within_half_a_digit(night: tuple[Recording, Path]) -> None:
    recording, path = night
    again = formats.read(path)
    assert again.start == recording.start
    assert again.facts["simulated"] is True
    assert list(again.signals) == [h.label for h in sleep_edf.SIGNALS]
    for head in sleep_edf.SIGNALS:
        digit = (head.physical_max - head.physical_min) / (head.digital_max - head.digital_min)
        found, wanted = again.signals[head.label].samples(), recording.signals[head.label].samples()
        assert len(found) == len(wanted)
        assert np.abs(found - wanted).max() <= 0.5001 * digit + 1e-4


def test_cannot_be_told_by_shape_from_the_real_file(
    real_data: Path, night: tuple[Recording, Path]
) -> None:
    real = (real_data / "sleep-edf/SC4001E0-PSG_first300s.edf").read_bytes()
    ours = night[1].read_bytes()
    count = 7
    for name, start, stop in (
        ("version", 0, 8),
        ("header size", 184, 192),
        ("reserved", 192, 236),
        ("record seconds", 244, 252),
        ("signals", 252, 256),
        ("labels", 256, 256 + 16 * count),
        ("transducers to prefilters", 256 + 16 * count, 256 + 216 * count),
        ("samples per record", 256 + 216 * count, 256 + 224 * count),
    ):
        assert ours[start:stop].split() == real[start:stop].split(), name


def test_hypnogram_file_has_the_real_form(real_data: Path, night: tuple[Recording, Path]) -> None:
    real = (real_data / "sleep-edf/hypnograms/SC4001EC-Hypnogram.edf").read_bytes()
    ours = (night[1].parent / "SC4001EC-Hypnogram.edf").read_bytes()
    for start, stop in ((0, 8), (184, 256), (256, 472)):
        assert ours[start:stop] == real[start:stop]


NUMBER = "expected a whole number"
MUTATIONS: dict[str, tuple[int, bytes, str]] = {
    "no number of records": (236, b"abc     ", r'"abc" \(bytes 236-243\); ' + NUMBER),
    "blank number of records": (236, b"        ", r'"" \(bytes 236-243\)'),
    "fewer records said": (236, b"2       ", r"is 2 \(bytes 236-243\), but the file holds 3"),
    "more records said": (236, b"99999999", "cut short"),
    "no signals": (252, b"0   ", ">= 1"),
    "too many signals": (252, b"9999", "cut short"),
    "exponent for signals": (252, b"1e9 ", ">= 1"),
    "one signal too few": (252, b"6   ", r"header size is 2048 \(bytes 184-191\); 6 signals"),
    "header size": (184, b"256     ", "7 signals need 2048"),
    "record of 0 s": (244, b"0       ", "seconds > 0"),
    "record of -1 s": (244, b"-1      ", "seconds > 0"),
    "record of nan s": (244, b"nan     ", "a finite number"),
    "record of 1e-300 s": (244, b"1e-300  ", "expected 0.01 to 100000 Hz"),
    "decimal comma": (244, b"30,0    ", "a finite number"),
    "physical nan": (256 + 7 * 104, b"nan     ", "physical minimum"),
    "physical 1e400": (256 + 7 * 112, b"1e400   ", "physical maximum"),
    "physical ---": (256 + 7 * 104, b"---     ", "physical minimum"),
    "digital beyond 16 bits": (256 + 7 * 128, b"32768   ", "expected within -32768 to 32767"),
    "no samples per record": (256 + 7 * 216, b"0       ", ">= 1"),
    "enormous record": (256 + 7 * 216, b"99999999", "Hz"),
    "version": (0, b"1       ", "not a file of a known format"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_damaged_header_is_refused_by_field(night: tuple[Recording, Path], name: str) -> None:
    at, value, words = MUTATIONS[name]
    data = bytearray(night[1].read_bytes())
    data[at : at + len(value)] = value
    night[1].write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        formats.read(night[1])
    assert night[1].name in str(caught.value)
    if name == "decimal comma":
        assert "decimal comma" in str(caught.value.hint)


def test_unknown_number_of_records_is_counted(night: tuple[Recording, Path]) -> None:
    data = bytearray(night[1].read_bytes())
    data[236:244] = b"-1      "
    night[1].write_bytes(data)
    recording = formats.read(night[1])
    assert recording.seconds == 90
    assert "-1; the file holds 3" in str(recording.facts["notes"])


def test_annotations_without_a_stage_are_listed(tmp_path: Path) -> None:
    events = [(30.0 * k, 30.0, f"note {k % 10}") for k in range(20)]
    edf.write_annotations(tmp_path / "h.edf", events, None)
    with pytest.raises(NoStagesError, match=r"among its 10 .*: 'note 0', .*'note 7', \.\.\.$"):
        formats.read_hypnogram(tmp_path / "h.edf")


def test_truncated_file_is_refused_unless_allowed(night: tuple[Recording, Path]) -> None:
    data = night[1].read_bytes()
    night[1].write_bytes(data[: len(data) - 1000])
    with pytest.raises(DataError, match="cut short"):
        edf.read(night[1])
    assert edf.read(night[1], allow_truncated=True).seconds == 60
    night[1].write_bytes(data[:3000])  # not one whole record: nothing to take
    with pytest.raises(DataError, match="the file holds 0") as caught:
        edf.read(night[1], allow_truncated=True)
    assert caught.value.hint == "fetch or export it again"


def test_uncalibrated_signal_is_noted_and_refused_when_read(night: tuple[Recording, Path]) -> None:
    data = bytearray(night[1].read_bytes())
    data[256 + 7 * 128 : 256 + 7 * 128 + 8] = b"-2048   "
    night[1].write_bytes(data)
    recording = formats.read(night[1])
    assert "cannot be used" in str(recording.facts["notes"])
    with pytest.raises(DataError, match="cannot be calibrated"):
        recording.signals["EEG Fpz-Cz"].samples()


def test_the_patient_is_never_read(night: tuple[Recording, Path]) -> None:
    data = bytearray(night[1].read_bytes())
    data[8:25] = b"Jane Doe 1.1.1970"
    night[1].write_bytes(data)
    assert "Jane" not in repr(formats.read(night[1]))


START = b"+0\x14\x14\0"


@pytest.mark.parametrize(
    "tal",
    [
        b"+30\x15-30\x14Sleep stage W\x14\0",
        b"+3e1\x1530\x14Sleep stage W\x14\0",
        b"+30,5\x1530\x14Sleep stage W\x14\0",
        b"30\x1530\x14Sleep stage W\x14\0",
        b"+30\x1530\x14Sleep stage W",
        b"\xff\xfe\x01 garbage\0",
    ],
    ids=["negative duration", "exponent", "comma", "no sign", "unterminated", "garbage"],
)
def test_malformed_annotation_is_an_error_with_its_record(tmp_path: Path, tal: bytes) -> None:
    path = annotation_file(tmp_path / "h.edf", START + tal)
    with pytest.raises(DataError, match="in record 1"):
        formats.read_hypnogram(path)


def test_annotation_in_latin_1_is_read(tmp_path: Path) -> None:
    path = annotation_file(
        tmp_path / "h.edf", START + b"+0\x15\x33\x30\x14Sleep stage W\x14\0+5\x14\xe9veil\x14\0"
    )
    assert edf.read_annotations(path)[1][2] == "éveil"


def test_other_annotations_are_passed_over_but_unknown_stages_are_not(tmp_path: Path) -> None:
    lights = START + b"+7\x14Lights off\x14\0+0\x1530\x14Sleep stage W\x14\0"
    assert len(formats.read_hypnogram(annotation_file(tmp_path / "a.edf", lights))) == 1
    unknown = START + b"+0\x1530\x14Sleep stage X\x14\0"
    with pytest.raises(DataError, match="unknown stage text 'Sleep stage X'"):
        formats.read_hypnogram(annotation_file(tmp_path / "b.edf", unknown))


def test_a_gap_is_never_closed_silently(tmp_path: Path) -> None:
    whole = plus_file(tmp_path / "a.edf", [b"+0", b"+1", b"+2"])
    assert formats.read(whole).seconds == 3
    assert formats.read(whole).gaps == ()
    gap = plus_file(tmp_path / "c.edf", [b"+0", b"+1", b"+3601"], b"EDF+C")
    with pytest.raises(DataError, match="record 3 starts at 3601 s, expected 2 s") as caught:
        formats.read(gap)
    assert "export it as EDF+D" in str(caught.value.hint)
    night = formats.read(plus_file(tmp_path / "d.edf", [b"+0", b"+1", b"+3601"]))
    assert night.gaps == ((2.0, 3601.0),)
    assert night.seconds == 3602
    assert night.signals["EEG Cz"].size == 30
    assert "interrupted by 1 gap: 3599 s at 2 s" in str(night.facts["notes"])


def test_bdf_is_told_by_content_not_by_name(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "edf-samples/pyedflib__test_generator.bdf"
    renamed = tmp_path / "night.edf"
    renamed.write_bytes(source.read_bytes())
    ours, theirs = formats.read(renamed), formats.read(source)
    assert renamed.suffix == ".edf"
    for a, b in zip(ours.signals.values(), theirs.signals.values(), strict=True):
        assert np.array_equal(a.samples(), b.samples())


# --- starts, records' times, bad notes, labels ----------------------------------------------------


def patched(path: Path, at: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("field", "start", "time_of_day", "note"),
    [
        (b"02.03.1222.00.00", datetime(2012, 3, 2, 22), None, ""),
        (b"02.03.1222:00:00", datetime(2012, 3, 2, 22), None, "read as 02.03.2012 22.00.00"),
        (b"02/03/1222.00.00", datetime(2012, 3, 2, 22), None, "read as 02.03.2012"),
        (b"02-03-1222-00-00", datetime(2012, 3, 2, 22), None, "read as 02.03.2012"),
        (b"2.3.201222.00.00", datetime(2012, 3, 2, 22), None, ""),
        (b"02.03.8522.01.00", datetime(1985, 3, 2, 22, 1), None, ""),
        (b"01.01.8522.00.00", None, time(22), ""),
        (b"01.01.8500.00.00", None, None, ""),
        (b"00.00.0022.00.00", None, time(22), "start date '00.00.00'"),
        (b"31.02.9923:59:59", None, time(23, 59, 59), "start date '31.02.99'"),
        (b"        22.00.00", None, time(22), "start date ''"),
        (b"02.03.1225.61.61", None, None, "start time '25.61.61'"),
        (b"02.03.12        ", None, None, "start time ''"),
        (b"00.00.0000.00.00", None, None, "start date '00.00.00'"),
    ],
)
def test_start_as_it_plainly_stands(
    night: tuple[Recording, Path],
    field: bytes,
    start: datetime | None,
    time_of_day: time | None,
    note: str,
) -> None:
    plain = patched(night[1], 88, b" " * 80)
    found = formats.read(patched(plain, 168, field))
    assert found.start == start
    assert found.facts.get("time_of_day") == (time_of_day and time_of_day.isoformat())
    assert note in str(found.facts.get("notes", ""))


@pytest.mark.parametrize("field", ["", "Startdate X X X X", "Startdate 01-JAN-1985 X X X"])
@pytest.mark.parametrize(("clock", "known"), [("00.00.00", None), ("22.20.00", time(22, 20))])
def test_a_placeholder_is_no_start(
    night: tuple[Recording, Path], field: str, clock: str, known: time | None, tmp_path: Path
) -> None:
    """As EDF+ anonymises, in signals and in scorings."""
    scored = tmp_path / "h.edf"
    edf.write_annotations(scored, [(0.0, 30.0, "Sleep stage W")], datetime(2020, 1, 1, 22, 20))
    for path in (night[1], scored):
        patched(patched(path, 88, field.encode().ljust(80)), 168, f"01.01.85{clock}".encode())
    found, hypnogram = formats.read(night[1]), formats.read_hypnogram(scored)
    assert found.start is None
    assert found.facts.get("anonymised", False) == (known is None)
    assert found.facts.get("time_of_day") == (known and known.isoformat())
    assert hypnogram.begin == known
    assert hypnogram.lost_start == ("" if known else "is a placeholder")


def test_a_time_of_day_is_written_without_a_date(tmp_path: Path) -> None:
    scored = Hypnogram(np.zeros(4, np.int8), begin=time(22, 20, 30), onset=30.0)
    formats.write_hypnogram(scored, tmp_path / "a.edf")
    assert b"Startdate X" in (tmp_path / "a.edf").read_bytes()[88:168]
    again = formats.read_hypnogram(tmp_path / "a.edf")
    assert again.begin == time(22, 20)
    assert again.onset == 0.0
    assert again.annotated_span() == (30.0, 150.0)


def test_start_date_of_the_recording_field(night: tuple[Recording, Path]) -> None:
    path = patched(night[1], 168, b"24.04.yy22.00.00")
    patched(path, 88, b"Startdate 24-APR-2089 X X X".ljust(80))
    assert formats.read(path).start == datetime(2089, 4, 24, 22)
    patched(path, 168, b"01.01.8522.00.00")
    assert "24-Apr-2089 in bytes 88-167" in str(formats.read(path).facts["notes"])
    patched(path, 88, b"Startdate X X X X".ljust(80))
    found = formats.read(path)
    assert found.start is None
    assert found.facts["time_of_day"] == "22:00:00"


@pytest.mark.parametrize("kind", [b"EDF+C", b"EDF+D"])
@pytest.mark.parametrize("first", [0.0, 0.75, 600.0])
def test_first_record_belongs_to_the_start(tmp_path: Path, kind: bytes, first: float) -> None:
    clocks = [b"+%g" % (first + k) for k in range(3)]
    found = formats.read(plus_file(tmp_path / "a.edf", clocks, kind))
    assert found.start == datetime(2000, 1, 1) + timedelta(seconds=first)
    assert ("first record begins" in str(found.facts.get("notes"))) == (first > 0)


def test_annotations_count_from_the_first_record(tmp_path: Path) -> None:
    tals = b"+0.5\x14\x14\0+30.5\x1530\x14Sleep stage W\x14\0"
    path = annotation_file(tmp_path / "h.edf", tals)
    assert edf.read_annotations(path) == [(30.0, 30.0, "Sleep stage W")]


def rounded_file(path: Path, seconds: float, text: bytes, count: int, decimals: int) -> Path:
    clocks = [f"+{k * seconds:.{decimals}f}".encode() for k in range(count)]
    return patched(plus_file(path, clocks), 244, text.ljust(8))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (512 / 511.95964, b"1.000079"),
        (0.1953125, b"0.195313"),
        (512 / 512.03, b"0.999941"),
        (1 / 3, b"0.333333"),
        (0.1, b"0.1"),
    ],
)
def test_rounding_of_a_record_adds_up(tmp_path: Path, seconds: float, text: bytes) -> None:
    path = rounded_file(tmp_path / "a.edf", seconds, text, 30000, 6)
    assert formats.read(path).signals["EEG Cz"].size == 300_000
    late = [f"+{k * seconds + 2 * (k > 20000):.6f}".encode() for k in range(30000)]
    gap = patched(plus_file(tmp_path / "b.edf", late, b"EDF+C"), 244, text.ljust(8))
    with pytest.raises(DataError, match=r"1 gap: (2(\.0000\d\d)?|1\.9999\d\d) s at") as caught:
        formats.read(gap)
    assert caught.value.code == "EDF-GAP"
    ((begin, end),) = formats.read(patched(gap, 192, b"EDF+D")).gaps
    assert end - begin == pytest.approx(2, abs=seconds / 10)
    assert end == pytest.approx(20001 * seconds + 2, abs=seconds / 10 + 20001 * 5e-7)


def test_a_length_that_was_not_rounded_allows_no_drift(tmp_path: Path) -> None:
    path = rounded_file(tmp_path / "a.edf", 1.001, b"1", 3000, 3)
    with pytest.raises(DataError, match=r"records last 1\.001 s, by the header 1 s"):
        formats.read(path)


def test_unstamped_records(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 3 records have no time stamp"):
        formats.read(plus_file(tmp_path / "d.edf", [b"+0", b"", b"+2"]))
    found = formats.read(plus_file(tmp_path / "c.edf", [b"+0", b"", b"+2"], b"EDF+C"))
    assert "no time-keeping" in str(found.facts["notes"])


@pytest.mark.parametrize(
    "tal", [b"+1,5\x14a\x14\0", b"   ", b"+1\x15\x14a\x14\0", b"+1\x14a", b"1\x14a\x14\0"]
)
def test_a_bad_note_keeps_nobody_from_the_signals(tmp_path: Path, tal: bytes) -> None:
    path = plus_file(tmp_path / "a.edf", [b"+0", b"+1"], b"EDF+C")
    at = path.stat().st_size - 16
    patched(path, at, b"+1\x14\x14\0" + tal)
    found = formats.read(path)
    assert found.signals["EEG Cz"].size == 20
    assert "1 malformed annotation is passed over: annotation b" in str(found.facts["notes"])
    with pytest.raises(DataError, match="in record 2") as caught:
        edf.read_annotations(path)
    assert caught.value.code == "EDF-TAL"
    assert edf.read_annotations(path, ignore_bad_annotations=True) == []


def test_two_labels_never_become_one_signal() -> None:
    for labels in (
        ["EEG", "EEG", "EEG#2", "EMG"],
        ["EEG#2", "EEG", "EEG"],
        ["EEG", "EEG", "EEG", "EEG#3", "EEG#2", "EEG#2"],
        ["", "", "#2"],
    ):
        names = edf.unique_names(labels)
        assert len(set(names)) == len(labels)
        assert set(labels) <= set(names)
    assert edf.unique_names(["EEG", "eeg", "EEG"]) == ["EEG", "eeg", "EEG#2"]


@pytest.mark.parametrize("padding", [b"\0" * 7, b"\xa0" * 7, b" \0 \xa0   "])
def test_padded_version_is_read_with_a_note(night: tuple[Recording, Path], padding: bytes) -> None:
    found = formats.read(patched(night[1], 1, padding))
    assert "version field is b'0" in str(found.facts["notes"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-500],
        lambda content: content[:-500] + bytes(500),
        lambda content: content[:236] + b"-1      " + content[244:],  # written last, by close
        lambda content: content[:256] + b" " * 16 + content[272:],
    ],
    ids=["cut", "no samples", "no number of records", "no label"],
)
def test_a_failed_write_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    close = pyedflib.EdfWriter.close

    def damaged(writer: pyedflib.EdfWriter) -> None:
        close(writer)
        draft = Path(writer.path)
        if draft.exists():
            draft.write_bytes(damage(draft.read_bytes()))

    monkeypatch.setattr(pyedflib.EdfWriter, "close", damaged)
    with pytest.raises(StorageError, match="does not read back"):
        sleep_edf.write(sine_night(), tmp_path, [(0, 90, "Sleep stage W")])
    assert not list(tmp_path.glob("*PSG*"))


def test_a_bad_channel_that_nobody_uses_is_left_out_on_request(
    night: tuple[Recording, Path],
) -> None:
    path = patched(night[1], 256 + 7 * 104, b"-204,8  ")
    label = sleep_edf.SIGNALS[0].label
    with pytest.raises(DataError, match="physical minimum") as caught:
        formats.read(path)
    assert caught.value.code == "EDF-RANGE"
    found = edf.read(path, ignore_channels=[label])
    assert list(found.signals) == [h.label for h in sleep_edf.SIGNALS[1:]]
    assert "left out as asked" in str(found.facts["notes"])
    with pytest.raises(DataError, match="no signal 'X' to be left out"):
        edf.read(path, ignore_channels=[label, "X"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_settings_in_any_marked_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('unit = "µV"\r\n'.encode(encoding))
    assert store.read_toml(path) == read_settings(path) == {"unit": "µV"}


def test_settings_in_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes('unit = "µV"'.encode("latin-1"))
    with pytest.raises(DataError, match="byte 0xb5 at 8 is not utf-8"):
        store.read_toml(tmp_path / "a.toml")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(night: tuple[Recording, Path]) -> None:
    path = night[1]
    signal = next(iter(edf.read(path).signals.values()))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(DataError, match="became shorter while it was read") as caught:
        signal.samples()
    assert caught.value.code == "EDF-CUT"
