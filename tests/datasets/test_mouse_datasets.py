"""SlumberNet's and Kjaerby's files: samples and labels in their epochs, one clear error each."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import signal as dsp
from scipy.io import loadmat, savemat

from sleeptools import datasets, formats, registry, store
from sleeptools.commands import convert, preprocess
from sleeptools.datasets import kjaerby, slumbernet
from sleeptools.datasets.shared.mice import subject_of
from sleeptools.errors import DataError, NoStagesError, UnavailableError, UsageError
from sleeptools.formats import columns, matlab
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import EpochFile, open_epochs, read_epoch_file
from sleeptools.preprocessing.recording_epochs import write_recording_epochs
from sleeptools.recording import placing, stages
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal, read_recording, write_recording

SETS = {"slumbernet": slumbernet, "kjaerby": kjaerby}


def made(seconds: float, rate: float, epoch_seconds: float, eeg: np.ndarray) -> Recording:
    """A recording whose EMG is noise and whose stages go round."""
    rng = np.random.default_rng(0)
    emg = rng.standard_normal(len(eeg)).astype(np.float32)
    count = int(seconds / epoch_seconds)
    scores = (np.arange(count) % 4 - 1).astype(np.int8)  # -1 0 1 2
    reasons = np.where(scores < 0, stages.MOVEMENT, stages.SCORED).astype(np.int8)
    signals = {
        label: Signal(label, rate, "uV", label.lower(), len(v), lambda v=v: v)
        for label, v in (("EEG", eeg), ("EMG", emg))
    }
    scoring = Hypnogram(scores, stages.MOUSE_STAGES, epoch_seconds, 0.0, reasons)
    return Recording("m-1", "m-1", 1, signals, scoring, datetime(2020, 6, 1, 7))


def only(folder: Path) -> EpochFile:
    (file,) = open_epochs(folder).files
    return file


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with 40 epochs of SlumberNet's form."""
    eeg = (np.arange(40 * 1024) % 997).astype(np.float32)
    slumbernet.write(made(160, 256, 4, eeg), tmp_path / "raw", ())
    return tmp_path / "raw"


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """A folder with 120 s of Kjaerby's form."""
    eeg = (np.arange(int(120 * kjaerby.SAMPLE_RATE)) % 997).astype(np.float32)
    kjaerby.write(made(120, kjaerby.SAMPLE_RATE, 1, eeg), tmp_path / "raw", ())
    return tmp_path / "raw" / "m-1.mat"


def content(path: Path) -> dict[str, np.ndarray]:
    return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}


# --- samples and labels where they belong ---------------------------------------------------------


def test_texts_are_read_sample_by_sample(texts: Path, tmp_path: Path) -> None:
    (source,) = slumbernet.find(texts)
    assert (source.id, source.subject, source.night) == ("m-1", "m-1", 1)
    recording = slumbernet.read(source)
    eeg = recording.signal("EEG")
    assert (eeg.sample_rate, eeg.unit, eeg.size) == (256.0, "uV", 40 * 1024)
    np.testing.assert_array_equal(eeg.samples(), np.arange(40 * 1024) % 997)
    assert recording.hypnogram is not None
    assert recording.hypnogram.counts() == {
        "Wake": 10,
        "NREM": 10,
        "REM": 10,
        "unknown": 0,
        "movement": 10,
        "unannotated": 0,
    }
    np.testing.assert_array_equal(recording.hypnogram.stages, np.arange(40) % 4 - 1)
    out = preprocess.preprocess(presets.load("slumbernet"), texts, tmp_path / "epochs")
    file = only(out)
    assert file.signals.shape == (30, 2, 256)
    assert file.facts["excluded"]["movement"] == 10
    np.testing.assert_array_equal(file.stages, [0, 1, 2] * 10)
    np.testing.assert_array_equal(file.onset, [4 * k for k in range(40) if k % 4])


@pytest.mark.parametrize("text", ["{} {}\n", "  {}   {} \r\n", "{}\t{}\n", "\t{} \t {}\n"])
def test_any_blanks_part_the_columns(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a-256Hz.txt"
    values = np.random.default_rng(1).normal(0, 50, (5000, 2)).round(3)
    path.write_text("".join(text.format(a, b) for a, b in values) + "\n\n")
    found = columns.read(path)
    for i, label in enumerate(columns.LABELS):
        np.testing.assert_array_equal(found.signal(label).samples(), values[:, i].astype("f4"))


@settings(max_examples=30, deadline=None)
@given(
    some.lists(some.tuples(*[some.floats(-1e6, 1e6, width=32)] * 2), min_size=1, max_size=60),
    some.integers(1, 64),
)
def test_blocks_of_any_size_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float]], size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "a-256Hz.txt"
    path.write_text("\n".join(f"{a!r} {b!r}" for a, b in values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", size)
        found = columns.read(path)
        for i, label in enumerate(columns.LABELS):
            wanted = np.array([row[i] for row in values], np.float32)
            np.testing.assert_array_equal(found.signal(label).samples(), wanted)


def test_volts_become_microvolts_and_seconds_begin_at_their_sample(
    mat: Path, tmp_path: Path
) -> None:
    recording = kjaerby.read(kjaerby.find(mat.parent)[0])
    eeg = recording.signal("EEG").samples()
    np.testing.assert_allclose(eeg, np.arange(len(eeg)) % 997, rtol=1e-6)
    preset = presets.load("kjaerby").model_copy(update={"processing": ()})
    file = only(preprocess.preprocess(preset, mat.parent, tmp_path / "epochs"))
    assert file.signals.shape[1:] == (2, 512)
    first = np.ceil(file.onset * kjaerby.SAMPLE_RATE).astype(int)
    np.testing.assert_allclose(file.signals[:, 0, 0], first % 997, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(file.stages, file.onset % 4 - 1)


def test_a_marker_stays_in_its_second_over_a_day(tmp_path: Path) -> None:
    """At 512 Hz it would be 6.8 s away at the end of the day."""
    rate, seconds = kjaerby.SAMPLE_RATE, 86400
    eeg = np.zeros(int(seconds * rate), np.float32)
    marked = [1, 3601, 43197, 86397]
    for second in marked:
        eeg[int(np.ceil((second + 0.5) * rate))] = 1000.0
    scores = np.full((1, seconds), -1.0)
    scores[0, ::3], scores[0, marked] = 1.0, 2.0
    emg = (np.arange(len(eeg)) % 7).astype(np.float32)
    values = {"eeg": eeg, "emg": emg, "eeg_frequency": rate, "sleep_scores": scores}
    savemat(tmp_path / "m.mat", values)
    file = only(preprocess.preprocess(presets.load("kjaerby"), tmp_path, tmp_path / "epochs"))
    peak = file.signals[:, 0].max(1)
    assert file.onset[peak > 100].tolist() == marked
    assert file.onset[file.stages == 2].tolist() == marked
    at = file.signals[peak > 100, 0].argmax(1)
    assert np.abs(at - 256).max() <= 1
    assert file.facts["excluded"]["past the signals"] == 1  # the last second lacks a sample
    assert len(file) + sum(file.facts["excluded"].values()) == seconds


def test_kjaerby_is_scaled_by_recording(mat: Path, tmp_path: Path) -> None:
    file = only(preprocess.preprocess(presets.load("kjaerby"), mat.parent, tmp_path / "epochs"))
    recording = kjaerby.read(kjaerby.find(mat.parent)[0])
    for channel, label in enumerate(("EEG", "EMG")):
        samples = recording.signal(label).samples().astype(np.float64)
        first = int(np.ceil(file.onset[7] * kjaerby.SAMPLE_RATE))
        wanted = (samples[first : first + 512] - samples.mean()) / samples.std()
        np.testing.assert_allclose(file.signals[7, channel], wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["slumbernet", "slumbernet-paper", "slumbernet-authors"])
def test_a_pulse_lands_in_its_epoch_of_slumbernet(tmp_path: Path, name: str) -> None:
    eeg = np.zeros(200 * 1024, np.float32)
    marked = [2, 57, 199]
    for epoch in marked:
        eeg[epoch * 1024 + 508 : epoch * 1024 + 516] = 500.0
    slumbernet.write(made(800, 256, 4, eeg), tmp_path / "raw", ())
    file = only(preprocess.preprocess(presets.load(name), tmp_path / "raw", tmp_path / "e"))
    peak = file.signals[:, 0].max(1)
    assert (file.onset[peak > 100] / 4).tolist() == marked
    assert np.abs(file.signals[peak > 100, 0].argmax(1) - 128).max() <= 1


def test_the_authors_variant_is_what_their_steps_give(texts: Path, tmp_path: Path) -> None:
    """Each epoch alone: causal low-pass from rest, polyphase with zeros around, 12th degree."""
    preset = presets.load("slumbernet-authors")
    file = only(preprocess.preprocess(preset, texts, tmp_path / "epochs"))
    recording = slumbernet.read(slumbernet.find(texts)[0])
    b, a = dsp.butter(4, 16, fs=256)
    x = np.linspace(-1, 1, 256)
    for k, onset in enumerate(file.onset):
        part = slice(int(onset * 256), int(onset * 256) + 1024)
        for channel, label in enumerate(("EEG", "EMG")):
            wave = recording.signal(label).samples()[part].astype(np.float64)
            wave = dsp.lfilter(b, a, wave) if label == "EMG" else wave
            wave = dsp.resample_poly(wave, 256, 1024)
            fit = np.polynomial.Legendre.fit(x, wave, 12)(x)
            np.testing.assert_allclose(file.signals[k, channel], wave - fit, atol=2e-3)


def test_the_texts_variant_is_what_its_steps_give(texts: Path, tmp_path: Path) -> None:
    """Each epoch alone: polyphase, then a 0.5-Hz high-pass of the EMG, then the polynomial."""
    preset = presets.load("slumbernet-paper")
    file = only(preprocess.preprocess(preset, texts, tmp_path / "epochs"))
    recording = slumbernet.read(slumbernet.find(texts)[0])
    sos = dsp.butter(4, 0.5, "highpass", fs=64, output="sos")
    x = np.linspace(-1, 1, 256)
    for k, onset in enumerate(file.onset):
        part = slice(int(onset * 256), int(onset * 256) + 1024)
        for channel, label in enumerate(("EEG", "EMG")):
            wave = recording.signal(label).samples()[part].astype(np.float64)
            wave = dsp.resample_poly(wave, 1, 4)
            wave = dsp.sosfilt(sos, wave) if label == "EMG" else wave
            fit = np.polynomial.Legendre.fit(x, wave, 12)(x)
            np.testing.assert_allclose(file.signals[k, channel], wave - fit, atol=2e-3)


def test_the_two_preprocessings_differ_most_at_the_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    eeg = (100 + 50 * rng.standard_normal(40 * 1024)).astype(np.float32)
    slumbernet.write(made(160, 256, 4, eeg), tmp_path / "raw", ())
    whole, alone = (
        only(preprocess.preprocess(presets.load(n), tmp_path / "raw", tmp_path / n)).signals[:, 0]
        for n in ("slumbernet", "slumbernet-authors")
    )
    apart = np.abs(whole - alone).mean(0)
    assert apart[:3].max() > 5 * apart[64:192].mean()


# --- version 7.3 ----------------------------------------------------------------------------------


def write_73(path: Path, values: dict[str, np.ndarray]) -> None:
    """As MATLAB does: 512 bytes of text, transposed arrays, the class as an attribute."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            stored = file.create_dataset(name, data=value.T)
            kind = {"float64": "double", "float32": "single"}.get(value.dtype.name, "int8")
            stored.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def test_both_versions_give_the_same(mat: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    newer = tmp_path / "new" / "m-1.mat"
    newer.parent.mkdir()
    write_73(newer, content(mat))
    one, two = (kjaerby.read(kjaerby.find(p)[0]) for p in (mat.parent, newer.parent))
    assert formats.find(newer) is matlab
    for label in ("EEG", "EMG"):
        a, b = one.signal(label), two.signal(label)
        assert (a.sample_rate, a.size, a.gain) == (b.sample_rate, b.size, b.gain)
        np.testing.assert_array_equal(a.samples(), b.samples())
    assert one.hypnogram is not None
    assert two.hypnogram is not None
    np.testing.assert_array_equal(one.hypnogram.stages, two.hypnogram.stages)
    np.testing.assert_array_equal(one.hypnogram.reasons, two.hypnogram.reasons)


def test_links_out_of_the_file_are_not_followed(mat: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    values = content(mat)
    secret, path = tmp_path / "secret.h5", tmp_path / "raw2.mat"
    write_73(secret, {"eeg": values.pop("eeg")})
    write_73(path, values)
    with h5py.File(path, "r+") as file:
        file["eeg"] = h5py.ExternalLink(str(secret), "eeg")
    with pytest.raises(DataError, match=r"'eeg' is .* of class link; expected a vector"):
        matlab.read(path)


def test_without_h5py_the_error_names_it(
    mat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (mat.parent / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + matlab.HDF5 + b"\0" * 99)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnavailableError, match="h5py") as caught:
        convert.convert("kjaerby", mat.parent, tmp_path / "recordings")
    assert caught.value.exit_code == 69
    assert "pip install 'h5py>=3.10'" in str(caught.value.hint)


# --- what is wrong with a file --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("1.0 x", "line 31 is '1.0 x'"),
        ("1.0", "line 31 is '1.0'"),
        ("", "line 31 is ''"),
        ("1 2 3", "line 31 is '1 2 3'"),
        ("1,5 2,5", "line 31 is '1,5 2,5'"),
    ],
)
def test_a_line_that_is_not_two_numbers(texts: Path, line: str, seen: str) -> None:
    path = texts / "m-1-256Hz.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:30], line, *lines[31:]]))
    recording = slumbernet.read(slumbernet.find(texts)[0])
    with pytest.raises(DataError, match=seen):
        recording.signal("EMG").samples()


@pytest.mark.parametrize("label", ["A", "W*", "NR", "S", "?", ""])
def test_every_other_label_is_an_artefact(texts: Path, label: str) -> None:
    path = texts / "m-1-sco.txt"
    path.write_text(path.read_text().replace(",M,", f",{label},"))
    hypnogram = slumbernet.read(slumbernet.find(texts)[0]).hypnogram
    assert hypnogram is not None
    assert hypnogram.counts()["movement"] == 10
    assert hypnogram.counts()["REM"] == 10


def test_scoring_with_tabs_and_another_head(texts: Path) -> None:
    path = texts / "m-1-sco.txt"
    head, table = path.read_text().split("Time,", 1)
    assert head.count("\n") == 18
    wanted = slumbernet.read(slumbernet.find(texts)[0]).hypnogram
    path.write_text("\n" * 18 + "Time\t" + table.replace(",", "\t"))
    found = slumbernet.read(slumbernet.find(texts)[0]).hypnogram
    assert wanted is not None
    assert found is not None
    np.testing.assert_array_equal(found.stages, wanted.stages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("01/06/2020 07:00:40,11", "01/06/2020 07:00:41,11"), "epoch 11 is at"),
        (lambda t: t.replace(",12,", ",11,"), "epoch 11 follows epoch 11"),
        (lambda t: t[: t.index("01/06/2020 07:00:20")], "covers only 12%"),
        (lambda t: t.replace(",13,", ";13;"), "line 32 is"),
    ],
)
def test_a_damaged_scoring(texts: Path, change, message: str) -> None:
    path = texts / "m-1-sco.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        slumbernet.read(slumbernet.find(texts)[0])


def test_a_head_without_a_table(texts: Path) -> None:
    path = texts / "m-1-sco.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:19]))
    with pytest.raises(NoStagesError, match="time, epoch number and stage"):
        slumbernet.read(slumbernet.find(texts)[0])


def test_files_that_have_no_partner(texts: Path) -> None:
    for name in ("m-10-256Hz.txt", "m-10 b-sco.txt", "lone-sco.txt", "m-2-256Hz.txt"):
        shutil.copy(texts / f"m-1-{'256Hz' if '256' in name else 'sco'}.txt", texts / name)
    found = {s.id: s for s in slumbernet.find(texts)}
    assert {k for k, s in found.items() if not s.problem} == {"m-1", "m-10"}
    assert found["m-10"].files[1].name == "m-10 b-sco.txt"  # not the scoring of m-1
    assert "1 signal files and 0 scorings begin with m-2" in found["m-2"].problem
    with pytest.raises(DataError, match="0 signal files and 1 scorings begin with lone-"):
        slumbernet.read(found["lone-"])


def test_the_rate_is_in_the_name(texts: Path) -> None:
    for name in ("m.txt", "m-0Hz.txt"):
        path = shutil.copy(texts / "m-1-256Hz.txt", texts / name)
        with pytest.raises(DataError, match="does not say the sample rate"):
            columns.read(Path(path))
    empty = texts / "e-256Hz.txt"
    empty.write_text(" \n\n")
    with pytest.raises(DataError, match="holds no samples"):
        columns.read(empty)


BROKEN = {
    "eeg missing": ({"eeg": None}, "no variable 'eeg'"),
    "scores missing": ({"sleep_scores": None}, "no variable 'sleep_scores'"),
    "two rows": ({"emg": np.zeros((2, 500))}, "'emg' is 2 x 500 of class double"),
    "empty": ({"eeg": np.zeros((0, 0))}, "'eeg' is 0 x 0 of class double"),
    "text": ({"eeg": "abc"}, "'eeg' is .* of class char"),
    "cell": ({"eeg": np.array([[1, "a"]], object)}, "'eeg' is 1 x 2 of class cell"),
    "struct": ({"emg": {"a": 1.0}}, "'emg' is 1 x 1 of class struct"),
    "rate of two": ({"eeg_frequency": np.ones((1, 2))}, "eeg_frequency is 1, of 2"),
    "rate zero": ({"eeg_frequency": np.zeros((1, 1))}, "eeg_frequency is 0, of 1"),
    "score 5": ({"sleep_scores": np.full((1, 120), 5.0)}, "unknown stage text '5'"),
    "score 0.5": ({"sleep_scores": np.full((1, 120), 0.5)}, r"unknown stage text '0\.5'"),
    "short eeg": ({"eeg": np.zeros((1, 8267))}, "signals of 16.1478 s for 120 scored seconds"),
    "few scores": ({"sleep_scores": np.zeros((1, 50))}, "covers only 42%"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_mat_file_with_something_wrong(mat: Path, case: str) -> None:
    changes, message = BROKEN[case]
    values = content(mat) | changes
    savemat(mat, {k: v for k, v in values.items() if v is not None})
    with pytest.raises(DataError, match=message):
        kjaerby.read(kjaerby.find(mat.parent)[0])


def test_nan_and_minus_one_are_unknown(mat: Path) -> None:
    values = content(mat)
    values["sleep_scores"] = np.tile([0.0, np.nan, 1.0, -1.0, 2.0, 0.0], (1, 20))
    savemat(mat, values)
    hypnogram = kjaerby.read(kjaerby.find(mat.parent)[0]).hypnogram
    assert hypnogram is not None
    assert hypnogram.counts() == {
        "Wake": 39, "NREM": 20, "REM": 20, "unknown": 40, "movement": 0, "unannotated": 0,
    }  # fmt: skip  # the last second lacks a sample


def test_scores_past_the_signals_are_cut_and_counted(mat: Path, tmp_path: Path) -> None:
    """As in the published sample file, whose EEG lasts 8,267 s and whose scores 10,837 s."""
    values = content(mat)
    values["eeg"] = values["eeg"][:, : int(91.6 * kjaerby.SAMPLE_RATE)]
    savemat(mat, values)
    recording = kjaerby.read(kjaerby.find(mat.parent)[0])
    assert recording.facts["epochs past the signals"] == 29
    file = only(preprocess.preprocess(presets.load("kjaerby"), mat.parent, tmp_path / "epochs"))
    assert file.facts["excluded"]["past the signals"] == 29
    assert len(file) + sum(file.facts["excluded"].values()) == 120


def test_scores_are_counted_from_the_signals_start(mat: Path) -> None:
    """Scores have no times: more of them than seconds of signals are not cut off unsaid."""
    scores = matlab.read_hypnogram(mat)
    recording = matlab.read(mat)
    assert scores.timing == "length"
    longer = replace(scores, stages=np.tile(scores.stages, 2), reasons=np.tile(scores.reasons, 2))
    with pytest.raises(DataError, match="labels x 1 s"):
        placing.place(recording, longer)
    half = scores.clipped(recording.seconds / 2)
    assert any("epochs before the signals" in n for n in placing.place(recording, half).notes)


def test_signals_of_different_lengths_are_noted(mat: Path) -> None:
    assert "notes" not in matlab.read(mat).facts
    content = loadmat(mat)
    content["emg"] = content["emg"][:, : content["emg"].size // 2]
    savemat(mat, {k: v for k, v in content.items() if not k.startswith("__")})
    assert "before EEG, which is cut there" in str(matlab.read(mat).facts["notes"])


def test_nan_samples_are_refused(mat: Path, tmp_path: Path) -> None:
    values = content(mat)
    values["eeg"][0, 5000] = np.nan
    savemat(mat, values)
    with pytest.raises(DataError, match="signal 'EEG' is not finite"):
        preprocess.preprocess(presets.load("kjaerby"), mat.parent, tmp_path / "epochs")


@settings(max_examples=60, deadline=None)
@given(some.data())
def test_damaged_bytes_are_one_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: some.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mat")
    kjaerby.write(made(20, 64, 1, np.zeros(1280, np.float32)), folder, ())
    raw = bytearray((folder / "m-1.mat").read_bytes())
    for _ in range(data.draw(some.integers(1, 4))):
        raw[data.draw(some.integers(0, len(raw) - 1))] = data.draw(some.integers(0, 255))
    (folder / "m-1.mat").write_bytes(raw[: data.draw(some.integers(1, len(raw)))])
    said = ""
    try:
        for signal in kjaerby.read(kjaerby.find(folder)[0]).signals.values():
            assert len(signal.samples()) == signal.size
    except (DataError, UnavailableError) as e:
        said = str(e)
    assert "\n" not in said


# --- names, subsets, other epoch lengths ----------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "subject"),
    [
        ("chr2_590_freq", "chr2_590"),
        ("chr2_590", "chr2_590"),
        ("590-b_12", "590"),
        ("mouse-01-2", "mouse-01"),
        ("M3", "M3"),
        ("20190401_M3", "20190401_M3"),
    ],
)
def test_files_of_one_animal_are_one_subject(stem: str, subject: str) -> None:
    assert subject_of(stem) == subject


def test_recordings_of_an_animal_are_numbered(mat: Path) -> None:
    for name in ("chr2_590_b", "chr2_590_a", "chr2_61_a", "no good"):
        shutil.copy(mat, mat.with_name(f"{name}.mat"))
    found = {s.id: (s.subject, s.night, s.problem) for s in kjaerby.find(mat.parent)}
    assert found["chr2_590_a"] == ("chr2_590", 1, "")
    assert found["chr2_590_b"] == ("chr2_590", 2, "")
    assert found["chr2_61_a"] == ("chr2_61", 1, "")
    assert "cannot be the name of a recording" in found["no good"][2]


@pytest.mark.parametrize("name", SETS)
def test_a_folder_of_something_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match="holds no"):
        SETS[name].find(tmp_path)
    with pytest.raises(UsageError, match="no subsets"):
        SETS[name].plan(1, 1, "20")


@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 10.0, 60.0])
@pytest.mark.parametrize("rate", [64.0, 256.0, 511.95964])
def test_epochs_of_any_length(tmp_path: Path, seconds: float, rate: float) -> None:
    """The samples of an epoch follow its onset, whatever its length and the rate."""
    ramp = np.arange(int(240 * rate), dtype=np.float32)
    recording = made(240, rate, seconds, ramp)
    write_recording(tmp_path / "r" / "m-1.safetensors", recording, {})
    preset = presets.Preset(
        name="x",
        data_set="kjaerby",
        montage=("EEG", "EMG"),
        sample_rate=round(rate),
        rate_tolerance=0.001,
        epoch_seconds=seconds,
        stages=stages.MOUSE_STAGES,
        trim={"rule": "none"},
    )
    write_recording_epochs(
        preset, read_recording(tmp_path / "r" / "m-1.safetensors"), tmp_path / "e.safetensors", {}
    )
    file = read_epoch_file(tmp_path / "e.safetensors")
    assert file.signals.shape[2] == round(seconds * round(rate))
    np.testing.assert_array_equal(file.signals[:, 0, 0], np.ceil(file.onset * rate - 1e-6))
    assert len(file) + sum(file.facts["excluded"].values()) == int(240 / seconds)


def test_another_epoch_length_is_refused(texts: Path, tmp_path: Path) -> None:
    preset = presets.load("slumbernet").model_copy(update={"epoch_seconds": 10.0})
    with pytest.raises(DataError, match=r"scored in Wake, NREM, REM per 4 s; the preset wants"):
        preprocess.preprocess(preset, texts, tmp_path / "epochs")


# --- simulated sets -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_simulated_files_become_epochs_of_the_truth(name: str, tmp_path: Path) -> None:
    from sleeptools.commands.simulate import simulate

    raw = simulate(name, tmp_path / "raw", subjects=2, nights=1, hours=0.5, seed=3)
    assert store.verify(raw) == []
    convert.convert(name, raw, tmp_path / "recordings")
    one = preprocess.preprocess(presets.load(name), raw, tmp_path / "one")
    two = preprocess.preprocess(presets.load(name), tmp_path / "recordings", tmp_path / "two")
    found, same = open_epochs(one), open_epochs(two)
    assert found.simulated
    assert found.subjects == ("mouse-01", "mouse-02")
    assert found.names == stages.MOUSE_STAGES
    for a, b in zip(found.files, same.files, strict=True):
        np.testing.assert_array_equal(a.signals, b.signals)
        np.testing.assert_array_equal(a.stages, b.stages)
    again = simulate(name, tmp_path / "again", subjects=1, nights=2, hours=0.5, seed=3)
    assert len(list(again.glob("mouse-01-2*"))) == len(list(raw.glob("mouse-01-1*"))) > 0
    for path in raw.glob("mouse-01-1*"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_a_recording_that_is_replaced_keeps_its_shape(texts: Path) -> None:
    """What `write` wrote reads back as it was, from the rounded text."""
    recording = slumbernet.read(slumbernet.find(texts)[0])
    slumbernet.write(replace(recording, start=datetime(2020, 6, 1, 7)), texts / "b", ())
    again = slumbernet.read(slumbernet.find(texts / "b")[0])
    for label in ("EEG", "EMG"):
        np.testing.assert_allclose(
            again.signal(label).samples(), recording.signal(label).samples(), atol=6e-4
        )


def test_a_stage_list_without_wake_first_cannot_be_trimmed() -> None:
    settings = presets.load("kjaerby").model_dump() | {"stages": ("NREM", "Wake", "REM")}
    assert presets.resolve(settings, source="x").stages[0] == "NREM"
    settings["trim"] = {"rule": "drop-then-trim"}
    with pytest.raises(DataError, match="trims wake, but the first stage is 'NREM'"):
        presets.resolve(settings, source="x")


@pytest.mark.parametrize(
    ("name", "preset", "epochs_", "seconds"),
    [("slumbernet", "slumbernet", 450, 4), ("kjaerby", "kjaerby", 1799, 1)],
)
def test_inspect_knows_the_unpacked_folders(
    tmp_path: Path, name: str, preset: str, epochs_: int, seconds: int
) -> None:
    from sleeptools.commands import inspect
    from sleeptools.commands.simulate import simulate

    raw = simulate(name, tmp_path / "raw", subjects=1, hours=0.5)
    found = [inspect.inspect(p) for p in inspect.files_to_inspect([raw])]
    assert {f["kind"] for f in found} == (
        {"recording"} if name == "kjaerby" else {"recording", "hypnogram"}
    )
    recording = next(f for f in found if f["kind"] == "recording")
    assert recording["montage"] == {"EEG": "EEG", "EMG": "EMG"}
    assert recording["problems"] == []
    assert (recording["epochs"], recording["epoch_seconds"]) == (epochs_, seconds)
    scored = next(f for f in found if f["stages"])
    assert {"Wake", "NREM", "REM"} < set(scored["stages"])
    assert sum(scored["stages"].values()) >= epochs_


@pytest.mark.slow
def test_the_chain_of_a_mouse_model(command, tmp_path: Path) -> None:
    """Simulate, preprocess, train, evaluate, report: three stages, one-second epochs."""
    import json

    assert command("simulate", "kjaerby", "raw", "--subjects", 2, "--hours", 0.5).code == 0
    ran = command("preprocess", "kjaerby", "raw")
    assert ran.code == 0, ran.err
    quick = ("--passes", 1, "--set", "recipe.batch=128", "--model", "mouse-cnn")
    ran = command("train", "epochs", "run", "--folds", 2, *quick)
    assert ran.code == 0, ran.err
    ran = command("evaluate", "run", "--json")
    assert ran.code == 0, ran.err
    (found,) = json.loads(ran.out)
    truth = open_epochs(tmp_path / "epochs").stages
    (result,) = found["results"]
    assert np.sum(result["confusion"], 1).tolist() == np.bincount(truth, minlength=3).tolist()
    assert command("report", "run").code == 0
    page = (tmp_path / "report.html").read_text()
    for word in ("Wake", "NREM", "simulated"):
        assert word in page


@pytest.mark.parametrize("first", [1, 5, 9])
def test_a_scoring_lies_at_the_numbers_of_its_epochs(first: int, tmp_path: Path) -> None:
    rows = "".join(
        f"01/02/2021 10:{4 * k // 60:02d}:{4 * k % 60:02d},{k},W,0,\r\n" for k in range(first, 31)
    )
    (tmp_path / "m1-sco.txt").write_text("Key,v\r\n" * 19 + rows)
    samples = np.random.default_rng(0).normal(0, 30, (256 * 4 * 30, 2))
    np.savetxt(tmp_path / "m1-256Hz.txt", samples, "%.1f", "\t")
    (source,) = slumbernet.find(tmp_path)
    night = slumbernet.read(source)
    assert night.hypnogram is not None
    assert night.hypnogram.onset == 4 * (first - 1)
    assert len(night.hypnogram) == 31 - first


def test_the_files_of_another_data_set_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "m1.mat").write_bytes(b"x")
    with pytest.raises(DataError, match="holds no SlumberNet recordings") as caught:
        datasets.find_recordings(registry.load("datasets", "slumbernet"), tmp_path)
    assert "named as those of the data set kjaerby are" in str(caught.value.hint)
    (tmp_path / "m1.mat").unlink()
    with pytest.raises(DataError, match="holds no SlumberNet recordings") as caught:
        datasets.find_recordings(registry.load("datasets", "slumbernet"), tmp_path)
    assert str(caught.value.hint).startswith("expected files named")
