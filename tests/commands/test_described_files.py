"""A file of a folder that edf.toml describes has the same channels for every command."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preset_model import save_preset_model
from sleeptools import formats, store
from sleeptools.commands.score import ScoreOptions, follow_recording, score
from sleeptools.commands.score.follow import FollowedEpoch
from sleeptools.commands.simulate import simulate
from sleeptools.datasets.shared.edf_settings import SETTINGS, read_named, settings_of
from sleeptools.errors import DataError
from sleeptools.preprocessing import presets

NAMES = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
LABELS = ["Front", "Back", "Eyes", "Jaw"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("edf", tmp_path_factory.mktemp("edf") / "nights", subjects=2, hours=0.5, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_preset_model(tmp_path_factory.mktemp("m") / "model", presets.load("sleep-edf"))


@pytest.fixture
def nights(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "nights"))


def edit(nights: Path, old: str, new: str) -> None:
    text = (nights / SETTINGS).read_text()
    assert old in text
    (nights / SETTINGS).write_text(text.replace(old, new, 1))


def rows(scores: Path) -> dict[str, dict]:
    return store.read_json(scores / "manifest.json")["recordings"]


# --- score ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["nights", "nights/p01/night1.edf", "nights/p0*/night1.edf"])
def test_names_of_the_folder_are_taken(
    command: Callable, nights: Path, model: Path, named: str
) -> None:
    ran = command("score", model, named, "--out", "scores")
    assert ran.code == 0, ran.err
    assert ran.err.count("edf.toml: EEG Fpz-Cz = Front, EEG Pz-Oz = Back, EOG") == 1
    assert all(
        row["channels"] == {n: n for n in NAMES} for row in rows(nights.parent / "scores").values()
    )


def test_without_settings_they_are_unknown(command: Callable, nights: Path, model: Path) -> None:
    (nights / SETTINGS).unlink()
    ran = command("score", model, "nights", "--out", "scores")
    assert ran.code == 65
    assert "Fpz-Cz" in ran.err


def test_the_file_s_own_labels_still_name_channels(
    command: Callable, nights: Path, model: Path
) -> None:
    ran = command("score", model, "nights", "--out", "s", "--channel", "EEG Fpz-Cz=Back")
    assert ran.code == 0, ran.err
    row = rows(nights.parent / "s")["p01-night1"]
    assert row["channels"]["EEG Fpz-Cz"] == "EEG Pz-Oz"
    assert "EEG Pz-Oz serves as EEG Fpz-Cz (as said)" in ran.err


def test_changed_settings_score_again(nights: Path, model: Path) -> None:
    out = nights.parent / "scores"
    texts: list[str] = []
    for _ in range(2):
        texts.clear()
        score(model, [nights], out, lambda item: texts.append(item.text))
    assert all(text.endswith("as before") for text in texts)
    before = (out / "p01-night1.csv").read_bytes()
    edit(nights, '"EEG Fpz-Cz" = "Front"', '"EEG Fpz-Cz" = { label = "Front", scale = 0.1 }')
    texts.clear()
    score(model, [nights], out, lambda item: texts.append(item.text))
    assert not any(text.endswith("as before") for text in texts)
    assert (out / "p01-night1.csv").read_bytes() != before


def test_only_files_that_the_settings_name_follow_them(nights: Path, model: Path) -> None:
    shutil.copy(nights / "p01/night1.edf", nights / "p01/other.edf")
    assert settings_of(nights / "p01/night1.edf").path == nights / SETTINGS
    assert settings_of(nights / "p01/other.edf").path is None
    assert [*read_named(nights / "p01/other.edf").signals] == LABELS
    with pytest.raises(DataError, match="other"):
        score(model, [nights], nights.parent / "scores")


def test_the_nearest_settings_count(nights: Path) -> None:
    store.write_toml(nights / "p01/edf.toml", {"signals": "{subject}.edf"})
    assert [*read_named(nights / "p01/night1.edf").signals] == LABELS
    assert [*read_named(nights / "p02/night1.edf").signals] == NAMES


def test_a_named_signal_that_is_not_there_is_told(
    command: Callable, nights: Path, model: Path
) -> None:
    edit(nights, 'label = "Jaw"', 'label = "Chin"')
    ran = command("score", model, "nights", "--out", "scores")
    assert ran.code == 65
    edit(nights, '"EEG Pz-Oz" = "Back"', '"EEG Pz-Oz" = "Back"\n"EMG submental 2" = "Jaw"')
    recording = read_named(nights / "p01/night1.edf")
    assert [*recording.signals] == [*NAMES[:3], "EMG submental 2"]
    assert "edf.toml names a signal 'Chin', which is not there" in str(recording.facts["notes"])


def test_invalid_settings_end_the_command_at_once(
    command: Callable, nights: Path, model: Path
) -> None:
    edit(nights, "signals =", "signal =")
    ran = command("score", model, "nights", "--out", "scores")
    assert ran.code == 65
    assert "edf.toml: signals: Field required" in ran.err
    assert not (nights.parent / "scores").exists()


def test_ignored_channels_are_left_out_everywhere(nights: Path, model: Path) -> None:
    path = nights / "p01/night1.edf"
    data = bytearray(path.read_bytes())
    start = 256 + 4 * 104 + 8 * LABELS.index("Jaw")  # its physical minimum
    data[start : start + 8] = b"-204,8  "
    path.write_bytes(data)
    with pytest.raises(DataError):
        formats.read_any(path)
    edit(nights, '"EMG submental"', '"EMG other"')
    text = (nights / SETTINGS).read_text()
    (nights / SETTINGS).write_text('ignore_channels = ["Jaw"]\n' + text)
    assert [*read_named(path).signals] == NAMES[:3]
    with pytest.raises(DataError, match="EMG submental"):  # which this model wants
        score(model, [path], nights.parent / "scores")


def test_following_takes_the_names(tmp_path: Path) -> None:
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=0.5)
    night = raw / "SC4001E0-PSG.edf"
    names = ["EEG C4-M1", "EEG Pz-Oz", "EOG horizontal"]
    settings = {"signals": "{subject}-PSG.edf", "channels": {names[0]: "EEG Fpz-Cz"}}
    store.write_toml(night.with_name(SETTINGS), settings)
    values = presets.load("sleep-edf").model_dump() | {"montage": [{"name": n} for n in names]}
    preset = presets.Preset(**values | {"processing": [{"do": "z-score", "over": "epoch"}]})
    model = save_preset_model(tmp_path / "model", preset, config={"channels": 3})
    epochs: list[FollowedEpoch] = []
    follow_recording(model, night, tmp_path / "live", epochs.append)
    score(model, [night], tmp_path / "scores")
    followed, scored = (
        formats.read_hypnogram(tmp_path / name / f"{night.stem}.csv") for name in ("live", "scores")
    )
    assert len(epochs) == 60
    np.testing.assert_array_equal(followed.stages, scored.stages)
    assert rows(tmp_path / "live")[night.stem]["channels"] == {n: n for n in names}


# --- review ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [{}, {"EEG Fpz-Cz": "Front"}])
def test_review_shows_what_the_model_saw(
    command: Callable, nights: Path, model: Path, channels: dict[str, str]
) -> None:
    score(model, [nights], nights.parent / "scores", options=ScoreOptions(channels=channels))
    night = "nights/p01/night1.edf"
    ran = command("review", night, "--scores", "scores", "--out", "r.html")
    assert ran.code == 0, ran.err
    assert "not shown" not in ran.err  # the EOG and EMG, too, whose names tell what they are
    ran = command(
        "review", night, "--channel", "Front", "--channel", "EOG horizontal", "--out", "r.html"
    )
    assert ran.code == 0, ran.err


def test_review_of_scores_from_before_the_settings(
    command: Callable, nights: Path, model: Path
) -> None:
    settings = (nights / SETTINGS).read_text()
    (nights / SETTINGS).unlink()
    channels = dict(zip(NAMES, LABELS, strict=True))
    score(model, [nights], nights.parent / "scores", options=ScoreOptions(channels=channels))
    (nights / SETTINGS).write_text(settings)
    ran = command("review", "nights/p01/night1.edf", "--scores", "scores", "--out", "r.html")
    assert ran.code == 0, ran.err
    assert "not shown" not in ran.err


def test_python_takes_the_names(nights: Path, model: Path) -> None:
    import sleeptools

    scoring = sleeptools.score(nights / "p01/night1.edf", model)
    assert scoring.montage.made_of == {n: n for n in NAMES}
    renamed = replace(ScoreOptions(channels={"EMG submental": "Jaw"}), threads=1)
    assert renamed.called({"Jaw": "Chin"}).channels == {"EMG submental": "Chin"}


# --- scores of no night ---------------------------------------------------------------------------


@pytest.fixture
def failed(command: Callable, model: Path, tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"bad/{name}").mkdir(parents=True)
        (tmp_path / f"bad/{name}/night.edf").write_text("no recording")
    assert command("score", model, "bad", "--out", "scores").code == 65
    return tmp_path / "scores"


@pytest.mark.parametrize(
    "line",
    [
        "report scores",
        "review nights/p01/night1.edf --scores scores",
        "agree scores nights/p01/night1_a.edf",
    ],
)
def test_scores_of_no_night_are_no_result(
    command: Callable, failed: Path, nights: Path, line: str
) -> None:
    before = sorted(failed.parent.iterdir())
    ran = command(*line.split())
    assert ran.code == 65
    assert (
        "scores: no night is scored in it: 2 recordings failed, the first of them a-night: "
        in ran.err
    )
    assert ran.err.count("a-night") == 1
    assert "hint: scores/failures.csv has the cures" in ran.err
    assert sorted(failed.parent.iterdir()) == before


def test_an_interrupted_batch_is_told_from_a_failed_one(command: Callable, failed: Path) -> None:
    facts = json.loads((failed / "manifest.json").read_text())
    (failed / "manifest.json").write_text(json.dumps(facts | {"failed": {}}))
    ran = command("report", "scores")
    assert ran.code == 65
    assert "scores: no night is scored in it yet" in ran.err


def test_the_page_begins_with_what_is_missing(command: Callable, nights: Path, model: Path) -> None:
    (nights / "p02/night1.edf").write_text("no recording")
    assert command("score", model, "nights", "--out", "scores").code == 65
    ran = command("report", "scores")
    assert ran.code == 0, ran.err
    page = (nights.parent / "report.html").read_text()
    assert "1 night of 2, scored by" in page
    banner = page.index("NOT SCORED: 1")
    assert banner < page.index("SIMULATED DATA") < page.index("p01-night1.")
    assert "p02-night1: " in page[banner : banner + 200]


def test_the_page_names_the_model_as_it_was_asked_for(command: Callable, tmp_path: Path) -> None:
    raw = simulate("sleep-edf", tmp_path / "raw", subjects=1, hours=2.2)
    for lights, told in (([], True), (["--lights-off", "22:55", "--lights-on", "00:50"], False)):
        ran = command("score", "default", raw, "--out", "scores", *lights)
        assert ran.code == 0, ran.err
        assert command("report", "scores").code == 0
        page = (tmp_path / "report.html").read_text()
        assert "1 night, scored by default (spectral): learnt from simulated nights only" in page
        assert ("times of lights off and on fills in TIB" in page) is told


# --- files of equal names -------------------------------------------------------------------------


def test_files_left_out_can_be_told_apart(command: Callable, nights: Path, model: Path) -> None:
    ran = command("score", model, "nights", "--out", "scores")
    listed = "p01/night1_a.edf, p01/night1_b.edf, p02/night1_a.edf, p02/night1_b.edf"
    assert f"left out, without signals: {listed}\n" in ran.err


def test_recordings_without_a_subject_can_be_told_apart(command: Callable, nights: Path) -> None:
    (nights / "subjects.csv").write_text("file,subject\np01/night1.edf,a\n")
    ran = command("convert", "edf", "nights", "recordings")
    assert ran.code == 65
    assert "whose 1 recordings are: p02/night1.edf" in ran.err
    (nights / "subjects.csv").write_text("file,subject\np09/night1.edf,a\n")
    ran = command("convert", "edf", "nights", "recordings")
    assert "hint: there are: p01/night1.edf, p02/night1.edf" in ran.err


def test_names_are_as_short_as_they_may_be(tmp_path: Path) -> None:
    paths = [
        tmp_path / name for name in ("a/x.edf", "b/x.edf", "b/y.edf", "b/c/x.edf", "d/c/x.edf")
    ]
    assert store.short_names(paths) == ["a/x.edf", "b/x.edf", "y.edf", "b/c/x.edf", "d/c/x.edf"]
    assert store.short_names([paths[0], paths[0]]) == ["/".join(paths[0].parts)] * 2
    assert store.listing("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"
    assert store.listing([]) == ""
