"""Which epochs are kept, by the real set's published counts, and what a raw folder becomes."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sleeptools import store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import sleep_edf
from sleeptools.errors import DataError, MissingInputError, OutputError
from sleeptools.formats import edf
from sleeptools.preprocessing import presets, trimming
from sleeptools.preprocessing.epochs import (
    EpochFile,
    open_epochs,
    read_epoch_file,
    write_epoch_file,
)
from sleeptools.preprocessing.recording_epochs import write_recording_epochs
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import RECORDINGS_KIND, Recording, Signal, read_recording
from sleeptools.runs import writing

LETTERS = {letter: label_schemes.EDF_TEXTS[f"Sleep stage {letter}"] for letter in "W1234R?"}
PUBLISHED = {"W": 8285, "N1": 2804, "N2": 17799, "N3": 5703, "REM": 7717}  # Sleep-EDF-20


def of_letters(letters: str) -> Hypnogram:
    pairs = [stages.stage_number(LETTERS[x], stages.HUMAN_STAGES) for x in letters]
    found, reasons = np.array(pairs, np.int8).T
    return Hypnogram(found, reasons=reasons)


def real_nights(real_data: Path) -> list[Hypnogram]:
    with (real_data / "sleep-edf/sc_stage_letters.csv").open() as file:
        return [of_letters(row["stages"]) for row in csv.DictReader(file)]


def kept_counts(nights: list[Hypnogram], rule: presets.TrimRule) -> dict[str, int]:
    trim = presets.Trim(rule=rule)
    kept = np.concatenate([n.stages[trimming.select_epochs(n, trim)[0]] for n in nights])
    return {name: int((kept == i).sum()) for i, name in enumerate(stages.HUMAN_STAGES)}


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
    kept, excluded = trimming.select_epochs(night, presets.Trim(rule=rule, margin_minutes=5))
    assert len(kept) + sum(excluded.values()) == len(night)
    assert (np.diff(kept) > 0).all()
    assert (night.stages[kept] >= 0).all()
    asleep = night.stages > 0
    if rule != "drop-last":
        assert asleep[kept].sum() == asleep.sum()


def noise(seconds: int) -> Recording:
    """A recording whose 1-Hz envelope is a second longer than the rest."""
    heads = {h.label: h.samples_per_record / 30 for h in sleep_edf.SIGNALS}
    samples = np.random.default_rng(seconds).normal(0, 20, 100 * seconds).astype(np.float32)
    found = {}
    for label, rate in heads.items():
        part = samples[: round(rate * seconds) + (rate == 1)]
        found[label] = Signal(label, rate, "uV", "eeg", len(part), lambda p=part: p)
    return Recording("SC4001", "SC400", 1, found)


SCORED = some.text("W1234R?", min_size=1, max_size=40)
SCORED_ALL = some.text("W123R", min_size=1, max_size=20)
SHIFTS = some.integers(-50, 50)


def made_epochs(folder: Path, night: Recording) -> EpochFile:
    preset = presets.changed(presets.load("sleep-edf"), trim="none")
    write_recording_epochs(preset, night, folder / "x.safetensors", {})
    return read_epoch_file(folder / "x.safetensors")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters=SCORED, seconds=some.integers(30, 900), shift=SHIFTS)
def test_no_scored_second_is_lost(letters: str, seconds: int, shift: int, tmp_path: Path) -> None:
    """Labelled, unknown and dropped seconds are the hypnogram's, wherever it lies."""
    whole = replace(of_letters(letters), onset=30.0 * shift)
    night = noise(seconds).scored([whole])
    wanted = Counter(
        stages.HUMAN_STAGES[k]
        for n, k in enumerate(whole.stages, start=shift)
        if k >= 0 and 0 <= n < seconds // 30
    )
    if not wanted:
        with pytest.raises(DataError, match="no scored epochs"):
            made_epochs(tmp_path, night)
        return
    file = made_epochs(tmp_path, night)
    excluded = dict(file.facts["excluded"])
    assert Counter(stages.HUMAN_STAGES[k] for k in file.stages) == wanted
    assert excluded["before the signals"] == min(len(whole), max(0, -shift))
    padding = max(0, seconds // 30 - max(0, shift + len(whole)))
    scored = len(file) + sum(excluded.values()) - padding
    assert excluded["unannotated"] == padding
    assert scored * 30 == len(whole) * 30


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters=SCORED_ALL, first=some.integers(0, 12), by=some.integers(0, 12))
def test_a_hypnogram_shifted_by_epochs_shifts_the_labels(
    letters: str, first: int, by: int, tmp_path: Path
) -> None:
    """Each stage goes with other samples: those that many epochs later."""
    files = [
        made_epochs(tmp_path, noise(1350).scored([replace(of_letters(letters), onset=30.0 * k)]))
        for k in (first, first + by)
    ]
    one, two = ({float(t): int(k) for t, k in zip(f.onset, f.stages, strict=True)} for f in files)
    assert len(one) == len(two) == len(letters)
    assert {t + 30 * by: k for t, k in one.items()} == two
    eeg = noise(1350).signals["EEG Fpz-Cz"].samples()
    for file in files:
        for epoch, onset in zip(file.signals[:, 0], file.onset, strict=True):
            assert np.array_equal(epoch, eeg[round(onset * 100) :][:3000])


def test_margin_counts_what_is_left_after_dropping() -> None:
    night = of_letters("W" * 20 + "?" * 5 + "W" * 3 + "2" * 10 + "W" * 20)
    five_minutes = presets.Trim(rule="drop-then-trim", margin_minutes=5)
    kept, excluded = trimming.select_epochs(night, five_minutes)
    assert len(kept) == 10 + 10 + 10
    assert excluded["unknown"] == 5
    other = presets.Trim(rule="trim-then-drop", margin_minutes=5)
    kept, _ = trimming.select_epochs(night, other)
    assert len(kept) == (10 + 3) + 10 + 10  # the margin begins before the "?" block


def test_without_sleep_everything_is_kept() -> None:
    kept, _ = trimming.select_epochs(of_letters("W" * 300), presets.Trim())
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
        found = read_recording(recordings / f"{source.id}.safetensors")
        assert found.hypnogram is not None
        assert wanted.hypnogram is not None
        assert np.array_equal(found.hypnogram.stages, wanted.hypnogram.stages)
        assert np.array_equal(found.hypnogram.reasons, wanted.hypnogram.reasons)
        assert found.start == wanted.start
        for label, signal in wanted.signals.items():
            assert np.array_equal(found.signals[label].samples(), signal.samples())
            assert found.signals[label].sample_rate == signal.sample_rate
    assert store.read_manifest(recordings, RECORDINGS_KIND)["simulated"] is True
    assert store.verify(recordings) == []


def test_raw_and_recordings_give_the_same_epochs(
    raw: Path, recordings: Path, tmp_path: Path
) -> None:
    preset = presets.load("sleep-edf")
    one = open_epochs(preprocess.preprocess(preset, recordings, tmp_path / "a"))
    two = open_epochs(preprocess.preprocess(preset, raw, tmp_path / "b"))
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
    found = open_epochs(preprocess.preprocess(preset, recordings, tmp_path / "epochs"))
    for file in found.files:
        source = read_recording(recordings / f"{file.recording}.safetensors")
        assert source.hypnogram is not None
        eeg = source.signals["EEG Fpz-Cz"].samples()
        for k in (0, len(file) // 2, len(file) - 1):
            first = round(file.onset[k] * 100)
            assert np.array_equal(file.signals[k, 0], eeg[first : first + 3000])
            assert file.stages[k] == source.hypnogram.stages[round(file.onset[k] / 30)]
    numbers = np.array([len(found) - 1, 0, len(found.files[0]), 3])
    gathered = found.gather(numbers)
    for row, number in zip(gathered, numbers, strict=True):
        file, k = found.find_epoch(int(number))
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


@pytest.mark.parametrize("through_recordings", [True, False])
def test_a_copy_of_the_raw_files_gives_the_same_bytes(
    raw: Path, tmp_path: Path, through_recordings: bool
) -> None:
    """Files copied or fetched anew have other times; runs must know their epochs all the same."""
    import os
    import shutil

    shutil.copytree(raw, tmp_path / "raw")
    preset, sums, said = presets.load("sleep-edf"), [], list[str]()
    for n in range(2):
        for file in (tmp_path / "raw").iterdir():
            os.utime(file, (n, n))
        source = tmp_path / "raw"
        if through_recordings:
            source = convert.convert("sleep-edf", source, tmp_path / f"recordings-{n}")
        epochs = preprocess.preprocess(preset, source, tmp_path / f"epochs-{n}")
        sums.append(writing.epochs_fingerprint(open_epochs(epochs)))
        preprocess.preprocess(preset, source, tmp_path / "epochs-0", lambda s: said.append(s.text))
    assert sums[0] == sums[1]
    assert all("as before" in text for text in said)


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
    assert store.read_manifest(out, RECORDINGS_KIND)["recordings"] == ["SC4002", "SC4012"]
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
    found = open_epochs(out)
    assert found.manifest["counts"] == {"W": 10, "N1": 0, "N2": 0, "N3": 0, "REM": 0}
    assert found.manifest["excluded"]["past the signals"] == 2870
    assert not found.simulated
    assert found.files[0].signals.shape == (10, 4, 3000)
    envelope = found.files[0].signals[:, 3]
    assert envelope.min() > -1
    assert envelope.max() < 5.5


def test_damaged_output_is_seen_and_made_again(recordings: Path, tmp_path: Path) -> None:
    import shutil

    preset = presets.load("sleep-edf")
    source = shutil.copytree(recordings, tmp_path / "recordings")
    out = preprocess.preprocess(preset, source, tmp_path / "epochs")
    wanted = {p.name: p.read_bytes() for p in out.glob("*.safetensors")}
    for name, damage in (("SC4001", lambda b: b[:-1] + b"\x01"), ("SC4011", lambda b: b[:900])):
        path = out / f"{name}.safetensors"
        path.write_bytes(damage(path.read_bytes()))
    assert len(store.verify(out)) == 2
    said: dict[str, str] = {}
    preprocess.preprocess(preset, source, out, lambda s: said.update({s.id: s.text}))
    assert ["damaged" in said[n] for n in ("SC4001", "SC4002", "SC4011", "SC4012")] == [
        True,
        False,
        True,
        False,
    ]
    assert {p.name: p.read_bytes() for p in out.glob("*.safetensors")} == wanted


def test_every_epoch_of_the_recording_is_accounted_for(raw: Path, tmp_path: Path) -> None:
    """Also those after the end of a hypnogram that stops early."""
    import shutil

    for name in ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"):
        shutil.copy(raw / name, tmp_path)
    psg = sleep_edf.find(tmp_path)[0].files[0]
    seconds = edf.read(psg).seconds
    events = [(0.0, 1800.0, "Sleep stage W"), (1800.0, 1200.0, "Sleep stage 2")]
    begin = edf.read_start(psg)
    edf.write_annotations(tmp_path / "SC4001EC-Hypnogram.edf", events, begin)
    out = preprocess.preprocess(presets.load("sleep-edf"), tmp_path, tmp_path / "epochs")
    found = open_epochs(out)
    excluded = found.manifest["excluded"]
    assert excluded["unannotated"] == seconds // 30 - 100
    assert len(found) + sum(excluded.values()) == seconds // 30
    assert len(found.files[0].hypnogram) == seconds // 30


def test_telemetry_with_a_lead_in_stays_aligned(raw: Path, tmp_path: Path) -> None:
    """A hypnogram that starts 25 epochs late, as ST7041JO does."""
    import shutil

    psg = tmp_path / "ST7041J0-PSG.edf"
    shutil.copy(raw / "SC4001E0-PSG.edf", psg)
    recording = edf.read(psg)
    events = [(750.0, 300.0, "Sleep stage W"), (1050.0, 3000.0, "Sleep stage 2")]
    edf.write_annotations(tmp_path / "ST7041JO-Hypnogram.edf", events, recording.start)
    (source,) = sleep_edf.find(tmp_path)
    assert (source.id, source.subject, source.night) == ("ST7041", "ST704", 1)
    out = preprocess.preprocess(presets.load("sleep-edf"), tmp_path, tmp_path / "epochs")
    (file,) = open_epochs(out).files
    assert file.facts["excluded"]["unannotated"] == 25 + recording.seconds // 30 - 135
    assert file.onset[0] == 750
    assert len(file) == 110
    eeg = recording.signals["EEG Pz-Oz"].samples()
    assert np.array_equal(file.signals[0, 1], eeg[75000:78000])
    assert file.stages.tolist() == [0] * 10 + [2] * 100


def test_a_second_source_never_makes_the_first_forgotten(raw: Path, tmp_path: Path) -> None:
    import shutil

    for i, name in enumerate(("SC4001", "SC4011")):
        (tmp_path / str(i)).mkdir()
        for path in raw.glob(f"{name}*"):
            shutil.copy(path, tmp_path / str(i))
    convert.convert("sleep-edf", tmp_path / "0", tmp_path / "out")
    with pytest.raises(OutputError, match="holds 1 recordings that are not in"):
        convert.convert("sleep-edf", tmp_path / "1", tmp_path / "out")
    with pytest.raises(OutputError, match="folders of their own"):
        convert.convert("sleep-edf", tmp_path / "0", tmp_path / "0")


def test_what_convert_lost_is_said_by_preprocess(raw: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(raw, tmp_path / "raw")
    psg = tmp_path / "raw/SC4011E0-PSG.edf"
    psg.write_bytes(psg.read_bytes()[:-5000])
    with pytest.raises(DataError, match="SC4011"):
        convert.convert("sleep-edf", tmp_path / "raw", tmp_path / "rec")
    out = preprocess.preprocess(presets.load("sleep-edf"), tmp_path / "rec", tmp_path / "epochs")
    failure = open_epochs(out).manifest["failed"]["SC4011"]
    assert failure["code"] == "EDF-CUT"
    assert "cut short" in failure["message"]
    assert "`allow_truncated`" in failure["hint"]
    manifest = tmp_path / "rec/manifest.json"
    facts = store.read_json(manifest)
    store.write_json(manifest, facts | {"failed": {"SC4011": "it was cut short"}})  # as before
    preprocess.preprocess(presets.load("sleep-edf"), tmp_path / "rec", out)
    assert open_epochs(out).manifest["failed"]["SC4011"] == {
        "code": "",
        "message": "it was cut short",
        "hint": None,
    }
    taken = convert.convert("sleep-edf", tmp_path / "raw", tmp_path / "taken", allow_truncated=True)
    assert "the file holds" in read_recording(taken / "SC4011.safetensors").facts["notes"]


def test_interrupted_convert_is_told_from_an_empty_folder(recordings: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copy(recordings / "SC4001.safetensors", tmp_path)
    with pytest.raises(DataError, match="no index") as caught:
        preprocess.preprocess(presets.load("sleep-edf"), tmp_path, tmp_path / "epochs")
    assert "interrupted" in str(caught.value.hint)


def test_a_dangling_link_fails_one_recording_only(raw: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(raw, tmp_path / "raw")
    psg = tmp_path / "raw/SC4011E0-PSG.edf"
    psg.unlink()
    psg.symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="1 of 4 recordings failed, the first of them SC4011"):
        preprocess.preprocess(presets.load("sleep-edf"), tmp_path / "raw", tmp_path / "epochs")
    assert len(open_epochs(tmp_path / "epochs").files) == 3


def test_ids_that_look_like_numbers_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write_arrays(path, {}, {"format": "f", "version": 1, "subject": "1e5", "id": "1001"})
    facts = store.read_tensors(path, "f").facts
    assert (facts["subject"], facts["id"]) == ("1e5", "1001")


def test_simulate_never_touches_what_is_not_its_own(raw: Path, tmp_path: Path) -> None:
    precious = tmp_path / "SC4001E0-PSG.edf"
    precious.write_bytes(b"a real night")
    with pytest.raises(OutputError, match="not of a simulation"):
        simulate("sleep-edf", tmp_path, subjects=1, hours=0.5)
    assert precious.read_bytes() == b"a real night"
    with pytest.raises(OutputError, match="another simulation"):
        simulate("sleep-edf", raw, subjects=1, hours=1.5)


def test_interrupted_simulation_is_finished(raw: Path, tmp_path: Path) -> None:
    import shutil

    half = shutil.copytree(raw, tmp_path / "raw")
    for name in ("manifest.json", "SC4012E0-PSG.edf"):
        (half / name).unlink()
    said: dict[str, str] = {}
    options = {"subjects": 2, "nights": 2, "hours": 1.5}
    simulate("sleep-edf", half, **options, on_progress=lambda s: said.update({s.id: s.text}))
    assert [said[n] for n in ("SC4001", "SC4012")] == ["as before", "1.5 h"]
    for path in raw.glob("*.edf"):
        assert (half / path.name).read_bytes() == path.read_bytes()


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
    from sleeptools.recording import montage

    night = sleep_edf.read(sleep_edf.find(raw)[0])
    blank = replace(night.signals["EEG Fpz-Cz"], unit="")
    night = replace(night, signals=dict(night.signals) | {"EEG Fpz-Cz": blank})
    with pytest.raises(DataError, match="expected a voltage"):
        montage.pick(night, [montage.MontageChannel("EEG Fpz-Cz")])
    with pytest.raises(DataError) as caught:
        montage.pick(night, [montage.MontageChannel("EEG C4-A1")])
    assert "EEG Pz-Oz" in str(caught.value.hint)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_epoch_file_holds_one_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of a thousand recordings must fit the usual limit of open files."""
    from sleeptools.store import tensors

    values = np.zeros((3, 2, 8), np.float32)
    write_epoch_file(
        tmp_path / "e.safetensors",
        signals=values,
        stages=np.zeros(3, np.int8),
        onset=np.arange(3.0),
        hypnogram=np.zeros(3, np.int8),
        facts={"recording": "a", "subject": "a", "night": 1},
    )
    monkeypatch.setattr(tensors, "MAPPED", values.nbytes - 1)  # as if they were large
    before = open_files()
    files = [read_epoch_file(tmp_path / "e.safetensors") for _ in range(10)]
    assert open_files() == before + 10
    assert all(isinstance(f.signals, np.memmap) for f in files)
    assert open_files() == before + 10
