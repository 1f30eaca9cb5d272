"""One's own folder of EDF files: names by pattern, channels, units, stages, clocks, and errors."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sleeptools import datasets, formats, store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import isruc
from sleeptools.datasets.edf import TEMPLATE, find, read
from sleeptools.datasets.shared.edf_settings import EdfSettings, load_settings
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.formats import edf
from sleeptools.formats.parsing.edf_header import SignalHeader
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.recording.label_schemes import Scheme
from sleeptools.recording.recording import Recording, Signal, read_recording

BEGAN = datetime(2024, 5, 6, 22, 30)


def psg(path: Path, seconds: int = 600, rate: int = 64, unit: str = "uV") -> np.ndarray:
    """Write two signals, "A" and "B", and return the first."""
    rng = np.random.default_rng(seconds)
    values = rng.normal(0, 20, (2, seconds * rate)).astype(np.float32)
    heads = [SignalHeader(n, "", unit, -200, 200, -32768, 32767, "", rate, 0) for n in "AB"]
    signals = {
        n: Signal(n, rate, unit, "other", values.shape[1], lambda v=v: v)
        for n, v in zip("AB", values, strict=True)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path, Recording("x", "x", 1, signals, start=BEGAN), heads, record_seconds=1.0)
    return values[0]


def scored(path: Path, seconds: int = 600, length: int = 30, late: int = 0) -> None:
    """Write R&K annotations of alternating W and 2, from `late` s on."""
    events = [
        (float(at), float(length), "Sleep stage W" if at // length % 2 else "Sleep stage 2")
        for at in range(0, seconds, length)
    ]
    edf.write_annotations(path, events, BEGAN + timedelta(seconds=late))


def settings(root: Path, **values: object) -> Path:
    store.write_toml(root / "edf.toml", values)
    return root


def test_files_are_paired_by_named_parts(tmp_path: Path) -> None:
    for subject, night in (("m-7", 1), ("m-7", 12), ("m-8", 1)):
        psg(tmp_path / f"cage/{subject}/rec_{subject}_n{night}.edf", 60)
        scored(tmp_path / f"scores/{subject}.{night}.edf", 60)
    root = settings(
        tmp_path,
        signals="**/{subject}/rec_{subject}_n{night}.edf",
        hypnograms="scores/{subject}.{night}.edf",
    )
    found = find(root)
    assert [(s.id, s.subject, s.night) for s in found] == [
        ("m-7-1", "m-7", 1),
        ("m-7-12", "m-7", 12),
        ("m-8-1", "m-8", 1),
    ]
    assert [f.name for f in found[1].files] == ["rec_m-7_n12.edf", "m-7.12.edf", "edf.toml"]
    night = read(found[1])
    assert night.hypnogram is not None
    assert night.hypnogram.stages.tolist() == [2, 0]


def test_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    psg(tmp_path / "raw/signals/a.edf", 60)
    scored(tmp_path / "raw/scores/a.edf", 60)
    root = settings(
        tmp_path / "raw", signals="signals/{subject}.edf", hypnograms="scores/{subject}.edf"
    )
    said: list[str] = []
    for _ in range(2):
        convert.convert("edf", root, tmp_path / "rec", lambda s: said.append(s.text))
    assert ["as before" in text for text in said] == [False, True]
    settings(tmp_path / "raw", signals="signals/{subject}.edf", hypnograms=[])
    convert.convert("edf", root, tmp_path / "rec", lambda s: said.append(s.text))
    assert "input changed" in said[-1]
    assert read_recording(tmp_path / "rec/a.safetensors").hypnogram is None


def test_channels_units_and_any_rate(tmp_path: Path) -> None:
    raw = psg(tmp_path / "a.edf", unit="")
    psg(tmp_path / "b.edf", unit="uV")
    channels = {
        "EEG": {"label": "A", "unit": "mV"},
        "EMG neck": {"label": "B", "scale": 2.0, "modality": "emg"},
    }
    root = settings(tmp_path, signals="{subject}.edf", channels=channels)
    first, second = find(root)
    night = read(first)
    assert list(night.signals) == ["EEG", "EMG neck"]
    assert night.signals["EEG"].unit == "uV"
    assert np.abs(night.signals["EEG"].samples() - 1000 * raw).max() < 1000 * 200 / 65535 * 1.01
    assert night.signals["EMG neck"].modality == "emg"
    with pytest.raises(DataError, match=r"b\.edf: signal 'A' has a unit already \(uV\)"):
        read(second)
    settings(tmp_path, signals="{subject}.edf", channels={"EEG": "C"})
    with pytest.raises(DataError, match="no signal 'C' to be 'EEG'") as caught:
        read(first)
    assert caught.value.hint == "there are: A, B"
    settings(tmp_path, signals="{subject}.edf", channels={"B": "A"})
    with pytest.raises(DataError, match="two signals of one name"):
        read(first)
    settings(tmp_path, signals="{subject}.edf", channels={"B": "A", "A": "B"})
    swapped = read(first)
    assert np.abs(swapped.signals["B"].samples() - raw).max() < 0.01


def test_an_animal_with_4_s_epochs_and_stages_of_its_own(tmp_path: Path) -> None:
    psg(tmp_path / "raw/m1.edf", 400)
    psg(tmp_path / "raw/m2.edf", 400)
    lines = ["wake,1.0"] * 40 + ["slow,0.9"] * 40 + ["para,0.8"] * 18 + ["artefact,0.1"] * 2
    for name in ("m1", "m2"):
        events = [(4.0 * i, 4.0, line.split(",")[0]) for i, line in enumerate(lines)]
        edf.write_annotations(tmp_path / f"raw/{name}_stages.edf", events, BEGAN)
    own = {
        "signals": "{subject}.edf",
        "hypnograms": "{subject}_stages.edf",
        "epoch_seconds": 4.0,
        "stages": ["Wake", "NREM", "REM"],
        "labels": {"wake": "Wake", "slow": "NREM", "para": "REM", "artefact": "movement"},
    }
    root = settings(tmp_path / "raw", **own)
    night = read(find(root)[0])
    assert night.hypnogram is not None
    assert night.hypnogram.names == ("Wake", "NREM", "REM")
    assert night.hypnogram.counts() == {
        "Wake": 40,
        "NREM": 40,
        "REM": 18,
        "unknown": 0,
        "movement": 2,
        "unannotated": 0,
    }
    preset = {
        "name": "mice",
        "data_set": "edf",
        "montage": ["A", "B"],
        "sample_rate": 64.0,
        "epoch_seconds": 4.0,
        "stages": ["Wake", "NREM", "REM"],
        "trim": {"rule": "none"},
    }
    store.write_toml(tmp_path / "mice.toml", preset)
    made = preprocess.preprocess(
        presets.load(str(tmp_path / "mice.toml")), root, tmp_path / "epochs"
    )
    found = open_epochs(made)
    assert found.files[0].signals.shape == (98, 2, 256)
    assert found.manifest["counts"] == {"Wake": 80, "NREM": 80, "REM": 36}
    settings(tmp_path / "raw", **own | {"labels": own["labels"] | {"wake": "W"}})
    with pytest.raises(DataError, match="labels: 'wake' is 'W', which is none of Wake, NREM, REM"):
        find(root)
    settings(tmp_path / "raw", **own | {"labels": {"wake": "Wake"}})
    with pytest.raises(DataError, match=r"m1_stages\.edf"):
        read(find(root)[0])


@pytest.mark.parametrize(("late", "first"), [(0, 0), (60, 2), (-90, -3)])
def test_a_hypnogram_lies_where_the_clocks_say(tmp_path: Path, late: int, first: int) -> None:
    psg(tmp_path / "a.edf")
    scored(tmp_path / "a_s.edf", late=late)
    root = settings(tmp_path, signals="{subject}.edf", hypnograms="{subject}_s.edf")
    convert.convert("edf", root, tmp_path / "rec")  # "a_s.edf" is named like a recording too
    night = read_recording(tmp_path / "rec/a.safetensors")
    assert night.hypnogram is not None
    assert night.hypnogram.onset == max(0, late)
    assert len(night.hypnogram) == 20 - abs(first)
    stages = [2, 0] * 10
    assert (
        night.hypnogram.stages.tolist()
        == (stages[-first:] if late < 0 else stages)[: 20 - abs(first)]
    )
    assert night.facts["epochs past the signals"] == max(0, first)
    assert night.facts["epochs before the signals"] == max(0, -first)


def test_clocks_that_do_not_fit(tmp_path: Path) -> None:
    psg(tmp_path / "a.edf")
    scored(tmp_path / "score.a.edf", late=86400)
    values = {"signals": "{subject}.edf", "hypnograms": "score.{subject}.edf"}
    source = next(s for s in find(settings(tmp_path, **values)) if s.id == "a")
    with pytest.raises(DataError, match=r"score\.a\.edf: covers 0% .*from 86400 s on") as caught:
        read(source)
    assert 'align = "start"' in str(caught.value.hint)
    settings(tmp_path, **values, align="start")
    night = read(source)
    assert night.hypnogram is not None
    assert (night.hypnogram.onset, len(night.hypnogram)) == (0, 20)


WRONG = [
    ({"signals": "{subject}.edf", "scheme": "mine"}, "scheme: .*there are: human, mouse"),
    ({"hypnograms": "x"}, "signals: Field required"),
    ({"signals": "{subject}.edf", "chanels": {}}, "chanels"),
    ({"signals": "{subject}.edf", "epoch_seconds": 90}, "epoch_seconds"),
    ({"signals": "{patient}.edf"}, r"unknown part \{patient\}"),
    ({"signals": "*.edf"}, r"does not say where \{subject\} stands"),
    ({"signals": "{subject}.bdf"}, r"no file is named '\{subject\}\.bdf'"),
    ({"signals": "{subject}.edf", "channels": {"x": {"label": "A", "unit": "kg"}}}, "unknown unit"),
]


@pytest.mark.parametrize(("values", "words"), WRONG, ids=[w for _, w in WRONG])
def test_wrong_settings(tmp_path: Path, values: dict[str, object], words: str) -> None:
    psg(tmp_path / "a.edf", 30)
    with pytest.raises(DataError, match=words):
        find(settings(tmp_path, **values))


def test_missing_and_doubled_files_fail_one_recording(tmp_path: Path) -> None:
    for name in ("x/a.edf", "y/a.edf", "x/b.edf"):
        psg(tmp_path / name, 30)
    found = find(settings(tmp_path, signals="*/{subject}.edf", hypnograms="*/{subject}.csv"))
    assert [s.problem for s in found] == [
        "a: 2 files are its signals: x/a.edf, y/a.edf",
        "b: scorer 1 has 0 hypnograms; expected one",
    ]
    with pytest.raises(DataError, match="b: scorer 1 has 0 hypnograms"):
        read(found[1])


def test_without_settings_some_to_begin_with_are_shown(command, tmp_path: Path) -> None:
    psg(tmp_path / "raw/p1_1.edf", 60)
    (tmp_path / "raw/p1_1.csv").write_text("Epoch,Stage\n0,WAKE\n1,N2\n")
    ran = command("convert", "edf", "raw")
    assert ran.code == 66
    assert ran.err.startswith("error: raw/edf.toml: no such file")
    template = ran.err.split("begin with: ")[1].split(";")[0]
    import subprocess

    subprocess.run(["sh", "-c", template], cwd=tmp_path, check=True)
    ran = command("convert", "edf", "raw")
    assert ran.code == 0, ran.err
    assert "next: a preset, which says what the epochs are: docs/edf.md" in ran.err
    night = read_recording(tmp_path / "recordings/p1-1.safetensors")
    assert night.hypnogram is not None
    assert night.hypnogram.stages.tolist() == [0, 2]


def test_settings_may_lie_elsewhere(tmp_path: Path) -> None:
    psg(tmp_path / "raw/a.edf", 30)
    store.write_toml(tmp_path / "mine.toml", {"signals": "{subject}.edf"})
    made = convert.convert(
        "edf", tmp_path / "raw", tmp_path / "rec", settings=tmp_path / "mine.toml"
    )
    assert (made / "a.safetensors").exists()
    with pytest.raises(MissingInputError, match=r"edf\.toml"):
        convert.convert("edf", tmp_path / "raw", tmp_path / "other")
    with pytest.raises(UsageError, match="`config` is for the data set edf"):
        datasets.find_recordings(isruc, tmp_path, settings=tmp_path / "mine.toml")


@pytest.mark.slow
def test_the_whole_chain(command, tmp_path: Path) -> None:
    simulate("edf", tmp_path / "raw", subjects=3, hours=0.5)
    assert command("convert", "edf", "raw").code == 0
    ran = command("preprocess", "sleep-edf", "recordings", "--trim", "none", "--scorer", 2)
    assert ran.code == 0, ran.err
    file = open_epochs(tmp_path / "epochs").files[0]
    assert file.signals.shape[1:] == (4, 3000)
    assert list(file.other_stages) == [1, 3]  # the other scorer, and the generator
    quick = ("--passes", 1, "--set", "recipe.batch=32")
    ran = command("train", "--folds", 3, *quick)
    assert ran.code == 0, ran.err
    ran = command("evaluate", "--json")
    (result,) = json.loads(ran.out)[0]["results"]
    assert np.sum(result["confusion"]) == len(open_epochs(tmp_path / "epochs"))
    assert command("report").code == 0


def test_stages_in_the_signals_own_file(tmp_path: Path) -> None:
    """An EDF+ whose annotations are the scoring: one pattern for both."""
    import pyedflib

    path = tmp_path / "a.edf"
    writer = pyedflib.EdfWriter(str(path), 1, file_type=pyedflib.FILETYPE_EDFPLUS)
    writer.setSignalHeader(
        0,
        {
            "label": "A",
            "dimension": "uV",
            "sample_frequency": 64,
            "physical_min": -200,
            "physical_max": 200,
            "digital_min": -32768,
            "digital_max": 32767,
            "transducer": "",
            "prefilter": "",
        },
    )
    for onset, text in ((0, "Sleep stage W"), (30, "Sleep stage N2"), (45, "Lights off")):
        writer.writeAnnotation(onset, 30 if "Sleep" in text else -1, text)
    writer.writeSamples([np.zeros(64 * 60)])
    writer.close()
    (source,) = find(settings(tmp_path, signals="{subject}.edf", hypnograms="{subject}.edf"))
    assert source.inputs == {"a.edf": path, "edf.toml": tmp_path / "edf.toml"}
    night = read(source)
    assert night.hypnogram is not None
    assert night.hypnogram.stages.tolist() == [0, 2]


def test_the_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    """And the long one has every setting."""
    text = (Path(__file__).parents[2] / "docs/edf.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```toml\n")[1:]]
    for i, block in enumerate(blocks):
        (tmp_path / f"{i}.toml").write_text(block)
    assert blocks[0] == TEMPLATE.replace(r"\n", "\n")
    assert load_settings(tmp_path / "1.toml").model_fields_set == set(EdfSettings.model_fields)
    assert presets.load(str(tmp_path / "2.toml")).labels[2] == "EMG neck"


def test_the_spans_are_shown_and_a_missing_start_is_no_zero(command, tmp_path: Path) -> None:
    psg(tmp_path / "raw/a.edf")
    scored(tmp_path / "raw/s/a.edf", late=60)
    settings(tmp_path / "raw", signals="{subject}.edf", hypnograms="s/{subject}.edf")
    ran = command("convert", "edf", "raw", "rec")
    assert ran.code == 0, ran.err
    assert re.search(r"scoring \d\d:\d\d-\d\d:\d\d on signals \d\d:\d\d-\d\d:\d\d", ran.err)
    for file in ("raw/a.edf", "raw/s/a.edf"):
        raw = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(raw[:168] + b"99.99.9925.61.61" + raw[184:])
        ran = command("convert", "edf", "raw", f"rec-{file[4]}")
        assert ran.code == 65
        assert "[HYP-START]" in ran.err
        assert "does not say when it began" in ran.err or "start cannot be read" in ran.err
        (tmp_path / file).write_bytes(raw)
    raw = (tmp_path / "raw/a.edf").read_bytes()  # the day alone is unknown: the time places
    (tmp_path / "raw/a.edf").write_bytes(raw[:168] + b"00.00.00" + raw[176:])
    assert command("convert", "edf", "raw", "rec-day").code == 0
    night = read_recording(tmp_path / "rec-day/a.safetensors")
    assert night.hypnogram is not None
    assert night.hypnogram.onset == 60


@pytest.mark.parametrize("file", ["raw/a.edf", "raw/s/a.edf"])
def test_an_anonymised_file_is_placed_by_length_or_refused_with_a_cure(
    command, file: str, tmp_path: Path
) -> None:
    psg(tmp_path / "raw/a.edf")
    settings(tmp_path / "raw", signals="{subject}.edf", hypnograms="s/{subject}.edf")
    for seconds in (600, 420):
        (tmp_path / "raw/s").mkdir(exist_ok=True)
        scored(tmp_path / "raw/s/a.edf", seconds)
        patch(tmp_path / file, 88, b"Startdate X X X X".ljust(80) + b"01.01.8500.00.00")
        ran = command("convert", "edf", "raw", f"rec-{seconds}")
        whole = seconds == 600
        assert ran.code == (0 if whole else 65), ran.err
        assert (
            "placed by its length" if whole else "its 0-420 s lie on the signals' 0-600"
        ) in ran.err
    assert 'align = "start" in edf.toml' in ran.err
    at_start = command(
        "hypnogram", "raw/s/a.edf", "h.edf", "--recording", "raw/a.edf", "--at", "60"
    )
    assert at_start.code == 0, at_start.err
    assert formats.read_hypnogram(tmp_path / "h.edf").annotated_span() == (60.0, 480.0)
    refused = command("hypnogram", "raw/s/a.edf", "i.edf", "--recording", "raw/a.edf")
    assert refused.code == 65
    assert "hint: --at 0 lays it at the start of the signals" in refused.err
    cure = ("hypnogram", "raw/s/a.edf", "i.edf", "--recording", "raw/a.edf", "--at", "0")
    assert command(*cure).code == 0
    text = (tmp_path / "raw/edf.toml").read_text()
    (tmp_path / "raw/edf.toml").write_text('align = "start"\n' + text)
    assert command("convert", "edf", "raw", "rec-start").code == 0


def patch(path: Path, at: int, value: bytes) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + value + raw[at + len(value) :])


def test_hints_name_lines_of_the_settings(tmp_path: Path) -> None:
    psg(tmp_path / "a.edf")
    root = settings(tmp_path, signals="{subject}.edf", hypnograms="{subject}.txt")
    for labels, hint in (
        ("W\n" * 30, "epoch_seconds = 20 in edf.toml"),
        ("0\n" * 20, 'scheme = "NAME" in edf.toml'),
        ("W\nNREM\n" * 10, "epoch_seconds = 30 in edf.toml, which fits the signals"),
        ("W\nNREM\n" * 7, "such as epoch_seconds = 4 in edf.toml"),
    ):
        (tmp_path / "a.txt").write_text(labels)
        with pytest.raises(DataError) as caught:
            read(find(root)[0])
        assert hint in str(caught.value.hint)


def test_one_scoring_is_not_laid_on_several_nights(tmp_path: Path) -> None:
    for night in (1, 2):
        psg(tmp_path / f"p1_{night}.edf", 60)
    psg(tmp_path / "p2_1.edf", 60)
    for subject in ("p1", "p2"):
        (tmp_path / f"{subject}.csv").write_text("Epoch,Stage\n0,WAKE\n1,N2\n")
    found = find(settings(tmp_path, signals="{subject}_{night}.edf", hypnograms="{subject}.csv"))
    assert [bool(s.problem) for s in found] == [True, True, False]
    with pytest.raises(DataError, match=r"p1.csv is the only hypnogram .* for 2 nights of p1"):
        read(found[0])


def test_names_of_files_are_utf8_in_every_locale(tmp_path: Path) -> None:
    """Under LC_ALL=C, Python has "Jü" as a letter and two bytes that are none."""
    psg(tmp_path / "raw" / "Jü 2.edf")
    scored(tmp_path / "raw" / "Jü 2_h.edf")
    settings(tmp_path / "raw", signals="{subject}.edf", hypnograms="{subject}_h.edf")
    command = [sys.executable, "-m", "sleeptools.cli", "convert", "edf", "raw", "recordings"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **plain}, check=True)
    assert read_recording(tmp_path / "recordings" / "Ju_2.safetensors").subject == "Jü 2"


# --- mice, and settings that do not fit -----------------------------------------------------------

MOUSE = {"signals": "{subject}.edf", "hypnograms": "{subject}.csv", "epoch_seconds": 4.0}
STAGES = {"stages": ["Wake", "NREM", "REM"]}


def mouse(root: Path, lines: str, **values: object) -> Path:
    psg(root / "m.edf")
    (root / "m.csv").write_text(lines)
    return settings(root, **MOUSE | values)


def stages_read(root: Path) -> tuple[tuple[str, ...], list[int]]:
    hypnogram = read(find(root)[0]).hypnogram
    assert hypnogram is not None
    return hypnogram.names, hypnogram.stages[:5].tolist()


ACCUSLEEPY = "brain_state\n" + "2\n3\n1\n-1\n2\n" * 30


@pytest.mark.parametrize(
    "values",
    [
        {},
        STAGES,
        {"labels": {"7": "NREM"}},
        STAGES | {"labels": {"-1": "movement"}},
        {"scheme": "accusleepy"},
    ],
)
def test_the_form_of_a_file_tells_what_its_numbers_mean(values: dict, tmp_path: Path) -> None:
    root = mouse(tmp_path, ACCUSLEEPY, **values)
    assert stages_read(root) == (("Wake", "NREM", "REM"), [0, 1, 2, -1, 0])


def test_a_number_of_other_meaning_leaves_the_form_aside(tmp_path: Path) -> None:
    root = mouse(tmp_path, ACCUSLEEPY, **STAGES, labels={"1": "Wake"})
    with pytest.raises(DataError, match=r"stages are numbers \('2', '3', '-1'\)") as caught:
        read(find(root)[0])
    assert 'scheme = "NAME" in edf.toml; it could be: accusleepy; or' in str(caught.value.hint)
    assert '"2" = "...", "3" = "...", "-1" = "..."' in str(caught.value.hint)


def test_a_form_of_another_species_is_named(tmp_path: Path) -> None:
    root = mouse(tmp_path, ACCUSLEEPY, labels={"-1": "movement"})
    with pytest.raises(DataError, match=r"has the form of accusleepy, whose stages are Wake") as e:
        read(find(root)[0])
    assert e.value.hint == 'stages = ["Wake", "NREM", "REM"] in edf.toml'


def test_every_form_of_numbers_or_letters_is_completed(tmp_path: Path) -> None:
    own = Scheme(("W", "N1", "N2", "N3", "REM"), {"11": "movement"}, completes=True)
    (tmp_path / "n.xml").write_text(
        "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>"
        + "".join(f"<SleepStage>{n}</SleepStage>" for n in (0, 2, 5, 11))
        + "</SleepStages></CMPStudyConfig>"
    )
    assert formats.read_hypnogram(tmp_path / "n.xml", scheme=own).stages.tolist() == [0, 2, 4, -1]


def test_letters_of_ones_own_stand_in_for_those_of_a_form(tmp_path: Path) -> None:
    rows = "".join(
        f"2024/05/06 22:30:{4 * k:02d}, {k + 1}, {t}\n" for k, t in enumerate(("W", "N", "W*", "R"))
    )
    (tmp_path / "m_sco.txt").write_text(rows)
    own = EdfSettings(signals="{subject}.edf", **STAGES, labels={"W*": "Wake"})
    found = formats.read_hypnogram(tmp_path / "m_sco.txt", scheme=own.meaning())
    assert found.stages.tolist() == [0, 1, 0, 2]


def test_wake_has_its_name_in_a_list_of_ones_own(tmp_path: Path) -> None:
    lines = "W\nNREM\nREM\ncataplexy\nWake\n" * 30
    names = ["Wake", "NREM", "REM", "Cataplexy"]
    root = mouse(tmp_path, lines, stages=names, labels={"cataplexy": "Cataplexy"})
    assert stages_read(root) == (tuple(names), [0, 1, 2, 3, 0])


@pytest.mark.parametrize("length", [1.0, 2.0])
def test_a_wrong_length_of_an_epoch_names_the_right_one(length: float, tmp_path: Path) -> None:
    root = mouse(tmp_path, ACCUSLEEPY, epoch_seconds=length)
    settings(root, **MOUSE | {"epoch_seconds": length, "least_overlap": 0.6})
    with pytest.raises(DataError, match="4 s an epoch would fit") as caught:
        read(find(root)[0])
    assert caught.value.hint == "epoch_seconds = 4 in edf.toml"


def test_a_missing_length_of_an_epoch_names_the_one_that_fits(tmp_path: Path) -> None:
    root = mouse(tmp_path, ACCUSLEEPY)
    settings(root, signals="{subject}.edf", hypnograms="{subject}.csv")
    with pytest.raises(DataError, match="does not tell how long an epoch is") as caught:
        read(find(root)[0])
    assert caught.value.hint == "epoch_seconds = 4 in edf.toml, which fits the signals"


def test_a_part_that_is_scored_names_the_share(tmp_path: Path) -> None:
    root = mouse(tmp_path, "brain_state\n" + "2\n" * 43)
    with pytest.raises(DataError, match="covers 29%") as caught:
        read(find(root)[0])
    assert "align" not in str(caught.value.hint)
    assert str(caught.value.hint).startswith("least_overlap = 0.28 in edf.toml")
    settings(root, **MOUSE | {"least_overlap": 0.28})
    assert read(find(root)[0]).hypnogram is not None


def test_a_word_of_ones_own_has_its_line(tmp_path: Path) -> None:
    root = mouse(tmp_path, "Wake\nNREM\nsnooze\n" * 50)
    with pytest.raises(DataError, match="unknown stage text 'snooze'") as caught:
        read(find(root)[0])
    assert str(caught.value.hint).startswith('below [labels] in edf.toml: "snooze" = "..."; for')
    settings(root, **MOUSE | {"labels": {"snooze": "NREM"}})
    assert stages_read(root) == (("Wake", "NREM", "REM"), [0, 1, 1, 0, 1])


FIELDS = f"there are: {', '.join(EdfSettings.model_fields)}"


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        (
            {"stages": ["REM", "NREM", "Wake"]},
            r'stages: .* wake first: \["Wake", "NREM", "REM"\]',
            "",
        ),
        ({"stages": ["NREM", "Wake"]}, r'wake first: \["Wake", "NREM"\]', ""),
        ({"stage": ["Wake"]}, r"toml: unknown setting 'stage'; did you mean 'stages'\?$", FIELDS),
        ({"scheme": "acusleepy"}, "'acusleepy'; did you mean 'accusleepy'", ""),
        ({"labels": {"3": "Doze"}}, "toml: labels: '3' is 'Doze', which is none of W", ""),
    ],
)
def test_settings_that_cannot_be_are_told_plainly(
    values: dict, message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        find(mouse(tmp_path, ACCUSLEEPY, **values))
    assert str(caught.value.hint or "") == hint


@pytest.mark.parametrize(
    "names",
    [
        ["M1.edf", "M2.edf"],
        ["M1.edf", "M1.csv"],
        ["a/M1.edf", "a/M1.txt", "b/M2.edf", "b/M2.txt"],
        ["p1_1.BDF", "p1_2.BDF"],
    ],
)
def test_the_settings_to_begin_with_name_the_files(
    names: list[str], command, tmp_path: Path
) -> None:
    for name in names:
        path = tmp_path / "raw" / name
        psg(path, 60) if path.suffix in (".edf", ".BDF") else path.write_text("W\nN2\n")
    line = command("convert", "edf", "raw").err.split("begin with: ")[1].split(";")[0]
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    sources = find(tmp_path / "raw")
    assert sorted(n for s in sources for n in s.inputs if n != "edf.toml") == sorted(
        Path(n).name for n in names
    )


def test_what_comes_after_convert_runs(command, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    values = np.random.default_rng(1).normal(0, 20, 60 * 512).astype(np.float32)
    signals = {n: Signal(n, 512, "uV", "other", len(values), lambda: values) for n in MICE}
    heads = [SignalHeader(n, "", "uV", -200, 200, -32768, 32767, "", 512, 0) for n in MICE]
    edf.write(raw / "m.edf", Recording("x", "x", 1, signals), heads, record_seconds=1.0)
    (raw / "m.csv").write_text("brain_state\n" + "2\n3\n1\n" * 20)
    settings(raw, **MOUSE | {"epoch_seconds": 1.0})
    ran = command("convert", "edf", "raw", "rec")
    assert ran.code == 0, ran.err
    line = ran.err.split("next: sleeptools ")[1].splitlines()[0]
    assert command(*line.split(" (or ")[0].split()).code == 0


MICE = ("EEG", "EMG")
