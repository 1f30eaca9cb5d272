"""A night with a lost electrode: counted everywhere, left out by presets of one's own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from preset_model import model_facts
from sleeptools import formats, store
from sleeptools.commands import convert, preprocess, score
from sleeptools.commands.inspect import inspect
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.formats.hypnodensity import read_density
from sleeptools.formats.parsing.edf_header import read_header
from sleeptools.inference.engine import Engine
from sleeptools.inference.recordings import hypnodensity
from sleeptools.models.folder import build_model, save_model
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs, read_epoch_file
from sleeptools.preprocessing.recording_epochs import write_recording_epochs
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import Recording, Signal

NIGHT = "SC4001E0-PSG"
OWN = """
name = "own"
data_set = "sleep-edf"
montage = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
sample_rate = 100.0
trim = {rule = "none"}
"""
FLAT, RAILED = range(10, 14), range(20, 22)
BAD = [*FLAT, *RAILED]


def put(path: Path, label: str, epochs: range, value: int | None) -> None:
    """Set the stored numbers of some 30-s records of a signal; None for the digital maximum."""
    header = read_header(path)
    (head,) = [s for s in header.signals if s.label == label]
    shape = (header.records, header.record_samples)
    samples = np.memmap(path, "<i2", "r+", header.size, shape)
    first, count = head.offset, head.samples_per_record
    samples[epochs.start : epochs.stop, first : first + count] = (
        head.digital_max if value is None else value
    )
    samples.flush()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=1, hours=0.6, seed=4)
    put(folder / f"{NIGHT}.edf", "EEG Pz-Oz", FLAT, 5)
    put(folder / f"{NIGHT}.edf", "EOG horizontal", RAILED, None)
    (folder / "manifest.json").unlink()  # it knows the files as they were
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> presets.Preset:
    path = tmp_path_factory.mktemp("preset") / "own.toml"
    path.write_text(OWN)
    return presets.load(str(path))


def model(folder: Path, preset: presets.Preset | dict) -> Path:
    settings = preset if isinstance(preset, dict) else preset.model_dump(mode="json")
    known = presets.resolve(settings, source="test")
    facts = model_facts(known) | {"preprocessing": {"preset": settings}}
    save_model(build_model("ulw-sleepnet", {}), folder, facts)
    return folder


def test_own_presets_exclude_and_those_of_published_sets_count(
    own: presets.Preset, tmp_path: Path
) -> None:
    assert own.quality == "exclude"
    assert {presets.load(name).quality for name in presets.names()} == {"count"}
    (tmp_path / "count.toml").write_text('quality = "count"\n' + OWN)
    assert presets.load(str(tmp_path / "count.toml")).quality == "count"
    older = own.model_dump(mode="json")
    del older["quality"]
    assert presets.resolve(older, source="an older run").quality == "count"
    store.write_toml(tmp_path / "epochs.toml", {"format": "sleeptools-epochs"} | older)
    assert presets.load(str(tmp_path / "epochs.toml")).quality == "count"
    assert presets.changed(own, quality="count").quality == "count"
    with pytest.raises(UsageError, match="quality"):
        presets.changed(own, quality="ignore")


def test_a_published_set_loses_no_epoch(raw: Path, tmp_path: Path) -> None:
    preset = presets.changed(presets.load("sleep-edf"), trim="none")
    made = open_epochs(preprocess.preprocess(preset, raw, tmp_path / "epochs"))
    (file,) = made.files
    scoring = formats.read_hypnogram(raw / "SC4001EC-Hypnogram.edf")
    assert len(file) == (scoring.clipped(0.6 * 3600).stages >= 0).sum()
    assert not {"flat", "railed"} & set(made.manifest["excluded"])
    counts = made.manifest["quality"]["SC4001"]
    assert counts["EEG Pz-Oz"]["flat"] == sum(30.0 * i in file.onset for i in FLAT)
    assert counts["EOG horizontal"]["railed"] == sum(30.0 * i in file.onset for i in RAILED)
    index = pl.read_csv(tmp_path / "epochs/index.csv")
    assert "EEG Pz-Oz: 4 flat" in index["quality"][0]


def test_an_own_preset_leaves_them_out_and_says_why(
    raw: Path, own: presets.Preset, tmp_path: Path
) -> None:
    lines: list[str] = []
    out = preprocess.preprocess(
        own, raw, tmp_path / "epochs", lambda *told: lines.append(str(told))
    )
    (file,) = open_epochs(out).files
    everything = presets.changed(own, quality="count")
    (whole,) = open_epochs(preprocess.preprocess(everything, raw, tmp_path / "whole")).files
    kept = ~np.isin(np.rint(whole.onset / 30), BAD)
    assert file.onset.tolist() == whole.onset[kept].tolist()
    assert file.stages.tolist() == whole.stages[kept].tolist()
    assert (file.signals == whole.signals[kept]).all()
    excluded = file.facts["excluded"]
    assert excluded["flat"] == sum(30.0 * i in whole.onset for i in FLAT) > 0
    assert excluded["railed"] == sum(30.0 * i in whole.onset for i in RAILED) > 0
    assert (excluded["not finite"], excluded["out of range"], excluded["gap"]) == (0, 0, 0)
    assert len(file) + sum(excluded.values()) == len(whole) + sum(whole.facts["excluded"].values())
    assert "4 flat" in "".join(lines)
    with pytest.raises(OutputError, match="quality: exclude there, count now"):
        preprocess.preprocess(everything, raw, out)


def test_convert_and_inspect_count_every_signal(raw: Path, tmp_path: Path) -> None:
    out = convert.convert("sleep-edf", raw, tmp_path / "recordings")
    counts = store.read_json(out / "manifest.json")["quality"]["SC4001"]
    assert counts["EEG Pz-Oz"]["flat"] == 4
    assert counts["EOG horizontal"]["railed"] == 2
    assert "EEG Pz-Oz: 4 flat" in pl.read_csv(out / "index.csv")["quality"][0]
    for path in (raw / f"{NIGHT}.edf", out / "SC4001.safetensors"):
        facts = json.loads(json.dumps(inspect(path)))
        by_label = {s["label"]: s["quality"] for s in facts["signals"]}
        assert by_label["EEG Pz-Oz"]["flat"] == 4
        assert by_label["EEG Fpz-Cz"]["flat"] == 0
        assert "EEG Pz-Oz: 4 of 72 epochs flat" in facts["problems"]
        assert "EOG horizontal: 2 of 72 epochs railed" in facts["problems"]


def test_an_electrode_off_for_half_the_night_is_no_wrong_unit(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes((raw / f"{NIGHT}.edf").read_bytes())
    put(path, "EEG Fpz-Cz", range(1, 40), 5)
    problems = " ".join(inspect(path)["problems"])
    assert "EEG Fpz-Cz: 39 of 72 epochs flat" in problems
    assert "too small" not in problems


def test_score_gives_no_stage_where_there_is_no_signal(
    raw: Path, own: presets.Preset, tmp_path: Path
) -> None:
    lines: list[str] = []
    path = raw / f"{NIGHT}.edf"
    trained = model(tmp_path / "model", own)
    out = score.score(trained, [path], tmp_path / "a", lambda *told: lines.append(str(told)))
    hypnogram = formats.read_hypnogram(out / f"{NIGHT}-hypnogram.edf")
    assert np.flatnonzero(hypnogram.stages < 0).tolist() == BAD
    assert {hypnogram.counts()[name] for name in ("movement", "unannotated")} == {0}
    table = pl.read_csv(out / f"{NIGHT}.csv")
    assert table["unscored"].to_list() == [
        "flat" if i in FLAT else "railed" if i in RAILED else None for i in range(72)
    ]
    assert formats.read_hypnogram(out / f"{NIGHT}.csv").stages.tolist() == hypnogram.stages.tolist()
    density = read_density(out / f"{NIGHT}.csv")
    assert np.flatnonzero(np.isnan(density).all(1)).tolist() == BAD
    row = store.read_json(out / "manifest.json")["recordings"][NIGHT]
    assert row["unscored"] == {"railed": 2, "flat": 4}
    assert row["quality"]["EEG Pz-Oz"]["flat"] == 4
    assert "left unscored, without a signal: 2 railed, 4 flat" in "".join(lines)
    engine = Engine.load(trained)
    counting, _ = hypnodensity(
        engine, presets.changed(own, quality="count"), formats.read(path), tmp_path
    )
    good = np.setdiff1d(np.arange(72), BAD)
    np.testing.assert_allclose(density[good], counting[good], atol=1e-5)


def test_a_model_of_an_older_version_scores_every_epoch(
    raw: Path, own: presets.Preset, tmp_path: Path
) -> None:
    settings = own.model_dump(mode="json")
    del settings["quality"]
    trained = model(tmp_path / "model", settings)
    out = score.score(trained, [raw / f"{NIGHT}.edf"], tmp_path / "a")
    table = pl.read_csv(out / f"{NIGHT}.csv")
    assert table["unscored"].null_count() == len(table)
    assert set(table["stage"]) <= {"W", "N1", "N2", "N3", "REM"}
    row = store.read_json(out / "manifest.json")["recordings"][NIGHT]
    assert row["unscored"] == {}
    assert row["quality"]["EEG Pz-Oz"]["flat"] == 4
    manifest = store.read_json(out / "manifest.json")
    del manifest["made_by"]["preset"]["quality"]
    store.write_json(out / "manifest.json", manifest)  # as an older version wrote it
    lines: list[str] = []
    path = raw / f"{NIGHT}.edf"
    score.score(trained, [path], out, lambda *told: lines.append(str(told)))
    assert "as before" in "".join(lines)


def short_night(samples: np.ndarray) -> Recording:
    """A recording of four channels, of ten epochs; one of them has these samples."""
    rng = np.random.default_rng(0)
    signals = {}
    for label in ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"):
        values = rng.normal(0, 20, 30000).astype(np.float32)
        values = samples if label == "EOG horizontal" else values
        signals[label] = Signal(label, 100.0, "uV", "eeg", 30000, lambda v=values: v)
    return Recording("a", "a", 1, signals).scored([Hypnogram(np.full(10, 2, np.int8))])


def test_values_that_are_not_finite_stay_in_their_epoch(
    own: presets.Preset, tmp_path: Path
) -> None:
    samples = np.random.default_rng(1).normal(0, 20, 30000).astype(np.float32)
    samples[3100:3200] = np.nan
    steps = {"processing": [{"do": "band-pass", "low_hz": 0.3, "high_hz": 35.0}]}
    preset = presets.resolve(own.model_dump(mode="json") | steps, source="test")
    write_recording_epochs(preset, short_night(samples), tmp_path / "a.safetensors", {})
    file = read_epoch_file(tmp_path / "a.safetensors")
    assert file.onset.tolist() == [30.0 * i for i in range(10) if i != 1]
    assert file.facts["excluded"]["not finite"] == 1
    assert np.isfinite(file.signals).all()
    counting = presets.changed(preset, quality="count")
    with pytest.raises(DataError, match="'EOG horizontal' is not finite"):
        write_recording_epochs(counting, short_night(samples), tmp_path / "b.safetensors", {})


def test_a_night_without_any_signal(own: presets.Preset, tmp_path: Path) -> None:
    night = short_night(np.zeros(30000, np.float32))
    with pytest.raises(DataError, match=r"no epoch has a signal.*EOG horizontal: 10 flat of 10"):
        write_recording_epochs(own, night, tmp_path / "a.safetensors", {})
    engine = Engine.load(model(tmp_path / "model", own))
    density, cut = hypnodensity(engine, own, night, tmp_path)
    assert np.isnan(density).all()
    assert cut.reasons == ["flat"] * 10


@pytest.mark.parametrize("quality", ["count", "exclude"])
def test_epochs_that_touch_a_gap_are_left_out_always(
    own: presets.Preset, tmp_path: Path, quality: str
) -> None:
    samples = np.random.default_rng(1).normal(0, 20, 30000).astype(np.float32)
    night = short_night(samples)
    gaps = ((100.0, 110.0),)
    night = replace(night, signals={n: replace(s, gaps=gaps) for n, s in night.signals.items()})
    preset = presets.changed(own, quality=quality)
    write_recording_epochs(preset, night, tmp_path / "a.safetensors", {})
    file = read_epoch_file(tmp_path / "a.safetensors")
    assert file.onset.tolist() == [30.0 * i for i in range(10) if i != 3]
    assert file.facts["excluded"]["gap"] == 1
    assert np.array_equal(file.signals[3, 2], samples[11000:14000])


def test_a_night_that_is_all_gaps(own: presets.Preset, tmp_path: Path) -> None:
    """Stretches shorter than an epoch: nothing to score, and nothing that `count` would keep."""
    night = short_night(np.ones(30000, np.float32))
    gaps = tuple((k * 40 + 25.0, k * 40 + 40.0) for k in range(11))
    night = replace(night, signals={n: replace(s, gaps=gaps) for n, s in night.signals.items()})
    with pytest.raises(DataError, match="recording: 10 gap of 10") as caught:
        write_recording_epochs(own, night, tmp_path / "a.safetensors", {})
    assert caught.value.hint is None
    density, cut = hypnodensity(Engine.load(model(tmp_path / "model", own)), own, night, tmp_path)
    assert np.isnan(density).all()
    assert set(cut.reasons) == {"gap"}


def test_the_command_line_shows_the_counts_and_has_an_option(
    command, raw: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    path = raw / f"{NIGHT}.edf"
    table = command("inspect", path, cwd=tmp_path).out
    assert "Epochs by signal quality" in table
    assert "problem: EEG Pz-Oz: 4 of 72 epochs flat" in table
    left_out = command("preprocess", "own.toml", raw, "a", cwd=tmp_path)
    assert "flat" in left_out.out
    assert "4 flat, 2 railed" in left_out.err or "2 railed, 4 flat" in left_out.err
    kept = command("preprocess", "own.toml", raw, "b", "--quality", "count", cwd=tmp_path)
    assert "EEG Pz-Oz: 4 flat" in kept.err
    assert "dropped: 2 railed" not in kept.err
    wrong = command("preprocess", "own.toml", raw, "c", "--quality", "none", cwd=tmp_path)
    assert wrong.code == 2
    assert "'count' or 'exclude'" in wrong.err
