"""Following a recording while it is written: the same stages, at once, and what ends it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preset_model import save_preset_model
from sleeptools import formats, store
from sleeptools.commands.score import ScoreOptions, follow_recording, score
from sleeptools.commands.score.follow import FollowedEpoch
from sleeptools.commands.simulate import simulate
from sleeptools.errors import DataError, UsageError
from sleeptools.formats import hypnodensity
from sleeptools.formats.parsing.edf_header import read_header
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.presets import Preset

CHANNELS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
EPOCHS = 60  # 0.5 h


def preset_with(steps: list[dict[str, object]], **settings: object) -> Preset:
    values = presets.load("sleep-edf").model_dump()
    montage = [{"name": name} for name in CHANNELS]
    return Preset(**values | {"montage": montage, "processing": steps, **settings})


CAUSAL = [
    {"do": "high-pass", "hz": 0.3, "order": 2, "causal": True},
    {"do": "notch", "hz": 45.0, "causal": True},
    {"do": "z-score", "over": "epoch"},
]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=1, hours=0.5, seed=2)
    return raw / "SC4001E0-PSG.edf"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    preset = preset_with(CAUSAL)
    config = {"channels": len(CHANNELS)}
    return save_preset_model(tmp_path_factory.mktemp("m") / "model", preset, config=config)


def collect(epochs: list[FollowedEpoch]) -> np.ndarray:
    assert [e.number for e in epochs] == list(range(len(epochs)))
    return np.array([e.density for e in epochs])


def test_a_finished_file_is_scored_to_the_same(night: Path, model: Path, tmp_path: Path) -> None:
    epochs: list[FollowedEpoch] = []
    out = follow_recording(model, night, tmp_path / "followed", epochs.append)
    whole = score(model, [night], tmp_path / "whole")
    expected = hypnodensity.read_density(whole / f"{night.stem}.csv")
    assert len(epochs) == EPOCHS
    np.testing.assert_allclose(collect(epochs), expected, atol=1e-5)
    stages = formats.read_hypnogram(whole / f"{night.stem}.csv")
    assert [e.stage for e in epochs] == [stages.names[s] for s in stages.stages]
    assert (out / f"{night.stem}.csv").read_bytes() == (whole / f"{night.stem}.csv").read_bytes()
    assert store.verify(out) == []


@pytest.mark.parametrize("declared", [True, False])
def test_a_growing_file_is_scored_as_it_grows(
    night: Path, model: Path, tmp_path: Path, declared: bool
) -> None:
    content = bytearray(night.read_bytes())
    header = read_header(night)
    if not declared:  # as recorders write it until they stop
        content[236:244] = b"-1      "
    record = header.record_samples * header.sample_bytes
    path = tmp_path / "night.edf"
    path.write_bytes(content[:100])
    times: list[tuple[float, float]] = []
    written: list[float] = []

    def record_on() -> None:
        with path.open("ab", buffering=0) as file:
            file.write(content[100 : header.size])
            for start in range(header.size, len(content), record):
                half = record // 2
                file.write(content[start : start + half])
                time.sleep(0.01)
                file.write(content[start + half : start + record])
                written.append(time.monotonic())
                time.sleep(0.03)

    epochs: list[FollowedEpoch] = []

    def on_epoch(epoch: FollowedEpoch) -> None:
        epochs.append(epoch)
        times.append((time.monotonic(), len(written)))

    thread = threading.Thread(target=record_on)
    thread.start()
    idle = None if declared else 5.0
    follow_recording(model, path, tmp_path / "out", on_epoch, idle=idle)
    thread.join()
    assert len(epochs) == EPOCHS
    whole = score(model, [night], tmp_path / "whole")
    expected = hypnodensity.read_density(whole / f"{night.stem}.csv")
    np.testing.assert_allclose(collect(epochs), expected, atol=1e-5)
    assert times[0][1] < 30  # the first epochs came long before the file was complete


def test_the_command_prints_each_epoch(
    command: Callable, night: Path, model: Path, tmp_path: Path
) -> None:
    ran = command("score", model, "--follow", night, "--out", "out", "--only", "csv")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "epoch,onset,stage,p_W,p_N1,p_N2,p_N3,p_REM"
    assert len(lines) == 1 + EPOCHS
    assert lines[2].startswith("1,30,")
    assert command("score", model, "--out", "x").code == 2
    assert command("score", model, night, "--follow", night, "--out", "x").code == 2
    assert command("score", model, "--follow", "absent.edf", "--out", "x").code == 66
    assert not (tmp_path / "x").exists()


def test_a_stop_keeps_what_is_there(night: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "night.edf"
    header = read_header(night)
    records = round(10 * 30 / header.record_seconds)
    path.write_bytes(
        night.read_bytes()[: header.size + records * header.record_samples * header.sample_bytes]
    )
    command = [Path(sys.executable).with_name("sleeptools"), "score", model, "--follow", path]
    with subprocess.Popen(
        [*command, "--out", tmp_path / "out"], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(11)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 75
    assert lines[-1].startswith("9,270,")
    assert len(formats.read_hypnogram(tmp_path / "out/night.csv")) == 10


def test_a_file_that_is_cut_or_replaced(night: Path, model: Path, tmp_path: Path) -> None:
    content = night.read_bytes()

    def cut(path: Path) -> None:
        os.truncate(path, len(content) // 3)

    def replace(path: Path) -> None:
        other = path.with_name("other")
        other.write_bytes(content)
        other.replace(path)

    for change, message in ((cut, "became shorter"), (replace, "replaced"), (os.unlink, "removed")):
        path = tmp_path / "night.edf"
        path.write_bytes(content[: len(content) // 2])

        def on_epoch(epoch: FollowedEpoch, path: Path = path, change: Callable = change) -> None:
            if epoch.number == 3:
                change(path)

        with pytest.raises(DataError, match=message) as caught:
            follow_recording(model, path, tmp_path / "out", on_epoch)
        assert caught.value.code in ("FILE-CHANGED", "EDF-CUT")


@pytest.mark.parametrize(
    ("steps", "settings", "what"),
    [
        ([{"do": "high-pass", "hz": 0.3}], {}, "high-pass"),
        ([{"do": "z-score"}], {}, "z-score"),
        ([], {"sample_rate": 50, "epoch_seconds": 60}, "resampling from 100 to 50 Hz"),
    ],
)
def test_a_preset_that_looks_ahead_is_refused(
    night: Path, tmp_path: Path, steps: list, settings: dict, what: str
) -> None:
    preset = preset_with(steps, **settings)
    config = {"channels": len(CHANNELS)}
    model = save_preset_model(tmp_path / "model", preset, config=config)
    with pytest.raises(UsageError, match=f"{what} over the recording"):
        follow_recording(model, night, tmp_path / "out", lambda _: None)


def test_a_model_with_context_is_refused(night: Path, tmp_path: Path) -> None:
    preset = presets.load("sleep-edf")
    model = save_preset_model(tmp_path / "model", preset, "salientsleepnet")
    with pytest.raises(UsageError, match="looks at neighbouring epochs"):
        follow_recording(
            model, night, tmp_path / "out", lambda _: None, options=ScoreOptions(only=["csv"])
        )


def test_a_header_that_is_completed_in_place_ends_it(
    night: Path, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "night.edf"
    content = night.read_bytes()
    path.write_bytes(content[:236] + b"-1      " + content[244:])

    def on_epoch(epoch: FollowedEpoch) -> None:
        if epoch.number == EPOCHS - 1:
            with path.open("r+b") as file:  # the recorder closes it: its size stays
                file.seek(236)
                file.write(content[236:244])

    began = time.monotonic()
    follow_recording(model, path, tmp_path / "out", on_epoch, idle=20)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("blank", ["spaces", "zeros", "half", "ranges", "nothing"])
def test_a_header_is_waited_for(night: Path, model: Path, tmp_path: Path, blank: str) -> None:
    """It may be reserved as a whole and filled in later, beside data that are there already."""
    content, size = night.read_bytes(), read_header(night).size
    signals = (size - 256) // 256
    ranges = 256 + signals * 104  # bytes before the physical minima, of which two are there
    first = {
        "spaces": b" " * size,
        "zeros": b"\0" * size,
        "half": content[:300],
        "ranges": content[: ranges + 16] + b" " * 16 + content[ranges + 32 : size],
        "nothing": b"",
    }[blank]
    path = tmp_path / "night.edf"
    path.write_bytes(first)
    said: list[str] = []

    def fill_in() -> None:
        time.sleep(0.2)
        with path.open("r+b") as file:
            file.write(content[:size])
            file.flush()
            time.sleep(0.2)
            file.write(content[size:])

    thread = threading.Thread(target=fill_in)
    thread.start()
    epochs: list[FollowedEpoch] = []
    follow_recording(model, path, tmp_path / "out", epochs.append, idle=20, log=said.append)
    thread.join()
    assert len(epochs) == EPOCHS
    waits = [line for line in said if line.startswith("waiting for the header of night.edf: ")]
    expected = {"half": "signal 1 physical min", "ranges": "signal 3 physical min"}
    assert len(waits) == 1, "said once"
    assert f"{expected.get(blank, 'version')} is blank" in waits[0]


def test_a_header_that_never_comes_is_an_error(
    command: Callable, night: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "night.edf").write_bytes(b" " * 3000)
    ran = command("score", model, "--follow", "night.edf", "--idle", 0.2, "--out", "out")
    assert ran.code == 65
    assert "its header was never complete: version is blank" in ran.err
    (tmp_path / "begun.edf").write_bytes(night.read_bytes()[: read_header(night).size])
    ran = command("score", model, "--follow", "begun.edf", "--idle", 0.2, "--out", "out")
    assert ran.code == 0
    assert "warning: not one epoch is complete: begun.edf" in ran.err


def test_what_cannot_be_followed_is_said_at_once(night: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "night.edf").write_bytes(b"GIF89a" + b"\0" * 3000)
    with pytest.raises(DataError, match="neither EDF nor BDF"):
        follow_recording(model, tmp_path / "night.edf", tmp_path / "out", lambda _: None)
    long = tmp_path / f"{'x' * 181}.edf"
    shutil.copy(night, long)
    with pytest.raises(DataError, match="cannot be the id"):
        follow_recording(model, long, tmp_path / "other", lambda _: None)
    assert not (tmp_path / "other/manifest.json").exists()


def test_lights_that_are_not_yet_on_do_not_lose_the_epochs(
    night: Path, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "night.edf"
    path.write_bytes(night.read_bytes()[: night.stat().st_size // 2])
    options, said = ScoreOptions(only=["csv"], lights_on=1790.0), []
    out = follow_recording(
        model, path, tmp_path / "out", lambda _: None, options=options, idle=0, log=said.append
    )
    assert len(formats.read_hypnogram(out / "night.csv")) == EPOCHS // 2 - 1
    assert any("lights_on=1790" in line for line in said)


def test_a_label_that_is_not_there_is_said_once_the_epochs_are_kept(
    night: Path, model: Path, tmp_path: Path
) -> None:
    options = ScoreOptions(only=["csv"], ignore_channels=["EKG"])
    with pytest.raises(DataError, match="EKG"):
        follow_recording(model, night, tmp_path / "out", lambda _: None, options=options)
    assert store.verify(tmp_path / "out") == []
