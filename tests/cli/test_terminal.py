"""What a person sees in a terminal of 80 columns: nothing is glued together, cut or in pieces."""

import io
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from sleeptools.cli import train

import synthetic_run
from sleeptools.commands.train import TrainingProgress
from sleeptools.evaluation.evaluation import compute_evaluation
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.runs.run import open_run
from sleeptools.store import batch
from sleeptools.store.batch import FinishedItem

terminal = import_module("sleeptools.cli._console")
agree_terminal = import_module("sleeptools.cli.agree")
evaluation_terminal = import_module("sleeptools.cli._evaluation")
list_terminal = import_module("sleeptools.cli.list")

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
ERASED = re.compile(r"\x1b\[2K|\n|\r")
COLUMNS = ["file", "signals", "scoring", "ch", "W", "N1", "N2", "N3", "REM", "?", "quality", "!"]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def screen_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Show what the test prints from here on as in a terminal."""
    shared = Terminal()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, shared)
    for name, value in {"COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return shared


def row(name: str) -> list:
    return [name, "22:51-01:51", "22:51-02:38", 7, 157, 17, 105, 117, 62, 230, "3 clipped", 0]


def test_a_message_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    with terminal.batch_progress("scoring") as on_progress:
        terminal.talk("a first message, [bold]which[/bold] is plain text")
        on_progress(FinishedItem("n1", 1, 2, "done"))
        terminal.talk("a second message")
    terminal.talk("a last one")
    assert not terminal.BARS
    for text in ("a first message, [bold]which[/bold] is", "[1/2] n1: done", "a second message"):
        before = screen.getvalue().partition(text)[0]
        assert before != screen.getvalue()
        line = CONTROL.sub("", ERASED.split(before)[-1])
        assert line == "", f"{text!r} is glued to {line!r}"
    assert CONTROL.sub("", screen.getvalue()).endswith("a last one\n")


def test_a_bar_has_its_total_from_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen, seen = screen_of(monkeypatch), []

    def work() -> tuple[dict, str]:
        terminal.BARS[-1].print("at work")
        seen.append(CONTROL.sub("", screen.getvalue()))
        return {}, ""

    with terminal.batch_progress("scoring") as on_progress:
        batch.run([("a", work), ("b", work)], tmp_path, on_progress)
    assert "0/2" in seen[0]


def test_every_table_of_an_evaluation_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mice = {"names": MOUSE_STAGES, "epoch_seconds": 4.0, "prefix": "mouse-", "epochs": 400}
    run = synthetic_run.write(tmp_path / "run", protocols=("leak-free",), model="mouse-cnn", **mice)
    evaluation = compute_evaluation(open_run(run))
    screen = screen_of(monkeypatch)
    evaluation_terminal.show_evaluation(evaluation)
    printed = CONTROL.sub("", screen.getvalue())
    for stage in MOUSE_STAGES:  # on one line, and minutes of each stage with their limits
        assert re.search(rf"^ {stage}(?: +\S+ \[\S+, \S+\]){{3}} +\d+ *$", printed, re.MULTILINE)
        assert re.search(rf"^ {stage}, min +\S+ \[", printed, re.MULTILINE)
    assert re.search(r"^ *fold +subject +nights .* stages *$", printed, re.MULTILINE)
    assert re.search(r"^ *0 +mouse-00 +1 .* 3 *$", printed, re.MULTILINE)


def test_presets_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    list_terminal.command(list_terminal.Drawer.PRESETS, None, as_json=False)
    printed = CONTROL.sub("", screen.getvalue())
    assert re.search(r"^ kjaerby +mouse +Wake +1 +512 +EEG, EMG *$", printed, re.MULTILINE)
    assert re.search(r"^ sleep-edf +human +W N1 N2 +30 +100 ", printed, re.MULTILINE)


def test_a_comparison_of_nights_is_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of kappa and F1 side by side; below a long name no lone dash."""
    number = agree_terminal._interval({"value": 0.954, "low": 0.9, "high": 0.99})
    columns = ["pair", "stage", "kappa", "F1", "PABAK"]
    for pair, whole in (("scores - mice", True), ("n" * 60, False)):
        screen = screen_of(monkeypatch)
        rows = [[pair, "all", number, number, "0.954"], ["", "NREM", number, number, "0.954"]]
        terminal.emit_rows(columns, rows, folding=("pair", "stage"))
        lines = [line.strip() for line in CONTROL.sub("", screen.getvalue()).splitlines()]
        assert any(line.startswith(pair) and "PABAK" not in line for line in lines)
        assert sum(line.count(number) == 2 for line in lines) == 2
        assert any(line.startswith(f"{pair} ") for line in lines) == whole
        assert "-" not in lines


def test_messages_end_no_bar_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_of(monkeypatch)
    with pytest.raises(KeyError), terminal.batch_progress("scoring"):
        raise KeyError
    assert not terminal.BARS


@pytest.mark.parametrize(
    "name", ["edfio__SC4001EC-Hypnogram.bdf", "Schläfer 1/night1.edf", "n" * 70]
)
def test_long_names_are_in_one_piece(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    screen = screen_of(monkeypatch)
    terminal.emit_rows(COLUMNS, [row(name), row("short")], folding=("file", "quality"))
    lines = screen.getvalue().splitlines()
    assert name in lines
    assert all(len(line) <= 80 for line in lines)
    assert lines[:2] == ["file", *[line for line in lines if "signals" in line]]
    assert lines[1].split() == COLUMNS[1:]
    values = " ".join(lines[lines.index(name) + 1].split())
    assert values == "22:51-01:51 22:51-02:38 7 157 17 105 117 62 230 3 clipped 0"


def test_short_names_stay_in_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    terminal.emit_rows(COLUMNS, [row("SC4001")], folding=("file", "quality"))
    lines = [line for line in screen.getvalue().splitlines() if "SC4001" in line]
    assert len(lines) == 1
    assert "22:51-01:51" in lines[0]


def test_a_list_whose_first_column_is_whole_is_no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    rows = [["s0-table-3", "a text of many words " * 4]]
    terminal.emit_rows(["item", "shows"], rows, folding=["shows"])
    assert any(re.search(r"s0-table-3 +a text of", line) for line in screen.getvalue().splitlines())


def test_a_table_is_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["result", "data", "divided", "chosen on", "accuracy", "macro f1", "kappa"]
    rows = [
        ["ours, ulw-sleepnet", "sleep-edf, SIMULATED, n = 4", "subjects", "validation subjects"],
        ["SalientSleepNet", "Sleep-EDF-20, n = 20", "subjects", "the test fold (optimistic)"],
    ]
    screen = screen_of(monkeypatch)
    terminal.emit_table("Beside", columns, [[*row, 0.568, 0.35, 0.321] for row in rows])
    printed = CONTROL.sub("", screen.getvalue())
    assert all(len(line) <= 80 for line in printed.splitlines())
    shown = re.split(r"\s+", printed)
    for word in " ".join([*columns, *(text for row in rows for text in row)]).split():
        assert word in shown
    assert "0.568" in shown


def test_a_table_that_fits_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_of(monkeypatch)
    terminal.emit_table("Two", ["a name", "some value"], [["x y", 1.0], ["z", 2.0]])
    printed = CONTROL.sub("", screen.getvalue())
    assert re.search(r"^ *a name +some value *$", printed, re.MULTILINE)


@pytest.mark.parametrize("protocol", ["best-on-test", "final"])
def test_the_bar_of_a_training_has_the_time_left(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    screen = screen_of(monkeypatch)
    step = TrainingProgress(
        protocol=protocol,
        seed=12,
        fold=9,
        folds=20,
        pass_number=100,
        passes=150,
        step=31_000,
        steps=46_500,
        loss=1.234,
        val_kappa=0.5,
        epochs_per_second=1234.0,
        seconds_left=359_999.0,
        pass_done=False,
    )
    with train._progress() as on_progress:
        terminal.talk("a message")
        on_progress(step)
    bars = re.split(r"[\r\n]", CONTROL.sub("", screen.getvalue()))
    assert any("pass 100/150" in bar and "99:59:59 left" in bar for bar in bars)
    assert all(len(bar) <= 80 for bar in bars)
    assert "a message" in bars
