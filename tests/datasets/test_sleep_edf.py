"""Sleep-EDF as a whole: both studies, 60-s records, subsets, the publisher's lists and tables."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from sleeptools import datasets, store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import sleep_edf
from sleeptools.datasets.simulation.night import simulate_night
from sleeptools.errors import DataError, UsageError
from sleeptools.formats import edf
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.recording import RECORDINGS_KIND, SUBJECT_FACTS, read_recording


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("telemetry")
    return simulate("sleep-edf", out, subjects=2, nights=2, hours=0.5, subset="telemetry")


@pytest.fixture(scope="module")
def cassette(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("cassette"), subjects=2, hours=0.5)


def test_telemetry_has_a_muscle_signal_at_100_hz(telemetry: Path, tmp_path: Path) -> None:
    sources = sleep_edf.find(telemetry)
    assert [s.id for s in sources] == ["ST7011", "ST7012", "ST7021", "ST7022"]
    assert [p.name for p in sources[0].files] == ["ST7011J0-PSG.edf", "ST7011JP-Hypnogram.edf"]
    night = sleep_edf.read(sources[0])
    rates = {label: s.sample_rate for label, s in night.signals.items()}
    assert rates == {
        "EEG Fpz-Cz": 100,
        "EEG Pz-Oz": 100,
        "EOG horizontal": 100,
        "EMG submental": 100,
        "Marker": 1,
    }
    out = preprocess.preprocess(presets.load("sleep-edf"), telemetry, tmp_path / "epochs")
    file = open_epochs(out).files[0]
    emg = night.signals["EMG submental"].samples()
    first = round(file.onset[0] * 100)
    assert np.array_equal(file.signals[0, 3], emg[first : first + 3000])
    assert emg.min() < -1 < 1 < emg.max()  # a signal and not its envelope


def test_records_of_60_s_are_the_same_recording(tmp_path: Path) -> None:
    """As in SC4362F0: 6,000 and 60 samples a record."""
    made = simulate_night(0, 1, hours=0.5).recording
    heads = sleep_edf.SIGNALS
    edf.write(tmp_path / "30.edf", made, heads, record_seconds=30.0)
    edf.write(tmp_path / "60.edf", made, heads, record_seconds=60.0)
    header = (tmp_path / "60.edf").read_bytes()
    assert header[244:252].strip() == b"60"
    assert header[236:244].strip() == b"30"
    short, long = edf.read(tmp_path / "30.edf"), edf.read(tmp_path / "60.edf")
    for label, signal in short.signals.items():
        assert long.signals[label].sample_rate == signal.sample_rate
        assert np.array_equal(long.signals[label].samples(), signal.samples())


def test_subsets(telemetry: Path, cassette: Path, tmp_path: Path) -> None:
    for path in (*telemetry.glob("*.edf"), *cassette.glob("*.edf")):
        (tmp_path / path.name).symlink_to(path)
    for old, new in (("SC4011E0", "SC4201E0"), ("SC4011EC", "SC4201EC")):
        (path,) = tmp_path.glob(f"{old}*")
        path.rename(tmp_path / path.name.replace(old, new))

    def ids(subset: str | None) -> list[str]:
        return [s.id for s in datasets.find_recordings(sleep_edf, tmp_path, subset=subset)]

    assert ids("20") == ["SC4001"]
    assert ids("78") == ["SC4001", "SC4201"]
    assert ids("telemetry") == ["ST7011", "ST7012", "ST7021", "ST7022"]
    assert len(ids(None)) == 6
    with pytest.raises(UsageError, match="there are: 20, 78, telemetry"):
        ids("79")
    with pytest.raises(DataError, match="no recordings of the subset 'telemetry'"):
        datasets.find_recordings(sleep_edf, cassette, subset="telemetry")
    out = convert.convert("sleep-edf", tmp_path, tmp_path / "rec", subset="78")
    made = preprocess.preprocess(presets.load("sleep-edf"), out, tmp_path / "e", subset="20")
    assert [f.recording for f in open_epochs(made).files] == ["SC4001"]
    with pytest.raises(DataError, match="no recordings of the subset 'telemetry'"):
        preprocess.preprocess(presets.load("sleep-edf"), out, tmp_path / "f", subset="telemetry")


def test_simulated_subsets_have_the_real_names(real_data: Path) -> None:
    lines = (real_data / "sleep-edf/manifest/RECORDS").read_text().split()
    listed = {Path(line).name[:5] for line in lines}
    planned = [
        {p.subject for p in sleep_edf.plan(count, 1, subset)}
        for count, subset in ((78, "78"), (22, "telemetry"))
    ]
    assert set.union(*planned) == listed
    with pytest.raises(UsageError, match="`subjects=21`; expected 1 to 20"):
        sleep_edf.plan(21, 1, "20")


def test_a_changed_file_is_told_by_its_published_sum(cassette: Path, tmp_path: Path) -> None:
    raw = shutil.copytree(cassette, tmp_path / "set/sleep-cassette")
    sums = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()} sleep-cassette/{p.name}\n"
        for p in sorted(raw.glob("*.edf"))
    ]
    (tmp_path / "set/SHA256SUMS.txt").write_text("".join(sums))
    assert convert.convert("sleep-edf", tmp_path / "set", tmp_path / "a").exists()
    psg = raw / "SC4011E0-PSG.edf"
    data = bytearray(psg.read_bytes())
    data[-1] ^= 1
    psg.write_bytes(data)
    for root in (tmp_path / "set", raw):
        with pytest.raises(DataError, match=r"SC4011E0-PSG\.edf: its SHA-256 is not the one"):
            convert.convert("sleep-edf", root, tmp_path / "b")
        with pytest.raises(DataError, match=r"1 of 2 .*SC4011E0-PSG\.edf: its SHA-256"):
            preprocess.preprocess(presets.load("sleep-edf"), root, tmp_path / "c")


def test_what_the_list_has_and_the_folder_has_not(command, cassette: Path, tmp_path: Path) -> None:
    raw = shutil.copytree(cassette, tmp_path / "raw")
    names = ("SC4001E0", "SC4002E0", "SC4011E0", "SC4201E0", "ST7011J0")
    (raw / "RECORDS").write_text("".join(f"sleep-cassette/{n}-PSG.edf\n" for n in names))
    ran = command("convert", "sleep-edf", raw, "all")
    assert "though the data set lists them: 2 recordings, such as SC4002" in ran.err
    ran = command("convert", "sleep-edf", raw, "some", "--subset", "20")
    assert ran.code == 0
    assert store.read_manifest(tmp_path / "some", RECORDINGS_KIND)["absent"] == ["SC4002"]


def test_facts_from_the_header_alone(cassette: Path, tmp_path: Path) -> None:
    out = convert.convert("sleep-edf", cassette, tmp_path / "rec")
    index = store.read_table(out / "index.parquet")
    people = [simulate_night(n, 1, hours=0.5).recording.facts for n in (0, 1)]
    assert index["age"].to_list() == [p["age"] for p in people]
    assert index["sex"].to_list() == [p["sex"] for p in people]
    assert index["lights_off"].to_list() == [None, None]


@pytest.mark.parametrize(
    "field", [b"X F 02-MAY-1951 Jane_Doe", b"Jane_33yr", b"X F X Jane_33yr", b"X F X Female_1951yr"]
)
def test_another_patient_field_gives_nothing(tmp_path: Path, field: bytes) -> None:
    (tmp_path / "x.edf").write_bytes(b"0".ljust(8) + field.ljust(80) + b" " * 168)
    assert edf.read_sex_and_age(tmp_path / "x.edf") == {}


def test_facts_from_the_real_tables(real_data: Path, tmp_path: Path) -> None:
    """SC4001 began at 16:13, and the lights went off at 00:38."""
    folder = real_data / "sleep-edf"
    psg, scoring = folder / "SC4001E0-PSG_first300s.edf", folder / "hypnograms"
    assert edf.read_sex_and_age(psg) == {"sex": "F", "age": 33}
    (tmp_path / "SC4001E0-PSG.edf").symlink_to(psg)
    (tmp_path / "SC4001EC-Hypnogram.edf").symlink_to(scoring / "SC4001EC-Hypnogram.edf")
    for name in ("SC-subjects.xls", "ST-subjects.xls", "RECORDS"):
        (tmp_path / name).symlink_to(folder / "manifest" / name)
    out = convert.convert("sleep-edf", tmp_path, tmp_path / "rec")
    facts = read_recording(out / "SC4001.safetensors").facts
    assert (facts["age"], facts["sex"]) == (33, "F")
    assert facts["lights_off"] == 24 * 3600 - (16 * 60 + 13) * 60 + 38 * 60
    assert len(store.read_manifest(out, RECORDINGS_KIND)["absent"]) == 152
    made = preprocess.preprocess(presets.load("sleep-edf"), out, tmp_path / "epochs")
    row = store.read_table(made / "index.parquet").row(0, named=True)
    assert (row["age"], row["sex"], row["lights_off"]) == (33, "F", facts["lights_off"])


def test_real_telemetry_facts(real_data: Path, telemetry: Path, tmp_path: Path) -> None:
    """Subject 2 is a woman of 35, on placebo in night 2; also from a table exported as text."""
    from sleeptools.datasets import spreadsheets

    shutil.copytree(telemetry, tmp_path, dirs_exist_ok=True)
    table = real_data / "sleep-edf/manifest/ST-subjects.xls"
    rows = spreadsheets.read_table(table)
    found = []
    for name in ("ST-subjects.xls", "ST-subjects.csv"):
        if name.endswith(".xls"):
            shutil.copy(table, tmp_path)
        else:
            (tmp_path / "ST-subjects.xls").unlink()
            rows[3][4] = "23:27"
            text = "\n".join(",".join("" if c is None else str(c) for c in r) for r in rows)
            (tmp_path / name).write_text(text)
        night = sleep_edf.read(sleep_edf.find(tmp_path)[3])
        assert night.id == "ST7022"
        found.append([night.facts[k] for k in SUBJECT_FACTS])
        start = night.start
    assert found[0] == found[1]
    assert found[0][:2] == [35, "F"]
    assert start is not None
    clock = (start.hour * 60 + start.minute) * 60 + found[0][2]
    assert clock % 86400 == (23 * 60 + 27) * 60


def test_real_hypnograms_are_found_and_whole(real_data: Path) -> None:
    """Every real hypnogram file reads; its sum is the published one."""
    folder = real_data / "sleep-edf"
    files = sorted((folder / "hypnograms").glob("*.edf"))
    sums = folder / "manifest/SHA256SUMS.txt"
    for path in files:
        source = datasets.RecordingFiles(path.name[:6], path.name[:5], 1, (path, sums))
        datasets.check_sums(source)
        scoring = edf.read_hypnogram(path)
        assert scoring.names == ("W", "N1", "N2", "N3", "REM")
        assert (scoring.stages > 0).sum() > 600
    assert len(files) == 16
