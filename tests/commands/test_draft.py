"""`inspect --draft`: from names and contents of files to settings that `convert edf` takes."""

import random
import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from sleeptools import store
from sleeptools.commands.convert import convert
from sleeptools.commands.inspect import draft_settings
from sleeptools.commands.inspect.patterns import name_recordings, name_scorings
from sleeptools.commands.simulate import simulate
from sleeptools.datasets.shared.edf_settings import EdfSettings, load_settings
from sleeptools.errors import DataError, MissingInputError
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.recording.recording import Recording, Signal, read_recording
from sleeptools.recording.stages import MOUSE_STAGES

BEGAN = datetime(2024, 5, 6, 22, 30)
WORDS = ("W", "N1", "N2", "N3", "REM")


def psg(path: Path, labels: tuple[str, ...] = ("C4-A1", "EOG1", "Chin"), unit: str = "uV") -> Path:
    """Write ten minutes of signals at 32 Hz."""
    values = np.random.default_rng(1).normal(0, 20, 600 * 32).astype(np.float32)
    heads = [SignalHeader(n, "", unit, -200, 200, -32768, 32767, "", 32, 0) for n in labels]
    signals = {n: Signal(n, 32, unit, "other", len(values), lambda: values) for n in labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path, Recording("x", "x", 1, signals, start=BEGAN), heads, record_seconds=1.0)
    return path


def scoring(path: Path, words: tuple[str, ...] = WORDS, count: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{words[k % len(words)]}\n" for k in range(count)))
    return path


def drafted(folder: Path, tmp_path: Path) -> EdfSettings:
    store.write_text(tmp_path / "draft.toml", draft_settings(folder))
    return load_settings(tmp_path / "draft.toml")


# --- names ----------------------------------------------------------------------------------------

NIGHTS = ("S01_N1", "S01_N2", "S02_N1")
LAYOUTS: dict[str, tuple[list[str], list[str], str, list[str]]] = {
    "flat": (
        [f"{n}.edf" for n in NIGHTS],
        [f"{n}.csv" for n in NIGHTS],
        "{subject}_N{night}.edf",
        ["{subject}_N{night}.csv"],
    ),
    "without nights": (
        ["S01.edf", "S02.edf"],
        ["S02.csv", "S01.csv"],
        "{subject}.edf",
        ["{subject}.csv"],
    ),
    "numbers are animals": (
        ["mouse_01.edf", "mouse_02.edf"],
        ["mouse_01_scored.txt", "mouse_02_scored.txt"],
        "{subject}.edf",
        ["{subject}_scored.txt"],
    ),
    "numbers are nights": (
        ["A_1.edf", "A_2.edf", "B_1.edf"],
        ["A_1.csv", "A_2.csv", "B_1.csv"],
        "{subject}_{night}.edf",
        ["{subject}_{night}.csv"],
    ),
    "a folder a subject": (
        ["S01/psg.edf", "S02/psg.edf"],
        ["S01/hyp.csv", "S02/hyp.csv"],
        "{subject}/psg.edf",
        ["{subject}/hyp.csv"],
    ),
    "a folder a subject, named twice": (
        [f"{n[:3]}/{n}.edf" for n in NIGHTS],
        [f"{n[:3]}/{n}.csv" for n in NIGHTS],
        "{subject}/{subject}_N{night}.edf",
        ["{subject}/{subject}_N{night}.csv"],
    ),
    "two scorers": (
        ["p01/night1.edf", "p02/night1.edf"],
        [f"{p}/night1_{s}.edf" for p in ("p01", "p02") for s in "ab"],
        "{subject}/night{night}.edf",
        ["{subject}/night{night}_a.edf", "{subject}/night{night}_b.edf"],
    ),
    "endings in capitals": (
        ["S01_N1.EDF", "S02_N1.edf"],
        ["S01_N1.CSV", "S02_N1.csv"],
        "{subject}_N{night}.edf",
        ["{subject}_N{night}.csv"],
    ),
    "letters and blanks": (
        ["Jürgen Nacht 2.edf", "Änne Müller Nacht 1.edf"],
        ["Jürgen Nacht 2.txt", "Änne Müller Nacht 1.txt"],
        "{subject} Nacht {night}.edf",
        ["{subject} Nacht {night}.txt"],
    ),
    "BIDS": (
        [f"{s}/ses-1/eeg/{s}_ses-1_task-sleep_eeg.edf" for s in ("sub-01", "sub-02")],
        [f"{s}/ses-1/eeg/{s}_ses-1_task-sleep_events.tsv" for s in ("sub-01", "sub-02")],
        "{subject}/ses-{night}/eeg/{subject}_ses-{night}_task-sleep_eeg.edf",
        ["{subject}/ses-{night}/eeg/{subject}_ses-{night}_task-sleep_events.tsv"],
    ),
    "a word after the subject": (
        ["01_psg.edf", "02_psg.edf"],
        ["01_hyp.csv", "02_hyp.csv"],
        "{subject}_psg.edf",
        ["{subject}_hyp.csv"],
    ),
    "a word before the subject": (
        ["psg_S01.edf", "psg_S02.edf"],
        ["hyp_S01.csv", "hyp_S02.csv"],
        "psg_{subject}.edf",
        ["hyp_{subject}.csv"],
    ),
    "scorings in a folder": (
        ["edf/S01_N1.edf", "edf/S02_N1.edf"],
        ["scores/S01_N1.csv", "scores/S02_N1.csv"],
        "edf/{subject}_N{night}.edf",
        ["scores/{subject}_N{night}.csv"],
    ),
    "nights attached": (
        ["S01N1.edf", "S01N2.edf", "S02N1.edf"],
        ["S01N1.csv", "S01N2.csv", "S02N1.csv"],
        "{subject}N{night}.edf",
        ["{subject}N{night}.csv"],
    ),
    "folders of any depth": (
        ["a/S01.edf", "a/b/S02.edf"],
        ["a/S01.csv", "a/b/S02.csv"],
        "**/{subject}.edf",
        ["**/{subject}.csv"],
    ),
    "one night": (["night.edf"], ["night.csv"], "{subject}.edf", ["{subject}.csv"]),
    "no scorings": (["a.edf", "b.edf"], [], "{subject}.edf", []),
    "a scoring is missing": (
        [f"S0{k}_N1.edf" for k in (1, 2, 3)],
        ["S01_N1.csv", "S03_N1.csv"],
        "{subject}_N{night}.edf",
        ["{subject}_N{night}.csv"],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_patterns_from_names(layout: str) -> None:
    signals, scorings, pattern, scored = LAYOUTS[layout]
    found = name_recordings(signals, scorings)
    assert found is not None
    assert found.pattern == pattern
    assert name_scorings(found, scorings) == scored
    assert sorted(found.recordings.values()) == sorted(signals)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_the_files_changes_nothing(layout: str) -> None:
    signals, scorings, *_ = LAYOUTS[layout]
    for seed in range(3):
        mixed = random.Random(seed).sample(signals, len(signals))
        found = name_recordings(sorted(mixed), sorted(scorings))
        assert found is not None
        assert found.pattern == LAYOUTS[layout][2]


def test_one_scoring_is_never_laid_on_two_nights() -> None:
    found = name_recordings(["S01_N1.edf", "S01_N2.edf"], ["S01.csv"])
    assert found is not None
    assert name_scorings(found, ["S01.csv"]) == []


def test_names_that_are_patterns_themselves_are_no_subjects() -> None:
    assert name_recordings(["{subject}.edf", "*.edf"], []) is None


# --- from a folder to recordings ------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        [("S01_N1.edf", "S01_N1.csv"), ("S01_N2.edf", "S01_N2.csv"), ("S02_N1.edf", "S02_N1.csv")],
        [("S01/night1.EDF", "S01/night1.txt"), ("S02/night1.EDF", "S02/night1.txt")],
        [
            ("Jürgen Nacht 2.edf", "Jürgen Nacht 2.txt"),
            ("Änne Nacht 1.edf", "Änne Nacht 1.txt"),
        ],
        [("cage 7/m1.EDF", "cage 7/m1.CSV"), ("cage 7/m2.edf", "cage 7/m2.csv")],
    ],
    ids=["flat", "folders", "letters and blanks", "capitals"],
)
def test_a_simple_folder_is_converted_without_edits(
    command, tmp_path: Path, names: list[tuple[str, str]]
) -> None:
    for signals, scored in names:
        psg(tmp_path / "raw" / signals)
        scoring(tmp_path / "raw" / scored)
    ran = command("inspect", "raw", "--draft")
    assert ran.code == 0, ran.err
    assert ran.out == command("inspect", "raw", "--draft").out
    (tmp_path / "draft.toml").write_text(ran.out, encoding="utf-8")
    done = command("convert", "edf", "raw", "recordings", "--config", "draft.toml")
    assert done.code == 0, done.err
    recordings = [read_recording(p) for p in (tmp_path / "recordings").glob("*.safetensors")]
    assert len(recordings) == len(names)
    for recording in recordings:
        assert recording.hypnogram is not None
        assert recording.hypnogram.counts()["N2"] == 4
        assert [*recording.signals] == ["EEG C4-M1", "EOG1", "EMG chin"]
    assert not command("inspect", "raw", "--draft").err


def test_the_simulated_set_needs_only_its_own_words(command, tmp_path: Path) -> None:
    raw = simulate("edf", tmp_path / "raw", subjects=2, hours=1)
    settings = load_settings(raw / "edf.toml")
    convert("edf", raw, tmp_path / "right")
    (raw / "edf.toml").unlink()
    text = draft_settings(raw)
    words = re.findall(r'^# ("[^"]+") = "\?"  # \d+ epoch', text, re.MULTILINE)
    assert words
    for word in words:
        stage = settings.labels[word.strip('"')]
        text = text.replace(f'# {word} = "?"', f'{word} = "{stage}"')
    (tmp_path / "draft.toml").write_text(text)
    convert("edf", raw, tmp_path / "drafted", settings=tmp_path / "draft.toml")
    for path in sorted((tmp_path / "right").glob("*.safetensors")):
        right, made = read_recording(path), read_recording(tmp_path / "drafted" / path.name)
        for a, b in zip(right.scorings, made.scorings, strict=False):
            assert a.stages.tolist() == b.stages.tolist()
        assert len(made.scorings) >= 2
        assert [*made.signals] == ["Front", "Back", "Eyes", "Jaw"]


def test_unknown_words_are_counted_and_never_guessed(tmp_path: Path) -> None:
    for k in (1, 2):
        psg(tmp_path / f"raw/S{k}.edf")
        scoring(tmp_path / f"raw/S{k}.txt", ("W", "snooze", "N2", 'tief "4"'))
    text = draft_settings(tmp_path / "raw")
    assert '# "snooze" = "?"  # 10 epochs' in text
    assert '# "tief \\"4\\"" = "?"  # 10 epochs' in text
    assert "# epochs whose labels are known: W 10, N2 10" in text
    assert drafted(tmp_path / "raw", tmp_path).labels == {}
    with pytest.raises(DataError, match="unknown stage text"):
        convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")


def test_numbers_name_the_schemes_that_fit(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf")
    scoring(tmp_path / "raw/S1.txt", ("0", "1", "2", "3", "5"))
    text = draft_settings(tmp_path / "raw")
    assert "usleep, rk, nsrr, isruc\n" in text
    assert '# scheme = "?"' in text
    assert drafted(tmp_path / "raw", tmp_path).scheme == ""


def test_a_scheme_that_alone_fits_is_a_guess_with_a_comment(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf")
    scoring(tmp_path / "raw/S1.txt", ("0", "1", "2", "3", "4", "-2"))
    text = draft_settings(tmp_path / "raw")
    assert "# guess: the only scheme that knows" in text
    settings = drafted(tmp_path / "raw", tmp_path)
    assert settings.scheme == "yasa"
    convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")


@pytest.mark.parametrize("length", [20.0, 10.0, 4.0])
def test_the_length_of_an_epoch_is_what_fits_the_signals(tmp_path: Path, length: float) -> None:
    words = WORDS if length > 4 else ("Wake", "NREM", "REM")
    for k in (1, 2):
        psg(tmp_path / f"raw/S{k}.edf")
        scoring(tmp_path / f"raw/S{k}.txt", words, int(600 / length))
    settings = drafted(tmp_path / "raw", tmp_path)
    assert settings.epoch_seconds == length
    assert "# guess: with it 2 scorings of 2 fit" in draft_settings(tmp_path / "raw")
    assert settings.stages == ((), ("Wake", "NREM", "REM"))[length == 4]
    out = convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")
    night = read_recording(out / "S1.safetensors").hypnogram
    assert night is not None
    assert night.epoch_seconds == length


def test_a_column_of_scorers_is_a_guess_with_a_comment(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf")
    rows = [f"{30 * k}\t30\tW\t{s}" for s in ("eva", "max") for k in range(20)]
    text = "\n".join(["onset\tduration\ttrial_type\tscorer", *rows, ""])
    (tmp_path / "raw/S1_events.tsv").write_text(text)
    draft = draft_settings(tmp_path / "raw")
    assert '# guess: tables name 2 scorers: "eva", "max"\nscorer = "eva"\n' in draft
    drafted(tmp_path / "raw", tmp_path)
    convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")


def own_stages(path: Path, duration: float = 30, texts: tuple[str, ...] = ("W", "N1", "R")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = pyedflib.EdfWriter(str(path), 1, file_type=pyedflib.FILETYPE_EDFPLUS)
    writer.setSignalHeader(0, {"label": "C4-A1", "dimension": "uV", "sample_frequency": 64})
    writer.writeSamples([np.sin(np.arange(64 * 600.0))])
    for k in range(20):
        writer.writeAnnotation(30.0 * k, duration, f"Sleep stage {texts[k % len(texts)]}")
    writer.close()


def test_stages_in_the_files_of_the_signals(tmp_path: Path) -> None:
    for k in (1, 2):
        own_stages(tmp_path / f"raw/S{k}.edf")
    settings = drafted(tmp_path / "raw", tmp_path)
    assert settings.hypnograms == (settings.signals,)
    out = convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")
    assert read_recording(out / "S1.safetensors").hypnogram is not None


def test_stages_without_duration(tmp_path: Path) -> None:
    own_stages(tmp_path / "raw/S1.edf", duration=-1)
    settings = drafted(tmp_path / "raw", tmp_path)
    assert settings.epoch_from_onsets is True
    convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")


def test_clocks_that_do_not_meet_are_never_moved(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf")
    events = [(30.0 * k, 30.0, "Sleep stage W") for k in range(20)]
    edf.write_annotations(tmp_path / "raw/S1 scored.edf", events, datetime(2020, 1, 1, 22, 30))
    text = draft_settings(tmp_path / "raw")
    assert "they do not overlap" in text
    assert '# align = "start"  # ?' in text
    assert drafted(tmp_path / "raw", tmp_path).align == "clock"


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    for k in (1, 2):
        psg(tmp_path / f"raw/S{k}.edf")
        scoring(tmp_path / f"raw/S{k}.txt")
    (tmp_path / "raw/S3.edf").write_bytes(b"nonsense")
    psg(tmp_path / "raw/deep/calibration.edf")
    scoring(tmp_path / "raw/other/x.txt")
    text = draft_settings(tmp_path / "raw")
    assert '# no pattern takes 1 file with signals: "deep/calibration.edf"' in text
    assert '# no pattern takes 1 file with a scoring: "other/x.txt"' in text
    assert "# cannot be read: " in text
    assert "S3.edf: not a file of a known format" in text


def test_a_bad_channel_is_named_and_can_be_left_out(command, tmp_path: Path) -> None:
    for k in (1, 2):
        path = psg(tmp_path / f"raw/S{k}.edf")
        data = bytearray(path.read_bytes())
        data[256 + 3 * 104 + 8 : 256 + 3 * 104 + 16] = b"-204,8  "
        path.write_bytes(data)
    refused = command("inspect", "raw", "--draft")
    assert refused.code == 65
    assert "--ignore-channel EOG1" in refused.err
    ran = command("inspect", "raw", "--draft", "--ignore-channel", "EOG1")
    assert ran.code == 0
    (tmp_path / "draft.toml").write_text(ran.out)
    assert load_settings(tmp_path / "draft.toml").ignore_channels == ("EOG1",)
    done = command("convert", "edf", "raw", "--config", "draft.toml")
    assert done.code == 0, done.err
    assert command("inspect", "raw", "--draft", "--ignore-channel", "Eog").code == 65


def test_channels_are_mapped_only_where_that_is_sure(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf", ("C4-A1", "Front", "Chin"))
    psg(tmp_path / "raw/S2.edf", ("C4-A1", "Front", "Jaw"))
    text = draft_settings(tmp_path / "raw")
    settings = drafted(tmp_path / "raw", tmp_path)
    assert [(k, v.label) for k, v in settings.channels.items()] == [("EEG C4-M1", "C4-A1")]
    assert "32 Hz, uV, in 1 of 2 files" in text
    assert '# "?" = "Front"  # 32 Hz, uV, in 2 of 2 files\n' in text
    convert("edf", tmp_path / "raw", tmp_path / "out", settings=tmp_path / "draft.toml")


def test_a_voltage_without_unit_asks_for_it(tmp_path: Path) -> None:
    psg(tmp_path / "raw/S1.edf", ("EEG X",), unit="")
    assert '{ label = "EEG X", unit = "?" }' in draft_settings(tmp_path / "raw")


def test_names_of_one_subject_are_warned_of(tmp_path: Path) -> None:
    for name in ("m1_baseline", "m1_sd"):
        psg(tmp_path / f"raw/{name}.edf")
    assert "may be one subject: subjects.csv" in draft_settings(tmp_path / "raw")


def test_hostile_labels_and_names_stay_in_their_comments(tmp_path: Path) -> None:
    path = psg(tmp_path / 'raw/a "b".edf')
    data = bytearray(path.read_bytes())
    data[256:272] = b'"\x1b]\nx = 1\x7f#    '
    path.write_bytes(data)
    psg(tmp_path / "raw/c.edf")
    scoring(tmp_path / "raw/c.txt", ("W", "\x1b[31mN9\x85"))
    text = draft_settings(tmp_path / "raw")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert drafted(tmp_path / "raw", tmp_path).signals


def test_draft_is_for_one_folder_with_signals(command, tmp_path: Path) -> None:
    path = psg(tmp_path / "raw/S1.edf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError):
        draft_settings(tmp_path / "empty")
    assert command("inspect", "nothing", "--draft").code == 66
    for words in ([path], ["raw", "empty"], ["raw", "--json"], ["raw", "--scheme", "yasa"]):
        ran = command("inspect", *words, "--draft")
        assert ran.code == 2, words
        assert "signals =" not in ran.out
    shutil.move(path, tmp_path / "raw/{x}.edf")
    ran = command("inspect", "raw", "--draft")
    assert ran.code == 65
    assert "has a name that can tell a subject, such as {x}.edf" in ran.err
    (tmp_path / "raw/{x}.edf").write_bytes(b"nonsense")
    ran = command("inspect", "raw", "--draft")
    assert ran.code == 65
    assert "holds no EDF or BDF file with signals that can be read" in ran.err
    assert "--draft" not in command("inspect", "raw").err


def test_a_scoring_without_a_night_is_of_no_subject_with_several(command, tmp_path: Path) -> None:
    for name in ("S01_N1", "S01_N2", "S02_N1", "S03_N1", "S04_N1"):
        psg(tmp_path / f"raw/{name}.edf")
    for subject in ("S01", "S02", "S03", "S04"):
        (tmp_path / f"raw/{subject}_h.txt").write_text("W\nN1\nN2\nN2\n" * 3)
    ran = command("inspect", "raw", "--draft")
    assert ran.code == 0, ran.err
    assert '"S02_N1.edf" is scored in "S02_h.txt"' in ran.out
    assert '"S01_N1.edf" is scored' not in ran.out


def test_a_draft_does_not_look_into_hidden_folders(command, tmp_path: Path) -> None:
    psg(tmp_path / "raw/S01.edf")
    for name in ("raw/.cache/x.txt", "raw/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("to be asked: who scored this?\n")
    ran = command("inspect", "raw", "--draft")
    assert "notes.txt" in ran.out
    assert ".cache" not in ran.out


# --- mice -----------------------------------------------------------------------------------------

FORMS = {
    "accusleepy": ("brain_state\n", "2", "3", "1"),
    "accusleepy, sure": ("brain_state,confidence_score\n", "2,0.9", "3,0.8", "1,0.7"),
    "words": ("", "Wake", "NREM", "REM"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_draft_for_mice_works_as_it_stands(form: str, tmp_path: Path) -> None:
    head, *labels = FORMS[form]
    psg(tmp_path / "raw/M1.edf", ("EEG1", "EMG1"))
    (tmp_path / "raw/M1.csv").write_text(head + "\n".join(labels * 50) + "\n")
    made = drafted(tmp_path / "raw", tmp_path)
    assert (made.stages, made.epoch_seconds) == (MOUSE_STAGES, 4.0)
    convert("edf", tmp_path / "raw", tmp_path / "rec", settings=tmp_path / "draft.toml")
    hypnogram = read_recording(tmp_path / "rec/M1.safetensors").hypnogram
    assert hypnogram is not None
    assert (hypnogram.names, hypnogram.stages[:4].tolist()) == (MOUSE_STAGES, [0, 1, 2, 0])


def test_an_unknown_number_of_a_form_leaves_the_others_known(tmp_path: Path) -> None:
    psg(tmp_path / "raw/M1.edf", ("EEG1", "EMG1"))
    rows = "\n".join([*["2", "3", "1"] * 49, "2", "7", "7"])
    (tmp_path / "raw/M1.csv").write_text(f"brain_state\n{rows}\n")
    text = draft_settings(tmp_path / "raw")
    assert '# "7" = "?"  # 2 epochs' in text
    assert '# "1" =' not in text
    assert "Wake 50, NREM 49, REM 49" in text


@pytest.mark.parametrize("answer", ["scheme", "stages", "labels"])
def test_bare_numbers_of_mice_have_answers_that_work(answer: str, tmp_path: Path) -> None:
    psg(tmp_path / "raw/M1.edf", ("EEG1", "EMG1"))
    scoring(tmp_path / "raw/M1.csv", ("2", "3", "1"), 150)
    text = draft_settings(tmp_path / "raw")
    assert "one of W, N1, N2, N3, REM, or of mice Wake, NREM, REM; or unknown" in text
    assert '\n# stages = ["Wake", "NREM", "REM"]  # ?\n' in text
    if answer == "scheme":
        text = text.replace('# scheme = "?"', 'scheme = "accusleepy"')
    else:
        for number, name in zip("231", MOUSE_STAGES, strict=True):
            text = text.replace(f'# "{number}" = "?"', f'"{number}" = "{name}"')
    if answer == "stages":
        text = text.replace("# stages = ", "stages = ")
    store.write_text(tmp_path / "draft.toml", text)
    convert("edf", tmp_path / "raw", tmp_path / "rec", settings=tmp_path / "draft.toml")
    hypnogram = read_recording(tmp_path / "rec/M1.safetensors").hypnogram
    assert hypnogram is not None
    assert (hypnogram.names, hypnogram.stages[:4].tolist()) == (MOUSE_STAGES, [0, 1, 2, 0])


@pytest.mark.parametrize(
    ("words", "is_marked"), [(("W", "REM"), True), (("W", "N2"), False), (("Wake", "NREM"), False)]
)
def test_wake_and_rem_alone_are_marked(
    words: tuple[str, ...], is_marked: bool, tmp_path: Path
) -> None:
    psg(tmp_path / "raw/M1.edf", ("EEG1", "EMG1"))
    scoring(tmp_path / "raw/M1.csv", words, 150 if "NREM" in words else 20)
    assert ('# stages = ["Wake", "NREM", "REM"]' in draft_settings(tmp_path / "raw")) == is_marked
