"""YASA's classifier by way of `score`: exactly what it gives by hand, and what it cannot take."""

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sleeptools import formats, store
from sleeptools.commands.score import score
from sleeptools.commands.score.paths import model_at
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, UnavailableError
from sleeptools.formats import hypnodensity
from sleeptools.inference import yasa_network
from sleeptools.inference.yasa_network import YasaNetwork, usable
from sleeptools.recording.recording import Signal
from sleeptools.runs import model_folder
from sleeptools.store.libraries import install_line

HAS_YASA = importlib.util.find_spec("yasa") is not None
needs_yasa = pytest.mark.skipif(not HAS_YASA, reason="YASA is not installed")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    return simulate("isruc", folder, subjects=1, hours=0.5, seed=5, subset="III")


def signal(label: str, rate: float, gaps: tuple = ()) -> Signal:
    values = np.random.default_rng(0).normal(0, 20, round(300 * rate)).astype(np.float32)
    return Signal(label, rate, "uV", label[:3].lower(), len(values), lambda: values, gaps=gaps)


def test_it_says_what_it_is() -> None:
    facts = model_folder.read_config(model_at("yasa"))
    assert facts["simulated"] is False
    assert "eLife 10:e70092" in facts["card"]["summary"]
    assert facts["stages"] == ["W", "N1", "N2", "N3", "REM"]


def test_without_yasa_the_line_to_type_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yasa_network.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as caught:
        YasaNetwork({})
    assert caught.value.hint == install_line("yasa>=0.7")
    assert caught.value.exit_code == 69


def test_signals_of_another_rate_are_left_out_and_named() -> None:
    kept, notes = usable([signal("EEG central", 100.0), signal("EOG", 100.0), signal("EMG", 1.0)])
    assert [s.label for s in kept] == ["EEG central", "EOG"]
    assert notes == ["scored without EMG: 1 Hz, and the EEG has 100 Hz"]


@needs_yasa
@pytest.mark.slow
def test_the_stages_are_those_of_yasa_by_hand(raw: Path, command: Callable, tmp_path: Path) -> None:
    import mne
    import yasa

    (path,) = raw.rglob("*.rec")
    out = score("yasa", [path], tmp_path / "out")
    row = store.read_json(out / "manifest.json")["recordings"][path.stem]
    made_of = row["channels"]
    recording = formats.read(path)
    volts = np.stack([recording.signal(made_of[n]).samples() * 1e-6 for n in made_of])
    info = mne.create_info(["EEG", "EOG", "EMG"], 200.0, ["eeg", "eog", "emg"])
    by_hand = mne.io.RawArray(volts.astype(np.float64), info, verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = yasa.SleepStaging(
            by_hand, eeg_name="EEG", eog_name="EOG", emg_name="EMG"
        ).predict()
    density = hypnodensity.read_density(out / f"{path.stem}.csv")
    columns = ["WAKE", "N1", "N2", "N3", "REM"]
    np.testing.assert_allclose(density, expected.proba[columns].to_numpy(), atol=1e-6)
    stages = formats.read_hypnogram(out / f"{path.stem}.csv")
    assert [columns[s] for s in stages.stages] == [str(s) for s in expected.hypno]


@needs_yasa
@pytest.mark.slow
def test_gaps_and_slow_signals_are_refused(tmp_path: Path) -> None:
    network = YasaNetwork({})
    recording = formats.Recording("a", "a", 1, {})
    with pytest.raises(DataError, match="without gaps"):
        network.score(recording, [signal("EEG central", 100.0, ((100.0, 130.0),))])
    with pytest.raises(DataError, match="80 Hz at least"):
        network.score(recording, [signal("EEG central", 64.0)])
    assert network.score(recording, [signal("EEG central", 100.0)]).shape == (10, 5)
