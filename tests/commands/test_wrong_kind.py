"""Recordings that a model is not for: of the other species, at another rate, all one stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edf_plus import write_records
from preset_model import save_preset_model
from sleeptools.commands import preprocess, score
from sleeptools.commands.score import ScoreOptions, scoring
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import HUMAN_STAGES

Run = Callable[..., Any]
MOUSE = {"sample_rate": 128.0, "epoch_seconds": 4.0}


@pytest.fixture(scope="module")
def mice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("kjaerby", tmp_path_factory.mktemp("mice"), subjects=1, hours=0.5)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("nights"), subjects=1, hours=0.5)


def of_mice(folder: Path, **changes: Any) -> Path:
    preset = presets.load("kjaerby").model_copy(update=MOUSE | changes)
    config = {"sample_rate": preset.sample_rate, "epoch_seconds": preset.epoch_seconds}
    return save_preset_model(folder, preset, "mouse-cnn", config)


def test_a_model_for_people_refuses_a_mouse(mice: Path, tmp_path: Path) -> None:
    """Also where the channel is named by hand: nothing else shows that it is none of a person."""
    options = ScoreOptions(channels={"EEG": "EEG"})
    (recording,) = mice.glob("*.mat")
    with pytest.raises(DataError, match=r"of a mouse \(Wake, NREM, REM\), and the model for pe"):
        score.score("default", [recording], tmp_path / "scores", options=options)


def test_a_model_for_mice_refuses_a_person(nights: Path, tmp_path: Path) -> None:
    (psg,) = nights.glob("*-PSG.edf")
    text = 'signals = "{subject}E0-PSG.edf"\nstages = ["W", "N1", "N2", "N3", "REM"]\n'
    (tmp_path / "edf.toml").write_text(text)
    (tmp_path / psg.name).write_bytes(psg.read_bytes())
    channels = {"EEG": "EEG Fpz-Cz", "EMG": "EMG submental"}
    with pytest.raises(DataError, match="of a person") as e:
        score.score(
            of_mice(tmp_path / "model"),
            [tmp_path / psg.name],
            tmp_path / "scores",
            options=ScoreOptions(channels=channels),
        )
    assert e.value.code == "MODEL-FIT"


@pytest.mark.parametrize(("rate", "warns"), [(64.0, False), (70.0, False), (72.0, True)])
def test_a_slow_recording_is_told(tmp_path: Path, rate: float, warns: bool) -> None:
    """At nine tenths of the epochs' rate and more there is no word."""
    samples = np.random.default_rng(1).integers(-400, 400, (1200, 64))
    signals = {"EEG": samples, "EMG": samples[::-1]}
    write_records(tmp_path / "m.edf", signals, [str(n) for n in range(1200)])
    model = of_mice(tmp_path / "model", sample_rate=rate, processing=())
    said: list[str] = []
    score.score(model, [tmp_path / "m.edf"], tmp_path / "scores", lambda s: said.append(s.text))
    assert ("EEG: recorded at 64 Hz, resampled to" in said[0]) == warns


def test_an_emg_of_one_value_a_second_is_not(nights: Path, tmp_path: Path) -> None:
    """Sleep-EDF's, as models for people have learnt from."""
    epochs = preprocess.preprocess(presets.load("sleep-edf"), nights, tmp_path / "epochs")
    warnings = open_epochs(epochs).files[0].facts["warnings"]
    assert not [w for w in warnings if "recorded at" in w]


@pytest.mark.parametrize(
    ("stages", "warns"),
    [
        ([4] * 60, True),
        ([2] * 60 + [-1], True),
        ([2] * 59, False),  # less than half an hour
        ([0] * 90, False),  # awake throughout
        ([2] * 60 + [4], False),
        ([-1] * 90, False),
    ],
)
def test_one_stage_throughout_is_told(stages: list[int], warns: bool) -> None:
    reasons = [0 if stage >= 0 else 1 for stage in stages]
    hypnogram = Hypnogram(
        np.array(stages, np.int8), HUMAN_STAGES, reasons=np.array(reasons, np.int8)
    )
    assert bool(scoring.monotony(hypnogram)) == warns


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (64, "--model slumbernet --final"),
        (128, "--model mouse-cnn --set model.sample_rate=128 --set model.epoch_seconds=4 --final"),
    ],
)
def test_the_next_line_is_of_a_model_that_fits(
    command: Run, tmp_path: Path, rate: int, expected: str
) -> None:
    assert command("simulate", "slumbernet", "raw", "--subjects", 1, "--hours", 0.5).code == 0
    (tmp_path / "lab.toml").write_text(
        "name = 'lab'\ndata_set = 'slumbernet'\nmontage = ['EEG', 'EMG']\n"
        f"sample_rate = {rate}\nepoch_seconds = 4\nstages = ['Wake', 'NREM', 'REM']\n"
    )
    ran = command("preprocess", "lab.toml", "raw", "epochs")
    assert f"next: sleeptools train epochs {expected}" in ran.err


def test_epochs_of_mice_are_not_for_the_default_model(command: Run, mice: Path) -> None:
    assert command("preprocess", "kjaerby", mice, "epochs").code == 0
    ran = command("train", "epochs", "runs/x", "--final", "--passes", 1)
    assert (ran.code, "epochs of mice" in ran.err) == (65, True)
    assert "--model mouse-cnn is for mice" in ran.err


def test_a_recipe_that_the_model_has_not(command: Run, mice: Path) -> None:
    assert command("preprocess", "kjaerby", mice, "epochs").code == 0
    ran = command(
        "train", "epochs", "runs/x", "--model", "mouse-cnn", "--final", "--recipe", "authors"
    )
    assert ran.code == 2
    assert "none called 'authors'; there are: default, paper" in ran.err
    assert "--recipe" in ran.err
