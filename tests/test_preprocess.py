"""Which epochs are kept, by the real set's published counts, and what a raw folder becomes."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sleeptools import convert, epochs, preprocess, presets, stages, store
from sleeptools import recording as rec
from sleeptools.datasets import sleep_edf
from sleeptools.errors import DataError, MissingInputError, OutputError
from sleeptools.hypnogram import Hypnogram
from sleeptools.simulate import simulate

LETTERS = {letter: stages.EDF_TEXTS[f"Sleep stage {letter}"] for letter in "W1234R?"}
PUBLISHED = {"W": 8285, "N1": 2804, "N2": 17799, "N3": 5703, "REM": 7717}  # Sleep-EDF-20


def of_letters(letters: str) -> Hypnogram:
    pairs = [stages.resolve(LETTERS[x], stages.HUMAN) for x in letters]
    found, reasons = np.array(pairs, np.int8).T
    return Hypnogram(found, reasons=reasons)


def real_nights(real_data: Path) -> list[Hypnogram]:
    with (real_data / "sleep-edf/sc_stage_letters.csv").open() as file:
        return [of_letters(row["stages"]) for row in csv.DictReader(file)]


def kept_counts(nights: list[Hypnogram], rule: presets.TrimRule) -> dict[str, int]:
    trim = presets.Trim(rule=rule)
    kept = np.concatenate([n.stages[preprocess.select(n, trim)[0]] for n in nights])
    return {name: int((kept == i).sum()) for i, name in enumerate(stages.HUMAN)}


def test_published_counts_of_sleep_edf_20(real_data: Path) -> None:
    nights = real_nights(real_data)
    assert len(nights) == 39
    counts = kept_counts(nights, "drop-then-trim")
    assert counts == PUBLISHED
    assert sum(counts.values()) == 42308


def test_the_other_order_keeps_more_wake_and_the_same_sleep(real_data: Path) -> None:
    nights = real_nights(real_data)
    counts = kept_counts(nights, "trim-then-drop")
    assert {k: v for k, v in counts.items() if k != "W"} == {
        k: v for k, v in PUBLISHED.items() if k != "W"
    }
    assert counts["W"] > PUBLISHED["W"]
    whole = kept_counts(nights, "none")
    assert whole["W"] == sum(int((n.stages == 0).sum()) for n in nights)


@given(some.text("W1234R?", min_size=1, max_size=400), some.sampled_from(presets.TrimRule.__args__))
def test_kept_and_excluded_add_up(letters: str, rule: presets.TrimRule) -> None:
    night = of_letters(letters)
    kept, excluded = preprocess.select(night, presets.Trim(rule=rule, margin_minutes=5))
    assert len(kept) + sum(excluded.values()) == len(night)
    assert (np.diff(kept) > 0).all()
    assert (night.stages[kept] >= 0).all()
    asleep = night.stages > 0
    assert asleep[kept].sum() == asleep.sum()


def test_margin_counts_what_is_left_after_dropping() -> None:
    night = of_letters("W" * 20 + "?" * 5 + "W" * 3 + "2" * 10 + "W" * 20)
    five_minutes = presets.Trim(rule="drop-then-trim", margin_minutes=5)
    kept, excluded = preprocess.select(night, five_minutes)
    assert len(kept) == 10 + 10 + 10
    assert excluded["unknown"] == 5
    other = presets.Trim(rule="trim-then-drop", margin_minutes=5)
    kept, _ = preprocess.select(night, other)
    assert len(kept) == (10 + 3) + 10 + 10  # the margin begins before the "?" block


def test_without_sleep_everything_is_kept() -> None:
    kept, _ = preprocess.select(of_letters("W" * 300), presets.Trim())
    assert len(kept) == 300


# --- whole folders --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=2, nights=2, hours=1.5)


@pytest.fixture(scope="module")
def recordings(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert.convert("sleep-edf", raw, tmp_path_factory.mktemp("recordings"))


def test_recordings_hold_what_the_files_hold(raw: Path, recordings: Path) -> None:
    index = store.read_table(recordings / "index.parquet")
    assert index["recording"].to_list() == ["SC4001", "SC4002", "SC4011", "SC4012"]
    assert index["subject"].to_list() == ["SC400", "SC400", "SC401", "SC401"]
    for source in sleep_edf.find(raw):
        wanted = sleep_edf.read(source)
        found = rec.read(recordings / f"{source.id}.safetensors")
        assert found.hypnogram is not None
        assert wanted.hypnogram is not None
        assert np.array_equal(found.hypnogram.stages, wanted.hypnogram.stages)
        assert np.array_equal(found.hypnogram.reasons, wanted.hypnogram.reasons)
        assert found.start == wanted.start
        for label, signal in wanted.signals.items():
            assert np.array_equal(found.signals[label].samples(), signal.samples())
            assert found.signals[label].sample_rate == signal.sample_rate
    assert store.read_manifest(recordings, convert.KIND)["simulated"] is True
    assert store.verify(recordings) == []


def test_raw_and_recordings_give_the_same_epochs(
    raw: Path, recordings: Path, tmp_path: Path
) -> None:
    preset = presets.load("sleep-edf")
    one = epochs.open_set(preprocess.preprocess(preset, recordings, tmp_path / "a"))
    two = epochs.open_set(preprocess.preprocess(preset, raw, tmp_path / "b"))
    assert len(one) == len(two)
    for a, b in zip(one.files, two.files, strict=True):
        assert np.array_equal(a.signals, b.signals)
        assert np.array_equal(a.stages, b.stages)
    assert one.simulated
    assert one.manifest["counts"] == {
        n: int((one.stages == i).sum()) for i, n in enumerate(one.names)
    }


def test_every_epoch_is_its_part_of_the_recording(recordings: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    found = epochs.open_set(preprocess.preprocess(preset, recordings, tmp_path / "epochs"))
    for file in found.files:
        source = rec.read(recordings / f"{file.recording}.safetensors")
        assert source.hypnogram is not None
        eeg = source.signals["EEG Fpz-Cz"].samples()
        for k in (0, len(file) // 2, len(file) - 1):
            first = round(file.onset[k] * 100)
            assert np.array_equal(file.signals[k, 0], eeg[first : first + 3000])
            assert file.stages[k] == source.hypnogram.stages[round(file.onset[k] / 30)]
    numbers = np.array([len(found) - 1, 0, len(found.files[0]), 3])
    gathered = found.gather(numbers)
    for row, number in zip(gathered, numbers, strict=True):
        file, k = found.where(int(number))
        assert np.array_equal(row, file.signals[k])


def test_nothing_is_done_twice_and_changed_input_is_seen(raw: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(raw, tmp_path / "raw")
    said: list[str] = []
    out = tmp_path / "recordings"
    convert.convert("sleep-edf", tmp_path / "raw", out)
    convert.convert("sleep-edf", tmp_path / "raw", out, lambda s: said.append(s.text))
    assert all("as before" in text for text in said)
    psg = tmp_path / "raw/SC4001E0-PSG.edf"
    data = bytearray(psg.read_bytes())
    data[-1] ^= 1
    psg.write_bytes(data)
    said.clear()
    convert.convert("sleep-edf", tmp_path / "raw", out, lambda s: said.append(s.text))
    assert ["as before" in text for text in said] == [False, True, True, True]


def test_one_bad_recording_stops_no_other(raw: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw/SC4001EC-Hypnogram.edf").unlink()
    psg = tmp_path / "raw/SC4011E0-PSG.edf"
    psg.write_bytes(psg.read_bytes()[:-5000])
    out = tmp_path / "recordings"
    with pytest.raises(DataError, match="2 of 4 recordings failed, the first of them SC4001"):
        convert.convert("sleep-edf", tmp_path / "raw", out)
    listed = (out / "failures.csv").read_text()
    assert "SC4001" in listed
    assert "SC4011E0-PSG.edf" in listed
    assert store.read_manifest(out, convert.KIND)["recordings"] == ["SC4002", "SC4012"]
    shutil.copy(raw / "SC4001EC-Hypnogram.edf", tmp_path / "raw")
    shutil.copy(raw / "SC4011E0-PSG.edf", tmp_path / "raw")
    convert.convert("sleep-edf", tmp_path / "raw", out)
    assert not (out / "failures.csv").exists()


def test_hypnogram_of_another_night_is_refused(raw: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"):
        shutil.copy(raw / name, tmp_path)
    path = tmp_path / "SC4001EC-Hypnogram.edf"
    data = bytearray(path.read_bytes())
    data[176:184] = b"03.04.05"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"starts at .* but SC4001E0-PSG\.edf at"):
        sleep_edf.read(sleep_edf.find(tmp_path)[0])


def test_the_real_first_minutes(real_data: Path, tmp_path: Path) -> None:
    psg = real_data / "sleep-edf/SC4001E0-PSG_first300s.edf"
    scoring = real_data / "sleep-edf/hypnograms/SC4001EC-Hypnogram.edf"
    (tmp_path / "SC4001E0-PSG.edf").symlink_to(psg)
    (tmp_path / scoring.name).symlink_to(scoring)
    out = preprocess.preprocess(presets.load("sleep-edf"), tmp_path, tmp_path / "epochs")
    found = epochs.open_set(out)
    assert found.manifest["counts"] == {"W": 10, "N1": 0, "N2": 0, "N3": 0, "REM": 0}
    assert found.manifest["excluded"]["past the signals"] == 2870
    assert not found.simulated
    assert found.files[0].signals.shape == (10, 4, 3000)
    envelope = found.files[0].signals[:, 3]
    assert envelope.min() > -1
    assert envelope.max() < 5.5


def test_another_preset_never_overwrites(recordings: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    preprocess.preprocess(preset, recordings, tmp_path / "epochs")
    other = presets.changed(preset, trim="none", margin_minutes=None)
    with pytest.raises(OutputError, match="another preset"):
        preprocess.preprocess(other, recordings, tmp_path / "epochs")


def test_missing_and_wrong_folders(tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    with pytest.raises(MissingInputError):
        preprocess.preprocess(preset, tmp_path / "nowhere", tmp_path / "epochs")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError) as caught:
        preprocess.preprocess(preset, tmp_path / "other", tmp_path / "epochs")
    assert "SC4ssNE0-PSG.edf" in str(caught.value.hint)


def test_a_signal_without_unit_is_refused(raw: Path) -> None:
    from sleeptools import montage

    night = sleep_edf.read(sleep_edf.find(raw)[0])
    blank = replace(night.signals["EEG Fpz-Cz"], unit="")
    night = replace(night, signals=dict(night.signals) | {"EEG Fpz-Cz": blank})
    with pytest.raises(DataError, match="expected a voltage"):
        montage.pick(night, ["EEG Fpz-Cz"])
    with pytest.raises(DataError) as caught:
        montage.pick(night, ["EEG C4-A1"])
    assert "EEG Pz-Oz" in str(caught.value.hint)
