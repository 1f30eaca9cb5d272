"""The API that `sleeptools` binds: its page, its laziness, its stub, and MNE."""

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sleeptools
from preset_model import save_preset_model
from sleeptools.commands.simulate import simulate
from sleeptools.errors import UsageError
from sleeptools.preprocessing import presets

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    simulate("sleep-edf", folder / "raw", subjects=1, hours=1.0, seed=3)
    save_preset_model(folder / "model", presets.load("sleep-edf"))
    return folder


def test_the_page_is_true(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    failed, tried = doctest.testfile(str(ROOT / "docs/api.md"), module_relative=False)
    assert tried > 15
    assert failed == 0


def test_every_name_is_bound_and_on_the_page() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for name in sleeptools.__all__:
        assert callable(getattr(sleeptools, name))
        assert name in page
    with pytest.raises(AttributeError, match="no attribute 'sore'"):
        sleeptools.sore  # noqa: B018
    assert sleeptools.__version__.count(".") == 2


def test_the_stub_binds_the_same() -> None:
    stub = ast.parse((ROOT / "sleeptools/__init__.pyi").read_text())
    imported = {
        alias.asname: f"{node.module.removeprefix('sleeptools.')}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == sleeptools._PLACES


def test_importing_costs_nothing() -> None:
    code = "import sys, sleeptools; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "polars", "scipy", "typer"} & set(loaded)


def test_a_recording_goes_to_mne_and_back(folder: Path) -> None:
    mne = pytest.importorskip("mne")
    recording = sleeptools.read(folder / "raw/SC4001E0-PSG.edf")
    hypnogram = sleeptools.read_hypnogram(folder / "raw/SC4001EC-Hypnogram.edf")
    fast = {n: s for n, s in recording.signals.items() if s.sample_rate == 100}
    recording = recording.without([n for n in recording.signals if n not in fast]).scored(
        [hypnogram]
    )
    raw = sleeptools.to_mne(recording)
    assert isinstance(raw, mne.io.BaseRaw)
    assert raw.get_channel_types() == [s.modality for s in fast.values()]
    back = sleeptools.from_mne(raw, "night")
    assert back.start == recording.start
    for label, signal in fast.items():
        np.testing.assert_allclose(back.signal(label).samples(), signal.samples(), atol=1e-3)
    texts = [str(text) for text in raw.annotations.description]
    assert texts.count("Sleep stage W") == (hypnogram.clipped(3600).stages == 0).sum()
    theirs = mne.io.read_raw_edf(
        folder / "raw/SC4001E0-PSG.edf", include=list(fast), verbose="error"
    )
    np.testing.assert_allclose(theirs.get_data(), raw.get_data(), atol=1e-9)


def test_signals_of_different_rates_need_one_for_mne(folder: Path) -> None:
    pytest.importorskip("mne")
    recording = sleeptools.read(folder / "raw/SC4001E0-PSG.edf")
    with pytest.raises(UsageError, match="one rate"):
        sleeptools.to_mne(recording)
    raw = sleeptools.to_mne(recording, 100)
    assert raw.info["sfreq"] == 100
    assert len(raw.times) == 360000


def test_a_gap_is_a_skip_of_mne() -> None:
    pytest.importorskip("mne")
    from sleeptools.recording.recording import Recording, Signal

    values = np.full(2000, 5.0, np.float32)
    signal = Signal("EEG C4-M1", 100.0, "uV", "eeg", 2000, lambda: values, gaps=((10.0, 25.0),))
    raw = sleeptools.to_mne(Recording("a", "a", 1, {"EEG C4-M1": signal}))
    data = raw.get_data()[0]
    assert len(data) == 3500
    assert np.flatnonzero(data == 0).tolist() == list(range(1000, 2500))
    (gap,) = raw.annotations
    assert (gap["description"], gap["onset"], gap["duration"]) == ("BAD_ACQ_SKIP", 10.0, 15.0)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=2.5, seed=3)
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs/night.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for text in code:
        *statements, last = ast.parse(text).body
        exec(compile(ast.Module(statements, []), "night.ipynb", "exec"), names)
        if isinstance(last, ast.Expr):  # as a notebook shows it
            shown = eval(compile(ast.Expression(last.value), "night.ipynb", "eval"), names)
            assert shown is None or "<svg" in shown._repr_html_()
        else:
            exec(compile(ast.Module([last], []), "night.ipynb", "exec"), names)
    assert float(names["agreement"]) > 0.6  # type: ignore[arg-type]
    assert (tmp_path / "night.svg").read_text().startswith("<svg")
    assert sleeptools.read_hypnogram("night-hypnogram.edf").stages.shape == (300,)
