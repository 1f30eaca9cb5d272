"""ISRUC-Sleep in small: every way its labels are written, both scorers, the published counts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sleeptools import datasets, store
from sleeptools.commands import convert, preprocess
from sleeptools.commands.simulate import simulate
from sleeptools.datasets import isruc, spreadsheets
from sleeptools.errors import DataError, OutputError, UsageError
from sleeptools.preprocessing import presets, trimming
from sleeptools.preprocessing.epochs import EpochSet, open_epochs
from sleeptools.recording import stages
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.recording import (
    RECORDINGS_KIND,
    Recording,
    Signal,
    read_recording,
    write_recording,
)

EPOCHS = 40
DIGITS = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "5": "REM"}
MONTAGE = ("F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1", "ROC-A1", "X1")


def scoring(shift: int = 0) -> Hypnogram:
    numbers = (np.arange(EPOCHS) // 3 + shift) % 5
    return Hypnogram(numbers.astype(np.int8), scorer=f"scorer {shift + 1}")


def night(subject: str, number: int = 1) -> Recording:
    """A recording of `EPOCHS` epochs whose signals tell themselves apart."""
    rng = np.random.default_rng(3)
    size = int(EPOCHS * 30 * isruc.RATE)

    def signal(label: str) -> Signal:
        samples = rng.normal(0, 30, size).astype(np.float32)
        return Signal(label, isruc.RATE, "uV", "eeg", size, lambda: samples)

    signals = {c.label: signal(c.label) for c in isruc.CHANNELS}
    return Recording(subject, subject, number, signals, scoring(), None, {}, (scoring(1),))


def written(root: Path, subject: str, number: int = 1) -> Recording:
    made = night(subject, number)
    isruc.write(made, root, [])
    return made


def made(root: Path, out: Path, **options: object) -> EpochSet:
    preset = presets.changed(presets.load("isruc"), **options)
    return open_epochs(preprocess.preprocess(preset, root, out))


@pytest.mark.parametrize(
    ("subject", "labels"),
    [
        ("III-001", "LOC-A2 ROC-A1 F3-A2 C3-A2 O1-A2 F4-A1 C4-A1 O2-A1 X1 X2 X3"),
        ("I-012", "LOC-A2 ROC-A1 F3-A2 C3-A2 O1-A2 F4-A1 C4-A1 O2-A1 X1 X2 X3"),
        ("I-011", "E1-M2 E2-M1 F3-M2 C3-M2 O1-M2 F4-M1 C4-M1 O2-M1 X1 X2 X3"),
        ("I-014", "E1-M2 E2-M1 F3-M2 C3-M2 O1-M2 F4-M1 C4-M1 O2-M1 24 25 26"),
        ("I-008", "LOC-A2 ROC-A1 C3-A2 O1-A2 C4-A1 O2-A1 X1 X2 X3"),
        ("I-040", "A1 A2 LOC ROC F3 C3 O1 F4 C4 O2 X1 X2 X3"),
    ],
)
def test_every_way_of_labels_gives_the_same_epochs(
    tmp_path: Path, subject: str, labels: str
) -> None:
    night_ = written(tmp_path / "raw", subject)
    (source,) = isruc.find(tmp_path / "raw")
    assert list(isruc.read(source).signals) == labels.split()
    (file,) = made(tmp_path / "raw", tmp_path / "epochs", trim="none").files
    assert file.recording == file.subject == subject
    wanted = list(MONTAGE)
    if subject == "I-008":
        wanted[0], wanted[3] = "C3-A2", "C4-A1"
    plain = written(tmp_path / "plain", "III-001")
    (reference,) = made(tmp_path / "plain", tmp_path / "e", trim="none").files
    assert list(plain.signals) == list(night_.signals)
    columns = [MONTAGE.index(name) for name in wanted]
    assert file.signals.shape == (EPOCHS, 8, 3000)
    difference = np.abs(file.signals - reference.signals[:, columns])
    assert difference.max() < 0.4  # uV; three times half a step of 0.1 uV, and the resampler's


def test_both_scorers_travel_to_the_epochs(tmp_path: Path) -> None:
    written(tmp_path / "raw", "III-001")
    convert.convert("isruc", tmp_path / "raw", tmp_path / "rec")
    stored = read_recording(tmp_path / "rec/III-001.safetensors")
    assert [h.scorer for h in stored.scorings] == ["scorer 1", "scorer 2"]
    assert stored.other_hypnograms[0].stages.tolist() == scoring(1).stages.tolist()
    index = store.read_table(tmp_path / "rec/index.parquet")
    assert index["scorer"].to_list() == ["scorer 1, scorer 2"]
    (first,) = made(tmp_path / "rec", tmp_path / "a").files
    assert first.stages.tolist() == scoring().stages[:10].tolist()
    assert {k: v.tolist() for k, v in first.other_stages.items()} == {
        2: scoring(1).stages[:10].tolist()
    }
    (second,) = made(tmp_path / "rec", tmp_path / "b", scorer=2).files
    assert np.array_equal(second.stages, first.other_stages[2])
    assert np.array_equal(second.other_stages[1], first.stages)
    assert (second.facts["scorer"], second.facts["others"]) == ("scorer 2", {"1": "scorer 1"})
    with pytest.raises(DataError, match="has no hypnogram of scorer 3"):
        made(tmp_path / "rec", tmp_path / "c", scorer=3)
    with pytest.raises(OutputError, match="scorer: 1 there, 2 now"):
        made(tmp_path / "rec", tmp_path / "a", scorer=2)


def test_the_last_thirty_epochs_explain_the_published_counts() -> None:
    """8,889 scored epochs of subgroup III and 90,187 of subgroup I become 8,589 and 87,187."""
    trim = presets.load("isruc").trim
    for total, subjects, published in ((8889, 10, 8589), (90187, 100, 87187)):
        lengths = np.full(subjects, total // subjects)
        lengths[: total % subjects] += 1
        kept = 0
        for length in lengths:
            every = np.zeros(length, np.int8)
            chosen, excluded = trimming.select_epochs(Hypnogram(every), trim)
            assert excluded["the last epochs"] == 30
            kept += len(chosen)
        assert kept == published


def test_the_end_is_that_of_the_labels_not_of_the_signals(tmp_path: Path) -> None:
    """With two labels too many the last thirty reach two epochs less far into the signals."""
    folder = tmp_path / "raw/subgroupIII/1"
    written(tmp_path / "raw", "III-001")
    for name in ("1_1", "1_2"):
        (folder / f"{name}.xlsx").unlink()
        text = (folder / f"{name}.txt").read_text()
        (folder / f"{name}.txt").write_text("0\n5\n" + text)
    found = made(tmp_path / "raw", tmp_path / "more")
    assert len(found) == EPOCHS + 2 - 30
    assert found.manifest["excluded"]["past the signals"] == 2
    lines = (folder / "1_2.txt").read_text().split()[2:]
    (folder / "1_2.txt").write_text("\n".join([*lines, "0"]))
    found = made(tmp_path / "raw", tmp_path / "second", scorer=2)
    assert len(found) == EPOCHS + 1 - 30
    assert found.manifest["excluded"]["past the signals"] == 1
    lines = (folder / "1_1.txt").read_text().split()[2:-3]
    (folder / "1_1.txt").write_text("\n".join(lines))
    (folder / "1_2.txt").write_text("\n".join(lines))
    found = made(tmp_path / "raw", tmp_path / "fewer")
    assert len(found) == EPOCHS - 3 - 30
    assert found.manifest["excluded"]["unannotated"] == 3
    convert.convert("isruc", tmp_path / "raw", tmp_path / "rec")
    manifest = store.read_manifest(tmp_path / "rec", RECORDINGS_KIND)
    assert (manifest["epochs past the signals"], manifest["epochs past the labels"]) == (0, 3)


def test_labels_are_read_by_digit(tmp_path: Path) -> None:
    written(tmp_path, "III-001")
    folder = tmp_path / "subgroupIII/1"
    digits = (folder / "1_1.txt").read_text().split()
    assert set(digits) == set(DIGITS)
    (source,) = isruc.find(tmp_path)
    found = isruc.read(source).hypnogram
    assert found is not None
    assert [stages.HUMAN_STAGES[s] for s in found.stages] == [DIGITS[d] for d in digits]
    assert (folder / "1_1.txt").read_bytes().endswith(b"\r\n\r\n")
    for lines, words in (
        ("0\n1\n\n2\n", "line 3 is blank"),
        ("0\n1\n4\n", "unknown stage text '4'"),
        ("", "1_1.txt"),
    ):
        (folder / "1_1.txt").write_text(lines)
        with pytest.raises(DataError, match=words):
            isruc.read(source)


def test_the_workbook_stands_in_and_is_compared(tmp_path: Path) -> None:
    written(tmp_path, "III-001")
    folder = tmp_path / "subgroupIII/1"
    (folder / "1_1.txt").unlink()
    (source,) = isruc.find(tmp_path)
    found = isruc.read(source)
    assert found.scorings[0].stages.tolist() == scoring().stages.tolist()
    assert found.facts["notes"] == "scorer 1 is read from 1_1.xlsx"
    rows = spreadsheets.read_table(folder / "1_2.xlsx")
    rows[5][1] = "U"
    rows[6][1] = "N3" if rows[6][1] != "N3" else "W"
    rows[7][0] = None  # a number left out
    spreadsheets.write_xlsx(
        folder / "1_2.xlsx", [*rows[1:], ["sum", None]]
    )  # no headings, and a tail
    assert isruc.read(source).facts["notes"].endswith("1_2.xlsx differs in 2 of 40 epochs")
    rows[9][0] = 12.0
    spreadsheets.write_xlsx(folder / "1_2.xlsx", rows)
    assert "1_2.xlsx: epoch 9 is numbered 12" in str(isruc.read(source).facts["notes"])
    (folder / "1_2.txt").unlink()
    with pytest.raises(DataError, match="epoch 9 is numbered 12"):
        isruc.read(isruc.find(tmp_path)[0])
    (folder / "1_2.xlsx").unlink()
    alone = isruc.read(isruc.find(tmp_path)[0])
    assert len(alone.scorings) == 1
    assert "no scoring of scorer 2" in str(alone.facts["notes"])


def test_the_second_scorer_alone_is_not_taken_for_the_first(tmp_path: Path) -> None:
    written(tmp_path, "III-001")
    for path in (tmp_path / "subgroupIII/1").glob("1_1.*"):
        path.unlink()
    with pytest.raises(DataError, match="holds no scoring of scorer 1"):
        isruc.read(isruc.find(tmp_path)[0])


def test_subgroups_are_told_by_folder(tmp_path: Path) -> None:
    for subject, number in (("I-001", 1), ("II-001", 1), ("II-001", 2), ("III-010", 1)):
        written(tmp_path / "ISRUC", subject, number)
    found = isruc.find(tmp_path / "ISRUC")
    assert [(s.id, s.subject, s.night) for s in found] == [
        ("I-001", "I-001", 1),
        ("II-001-1", "II-001", 1),
        ("II-001-2", "II-001", 2),
        ("III-010", "III-010", 1),
    ]
    assert [s.id for s in datasets.find_recordings(isruc, tmp_path / "ISRUC", subset="II")] == [
        "II-001-1",
        "II-001-2",
    ]
    assert [s.id for s in isruc.find(tmp_path / "ISRUC/subgroupIII/10")] == ["III-010"]
    (tmp_path / "ISRUC/subgroupIII").rename(tmp_path / "ISRUC_S3")
    assert [s.id for s in isruc.find(tmp_path / "ISRUC_S3")] == ["III-010"]
    (tmp_path / "ISRUC_S3").rename(tmp_path / "group3")
    with pytest.raises(DataError, match="no folder's name tells the subgroup"):
        isruc.find(tmp_path / "group3")
    (tmp_path / "group3").rename(tmp_path / "healthy")
    with pytest.raises(DataError, match="no folder's name tells the subgroup"):
        isruc.find(tmp_path / "healthy")
    with pytest.raises(UsageError, match=r"unknown subset '4'; there are: I, II, III"):
        datasets.find_recordings(isruc, tmp_path / "ISRUC", subset="4")


def test_packed_archives_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "subgroupIII"
    folder.mkdir()
    (folder / "1.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"1\.rar: is still packed") as caught:
        isruc.find(tmp_path)
    assert "7z x" in str(caught.value.hint)
    written(tmp_path, "III-001")
    (folder / "2.rar").write_bytes(b"Rar!")
    first, second = isruc.find(tmp_path)
    assert (first.problem, second.id) == ("", "III-002")
    with pytest.raises(DataError, match=r"1 of 2 recordings failed.*2\.rar: is still packed"):
        convert.convert("isruc", tmp_path, tmp_path / "rec")


def test_ages_come_from_the_subgroups_table(tmp_path: Path) -> None:
    rows = [
        ["Subgroup III", None, None],
        [None, None, None],
        ["Subject", "Age", "Sex"],
        [1.0, 40.0, "M"],
        [10.0, "?", "F"],
    ]
    raw = tmp_path / "raw"
    for subject in ("III-001", "III-010"):
        written(raw, subject)
    (raw / "Details").mkdir()
    spreadsheets.write_xlsx(raw / "Details/Details_subgroup_III_Submission.xlsx", rows)
    written(raw, "II-003", 2)
    second = [*rows[:3], ["3_Rec.1", 58.0, "F"], ["3_Rec.2", None, None]]
    spreadsheets.write_xlsx(raw / "Details_subgroup_II_Submission.xlsx", second)
    convert.convert("isruc", raw, tmp_path / "rec")
    index = store.read_table(tmp_path / "rec/index.parquet")
    facts = {r["recording"]: (r["age"], r["sex"]) for r in index.iter_rows(named=True)}
    assert facts == {"II-003-2": (58, "F"), "III-001": (40, "M"), "III-010": (None, "F")}
    made(tmp_path / "rec", tmp_path / "epochs", trim="none")
    kept = store.read_table(tmp_path / "epochs/index.parquet")
    assert kept["age"].to_list() == [58, 40, None]


def test_a_recording_with_three_scorings_is_stored_whole(tmp_path: Path) -> None:
    later = replace(scoring(2), onset=60.0)
    three = replace(night("III-001"), other_hypnograms=(scoring(1), later))
    write_recording(tmp_path / "x.safetensors", three, {})
    found = read_recording(tmp_path / "x.safetensors")
    assert [h.onset for h in found.scorings] == [0, 0, 60]
    assert [h.stages.tolist() for h in found.scorings] == [
        scoring(k).stages.tolist() for k in range(3)
    ]
    assert later.stages_at(np.array([0.0, 60.0, 90.0, 9e5])).tolist() == [-1, 2, 2, -1]
    with pytest.raises(DataError, match="another grid"):
        later.stages_at(np.array([75.0]))


# --- simulated, and the whole chain ---------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("isruc", tmp_path_factory.mktemp("raw"), subjects=3, hours=1)


def test_simulated_scorers_agree_as_people_do(raw: Path) -> None:
    from sleeptools.evaluation.metrics import kappa

    recordings = [isruc.read(s) for s in isruc.find(raw)]
    assert all(r.facts["simulated"] for r in recordings)
    first, second = (np.concatenate([r.scorings[i].stages for r in recordings]) for i in (0, 1))
    confusion = np.zeros((5, 5), np.int64)
    np.add.at(confusion, (first, second), 1)
    assert 0.5 < kappa(confusion) < 0.95


def test_simulated_nights_are_other_people_than_other_sets(tmp_path: Path) -> None:
    from sleeptools.datasets import edf, sleep_edf

    people = [
        {p.person for p in module.plan(most, 1, subset)}
        for module, most, subset in (
            (isruc, 100, "I"),
            (isruc, 8, "II"),
            (isruc, 10, "III"),
            (edf, 99, None),
            (sleep_edf, 100, None),
            (sleep_edf, 22, "telemetry"),
        )
    ]
    assert len(set.union(*people)) == sum(map(len, people)) == 339


@pytest.mark.slow
def test_the_whole_chain(command, raw: Path, tmp_path: Path) -> None:
    ran = command("preprocess", "isruc", raw)
    assert ran.code == 0, ran.err
    quick = ("--passes", 1, "--set", "recipe.batch=32", "--set", "model.eeg=6")
    ran = command("train", "--folds", 2, *quick)
    assert ran.code == 0, ran.err
    ran = command("evaluate", "--json")
    assert ran.code == 0, ran.err
    (result,) = json.loads(ran.out)[0]["results"]
    assert np.sum(result["confusion"]) == 3 * (120 - 30)
    assert command("report").code == 0
    assert "simulated" in (tmp_path / "report.html").read_text()


def test_a_workbook_is_placed_by_its_numbers_and_may_hold_a_stray_label(tmp_path: Path) -> None:
    written(tmp_path, "III-001")
    folder = tmp_path / "subgroupIII/1"
    for scorer in (1, 2):
        (folder / f"1_{scorer}.txt").unlink()
    rows = [[float(k), "2" if k != 30 else "xx"] for k in range(5, 41)]
    spreadsheets.write_xlsx(folder / "1_1.xlsx", rows)
    with pytest.raises(DataError, match="unknown stage text 'xx'"):  # 1 of 36 is no slip
        isruc.read(isruc.find(tmp_path)[0])
    rows[25][1] = "5"
    spreadsheets.write_xlsx(folder / "1_1.xlsx", rows)
    found = isruc.read(isruc.find(tmp_path)[0])
    assert found.scorings[0].onset == 120
    assert len(found.scorings[0]) == 36
    assert "number 5, counted from 1" in str(found.facts["notes"])
