"""What comes of scoring: which recordings, from which signals, and the folder in other commands."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyedflib
import pytest

from preset_model import save_preset_model
from sleeptools import formats, store
from sleeptools.commands.score import ScoreOptions, score
from sleeptools.commands.score.montage import choose_montage
from sleeptools.commands.score.paths import recordings_among
from sleeptools.commands.simulate import simulate
from sleeptools.commands.verify import verify
from sleeptools.errors import DataError, SleeptoolsError, UsageError
from sleeptools.formats import bids
from sleeptools.preprocessing import presets
from sleeptools.recording.montage import modality
from sleeptools.recording.recording import Recording
from sleeptools.report.html import ZOOM_HELP

NIGHTS = ["SC4001E0-PSG", "SC4011E0-PSG"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("sleep-edf", tmp_path_factory.mktemp("raw"), subjects=2, hours=0.6, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_preset_model(tmp_path_factory.mktemp("m") / "model", presets.load("sleep-edf"))


@pytest.fixture(scope="module")
def scores(raw: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score(model, [raw], tmp_path_factory.mktemp("s") / "scores")


# --- paths ----------------------------------------------------------------------------------------


def test_folders_and_patterns_leave_scorings_out_and_name_them(raw: Path, tmp_path: Path) -> None:
    for paths in ([raw], [raw / "*.edf"], sorted(raw.glob("*.edf"))):
        recordings, scorings = recordings_among(paths)
        assert [p.stem for p in recordings] == NIGHTS
        assert [p.stem for p in scorings] == ["SC4001EC-Hypnogram", "SC4011EC-Hypnogram"]
    nested = tmp_path / "study/sub-01/eeg"
    shutil.copytree(raw, nested)
    (nested / "notes.txt").write_text("slept well")
    (nested / "cut.edf").write_bytes(b"0       damaged")
    assert [p.stem for p in recordings_among([tmp_path])[0]] == [*NIGHTS, "cut"]


def test_a_hypnogram_alone_is_said_to_be_one(raw: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds annotations only"):
        score(model, [raw / "SC4001EC-Hypnogram.edf"], tmp_path / "out")


@pytest.mark.parametrize("name", ["absent.edf", "absent/*.edf", "empty", "empty/*"])
def test_nothing_there_makes_no_folder(
    command: Callable, model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    ran = command("score", model, name, "--out", "scores")
    assert ran.code == 66, ran.err
    assert not (tmp_path / "scores").exists()


# --- montage --------------------------------------------------------------------------------------


def renamed(raw: Path, names: dict[str, str]) -> Recording:
    recording = formats.read(raw / f"{NIGHTS[0]}.edf")
    signals = {
        (new := names.get(label, label)): replace(s, label=new, modality=modality(new))
        for label, s in recording.signals.items()
    }
    return replace(recording, signals=signals)


def test_another_signal_serves_as_a_channel_only_as_said(raw: Path) -> None:
    channels = presets.load("sleep-edf").montage
    recording = renamed(raw, {"EEG Fpz-Cz": "EEG C3-A2", "EEG Pz-Oz": "EEG O1-A2"})
    with pytest.raises(DataError) as caught:
        choose_montage(recording, channels, {})
    assert "`channels=EEG Fpz-Cz=EEG C3-A2`" in str(caught.value.hint)
    chosen = choose_montage(recording, channels, {"EEG Fpz-Cz": "C3-M2", "EEG Pz-Oz": "EEG O1-A2"})
    assert chosen.made_of["EEG Fpz-Cz"] == "EEG C3-A2"
    assert set(chosen.substitutes) == {"EEG Fpz-Cz", "EEG Pz-Oz"}
    by_order = choose_montage(recording, channels, {}, by_order=True)
    assert by_order.made_of == chosen.made_of
    assert set(by_order.substitutes.values()) == {"by order"}
    one = renamed(raw, {"EEG Fpz-Cz": "EEG C3-A2", "EEG Pz-Oz": "Light"})
    with pytest.raises(DataError, match="no signal 'EEG Pz-Oz'"):
        choose_montage(one, channels, {}, by_order=True)  # an EEG never serves twice


def test_a_substitute_is_told_everywhere(
    command: Callable, raw: Path, model: Path, tmp_path: Path
) -> None:
    night = raw / f"{NIGHTS[0]}.edf"
    swap = ("--channel", "EEG Fpz-Cz=EEG Pz-Oz")
    ran = command("score", model, night, "--out", "a", *swap)
    assert ran.code == 0, ran.err
    told = "EEG Pz-Oz serves as EEG Fpz-Cz (as said): the model never saw it"
    assert told in ran.err
    assert "EEG Fpz-Cz = EEG Pz-Oz" in ran.err
    row = store.read_json(tmp_path / "a/manifest.json")["recordings"][NIGHTS[0]]
    assert row["channels"]["EEG Fpz-Cz"] == "EEG Pz-Oz"
    assert row["substitutes"] == {"EEG Fpz-Cz": "as said"}
    assert told in (tmp_path / f"a/{NIGHTS[0]}.html").read_text()
    again = command("score", model, night, "--out", "a")  # other signals: scored again
    assert again.code == 0
    assert "as before" not in again.err
    assert "serves as" not in (tmp_path / f"a/{NIGHTS[0]}.html").read_text()


# --- files ----------------------------------------------------------------------------------------


def test_every_file_of_a_night_has_the_same_stages(scores: Path) -> None:
    for name in NIGHTS:
        files = [f"{name}-hypnogram.edf", f"{name}_events.tsv", f"{name}.csv"]
        stages = [formats.read_hypnogram(scores / file).stages.tolist() for file in files]
        assert stages[0] == stages[1] == stages[2]
        table = pl.read_csv(scores / f"{name}.csv")
        with pyedflib.EdfReader(str(scores / files[0])) as edf:
            onsets, durations, texts = edf.readAnnotations()
            named = edf.getRecordingAdditional()
        assert named == f"simulated confidence_{table['confidence'].mean():.2f}"
        assert onsets.tolist() == table["onset"].to_list()
        assert set(durations.tolist()) == {30.0}
        named = ["Sleep stage " + {"REM": "R"}.get(stage, stage) for stage in table["stage"]]
        assert texts.tolist() == named
        events = pl.read_csv(scores / files[1], separator="\t")
        np.testing.assert_allclose(events["confidence"], table["confidence"], atol=5e-5)
        described = store.read_json(bids.sidecar(scores / files[1]))
        assert set(events.columns) <= set(described) | {"EpochLength", "StageNames"}
    sleep = pl.read_csv(scores / "sleep.csv")
    assert sleep["recording"].to_list() == NIGHTS


def test_a_recording_of_bids_gives_events_of_its_name(
    raw: Path, model: Path, tmp_path: Path
) -> None:
    path = shutil.copy(raw / f"{NIGHTS[0]}.edf", tmp_path / "sub-01_task-sleep_eeg.edf")
    out = score(model, [Path(path)], tmp_path / "out", options=ScoreOptions(only=["bids"]))
    assert sorted(p.name for p in out.iterdir()) == [
        "manifest.json",
        "sleep.csv",
        "sub-01_task-sleep_events.json",
        "sub-01_task-sleep_events.tsv",
    ]


def test_only_some_files_and_then_more(raw: Path, model: Path, tmp_path: Path) -> None:
    night = [raw / f"{NIGHTS[0]}.edf"]
    out = score(model, night, tmp_path / "out", options=ScoreOptions(only=["csv"]))
    assert not (out / f"{NIGHTS[0]}.html").exists()
    score(model, night, out)
    assert (out / f"{NIGHTS[0]}.html").exists()
    assert store.verify(out) == []


def test_the_page_shows_the_night_and_who_scored_it(scores: Path) -> None:
    page = (scores / f"{NIGHTS[0]}.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # of two EEG
    for text in (
        "SIMULATED DATA",
        "not for diagnosis",
        "Doubtful epochs",
        "expected agreement",
        "ulw-sleepnet",
        "lights off and on not known",
    ):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_a_model_of_simulated_nights_warns_of_a_real_one(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleeptools.runs import model_folder

    folder = save_preset_model(tmp_path / "model", presets.load("sleep-edf"))
    facts = model_folder.read_config(folder) | {"simulated": True}
    arrays = {k: np.array(v) for k, v in model_folder.read_weights(folder).items()}
    model_folder.write_model_folder(folder, facts, arrays)
    real = tmp_path / "night.edf"
    real.write_bytes((raw / f"{NIGHTS[0]}.edf").read_bytes().replace(b"simulated", b"of_a_clin"))
    lines: list[str] = []
    out = score(folder, [real], tmp_path / "out", lambda step: lines.append(step.text))
    assert "learnt from simulated nights only" in lines[0]
    assert "learnt from simulated nights only" in (out / "night.html").read_text()
    row = store.read_json(out / "manifest.json")["recordings"]["night"]
    assert row["simulated"] is False
    assert "SIMULATED DATA" not in (out / "night.html").read_text()
    assert formats.read_hypnogram(out / "night-hypnogram.edf").scorer != "simulated"


# --- the folder in other commands -----------------------------------------------------------------


def test_the_folder_is_inspected_night_by_night(command: Callable, scores: Path) -> None:
    ran = command("inspect", scores)
    assert ran.code == 0, ran.err
    assert "sleeptools-scores, 2 nights" in ran.out
    assert ran.out.count("-PSG.csv") == 2


def test_the_folder_becomes_another_format(command: Callable, scores: Path, tmp_path: Path) -> None:
    ran = command("hypnogram", scores, "luna", "--to", "luna")
    assert ran.code == 0, ran.err
    for name in NIGHTS:
        luna = formats.read_hypnogram(tmp_path / f"luna/{name}.annot")
        assert luna.stages.tolist() == (
            formats.read_hypnogram(scores / f"{name}.csv").stages.tolist()
        )
    assert command("hypnogram", scores, "x").code == 2


def test_the_folder_has_a_page(command: Callable, scores: Path, tmp_path: Path) -> None:
    ran = command("report", scores, "--out", "nights.html")
    assert ran.code == 0, ran.err
    page = (tmp_path / "nights.html").read_text()
    assert page.count('class="night"') == 2
    assert "TST, min" in page
    assert "2 nights, scored by ulw-sleepnet<" in page
    assert page.count(ZOOM_HELP) == 1
    for name in NIGHTS:
        assert (scores / f"{name}.html").read_text().count(ZOOM_HELP) == 1
    assert command("report", scores, "--format", "csv", "--out", "x").code == 2


def test_the_folder_is_verified(command: Callable, scores: Path, tmp_path: Path) -> None:
    ran = command("verify", scores)
    assert ran.code == 0
    assert "every number follows" in ran.err
    copy = shutil.copytree(scores, tmp_path / "copy")
    path = copy / f"{NIGHTS[0]}.csv"
    text = path.read_text()
    stage = text.splitlines()[1].split(",")[4]
    path.write_text(text.replace(f",{stage},", ",N3," if stage != "N3" else ",W,", 1))
    assert command("verify", copy).code == 65
    facts = store.read_json(copy / "manifest.json")
    facts["files"][path.name] = store.sha256(path)
    facts["recordings"][NIGHTS[1]]["sleep"]["tst_min"] = 1e3
    facts["recordings"][NIGHTS[1]]["epochs"] = 1
    store.write_json(copy / "manifest.json", facts)
    ran = command("verify", copy)
    assert ran.code == 65
    assert "1 stages are not the likeliest, the first of epoch 0" in ran.out + ran.err
    assert "tst_min is" in ran.out + ran.err
    assert "epochs is 72; manifest.json has 1" in ran.out + ran.err


# --- other programs read what was written ---------------------------------------------------------


def test_edfio_and_mne_read_the_same_stages(scores: Path) -> None:
    edfio, mne = pytest.importorskip("edfio"), pytest.importorskip("mne")
    for name in NIGHTS:
        table = pl.read_csv(scores / f"{name}.csv")
        path = scores / f"{name}-hypnogram.edf"
        texts = [f"Sleep stage {'R' if s == 'REM' else s}" for s in table["stage"]]
        file = edfio.read_edf(path)
        assert file.recording.additional[0] == "simulated"
        assert file.recording.additional[1] == f"confidence_{table['confidence'].mean():.2f}"
        theirs = file.annotations
        assert [(a.onset, a.duration, a.text) for a in theirs] == [
            (onset, 30.0, text) for onset, text in zip(table["onset"], texts, strict=True)
        ]
        annotations = mne.read_annotations(path)
        assert annotations.description.tolist() == texts
        assert annotations.onset.tolist() == table["onset"].to_list()
        began = mne.io.read_raw_edf(path, preload=False, verbose="error").info[
            "meas_date"
        ]  # the recording's start, so that the stages fall on its signals
        assert began.replace(tzinfo=None).isoformat() == table["time"][0]


@pytest.mark.slow
def test_bids_events_pass_the_validator(raw: Path, model: Path, tmp_path: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip(f"{validator} is not installed")
    eeg = tmp_path / "set/sub-01/eeg"
    eeg.mkdir(parents=True)
    stem = "sub-01_task-sleep"
    shutil.copy(raw / f"{NIGHTS[0]}.edf", eeg / f"{stem}_eeg.edf")
    out = score(model, [eeg], tmp_path / "out", options=ScoreOptions(only=["bids"]))
    for end in ("tsv", "json"):
        shutil.copy(out / f"{stem}_events.{end}", eeg)
    store.write_json(
        eeg / f"{stem}_eeg.json",
        {
            "TaskName": "sleep",
            "SamplingFrequency": 100,
            "EEGReference": "n/a",
            "PowerLineFrequency": 50,
            "SoftwareFilters": "n/a",
        },
    )
    channels = ["name\ttype\tunits"]
    for signal in formats.read(eeg / f"{stem}_eeg.edf").signals.values():
        kind = signal.modality.upper() if signal.modality in ("eeg", "eog", "emg") else "MISC"
        channels.append(f"{signal.label}\t{kind}\t{signal.unit or 'n/a'}")
    store.write_text(eeg / f"{stem}_channels.tsv", "\n".join(channels) + "\n")
    facts = {"Name": "a night", "BIDSVersion": "1.10.0", "License": "CC0", "Authors": ["a", "b"]}
    store.write_json(tmp_path / "set/dataset_description.json", facts)
    (tmp_path / "set/README").write_text("A simulated night, for a test of its events.\n" * 5)
    done = subprocess.run(
        [validator, tmp_path / "set", "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue.get("severity") == "error"]
    ours = {i.get("subCode") for i in issues if "events" in str(i.get("location", ""))}
    assert ours <= {"StimulusPresentation"}  # a recommendation that means nothing asleep


# --- folders that fit together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "file"),
    [(["sleep"], "sleep.csv"), (["failures"], "failures.csv"), (["x", "x_eeg"], "x_events.json")],
)
def test_no_two_nights_share_a_file(
    raw: Path, model: Path, tmp_path: Path, names: list[str], file: str
) -> None:
    paths = [tmp_path / f"{name}.edf" for name in names]
    for path in paths:
        shutil.copy(raw / f"{NIGHTS[0]}.edf", path)
    with pytest.raises(UsageError, match=f"would both be {file}"):
        score(model, paths, tmp_path / "out")
    for path in paths[:-1]:  # nor one of an earlier call
        score(model, [path], tmp_path / "out")
    with pytest.raises(UsageError, match=f"would both be {file}"):
        score(model, paths[-1:], tmp_path / "out")


def test_no_file_is_left_of_other_options(raw: Path, model: Path, tmp_path: Path) -> None:
    night = raw / f"{NIGHTS[0]}.edf"
    out = score(model, [night], tmp_path / "out", options=ScoreOptions(only=["csv", "html"]))
    page = (out / f"{NIGHTS[0]}.html").read_bytes()
    score(model, [night], out, options=ScoreOptions(only=["edf"], lights_off=60.0))
    assert store.unlisted(out) == []
    assert store.verify(out) == []
    assert (out / f"{NIGHTS[0]}.html").read_bytes() != page


def _spoil(key: str, value: object) -> Callable[[dict], None]:
    return lambda facts: facts["recordings"][NIGHTS[0]].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("recordings"), "lacks recordings"),
        (lambda facts: facts.update(recordings=[]), "recordings is"),
        (lambda facts: facts["recordings"].update({NIGHTS[0]: None}), "expected a table"),
        (lambda facts: facts.update(made_by="me"), "made_by is 'me'"),
        (_spoil("files", 5), "files is 5"),
        (_spoil("files", ["../x.csv"]), "no such file|no sum of"),
        (_spoil("sleep", 5), "sleep is 5"),
        (_spoil("sleep", {"lights_off_s": "a"}), "lights_off_s is 'a'"),
        (_spoil("bins", 5), "bins is 5"),
        (_spoil("warnings", 5), "warnings is 5"),
        (lambda facts: facts.update(version=1), "an earlier sleeptools"),
        (lambda facts: facts.pop("version"), "an earlier sleeptools"),
    ],
)
def test_a_damaged_or_old_manifest_is_said(
    scores: Path, tmp_path: Path, change: Callable[[dict], object], message: str
) -> None:
    folder = tmp_path / "scores"
    shutil.copytree(scores, folder)
    shutil.copy(scores / f"{NIGHTS[0]}.csv", tmp_path / "x.csv")
    facts = json.loads((folder / "manifest.json").read_text())
    change(facts)
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(SleeptoolsError, match=message):
        verify(folder)


def test_a_changed_statistic_is_found_whatever_it_is(scores: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    shutil.copytree(scores, folder)
    facts = json.loads((folder / "manifest.json").read_text())
    for value in ("a", None, 1e9):
        facts["recordings"][NIGHTS[0]]["sleep"]["W_min"] = value
        (folder / "manifest.json").write_text(json.dumps(facts))
        assert len(verify(folder).problems) == 1
