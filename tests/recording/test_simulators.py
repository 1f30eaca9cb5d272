"""The simulator's version, from the facts of a night through every file and manifest."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from sleeptools import registry, store
from sleeptools.commands import convert, preprocess, simulate
from sleeptools.errors import DataError, OutputError
from sleeptools.formats import edf, matlab
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording import simulators
from sleeptools.recording.recording import read_recording
from sleeptools.recording.simulators import SIMULATOR, simulator_of
from sleeptools.runs import writing


@pytest.mark.parametrize(
    ("facts", "version", "note"),
    [
        ({}, None, ""),
        ({"simulated": False}, None, ""),
        ({"simulated": False, "simulator": None}, None, ""),
        ({"simulated": True}, 1, "simulated"),
        ({"simulated": True, "simulator": None}, 1, "simulated"),
        ({"simulated": True, "simulator": 2}, 2, "simulated simulator_2"),
        ({"simulated": True, "simulator": 13}, 13, "simulated simulator_13"),
        ({"randomised": True}, None, ""),
    ],
)
def test_a_note_tells_the_version(facts, version, note):
    assert simulator_of(facts) == version
    assert simulators.note(facts) == note
    if note:
        assert simulators.facts_of_note(f"Startdate 02-JAN-1989 X X X {note}") == {
            "simulated": True,
            "simulator": version,
        }


def test_a_note_tells_that_a_night_was_randomised():
    facts = simulators.made_by(2, randomised=True)
    assert simulators.note(facts) == "simulated simulator_2 randomised"
    assert simulators.facts_of_note(simulators.note(facts)) == facts
    assert simulators.is_randomised(facts)
    assert not simulators.is_randomised(simulators.made_by(2))


@pytest.mark.parametrize("randomised", [False, True])
def test_a_note_tells_that_a_night_was_made_fast(randomised: bool):
    facts = simulators.made_by(2, randomised=randomised, fast=True)
    assert simulators.note(facts).endswith(" fast")
    assert simulators.facts_of_note(simulators.note(facts)) == facts
    assert simulators.is_fast(facts)
    assert not simulators.is_fast(simulators.made_by(2, randomised=True))
    assert not simulators.is_fast({"fast": True})  # of a real night


@pytest.mark.parametrize("randomise", [False, True])
@pytest.mark.parametrize("name", ["sleep-edf", "isruc", "slumbernet", "kjaerby", "edf"])
def test_every_set_says_which_simulator_made_it(name: str, randomise: bool, tmp_path: Path):
    raw = simulate.simulate(name, tmp_path, subjects=1, hours=1, randomise=randomise)
    module = registry.load("datasets", name)
    facts = module.read(module.find(raw)[0]).facts
    assert simulator_of(facts) == facts["simulator"] == SIMULATOR
    assert simulators.is_randomised(facts) == randomise


@pytest.mark.parametrize(("randomise", "fast"), [(False, False), (True, False), (False, True)])
def test_files_and_manifests_from_raw_to_a_run(randomise: bool, fast: bool, tmp_path: Path):
    raw = simulate.simulate(
        "sleep-edf", tmp_path / "raw", subjects=1, hours=1, randomise=randomise, fast=fast
    )
    assert store.read_json(raw / "manifest.json")["simulator"] == SIMULATOR
    assert tomllib.loads((raw / "simulation.toml").read_text())["simulator"] == SIMULATOR
    (truth,) = (raw / "generator").iterdir()
    assert store.read_json(truth)["simulator"] == SIMULATOR
    for file in raw.glob("*.edf"):
        head = file.read_bytes()[:256]
        assert b"simulated simulator_2 " in head
        assert (b"randomised" in head) == randomise
        assert (b"fast" in head) == fast
    recordings = convert.convert("sleep-edf", raw, tmp_path / "recordings")
    assert store.read_json(recordings / "manifest.json")["simulators"] == [SIMULATOR]
    assert read_recording(recordings / "SC4001.safetensors").facts["simulator"] == SIMULATOR
    epochs = preprocess.preprocess(presets.load("sleep-edf"), recordings, tmp_path / "epochs")
    assert store.read_json(epochs / "manifest.json")["simulators"] == [SIMULATOR]
    data = open_epochs(epochs)
    assert data.simulators == [SIMULATOR]
    for folder in (recordings, epochs):
        assert store.read_json(folder / "manifest.json")["randomised"] == randomise
        assert store.read_json(folder / "manifest.json")["fast"] == fast
    assert data.randomised == writing.data_facts(data)["randomised"] == randomise
    assert data.fast == writing.data_facts(data)["fast"] == fast


def test_a_night_of_simulator_1_is_read(tmp_path: Path):
    raw = simulate.simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=1)
    (psg,) = raw.glob("*-PSG.edf")
    content = psg.read_bytes()
    psg.write_bytes(content.replace(b"simulated simulator_2", b"simulated            ", 1))
    facts = edf.read(psg).facts
    assert (facts["simulated"], facts["simulator"]) == (True, 1)


@pytest.mark.parametrize("value", [[0.0], [np.nan], [2.5], [1e9], [2.0, 2.0]])
def test_a_damaged_version_is_refused(tmp_path: Path, value: list[float]):
    variables = {name: np.zeros(512) for name in matlab.SIGNALS.values()}
    savemat(tmp_path / "m.mat", {**variables, matlab.RATE: 512.0, matlab.SIMULATED: value})
    with pytest.raises(DataError, match="expected one version"):
        matlab.read(tmp_path / "m.mat")


def test_a_folder_of_simulator_1_is_not_continued(tmp_path: Path):
    raw = simulate.simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=1)
    settings = tomllib.loads((raw / "simulation.toml").read_text())
    del settings["simulator"]  # as simulator 1 wrote it
    store.write_toml(raw / "simulation.toml", settings)
    with pytest.raises(OutputError, match="simulator: 1 there, 2 now"):
        simulate.simulate("sleep-edf", raw, subjects=1, hours=1)


def test_a_recording_of_no_simulator_says_nothing(tmp_path: Path):
    edf.write_annotations(tmp_path / "h.edf", [(0.0, 30.0, "Sleep stage W")], datetime(2020, 1, 1))
    assert b"simul" not in (tmp_path / "h.edf").read_bytes()
    assert simulators.simulators_of([{}, {"simulated": True}, {"simulated": True}]) == [1]
