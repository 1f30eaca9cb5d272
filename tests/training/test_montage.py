"""A montage that varies in training: gains and modalities left out, and what may be scored then."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sleeptools import store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError, Stopped, UsageError
from sleeptools.inference.engine import Engine
from sleeptools.models.folder import build_model, save_model
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.preprocessing import presets, steps
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.runs import model_folder
from sleeptools.training import loop
from sleeptools.training.augmentation import draw_factors, vary_montage
from sleeptools.training.options import merge_options
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
MONTAGE = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
KINDS = ("eeg", "eeg", "eog", "emg")
BOTH = {"modality_dropout": 0.4, "gain_factor": 4.0}


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epochs(tmp_path_factory.mktemp("epochs"), count=10, montage=MONTAGE)


def options(augmentation: dict[str, Any], **given: Any) -> TrainOptions:
    recipe = {"batch": 8, "augmentation": augmentation}
    basis = {"model": "ulw-sleepnet", "passes": 2, "threads": 1, "explain": False, "final": True}
    return TrainOptions(**(basis | {"settings": {"recipe": recipe}} | given))


# --- what is drawn --------------------------------------------------------------------------------


def test_gains_are_uniform_on_a_logarithmic_scale_and_never_all_is_silent() -> None:
    varied = Augmentation(modality_dropout=0.5, gain_factor=4)
    factors = np.stack([draw_factors([1, n], varied, KINDS) for n in range(4000)])
    assert factors.dtype == np.float32
    silent = factors == 0
    assert (silent[:, 0] == silent[:, 1]).all()  # a modality goes as a whole
    assert not silent.all(1).any()
    # three of five silences, and a third of the eighth in which all three were drawn is given back
    assert silent[:, 3].mean() == pytest.approx(0.5 - 0.125 / 3, abs=0.03)
    logs = np.log(factors[~silent]) / np.log(4)
    assert np.abs(logs).max() <= 1
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.05)
    assert abs(np.corrcoef(logs[:-1], logs[1:])[0, 1]) < 0.05
    kept = [
        draw_factors([1, n], Augmentation(modality_dropout=0.5, always=["eeg"]), KINDS) == 0
        for n in range(400)
    ]
    assert not np.stack(kept)[:, :2].any()
    np.testing.assert_allclose(np.mean(kept, 0)[2:], 0.5, atol=0.08)
    only_gains = draw_factors([1, 7], Augmentation(gain_factor=4), KINDS)
    assert (only_gains > 0).all()
    np.testing.assert_array_equal(only_gains[factors[7] > 0], factors[7][factors[7] > 0])


def test_factors_belong_to_a_sequence_and_its_pass_not_to_a_batch() -> None:
    x = torch.randn(6, 3, 4, 50)
    numbers = np.arange(18).reshape(6, 3)
    varied = Augmentation(**BOTH)
    y = vary_montage(x, numbers, varied, [0, 1], KINDS)
    factors = (y / x).numpy()
    np.testing.assert_allclose(np.ptp(factors, (1, 3)), 0, atol=1e-5)  # alike in a sequence
    assert len(np.unique(factors[:, 0, 0, 0].round(4))) > 3
    again = vary_montage(x[[4, 2]], numbers[[4, 2]], varied, [0, 1], KINDS)
    assert torch.equal(again, y[[4, 2]])
    assert not torch.equal(vary_montage(x, numbers, varied, [0, 2], KINDS), y)
    single = vary_montage(x[:, 0], numbers[:, 0], varied, [0, 1], KINDS)
    assert torch.equal(single, y[:, 0])


def test_off_is_off() -> None:
    x = torch.randn(2, 4, 50)
    assert vary_montage(x, np.arange(2), Augmentation(), [0], KINDS) is x
    assert Augmentation().montage == {}
    assert Augmentation(**BOTH).montage == BOTH
    always = BOTH | {"always": ["eeg"]}
    assert Augmentation(**always).montage == always


# --- trainings ------------------------------------------------------------------------------------


def test_a_break_changes_nothing(epochs: Path, tmp_path: Path) -> None:
    train(epochs, tmp_path / "whole", options(BOTH))

    def stop(progress: Any) -> None:
        if progress.step in (2, 7):
            os.kill(os.getpid(), signal.SIGTERM)

    for _ in range(2):
        with pytest.raises(Stopped):
            train(epochs, tmp_path / "broken", options(BOTH), on_progress=stop)
    train(epochs, tmp_path / "broken", options(BOTH))
    train(epochs, tmp_path / "plain", options({}))
    names = ("whole", "broken", "plain")
    whole, broken, plain = (
        (tmp_path / run / "final/model.safetensors").read_bytes() for run in names
    )
    assert whole == broken
    assert whole != plain
    assert model_folder.read_config(tmp_path / "whole/final")["recipe"] == BOTH
    assert "recipe" not in model_folder.read_config(tmp_path / "plain/final")


def test_every_pass_draws_anew(
    epochs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def note(x: Any, numbers: Any, how: Any, seeds: Any, kinds: Any) -> Any:
        assert kinds == KINDS
        seen.append(tuple(seeds))
        return vary_montage(x, numbers, how, seeds, kinds)

    monkeypatch.setattr(loop, "vary_montage", note)
    train(epochs, tmp_path / "run", options(BOTH))
    assert len(seen) == 10
    assert len(set(seen)) == 2


def test_a_run_of_before_goes_on_and_one_modality_cannot_be_dropped(
    epochs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(epochs, run, options({}, folds=2, fold=0, final=False, passes=1))
    path = run / "config.toml"
    text = path.read_text()
    for line in ("gain_factor = 1.0\n", "modality_dropout = 0.0\n", "always = []\n"):
        assert line in text
        text = text.replace(line, "")
    path.write_text(text)
    train(epochs, run, options({}, folds=2, fold=1, final=False, passes=1))
    same_kind = write_epochs(tmp_path / "one", count=5)
    with pytest.raises(DataError, match="all channels are one modality, other"):
        train(same_kind, tmp_path / "refused", options(BOTH))
    with pytest.raises(DataError, match="no channel is ecg, which"):
        train(epochs, tmp_path / "refused", options(BOTH | {"always": ["ecg"]}))


def test_options_are_the_recipes() -> None:
    def augmentation(*given: str, **options: Any) -> Any:
        merged = merge_options(None, given, **options)
        return merged.settings.get("recipe", {}).get("augmentation")

    assert augmentation() is None
    assert augmentation(modality_dropout=0.3, gain_augmentation=True) == {
        "modality_dropout": 0.3,
        "gain_factor": 4.0,
    }
    chosen = augmentation("recipe.augmentation.gain_factor=8", gain_augmentation=True)
    assert chosen == {"gain_factor": 8}
    with pytest.raises(UsageError, match="modality_dropout"):
        train(Path("none"), Path("none"), options({"modality_dropout": 1.0}))


# --- scoring --------------------------------------------------------------------------------------


def model(folder: Path, preset: presets.Preset, **facts: Any) -> Path:
    torch.manual_seed(1)
    built = build_model("ulw-sleepnet", {})
    with torch.no_grad():
        built.train()(torch.randn(16, 4, 3000).cumsum(-1))
    described = {
        "montage": MONTAGE,
        "sample_rate": 100.0,
        "epoch_seconds": 30.0,
        "stages": ["W", "N1", "N2", "N3", "REM"],
        "preprocessing": {"preset": preset.model_dump(mode="json")},
    }
    save_model(built, folder, described | facts)
    return folder


def test_zeros_stand_in_for_what_is_missing(epochs: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    folder = model(tmp_path / "model", preset, recipe=BOTH)
    x = open_epochs(epochs).files[0].signals[:].copy()
    whole = Engine.load(folder)
    reduced = Engine.load(folder, without=("EMG", "eog"))
    assert reduced.size == (2, 3000)
    assert reduced.facts["montage"] == MONTAGE[:2]
    assert reduced.facts["without"] == ["emg", "eog"]
    density = reduced.hypnodensity(x[:, :2])
    assert not np.allclose(density, whole.hypnodensity(x), atol=1e-3)
    x[:, 2:] = 0
    np.testing.assert_allclose(density, whole.hypnodensity(x), atol=1e-6)


def test_what_cannot_be_left_out(tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    plain = model(tmp_path / "plain", preset)
    with pytest.raises(DataError, match="without modality dropout") as e:
        Engine.load(plain, without=("emg",))
    assert e.value.code == "MODEL-WITHOUT"
    able = model(tmp_path / "able", preset, recipe=BOTH)
    with pytest.raises(UsageError, match="there are: eeg, emg, eog"):
        Engine.load(able, without=("ecg",))
    never = model(tmp_path / "never", preset, recipe=BOTH | {"always": ["eeg"]})
    assert Engine.load(never, without=("emg", "eog")).facts["without"] == ["emg", "eog"]
    with pytest.raises(DataError, match="without modality dropout of eeg, so"):
        Engine.load(never, without=("eeg", "emg"))
    with pytest.raises(UsageError, match="no channel is left"):
        Engine.load(able, without=("eeg", "emg", "eog"))


def test_steps_of_missing_channels_go_with_them(tmp_path: Path) -> None:
    step = {"do": "high-pass", "of": ("EMG submental",), "hz": 10.0}
    both = {"do": "low-pass", "of": ("EMG submental", "eeg"), "hz": 30.0}
    every = {"do": "clip", "limit": 100.0}
    values = presets.load("sleep-edf").model_dump() | {"processing": [step, both, every]}
    preset = presets.resolve(values, source="test")
    folder = model(tmp_path / "model", preset, recipe=BOTH)
    engine = Engine.load(folder, without=("emg",))
    reduced = presets.resolve(engine.facts["preprocessing"]["preset"], source="test")
    assert reduced.labels == tuple(MONTAGE[:3])
    assert [(s.do, s.of) for s in reduced.processing] == [("low-pass", ("eeg",)), ("clip", ())]


def test_a_night_without_a_channel_is_scored_where_asked_for(command: Any, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    folder = model(
        tmp_path / "model",
        preset,
        recipe=BOTH,
        calibration={"temperature": 1.5, "fitted_on": "validation subjects of fold 1"},
    )
    assert command("simulate", "sleep-edf", "raw", "--subjects", 1, "--hours", 0.5).code == 0
    night = next((tmp_path / "raw").glob("*-PSG.edf"))
    lacks = ("--ignore-channel", "EMG submental")
    ran = command("score", folder, night, "--out", "refused", *lacks)
    assert ran.code == 65
    assert "no signal 'EMG submental'" in ran.err
    assert "--without emg scores without, as the model has learnt" in ran.err
    ran = command("score", folder, night, "--out", "scores", "--without", "EMG", *lacks)
    assert ran.code == 0, ran.err
    assert "of fold 1, of the whole montage)" in ran.err
    facts = store.read_json(tmp_path / "scores/manifest.json")
    assert facts["without"] == ["emg"]
    (row,) = facts["recordings"].values()
    assert list(row["channels"]) == MONTAGE[:3]
    assert "scored without emg: zeros stand in, as in training" in row["warnings"]
    again = command("score", folder, night, "--out", "scores")
    assert again.code == 73, "scores of another montage are not mixed with these"


# --- scaling --------------------------------------------------------------------------------------


def test_a_robust_scale_undoes_a_gain() -> None:
    preset = presets.changed(presets.load("slumbernet"), robust_scale=True)
    assert [s.do for s in preset.processing] == ["high-pass", "robust-scale", "baseline"]
    assert presets.resolve(preset.model_dump(mode="json"), source="test") == preset
    scaled = presets.changed(presets.load("sleep-edf"), robust_scale=True)
    rng = np.random.default_rng(0)
    samples = rng.normal(3, 20, 6000).astype(np.float32)

    def epochs(x: Any) -> Any:
        pieces = [x[:2500], x[2500:]]  # an interruption between them: one scale for both
        return steps.run_steps(scaled.processing, pieces, 100, 100, lambda s, _: np.concatenate(s))

    once, twice = epochs(samples), epochs(2 * samples)
    np.testing.assert_allclose(twice, once, rtol=1e-5, atol=1e-6)
    assert np.median(np.abs(once)) == pytest.approx(1, abs=1e-5)
    # an envelope far from zero, whose gain doubles in mid-night: nothing but a gain is left of it
    envelope = np.abs(samples) * 0.1 + 30
    stepped = epochs(envelope * np.where(np.arange(6000) < 3000, 1, 2).astype(np.float32))
    ratio = stepped / epochs(envelope)
    assert ratio.min() > 0.6
    assert ratio.max() < 1.6


def test_preprocess_scales_robustly_on_request(command: Any, tmp_path: Path) -> None:
    assert command("simulate", "sleep-edf", "raw", "--subjects", 1, "--hours", 0.5).code == 0
    ran = command("preprocess", "sleep-edf", "raw", "epochs", "--robust-scale")
    assert ran.code == 0, ran.err
    data = open_epochs(tmp_path / "epochs")
    assert data.manifest["preset"]["processing"][-1]["do"] == "robust-scale"
    assert data.modalities == KINDS
    x = data.files[0].signals
    for channel in range(4):
        level = np.median(np.abs(x[:, channel]))
        assert 0.3 < level < 3  # of the whole recording, trimmed epochs among it
