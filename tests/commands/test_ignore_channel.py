"""A bad channel that nobody uses blocks no night, if it is left out by name."""

import shutil
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from sleeptools import formats, store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import sleep_edf
from sleeptools.errors import DataError, SleeptoolsError, UsageError
from sleeptools.preprocessing import presets
from sleeptools.recording.recording import read_recording

BAD = "Resp oro-nasal"
LABELS = [h.label for h in sleep_edf.SIGNALS]


def spoil(path: Path, label: str = BAD) -> Path:
    """Write a decimal comma into the physical minimum of a signal."""
    data = bytearray(path.read_bytes())
    start = 256 + len(LABELS) * 104 + 8 * LABELS.index(label)
    data[start : start + 8] = b"-204,8  "
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=2, hours=0.5)


@pytest.fixture
def raw(whole: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(whole, tmp_path / "raw"))
    spoil(folder / "SC4001E0-PSG.edf")
    return folder


def test_convert_leaves_it_out_by_name(command, raw: Path, tmp_path: Path) -> None:
    refused = command("convert", "sleep-edf", raw, "recordings")
    assert refused.code == 65
    assert "write a point, or if the signal is not needed, --ignore-channel 'Resp" in refused.err
    ran = command("convert", "sleep-edf", raw, "recordings", "--ignore-channel", BAD)
    assert ran.code == 0, ran.err
    facts = store.read_json(tmp_path / "recordings/manifest.json")
    assert facts["ignored_channels"] == {"SC4001": [BAD], "SC4011": [BAD]}
    stored = read_recording(tmp_path / "recordings/SC4001.safetensors")
    assert list(stored.signals) == [n for n in LABELS if n != BAD]
    assert f"signal {BAD!r} is left out as asked" in str(stored.facts["notes"])
    again = command("convert", "sleep-edf", raw, "recordings", "--ignore-channel", BAD)
    assert again.err.count("as before") == 2


def test_recordings_are_made_again_when_other_channels_are_left_out(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "recordings"
    for ignored in ((), (BAD,), (BAD, "Temp rectal"), ()):
        convert.convert("sleep-edf", whole, out, ignore_channels=ignored)
        stored = read_recording(out / "SC4001.safetensors")
        assert list(stored.signals) == [n for n in LABELS if n not in ignored]


def test_a_channel_that_only_some_nights_have_is_left_out_of_these(
    whole: Path, tmp_path: Path
) -> None:
    raw = Path(shutil.copytree(whole, tmp_path / "raw"))
    path = raw / "SC4001E0-PSG.edf"
    data = bytearray(path.read_bytes())
    start = 256 + 16 * LABELS.index(BAD)
    data[start : start + 16] = b"Light           "
    path.write_bytes(data)
    out = convert.convert("sleep-edf", raw, tmp_path / "out", ignore_channels=["Light"])
    facts = store.read_json(out / "manifest.json")
    assert facts["ignored_channels"] == {"SC4001": ["Light"]}
    assert BAD in read_recording(out / "SC4011.safetensors").signals


def test_a_channel_that_no_night_has_is_an_error(command, whole: Path, tmp_path: Path) -> None:
    for words in (["convert", "sleep-edf"], ["preprocess", "sleep-edf"]):
        ran = command(*words, whole, f"out {words[0]}", "--ignore-channel", "Lihgt")
        assert ran.code == 65
        assert "no recording has a signal 'Lihgt' to be left out" in ran.err


def test_preprocess_takes_it_for_raw_folders_only(raw: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    with pytest.raises(DataError, match="physical minimum"):
        preprocess.preprocess(preset, raw, tmp_path / "epochs")
    out = preprocess.preprocess(preset, raw, tmp_path / "epochs", ignore_channels=[BAD])
    facts = store.read_json(out / "manifest.json")
    assert facts["ignored_channels"] == {"SC4001": [BAD], "SC4011": [BAD]}
    recordings = convert.convert("sleep-edf", raw, tmp_path / "rec", ignore_channels=[BAD])
    with pytest.raises(UsageError, match="is for raw files"):
        preprocess.preprocess(preset, recordings, tmp_path / "e", ignore_channels=[BAD])


def test_a_channel_of_the_montage_is_missed(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no signal 'EMG submental'"):
        preprocess.preprocess(
            presets.load("sleep-edf"), whole, tmp_path / "e", ignore_channels=["EMG submental"]
        )


@pytest.mark.parametrize("name", ["isruc", "slumbernet", "kjaerby", "edf"])
def test_every_data_set_can_leave_a_channel_out(tmp_path: Path, name: str) -> None:
    raw = simulate(name, tmp_path / "raw", subjects=1, hours=0.5)
    before = convert.convert(name, raw, tmp_path / "all")
    (path,) = before.glob("*.safetensors")
    *kept, last = read_recording(path).signals
    label = {"EMG submental": "Jaw"}.get(last, last)  # edf.toml calls it otherwise
    if name == "edf":
        settings = store.read_toml(raw / "edf.toml")
        del settings["channels"]["EMG submental"]
        store.write_toml(raw / "edf.toml", settings)
    after = convert.convert(name, raw, tmp_path / "fewer", ignore_channels=[label])
    assert list(read_recording(after / path.name).signals) == kept
    (path,) = (p for p in raw.rglob("*") if "night1_" not in p.name and has_signals(p))
    labels = list(formats.read(path).signals)
    with pytest.raises(DataError, match="no signal is left"):
        convert.convert(name, raw, tmp_path / "none", ignore_channels=labels)


def has_signals(path: Path) -> bool:
    try:
        return bool(formats.read(path).signals)
    except (SleeptoolsError, OSError):
        return False


def test_stages_beside_a_bad_channel_need_no_range_of_it(tmp_path: Path) -> None:
    """One EDF+ file holds the signals, one of them bad, and the stages."""
    path = tmp_path / "raw/S1.edf"
    path.parent.mkdir()
    writer = pyedflib.EdfWriter(str(path), 2, file_type=pyedflib.FILETYPE_EDFPLUS)
    for k, label in enumerate(("EEG", "Light")):
        writer.setSignalHeader(k, {"label": label, "dimension": "uV", "sample_frequency": 64})
    writer.writeSamples([np.sin(np.arange(64 * 300.0))] * 2)
    for k in range(10):
        writer.writeAnnotation(30.0 * k, 30.0, "Sleep stage 2" if k % 2 else "Sleep stage W")
    writer.close()
    data = bytearray(path.read_bytes())
    count = int(data[252:256])
    data[256 + count * 104 + 8 : 256 + count * 104 + 16] = b"-204,8  "
    path.write_bytes(data)
    assert formats.read_hypnogram(path).counts()["N2"] == 5
    settings = {"signals": "{subject}.edf", "hypnograms": "{subject}.edf"}
    store.write_toml(path.parent / "edf.toml", settings)
    with pytest.raises(DataError, match="physical minimum") as caught:
        convert.convert("edf", path.parent, tmp_path / "out")
    assert caught.value.code == "EDF-RANGE"
    store.write_toml(path.parent / "edf.toml", settings | {"ignore_channels": ["Light"]})
    out = convert.convert("edf", path.parent, tmp_path / "out")
    assert list(read_recording(out / "S1.safetensors").signals) == ["EEG"]
    assert store.read_json(out / "manifest.json")["ignored_channels"] == {"S1": ["Light"]}
