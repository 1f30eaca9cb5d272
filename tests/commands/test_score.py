"""Scoring a new recording: what preprocess and the engine would have done, and what goes wrong."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from preset_model import model_facts
from sleeptools import formats, native, store
from sleeptools.commands import convert, preprocess, score
from sleeptools.commands.score import ScoreOptions
from sleeptools.commands.score.batch_page import batch_html
from sleeptools.commands.score.expected_agreement import expected_agreement
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.evaluation.calibration import scale_by_temperature
from sleeptools.inference import recordings
from sleeptools.inference.engine import Engine
from sleeptools.models.folder import build_model, save_model
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.stages import HUMAN_STAGES
from sleeptools.runs import model_folder

NIGHT = "SC4001E0-PSG"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=2, hours=0.6, seed=4)


def make(
    folder: Path, name: str = "ulw-sleepnet", preset: str = "sleep-edf", **facts: object
) -> Path:
    """Save a model of random weights that tells epochs apart, and knows its preprocessing."""
    torch.manual_seed(1)
    model = build_model(name, {})
    settings = presets.load(preset)
    noise = torch.randn(16, len(settings.montage), settings.samples).cumsum(-1)  # as slow as an EEG
    with torch.no_grad():
        model.train()(noise)
        last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
        last.weight *= 30
        last.bias -= model.eval()(noise).mean(0)  # no stage is the answer to everything
    save_model(model, folder, model_facts(settings) | facts)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


@pytest.fixture
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return


def nights(raw: Path) -> list[Path]:
    return sorted(raw.glob("*-PSG.edf"))


def test_a_night_is_scored_as_its_epochs_would_be(
    raw: Path, model: Path, tmp_path: Path, one_cpu: None
) -> None:
    out = score.score(model, nights(raw), tmp_path / "scores")
    preset = presets.changed(presets.load("sleep-edf"), trim="none")
    made = open_epochs(preprocess.preprocess(preset, raw, tmp_path / "epochs"))
    engine = Engine.load(model)
    for file, path in zip(made.files, nights(raw), strict=True):
        table = pl.read_csv(out / f"{path.stem}.csv")
        assert table.columns == [
            *["epoch", "onset", "duration", "time", "stage", "confidence"],
            *["p_W", "p_N1", "p_N2", "p_N3", "p_REM", "unscored"],
        ]
        assert table["onset"].to_list() == [30 * n for n in range(72)]  # 0.6 h, nothing left out
        assert table["time"][2] == (formats.read(path).start + timedelta(minutes=1)).isoformat()
        density = table.select(pl.selectors.starts_with("p_")).to_numpy()
        assert table["confidence"].to_list() == density.max(1).tolist()
        stages = [HUMAN_STAGES.index(name) for name in table["stage"]]
        numbers = np.rint(file.onset / 30).astype(int)
        assert len(numbers) > 40
        # a batch of other epochs moves the last bits
        np.testing.assert_allclose(density[numbers], engine.hypnodensity(file.signals), atol=1e-6)
        assert stages == density.argmax(1).tolist()
        assert len(set(stages)) > 1
        hypnogram = formats.read_hypnogram(out / f"{path.stem}-hypnogram.edf")
        assert hypnogram.stages.tolist() == stages
        assert (hypnogram.onset, hypnogram.scorer) == (0.0, "simulated")
        assert hypnogram.recording_start() == formats.read(path).start
    assert store.verify(out) == []
    facts = store.read_json(out / "manifest.json")
    assert facts["recordings"][NIGHT]["simulated"] is True
    assert facts["recordings"][NIGHT]["channels"]["EEG Fpz-Cz"] == "EEG Fpz-Cz"
    assert set(facts["made_by"]["model"]) == {"config.json", "model.safetensors"}


def test_scores_are_calibrated_and_say_so(
    raw: Path, tmp_path: Path, one_cpu: None, command: Any
) -> None:
    model = make(tmp_path / "model", calibration={"temperature": 1.31, "fitted_on": "fold 3"})
    night, said = nights(raw)[0], "calibrated by T = 1.31 (fold 3)"
    ran = command("score", model, night, "--out", "warm")
    assert ran.code == 0, ran.err
    assert said in ran.err
    assert (
        "uncalibrated: as asked"
        in command("score", model, night, "--out", "raw", "--uncalibrated").err
    )
    a, b = (pl.read_csv(tmp_path / out / f"{NIGHT}.csv") for out in ("warm", "raw"))
    p, q = (t.select(pl.selectors.starts_with("p_")).to_numpy() for t in (a, b))
    np.testing.assert_allclose(p, scale_by_temperature(q, 1.31), atol=1e-5)
    np.testing.assert_allclose(a["confidence"], p.max(1))
    assert a["stage"].equals(b["stage"])
    assert a["confidence"].mean() < b["confidence"].mean() - 0.01
    facts = store.read_json(tmp_path / "warm/manifest.json")
    assert facts["calibration"] == {"temperature": 1.31, "says": said}
    assert facts["recordings"][NIGHT]["confidence"] == pytest.approx(
        a["confidence"].mean(), abs=1e-4
    )
    assert said in (tmp_path / f"warm/{NIGHT}.html").read_text()
    ran = command("score", model, night, "--out", "warm", "--uncalibrated")
    assert ran.code == 73
    assert "temperature" in ran.err
    # scores of before there were temperatures are raw ones, and are continued as such
    manifest = tmp_path / "raw/manifest.json"
    facts = store.read_json(manifest)
    del facts["made_by"]["temperature"]
    store.write_json(manifest, facts)
    ran = command("score", model, night, "--out", "raw", "--uncalibrated")
    assert ran.code == 0, ran.err
    assert "as before" in ran.err


def test_our_own_recordings_are_scored_to_the_same(
    raw: Path, model: Path, tmp_path: Path, one_cpu: None
) -> None:
    recordings = convert.convert("sleep-edf", raw, tmp_path / "recordings")
    ours = score.score(model, [recordings / "SC4001.safetensors"], tmp_path / "a")
    theirs = score.score(model, [raw / f"{NIGHT}.edf"], tmp_path / "b")
    assert (ours / "SC4001.csv").read_text() == (theirs / f"{NIGHT}.csv").read_text()


def test_the_scoring_of_a_recording_is_placed_in_what_is_said(
    raw: Path, model: Path, tmp_path: Path
) -> None:
    recordings = convert.convert("sleep-edf", raw, tmp_path / "recordings")
    lines: list[str] = []
    for _ in range(2):
        path = recordings / "SC4001.safetensors"
        score.score(model, [path], tmp_path / "a", lambda step: lines.append(step.text))
    start = formats.read(raw / f"{NIGHT}.edf").start
    assert all(f"scoring {start:%H:%M}-" in line and " on signals " in line for line in lines)
    said: list[str] = []
    for _ in range(2):
        preset = presets.load("sleep-edf")
        preprocess.preprocess(preset, raw, tmp_path / "e", lambda step: said.append(step.text))
    assert len(said) == 4
    assert all("; scoring " in line and " on signals " in line for line in said)


def test_a_bad_channel_is_left_out_by_name(raw: Path, model: Path, tmp_path: Path) -> None:
    data = bytearray((raw / f"{NIGHT}.edf").read_bytes())
    start = 256 + 7 * 104 + 8 * 3  # the physical minimum of the fourth of seven signals
    data[start : start + 8] = b"-204,8  "
    path = tmp_path / "night.edf"
    path.write_bytes(data)
    with pytest.raises(DataError, match="physical minimum"):
        score.score(model, [path], tmp_path / "out")
    score.score(
        model, [path], tmp_path / "out", options=ScoreOptions(ignore_channels=["Resp oro-nasal"])
    )
    facts = store.read_json(tmp_path / "out/manifest.json")["recordings"]["night"]
    assert facts["ignored_channels"] == ["Resp oro-nasal"]
    wrong = ScoreOptions(ignore_channels=["Resp oro-nasal", "X"])
    with pytest.raises(DataError, match="no recording has a signal 'X'"):
        score.score(model, [path], tmp_path / "new", options=wrong)


def test_what_is_done_is_skipped_and_what_changed_is_made_again(
    raw: Path, model: Path, tmp_path: Path
) -> None:
    path = shutil.copy(raw / f"{NIGHT}.edf", tmp_path / "night.edf")
    said: list[str] = []

    def again() -> str:
        score.score(model, [path], tmp_path / "out", lambda step: said.append(step.text))
        return said[-1]

    spans = f"signals {formats.read(path).start:%H:%M}-"
    text = again()
    assert text.startswith("72 epochs: ")
    assert f"; {spans}" in text
    first = (tmp_path / "out/night-hypnogram.edf").read_bytes()
    assert again().startswith(spans)
    assert again().endswith("; as before")
    (tmp_path / "out/night-hypnogram.edf").write_bytes(first[:-100])  # damaged
    assert again().startswith("72 epochs: ")
    assert (tmp_path / "out/night-hypnogram.edf").read_bytes() == first
    shutil.copy(nights(raw)[1], path)
    assert again().startswith("72 epochs: ")
    assert (tmp_path / "out/night-hypnogram.edf").read_bytes() != first
    assert store.verify(tmp_path / "out") == []


def test_one_bad_recording_stops_no_other(command, raw: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.edf").write_bytes((raw / f"{NIGHT}.edf").read_bytes()[:-5000])
    (tmp_path / "text.edf").write_text("no recording")
    ran = command("score", model, "cut.edf", raw / f"{NIGHT}.edf", "text.edf", "--out", "scores")
    assert ran.code == 65
    assert "2 of 3 recordings failed, the first of them cut: " in ran.err
    failures = pl.read_csv(tmp_path / "scores/failures.csv")
    assert failures["recording"].to_list() == ["cut", "text"]
    assert (tmp_path / f"scores/{NIGHT}-hypnogram.edf").exists()
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == [
        f"{NIGHT}-hypnogram.edf",
        f"{NIGHT}.csv",
        f"{NIGHT}.html",
        f"{NIGHT}_events.json",
        f"{NIGHT}_events.tsv",
        "failures.csv",
        "manifest.json",
        "sleep.csv",
    ]
    ran = command("score", model, raw / f"{NIGHT}.edf", "--out", "scores")
    assert ran.code == 0, ran.err
    assert "as before" in ran.err
    assert not (tmp_path / "scores/failures.csv").exists()


def test_a_recording_without_the_models_channels(raw: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "mouse", "mouse-cnn", "kjaerby")
    with pytest.raises(DataError, match="no signal 'EEG'"):
        score.score(made, [raw / f"{NIGHT}.edf"], tmp_path / "out")


def test_a_recording_shorter_than_an_epoch(model: Path, raw: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    whole = formats.read(raw / f"{NIGHT}.edf")
    short = {
        label: replace(
            s,
            size=round(20 * s.sample_rate),
            read=lambda s=s: s.read()[: round(20 * s.sample_rate)],
        )
        for label, s in whole.signals.items()
    }
    engine = Engine.load(model)
    preset = presets.load("sleep-edf")
    with pytest.raises(DataError, match="lasts 20 s, less than an epoch of 30 s"):
        recordings.hypnodensity(engine, preset, replace(whole, signals=short), tmp_path)


def test_a_mouse_is_scored_in_its_own_stages_and_length(tmp_path: Path) -> None:
    raw = simulate("kjaerby", tmp_path / "raw", subjects=1, hours=0.5)
    (path,) = raw.glob("*.mat")
    made = make(tmp_path / "model", "mouse-cnn", "kjaerby", fold=None)
    out = score.score(made, [path], tmp_path / "out")
    hypnogram = formats.read_hypnogram(out / f"{path.stem}-hypnogram.edf")
    assert hypnogram.names == ("Wake", "NREM", "REM")
    assert hypnogram.epoch_seconds == 1
    assert len(hypnogram) >= 1790
    assert formats.read_hypnogram(out / f"{path.stem}.csv").stages.tolist() == (
        hypnogram.stages.tolist()
    )
    bins = pl.read_csv(out / "sleep_bins.csv")
    minutes = bins.select("Wake_min", "NREM_min", "REM_min").to_numpy().sum()
    assert minutes == pytest.approx((hypnogram.stages >= 0).sum() / 60)
    page = (out / f"{path.stem}.html").read_text()
    assert page.count("EEG, EMG: scaled over 30 min") == 1  # not once for each channel
    assert "0 to 2 (0.5 h of it)" in page  # a bin that the recording does not fill
    assert "EMG, Hz" in page  # it tells REM from waking
    assert ">0</td>" in page.split("epochs with a fault")[1].split("</table>")[0]
    assert "None" not in page.split("Who scored")[-1].split("<script")[0]
    assert "from_h" not in page
    batch = batch_html(out)
    assert -1 < batch.index("Wake, min") < batch.index("NREM, min") < batch.index("REM, min</")


@pytest.mark.parametrize(
    ("facts", "who"),
    [
        ({"simulated": True}, "with the simulated scorer in"),
        ({"simulated": False}, "with the human scorer in"),
        (
            {"simulated": True, "parent": {}, "trained_on": {"simulated": False}},
            "with the human scorer in",
        ),
        ({}, "0.700 in"),
    ],
)
def test_the_expected_agreement_says_with_whom(tmp_path: Path, facts: dict[str, Any], who: str):
    (tmp_path / "metrics.csv").write_text(
        "protocol,metric,level,seed,value,low\nleak-free,kappa,pooled,,0.7,\n"
    )
    assert who in expected_agreement(tmp_path / "final", facts)


def test_nights_of_one_name_are_named_by_their_folders(
    command, raw: Path, model: Path, tmp_path: Path
) -> None:
    nights = tmp_path / "nights"
    for subject, file in (("p01", NIGHT), ("p02", "SC4011E0-PSG")):
        (nights / subject).mkdir(parents=True)
        shutil.copy(raw / f"{file}.edf", nights / subject / "night1.edf")
    out = score.score(model, [nights / "p01"], tmp_path / "out")
    first = (out / "night1.csv").read_bytes()
    score.score(model, [nights / "p02"], out)  # another night of that name is another night
    assert (out / "night1.csv").read_bytes() == first
    assert {p.stem for p in out.glob("*.html")} == {"night1", "p02-night1"}
    score.score(model, [nights], out)  # what is scored keeps its name
    assert pl.read_csv(out / "sleep.csv")["recording"].to_list() == ["night1", "p02-night1"]
    both = score.score(model, [nights], tmp_path / "both")
    assert pl.read_csv(both / "sleep.csv")["recording"].to_list() == ["p01-night1", "p02-night1"]
    assert (both / "p01-night1.csv").read_bytes() == first
    for night, scores in (("p02", both), ("p02", out), ("p01", out)):
        page = ("review", nights / night / "night1.edf", "--scores", scores)
        ran = command(*page, "--out", tmp_path / "review.html", "--force")
        assert ran.code == 0, ran.err
    ran = command("agree", both, both, "--name", "a", "--name", "b", "--recording", nights)
    assert ran.code == 0, ran.err


def test_it_says_where_a_precision_is_not_used(command, raw: Path, tmp_path: Path) -> None:
    """ULW-SleepNet is faster in float32 on every CPU."""
    lean, night = make(tmp_path / "lean", "ulw-sleepnet"), raw / f"{NIGHT}.edf"
    ran = command("score", lean, night, "--out", tmp_path / "a", "--precision", "bf16")
    assert ran.code == 0
    assert "computed in fp32: no bf16 for this model on this CPU" in ran.err
    ran = command("score", lean, night, "--out", tmp_path / "b")
    assert "computed in" not in ran.err


def test_wrong_use(command, raw: Path, model: Path, tmp_path: Path) -> None:
    night = raw / f"{NIGHT}.edf"
    twin = tmp_path / f"{NIGHT}.bdf"
    twin.write_bytes(night.read_bytes())
    shutil.copy(night, tmp_path)
    night_beside = tmp_path / f"{NIGHT}.edf"
    with pytest.raises(UsageError, match=f"two recordings are named {NIGHT}"):
        score.score(model, [night_beside, twin], tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{NIGHT}-hypnogram.edf").write_text("scored by hand")
    with pytest.raises(OutputError, match="holds other files"):
        score.score(model, [night], tmp_path / "mine")
    score.score(model, [night], tmp_path / "out")
    other = make(tmp_path / "other", "mmasleepnet")
    with pytest.raises(OutputError, match="another model"):
        score.score(other, [night], tmp_path / "out")
    assert command("score", "nothing", night, "--out", "x").code == 66
    assert command("score", model, night, "absent.edf", "--out", "x").code == 66
    assert command("score", model, night, "--out", "x", "--only", "csv,pdf").code == 2
    assert command("score", model, night, "--out", "x", "--channel", "EEG X=C3").code == 2
    assert command("score", model, night, "--out", "x", "--channel", "EEG Fpz-Cz").code == 2
    assert command("score", model, night, "--out", "x", "--lights-off", "late").code == 2
    assert command("score", model, night).code == 2
    assert command("score", model, night, "--out", "x", "--precision", "fp64").code == 2
    assert not (tmp_path / "x").exists()


def test_a_model_that_does_not_know_its_preprocessing(raw: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    facts = model_folder.read_config(folder) | {"preprocessing": {}}
    arrays = {k: np.array(v) for k, v in model_folder.read_weights(folder).items()}
    model_folder.write_model_folder(folder, facts, arrays)
    with pytest.raises(DataError, match="does not say how its signals were preprocessed"):
        score.score(folder, [raw / f"{NIGHT}.edf"], tmp_path / "out")


@pytest.mark.parametrize("core", ["0", "1"])
@pytest.mark.parametrize("other", [{"sample_rate": 50.0}, {"epoch_seconds": 20.0}])
@pytest.mark.parametrize("named", [True, False])
def test_a_model_that_does_not_take_its_own_epochs(
    command,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    core: str,
    other: dict[str, float],
    named: bool,
) -> None:
    """The network was built for 30 s at 100 Hz; its facts name other epochs, its preset also."""
    monkeypatch.setenv("SLEEPTOOLS_NATIVE", core)
    settings = presets.load("sleep-edf").model_dump(mode="json") | other
    facts = {"preprocessing": {"preset": settings}} | (other if named else {})
    folder = make(tmp_path / "model", "mmasleepnet", **facts)
    ran = command("score", folder, raw / f"{NIGHT}.edf", "--out", tmp_path / "out")
    assert (ran.code, "MODEL-FIT" in ran.err) == (65, True), ran.err
    assert not (tmp_path / "out").exists()


def test_a_model_without_sums_is_used_with_a_warning(
    command, raw: Path, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    words = ("score", folder, raw / f"{NIGHT}.edf", "--out", "scores")
    facts = store.read_json(folder / "config.json")
    store.write_json(
        folder / "config.json", {k: v for k, v in facts.items() if k != "weights_sha256"}
    )
    weights = store.read_tensors(folder / "model.safetensors")
    arrays = {k: np.array(v) for k, v in weights.arrays.items()}
    store.write_arrays(
        folder / "model.safetensors", arrays, {"format": "sleeptools-weights", "version": 1}
    )
    ran = command(*words)
    assert ran.code == 0
    assert "without the sums of its files" in ran.err
    assert command("verify", folder, "--add-sums").code == 0
    assert "without the sums" not in command(*words).err


@pytest.mark.skipif(not native.available(), reason=native.describe())
def test_torch_is_not_needed(raw: Path, model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from sleeptools.cli import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    words = ["score", str(model), str(raw / f"{NIGHT}.edf"), "--out", "scores"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"scores/{NIGHT}-hypnogram.edf").exists()
