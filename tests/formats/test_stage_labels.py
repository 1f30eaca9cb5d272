"""Stage labels of every reader: nothing recognised is lost, nothing unknown becomes a stage."""

import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sleeptools import formats
from sleeptools.datasets.shared.edf_settings import EdfSettings
from sleeptools.errors import DataError, NoStagesError, UsageError
from sleeptools.formats import edf
from sleeptools.recording import label_schemes
from sleeptools.recording.hypnogram import Event, Hypnogram

Writer = Callable[[Path, list[Event]], Path]


def write_edf(folder: Path, events: list[Event]) -> Path:
    edf.write_annotations(folder / "n.edf", events, None)
    return folder / "n.edf"


def write_usleep(folder: Path, events: list[Event]) -> Path:
    path = folder / "n.ids"
    path.write_text("".join(f"{o:g},{d:g},{t}\n" for o, d, t in events))
    return path


def write_bids(folder: Path, events: list[Event]) -> Path:
    path = folder / "n_events.tsv"
    rows = [f"{o:g}\t{d:g}\t{t}\n" for o, d, t in events]
    path.write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    return path


def write_luna(folder: Path, events: list[Event]) -> Path:
    path = folder / "n.annot"
    path.write_text("".join(f"{t}\t.\t.\t{o:g}\t{o + d:g}\t.\n" for o, d, t in events))
    return path


def write_nsrr(folder: Path, events: list[Event]) -> Path:
    path = folder / "n.xml"
    rows = "".join(
        f"<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>{t}|0</EventConcept>"
        f"<Start>{o:g}</Start><Duration>{d:g}</Duration></ScoredEvent>"
        for o, d, t in events
    )
    path.write_text(f"<PSGAnnotation><ScoredEvents>{rows}</ScoredEvents></PSGAnnotation>")
    return path


WRITERS = [write_edf, write_usleep, write_bids, write_luna, write_nsrr]
MIXED = [write_edf, write_bids, write_luna]
LIGHT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)


def scored(found: Hypnogram) -> dict[float, str]:
    """Stage by onset, s."""
    at = found.onset + np.flatnonzero(found.stages >= 0) * found.epoch_seconds
    return {
        round(float(t), 3): found.names[s]
        for t, s in zip(at, found.stages[found.stages >= 0], strict=True)
    }


def night(epochs: int = 20, text: str = "W", length: float = 30) -> list[Event]:
    return [(length * i, length, text) for i in range(epochs)]


# --- partial epochs -------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@LIGHT
@given(
    first=some.integers(1, 299),
    last=some.integers(1, 299),
    begin=some.sampled_from([-600, 0, 7, 1200]),
)
def test_a_short_first_and_last_stage_have_no_stage(
    write: Writer, tmp_path: Path, first: int, last: int, begin: float
) -> None:
    first_s, last_s = first / 10, last / 10
    whole = [(begin + first_s + 30 * i, 30.0, "N2") for i in range(12)]
    end = begin + first_s + 360
    events = [(begin, first_s, "W"), *whole, (end, last_s, "W")]
    found = formats.read_hypnogram(write(tmp_path, events))
    assert scored(found) == pytest.approx({round(o, 3): 0 for o, _, _ in whole}) or (
        list(scored(found)) == pytest.approx([o for o, _, _ in whole])
    )
    assert set(scored(found).values()) == {"N2"}
    short = sum(abs(d - 30 * round(d / 30)) > 0.05 for d in (first_s, last_s))
    assert sum("partial epoch has no stage" in note for note in found.notes) == short


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("length", [29.5, 0.5, 12, 89.5])
def test_a_last_stage_cut_by_the_end(write: Writer, tmp_path: Path, length: float) -> None:
    path = write(tmp_path, [*night(19), (570, length, "N2")])
    found = formats.read_hypnogram(path, epoch_seconds=30)
    assert found.counts()["W"] == 19
    assert found.counts()["N2"] == length // 30
    assert found.counts()["unannotated"] == 1
    assert any(f"lasts {length:g} s" in note for note in found.notes)


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_no_end_is_refused(write: Writer, tmp_path: Path) -> None:
    short = [*night(9), (270, 17, "N2"), *((290 + 30 * i, 30, "W") for i in range(9))]
    for events in (short, [(0, 29.5, "W")], [(0, 29.5, "W"), (29.5, 17, "N1")]):
        with pytest.raises(DataError):
            formats.read_hypnogram(write(tmp_path, events), epoch_seconds=30)


def test_runs_do_not_tell_that_an_epoch_is_30_s(tmp_path: Path) -> None:
    """60, 120 and 20 s are whole epochs of 20 s: a stage of 20 s is no partial one of 30 s."""
    events = [(0, 60, "W"), (60, 120, "N1"), (180, 60, "N2"), (240, 20, "W")]
    with pytest.raises(DataError, match="does not tell how long an epoch is") as caught:
        formats.read_hypnogram(write_usleep(tmp_path, events))
    assert "`epoch_seconds=30`" in str(caught.value.hint)
    assert formats.read_hypnogram(tmp_path / "n.ids", epoch_seconds=20).counts()["N1"] == 6


# --- durations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("length", [30, 20, 10])
def test_stages_without_durations(write: Writer, tmp_path: Path, length: float) -> None:
    events = [(length * i, 0, "W" if i < 10 else "N2") for i in range(20)]
    path = write(tmp_path, events)
    with pytest.raises(DataError, match="20 of 20 stages have no duration") as caught:
        formats.read_hypnogram(path)
    assert "`epoch_from_onsets`" in str(caught.value.hint)
    found = formats.read_hypnogram(path, epoch_from_onsets=True)
    assert found.epoch_seconds == length
    assert (found.counts()["W"], found.counts()["N2"], len(found)) == (10, 10, 20)
    assert any("20 stages without a duration" in note for note in found.notes)


def test_changes_of_stage_last_to_the_next(tmp_path: Path) -> None:
    events = [(0, 0, "W"), (300, 0, "N2"), (360, 0, "R"), (420, 0, "W")]
    found = formats.read_hypnogram(
        write_edf(tmp_path, events), epoch_from_onsets=True, epoch_seconds=30
    )
    assert [found.counts()[n] for n in ("W", "N2", "REM")] == [11, 2, 2]


def test_a_stage_without_duration_among_others(tmp_path: Path) -> None:
    """A short word within an epoch that has a stage is a mark; the stage of an epoch is not."""
    marked = write_edf(tmp_path, [*night(10), (45, 0, "R")])
    found = formats.read_hypnogram(marked)
    assert found.counts()["W"] == 10
    assert any("'R' 1" in note for note in found.notes)
    for lost in ([*night(10), (330, 0, "N2"), (360, 30, "W")], [(0, 0, "Sleep stage R"), *night()]):
        with pytest.raises(DataError, match=r"stages have no duration"):
            formats.read_hypnogram(write_edf(tmp_path, lost))


def test_remarks_are_no_scoring(tmp_path: Path) -> None:
    """A technician's notes on a recording without stages, and on one with."""
    notes = [(12.0, 0.0, "awake"), (50.0, 0.0, "Movement"), (80.0, 3.0, "M"), (95.0, 0.0, "gap")]
    with pytest.raises(NoStagesError, match="4 annotation texts: 'awake', 'Movement', 'M', 'gap'"):
        formats.read_hypnogram(write_edf(tmp_path, notes))
    scored = [(600 + o, d, t) for o, d, t in night(120)]
    found = formats.read_hypnogram(write_edf(tmp_path, [*notes, *scored]))
    assert found.counts()["W"] == 120
    assert all(any(f"{t!r} 1" in note for note in found.notes) for _, _, t in notes)


def test_options_for_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("W\nN1\n")
    for option in ({"epoch_from_onsets": True}, {"scorer": "A"}, {"ignore_bad_annotations": True}):
        with pytest.raises(UsageError, match=f"leave out `{next(iter(option))}`"):
            formats.read_hypnogram(tmp_path / "h.txt", **option)


# --- words ----------------------------------------------------------------------------------------

NAMES = {
    "REM": "REM",
    "Stage REM": "REM",
    "Sleep stage R": "REM",
    "SLEEP STAGE  r": "REM",
    "stage_r": "REM",
    "SLEEP-REM": "REM",
    "Stage 4": "N3",
    "S4": "N3",
    "SLEEP-S3": "N3",
    "NREM 2": "N2",
    "Stage2": "N2",
    "Sleep stage 1": "N1",
    "stage n1": "N1",
    "Wake": "W",
    "SLEEP-S0": "W",
    "Éveil": "W",
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("text", NAMES)
def test_one_table_of_words_for_every_reader(write: Writer, text: str, tmp_path: Path) -> None:
    events = [*night(6, "N2" if NAMES.get(text) != "N2" else "W"), (180, 150, text)]
    found = formats.read_hypnogram(write(tmp_path, events))
    wanted = label_schemes.word_meaning(text)
    assert found.counts()[wanted] == 5


@pytest.mark.parametrize("write", MIXED)
@pytest.mark.parametrize("text", ["Foo", "Tiefschlaf", "N9", "Lights"])
def test_an_unknown_text_that_fills_epochs_is_refused(
    write: Writer, text: str, tmp_path: Path
) -> None:
    events = [*night(10), *((300 + 30 * i, 30, text) for i in range(5)), (450, 30, "W")]
    with pytest.raises(DataError, match=rf"'{text}' at 300 s fills .* 5 in all") as caught:
        formats.read_hypnogram(write(tmp_path, events))
    assert caught.value.code == "HYP-TEXT"


@pytest.mark.parametrize(
    "unknown",
    [
        [(300 + 30 * i, 29.9, "Foo") for i in range(12)],
        [(302 + 30 * i, 26, "Foo") for i in range(12)],
        [(300 + 30 * i, 0, "Foo") for i in range(12)],
        [(300.5, 359, "Foo")],
        [(270, 390, "Foo")],
    ],
    ids=["a little short", "within epochs", "marks", "off the grid", "over a stage"],
)
def test_an_unknown_text_off_the_grid_is_refused_where_it_is_like_a_stage(
    unknown: list[Event], tmp_path: Path
) -> None:
    events = [*night(10), *unknown, *((660 + 30 * i, 30, "W") for i in range(30))]
    for write in (write_edf, write_bids):
        with pytest.raises(DataError, match=r"'Foo' at .* without a stage, 1[0-2] in all"):
            formats.read_hypnogram(write(tmp_path, events))


@pytest.mark.parametrize(
    "remarks",
    [
        [(0, 1200, "Supine")],
        [(-100, 95, "Upright")],
        [(1003, 200, "Lights on")],
        [(300 + 31 * i, 9, "Apnea") for i in range(12)],
        [(310, 0, "Button"), (340, 0, "Button")],
    ],
    ids=["all night", "before", "after", "apneas", "few marks"],
)
def test_remarks_between_stages_are_no_stages(remarks: list[Event], tmp_path: Path) -> None:
    """The ten epochs from 300 s on have no stage."""
    events = [*night(10), *remarks, *((600 + 30 * i, 30, "W") for i in range(13))]
    found = formats.read_hypnogram(write_edf(tmp_path, events))
    assert (found.counts()["W"], found.counts()["unannotated"]) == (23, 10)
    assert any(repr(remarks[0][2]) in note for note in found.notes)


@pytest.mark.parametrize("write", MIXED)
def test_texts_that_are_not_used_are_named(write: Writer, tmp_path: Path) -> None:
    events = [*night(10), (12, 3, "Arousal"), (72, 3, "Arousal"), (0, 60, "Supine")]
    found = formats.read_hypnogram(write(tmp_path, events))
    assert found.counts()["W"] == 10
    assert found.notes == ("texts that are no stages: 'Arousal' 2, 'Supine' 1",)


@pytest.mark.parametrize(
    ("labels", "stray", "scheme"),
    [
        (["1"] * 150 + ["xx"], 1, "isruc"),
        (["W"] * 300 + ["??", "oops"], 2, None),
        (["1"] * 50 + ["xx"], None, "isruc"),
        (["1"] * 500 + ["4"], None, "isruc"),
        (["1"] * 500 + ["9"], None, "isruc"),
        (["W"] * 500 + ["S5"], None, None),
        (["W"] * 500 + ["SWS"], None, None),
        (["W"] * 500 + ["NR*"], None, None),
        (["W"] * 500 + ["Sleep stage X"], None, None),
    ],
)
def test_a_stray_label(
    labels: list[str], stray: int | None, scheme: str | None, tmp_path: Path
) -> None:
    """At most 1 % of labels that can be no stage are unscored epochs, counted in the notes."""
    (tmp_path / "h.txt").write_text("\n".join(labels))
    if stray is None:
        with pytest.raises(DataError):
            formats.read_hypnogram(tmp_path / "h.txt", scheme=scheme)
        return
    found = formats.read_hypnogram(tmp_path / "h.txt", scheme=scheme)
    assert (found.counts()["unknown"], len(found)) == (stray, len(labels))
    assert len(found.notes) == stray


# --- scorers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["trial_type", "stage"])
def test_scorers_are_not_mixed(column: str, tmp_path: Path) -> None:
    path = tmp_path / "x_events.tsv"
    expert = [f"{30 * i}\t30\tW\texpert\n" for i in range(10)]
    other = [f"{30 * i}\t30\tN2\tyasa\n" for i in range(5, 15)]
    path.write_text(f"onset\tduration\t{column}\tscorer\n" + "".join(expert + other))
    with pytest.raises(DataError, match="2 scorers: expert, yasa") as caught:
        formats.read_hypnogram(path)
    assert caught.value.code == "HYP-SCORER"
    found = formats.read_hypnogram(path, scorer="expert")
    assert (found.counts()["W"], len(found), found.scorer) == (10, 10, "expert")
    assert formats.read_hypnogram(path, scorer="yasa").counts()["N2"] == 10
    with pytest.raises(DataError, match="no rows of a scorer 'me'"):
        formats.read_hypnogram(path, scorer="me")


def test_scorers_of_a_column_of_any_name_are_not_mixed(tmp_path: Path) -> None:
    """They agree where both have scored, so that only the further column tells them apart."""
    path = tmp_path / "x_events.tsv"
    rows = [f"{30 * i}\t30\tW\t{who}\n" for who, n in (("A", 10), ("B", 15)) for i in range(n)]
    path.write_text("onset\tduration\ttrial_type\twho\n" + "".join(rows))
    with pytest.raises(
        DataError, match=r"line 12: a second row at 0 s, whose who is 'B'"
    ) as caught:
        formats.read_hypnogram(path)
    assert caught.value.code == "HYP-SCORER"
    same = [r.replace("\tB", "\tA") for r in rows]
    path.write_text("onset\tduration\ttrial_type\twho\n" + "".join(same))
    assert formats.read_hypnogram(path).counts()["W"] == 15


def test_stages_in_two_columns(tmp_path: Path) -> None:
    """The one that holds stages is read; two that differ are two scorers."""
    path = tmp_path / "x_events.tsv"

    def write(stage: str, trial_type: str) -> Path:
        rows = [f"{30 * i}\t30\t{stage}\t{trial_type}\n" for i in range(10)]
        path.write_text("onset\tduration\tstage\ttrial_type\n" + "".join(rows))
        return path

    for stage, trial_type in (("n/a", "N2"), ("N2", "epoch"), ("N2", "N2"), ("N2", "artifact")):
        assert formats.read_hypnogram(write(stage, trial_type)).counts()["N2"] == 10
    with pytest.raises(DataError, match="stages that differ: stage 'N2', trial_type 'N3'"):
        formats.read_hypnogram(write("N2", "N3"))


def test_scorers_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Epoch,Stage,Scorer\n1,W,a\n2,W,a\n1,N1,b\n2,N1,b\n")
    with pytest.raises(DataError, match="2 scorers: a, b"):
        formats.read_hypnogram(path)
    assert formats.read_hypnogram(path, scorer="b").counts()["N1"] == 2


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["trial_type", "trial_type\t", "trial_type\t\t"])
def test_n_a_and_empty_cells(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x_events.tsv"
    rows = [f"{30 * i}\t30\tN2\n" for i in range(20)]
    extra = ["12\tn/a\tbutton\n", "n/a\tN/A\tremark\n", "600\tNaN\tn/a\n", "\t\tnote\n"]
    path.write_text(f"onset\tduration\t{header}\n" + "".join(rows + extra))
    found = formats.read_hypnogram(path)
    assert (found.counts()["N2"], len(found)) == (20, 20)
    assert any("4 rows without onset or duration" in note for note in found.notes)
    for bad in ("300\tn/a\tN2", "n/a\t30\tN2"):
        path.write_text(path.read_text().replace("300\t30\tN2", bad))
        with pytest.raises(DataError, match="'n/a' is not a number"):
            formats.read_hypnogram(path)


@pytest.mark.parametrize(("first", "onset"), [(0, 0), (1, 0), (2, 30), (41, 1200)])
def test_epoch_numbers_place(first: int, onset: float, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Epoch,Stage\n" + "".join(f"{first + i},W\n" for i in range(5)))
    found = formats.read_hypnogram(path)
    assert (found.onset, len(found)) == (onset, 5)
    assert any(f"number {first}" in note for note in found.notes) == (first > 1)


@pytest.mark.parametrize("first", [-3, 1.5])
def test_epoch_numbers_that_are_none(first: float, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"Epoch,Stage\n{first},W\n{first + 1},W\n")
    with pytest.raises(DataError) as caught:
        formats.read_hypnogram(path)
    assert caught.value.code == "HYP-NUMBER"


@pytest.mark.parametrize("columns", ["{i} {s}", "{t} {s}", "{s} {s}", "{i}\t{s}.0"])
def test_two_columns_of_whole_numbers_may_be_a_scoring(columns: str, tmp_path: Path) -> None:
    path = tmp_path / "a.STA"
    rows = [columns.format(i=i + 1, t=30 * i, s=i % 6) for i in range(40)]
    path.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"whole numbers 0\.\.5.*a scoring\?"):
        formats.read(path)
    path.write_text("\n".join(f"{i * 7 % 90 - 45} {i * 3 % 11}.5" for i in range(40)))
    with pytest.raises(DataError, match="does not say the sample rate"):
        formats.read(path)


# --- the clock ------------------------------------------------------------------------------------


def luna_clock(folder: Path, start: int, epochs: int, *, jump: int = 0, stop: str = "") -> Path:
    """Rows of 30 s by the clock from `start` s of a day on, which jumps at 2 h of the second."""

    def clock(t: int) -> str:
        t += jump if t >= 26 * 3600 else 0
        return f"{t // 3600 % 24:02d}:{t // 60 % 60:02d}:{t % 60:02d}"

    path = folder / "clock.annot"
    ends = range(start, start + 30 * epochs, 30)
    path.write_text("".join(f"N2\t.\t.\t{clock(t)}\t{stop or clock(t + 30)}\t.\n" for t in ends))
    return path


@LIGHT
@given(start=some.integers(0, 86399), epochs=some.integers(2, 8640))
def test_luna_clock_times_of_any_length(start: int, epochs: int, tmp_path: Path) -> None:
    """Up to three days, over any number of midnights."""
    found = formats.read_hypnogram(luna_clock(tmp_path, start, epochs))
    assert (len(found), found.counts()["N2"], found.onset) == (epochs, epochs, 0)
    assert found.begin is not None
    assert (found.begin.hour * 60 + found.begin.minute) * 60 + found.begin.second == start


@pytest.mark.parametrize("stop", ["", "+30", "..."])
@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_changed_clock_is_refused(stop: str, jump: int, tmp_path: Path) -> None:
    path = luna_clock(tmp_path, 23 * 3600, 600, jump=jump, stop=stop)
    if stop == "...":
        path.write_text(path.read_text().rstrip().rpartition("...")[0] + "+30\t.\n")
    with pytest.raises(DataError, match="was the clock changed that night"):
        formats.read_hypnogram(path)


def test_rows_sorted_by_class(tmp_path: Path) -> None:
    """Within half a day their order does not matter; beyond, it decides the day."""
    short = luna_clock(tmp_path, 23 * 3600, 600).read_text().splitlines(keepends=True)
    (tmp_path / "s.annot").write_text("".join(short[::2] + short[1::2]))
    assert formats.read_hypnogram(tmp_path / "s.annot").counts()["N2"] == 600
    long = luna_clock(tmp_path, 16 * 3600, 2640).read_text().splitlines(keepends=True)
    (tmp_path / "l.annot").write_text("".join(long[::3] + long[1::3] + long[2::3]))
    with pytest.raises(DataError):
        formats.read_hypnogram(tmp_path / "l.annot")


@pytest.mark.parametrize(
    "column", ["annotator", "rater", "reader", "Annotator", "Scored_by", "rater id", "Technician"]
)
def test_scorers_by_other_names_of_their_column_are_not_mixed(column: str, tmp_path: Path) -> None:
    path = tmp_path / "x_events.tsv"
    rows = [f"{30 * i}\t30\t{'N2' if i % 2 else 'W'}\t{'AB'[i % 2]}\n" for i in range(20)]
    path.write_text(f"onset\tduration\ttrial_type\t{column}\n" + "".join(rows))
    with pytest.raises(DataError, match="2 scorers: A, B"):
        formats.read_hypnogram(path)
    assert formats.read_hypnogram(path, scorer="B").counts()["N2"] == 10


# --- letters and words of the user's own ----------------------------------------------------------

DECOMPOSED = unicodedata.normalize("NFD", "Éveil")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "text", [DECOMPOSED, "\uff37", "\uff33\uff34\uff21\uff27\uff25\u3000\uff37"]
)
def test_letters_that_look_alike_mean_the_same(write: Writer, text: str, tmp_path: Path) -> None:
    found = formats.read_hypnogram(write(tmp_path, [*night(6, "N2"), (180, 150, text)]))
    assert found.counts()["W"] == 5


@pytest.mark.parametrize("write", WRITERS)
def test_words_of_the_settings_may_be_composed_or_not(write: Writer, tmp_path: Path) -> None:
    word = "rêverie"
    for known, written in ((word, "NFD"), (unicodedata.normalize("NFD", word), "NFC")):
        labels = EdfSettings(signals="{subject}.edf", labels={known: "REM"}).meaning()
        path = write(tmp_path, [*night(), (600, 60, unicodedata.normalize(written, word))])
        assert formats.read_hypnogram(path, scheme=labels).counts()["REM"] == 2


@pytest.mark.parametrize("ending", ["txt", "csv", "hyp"])
def test_a_list_of_words_of_the_users_own(ending: str, tmp_path: Path) -> None:
    """What the first line says decides nothing: [labels] can define every word."""
    path = tmp_path / f"a.{ending}"
    path.write_text("quiet wake\n" * 10 + "zz2\n" * 10 + "dreaming\n" * 10)
    with pytest.raises(DataError, match="unknown stage text 'quiet wake', 'zz2', 'dreaming'"):
        formats.read_hypnogram(path)
    words = {"quiet wake": "W", "zz2": "N2", "dreaming": "REM"}
    scheme = label_schemes.Scheme(label_schemes.HUMAN_STAGES, words)
    found = formats.read_hypnogram(path, scheme=scheme)
    assert [found.counts()[n] for n in ("W", "N2", "REM")] == [10, 10, 10]


@pytest.mark.parametrize(
    "text",
    [
        "one\ntwo\nthree\n" * 2,
        "".join(f"a remark of line {i}\n" for i in range(40)),
        "12.5\n" * 40,
        "key: value\n" * 40,
        "a,b\n" * 40,
        "\n" * 40,
        "\0\1" * 40,
    ],
)
def test_other_texts_are_no_lists_of_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        formats.find(tmp_path / "a.txt")
    assert caught.value.code == "FILE-FORMAT"


def test_a_stage_of_ages_takes_no_memory(tmp_path: Path) -> None:
    """Every epoch of it was listed: 270 MiB for a file of 150 bytes."""
    path = tmp_path / "h.annot"
    rows = "W\t.\t.\t0\t1e19\t.\nN1\t.\t.\t30\t60\t.\nM\t.\t.\t180\t210\t.\n"
    path.write_text(f"class\tinstance\tchannel\tstart\tstop\tmeta\n{rows}")
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            formats.read_hypnogram(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("row", ["30\t3\tarousal\tC3\tn/a", "0\t0\tlights off\t99\tNaN"])
def test_an_event_at_the_onset_of_an_epoch_is_no_second_scorer(tmp_path: Path, row: str) -> None:
    path = tmp_path / "n_events.tsv"
    stages = "".join(f"{30 * i}\t30\t{s}\tn/a\ta\n" for i, s in enumerate(("W", "N1", "N2", "N2")))
    path.write_text(f"onset\tduration\ttrial_type\tchannel\tscorer\n{stages}{row}\n")
    found = formats.read_hypnogram(path)
    assert found.stages.tolist() == [0, 1, 2, 2]
    assert found.scorer == "a"
