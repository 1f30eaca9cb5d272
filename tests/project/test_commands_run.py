"""Every command of README, pages, help and start page is run, in small, in the order of its page.

The commands of a page run one after the other in a folder of their own. What one of them reads and
none before it has made is taken from a small world of simulated nights, runs and scores; a mention
within a sentence has a folder of its own. `SMALLER` writes sizes smaller, `STANDS_FOR` puts a file
of the world in place of a reader's, `NOT_RUN` lists what is not run here, with the reason.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sleeptools.preprocessing import presets
from sleeptools.recording.stages import MOUSE_STAGES
from tests.helpers import synthetic_run
from tests.helpers.page_commands import LINES, Line, program
from tests.helpers.preset_model import save_preset_model

Run = Callable[..., Any]

SMALLER = {
    r"--folds \d+": "--folds 2",
    r"--passes \d+": "--passes 1",
    r"--subjects \d+": "--subjects 3",
    r"--hours [\d.]+": "--hours 0.6",
    r"--seed 0,1,2": "--seed 0,1",
    r"--devices \d": "--devices 2",
}
ALWAYS = {"simulate": ("--hours", "0.6"), "train": ("--passes", "1")}
"""Options that a line gets where it has them not."""
ON_A_PAGE = {"docs/models.md": {"train": ("--fold", "0")}}
"""The same, of a page on which a line alone takes minutes."""
STANDS_FOR = {
    "NIGHT.edf": "night.edf",
    "NIGHT": "night.edf",
    "nights/NAME.edf": "nights/night.edf",
    "NAME.html": "review.html",
    "MODEL": "runs/mmasleepnet/final",
    "RUN...": "runs/mmasleepnet",
    "RUN": "runs/mmasleepnet",
    "EPOCHS": "epochs",
    "FOLDER": "recordings",
    "FILE": "night.edf",
    "PRESET": "sleep-edf",
    "RAW": "raw",
    "RECORDINGS": "recordings",
    "IN": "SC4001EC-Hypnogram.edf",
    "OUT": "scoring.tsv",
    "ITEM": "s0-table-3",
    "CODE": "EDF-NREC",
    "NAME": "sleep-edf",
    "[C...]": "",
}
"""What stands for a word that the reader fills in."""
STANDS_FOR_IN = {
    "docs/agree.md": {"A": "A.edf", "B": "B.csv"},
    "docs/metrics.md": {"A": "runs/mmasleepnet", "B": "runs/attnsleep"},
    "docs/hypnogram-files.md": {"OUT": "scoring.annot"},
    "docs/cluster.md": {"runs/try": "runs/x", "RUN": "runs/planned"},
    "docs/edf.md": {"RAW": "described"},
    "docs/models.md": {"NAME": "ulw-sleepnet", "RECIPE": "authors", "RUN": "runs/x"},
    "docs/fine-tuning.md": {"nights": "raw"},
    "docs/first-night.md": {"scored": "scores", "byhand/": "scorer1/"},
    "docs/first-mice.md": {"mice": "raw"},
    "docs/first-cluster.md": {"runs/x": "runs/mmasleepnet"},
}
OUTPUT = {"simulate": 1, "convert": 2, "preprocess": 2, "train": 1, "export": 1, "hypnogram": 1}
"""Which argument of a command is what it writes."""
DEFAULTS = {
    "train": (0, "epochs"),
    "evaluate": (0, "runs/mmasleepnet"),
    "report": (0, "runs/mmasleepnet"),
    "preprocess": (1, "recordings"),
}
"""What a command reads that is given no more than so many arguments."""


NOT_RUN = {
    r"^fetch ": "downloads; tests/datasets/test_fetch.py runs it against a server of its own",
    r"^score yasa ": "YASA is an extra; tests/inference/test_yasa.py",
    r"^train .*--continue runs/x": "wants a finished run; tests/training/test_continuation.py",
    r"^train .*--submit": "needs a Slurm; tests/cli/test_slurm.py starts one",
    r"^status \S+ --resubmit": "needs a Slurm; tests/cli/test_slurm.py",
    r"slurm.gres=gpu": "asks for GPUs; tests/cli/test_slurm_plan.py reads such a plan",
    r"^--install-completion": "changes the shell's own files",
    r"^review night.edf --edits": "edits come out of a browser; tests/commands/test_review_page.py",
    r"--without EMG": "wants a model trained without it at times; tests/training/test_montage.py",
    r"^train --model spectral": "wants epochs of one lead; tests/models/test_sequence_models.py",
}
"""Lines that are not run here, by what they hold, with the reason."""


def run_small(command: Run, line: Line, folder: Path, world: Path) -> None:
    """Run a line in small in a folder, after bringing there what it reads."""
    words = shrunk(line)
    for word in reads(words):
        bring(word, folder, world / line.source)
        bring(word, folder, world)
    alone = {"PYTHONUNBUFFERED": "1"} if "--devices" in words else {}  # it ends its process
    for number in ("0", "1") if "{}" in words else ("",):  # of xargs
        ran = command(*[number if w == "{}" else w for w in words], cwd=folder, **alone)
        assert ran.code == 0, f"{line.source}: sleeptools {' '.join(words)}\n{ran.err}"
    if line.written_to:
        (folder / line.written_to).write_text(ran.out)


def shrunk(line: Line) -> list[str]:
    """Write a line with small sizes, and with files of the world for those of a reader."""
    stands_for = STANDS_FOR | STANDS_FOR_IN.get(line.source, {})
    words = [stands_for.get(word, word) for word in line.words]
    text = "\0".join(word for word in words if word)
    for size, smaller in SMALLER.items():
        text = re.sub(size.replace(" ", "\0"), smaller.replace(" ", "\0"), text)
    words = text.split("\0")
    for table in (ALWAYS, ON_A_PAGE.get(line.source, {})):
        option, value = table.get(words[0], ("", ""))
        if option and option not in words and not {"--task", "--continue"} & {*words}:
            words += [option, value]
    return words


def reads(words: list[str]) -> Iterator[str]:
    """Give what may be a path that a line reads: not what it writes."""
    command = program().commands.get(words[0])
    if command is None:
        return
    valued = {o for p in command.params if not getattr(p, "is_flag", True) for o in p.opts}
    arguments = []
    before = ""
    for word in words[1:]:
        if before in valued:
            if before != "--out":
                yield word.partition("=")[2] or word
        elif not word.startswith("-"):
            arguments.append(word)
        before = word
    written = None if "--task" in words else OUTPUT.get(words[0])  # of a plan that is there
    for number, argument in enumerate(arguments):
        if number != written:
            yield argument.partition("=")[2] or argument
    count, default = DEFAULTS.get(words[0], (-1, ""))
    if len(arguments) <= count:
        yield default


def bring(word: str, folder: Path, world: Path) -> None:
    """Copy a file or folder of the world to where a line reads it, unless it is there."""
    source, target = world / word, folder / word
    if target.exists() or not source.exists() or Path(word).is_absolute():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def reason_not_to_run(line: Line) -> str:
    """Say why a line is not run; empty where it is."""
    if not line.whole and (len(line.words) < 2 or line.text in NAMED):
        return "names a command or an option, and is no line to type"
    return next((why for what, why in NOT_RUN.items() if re.search(what, line.text)), "")


NAMED = {"train --submit", "train --config", "preprocess --quality", "train --precision bf16"}
"""Mentions of an option, without what the command works on."""


NIGHT = "simulate sleep-edf one --subjects 1 --hours 2.2\n"
MAKE = """
simulate sleep-edf raw --subjects 3 --hours 0.6
convert sleep-edf raw recordings
preprocess sleep-edf raw epochs
score default night.edf --out scores
hypnogram SC4001EC-Hypnogram.edf A.edf
preprocess isruc.toml raw isruc/epochs
preprocess lab.toml raw lab/epochs
"""
OF_PAGES = """
simulate slumbernet docs/models.md/raw --subjects 3 --hours 0.5
convert slumbernet docs/models.md/raw docs/models.md/recordings
preprocess slumbernet docs/models.md/recordings docs/cluster.md/mouse-epochs
train epochs docs/cluster.md/runs/planned --model ulw-sleepnet --folds 2 --seed 0,1,2,3 --plan
hypnogram SC4001EC-Hypnogram.edf docs/edf.md/raw/S01_N1_events.tsv
simulate edf docs/edf.md/described --subjects 2 --hours 0.6
"""
PRESET = """
name = "{name}"
data_set = "sleep-edf"
montage = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
sample_rate = 100.0
[trim]
rule = "none"
"""
UNSEEN: dict[str, Any] = {
    "subjects": 2,
    "folds": 1,
    "protocols": ("external",),
    "epochs": 9000,
    "prefix": "m",
    "names": MOUSE_STAGES,
    "epoch_seconds": 4.0,
    "model": "slumbernet",
    "preset": "slumbernet",
}
PHASES = """
[start]
m00 = 0.0
m01 = 1.5
[[phase]]
name = "baseline"
from = 0
to = 24
"""
PROFUSION = (
    "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>"
    + "<SleepStage>2</SleepStage>" * 40
    + "</SleepStages></CMPStudyConfig>"
)


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    """Hold the world once it is made: `command` lives for one test alone."""
    return {}


@pytest.fixture
def world(command: Run, made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What readers have at hand: raw files, a night, epochs, runs, models, scorings."""
    if made:
        return made["world"]
    folder = tmp_path_factory.mktemp("world")
    for name in ("scorer1", "scorer2", "nights", "lab", "docs/edf.md/raw"):
        (folder / name).mkdir(parents=True)
    (folder / "scoring.xml").write_text(PROFUSION)
    for name in ("lab", "my", "isruc"):
        (folder / f"{name}.toml").write_text(PRESET.format(name=name))
    made["world"] = folder  # even if it cannot be finished: once is enough
    for line in filter(None, (NIGHT + MAKE + OF_PAGES).splitlines()):
        ran = command(*line.split(), cwd=folder)
        assert ran.code == 0, f"{line}\n{ran.err}"
        if line in NIGHT:
            shutil.copy(folder / "one/SC4001EC-Hypnogram.edf", folder)
            for name in ("night.edf", "nights/night.edf", "NIGHT.edf", "tonight.edf"):
                shutil.copy(folder / "one/SC4001E0-PSG.edf", folder / name)
            shutil.copy(folder / "night.edf", folder / "docs/edf.md/raw/S01_N1.edf")
    shutil.copy(folder / "scores/night.csv", folder / "B.csv")
    for scorer, name in (("scorer1", "A.edf"), ("scorer2", "B.csv")):
        shutil.copy(folder / name, (folder / scorer / "night").with_suffix(Path(name).suffix))
    synthetic_run.write(folder / "runs/unseen", **UNSEEN)
    (folder / "phases.toml").write_text(PHASES)
    for name in ("mmasleepnet", "attnsleep"):
        synthetic_run.write(folder / "runs" / name, model=name)
    for name in ("a", "b"):
        synthetic_run.write(folder / "runs" / name)
    preset = presets.load("sleep-edf")
    save_preset_model(folder / "runs/mmasleepnet/final", preset, "mmasleepnet")
    save_preset_model(folder / "runs/ulw-sleepnet/final", preset)
    return folder


def run_all(command: Run, source: str, world: Path, folder: Path) -> None:
    """Run the lines of a page in one folder, and each mention in one of its own."""
    here = folder / "page"
    here.mkdir()
    for number, line in enumerate(line for line in LINES if line.source == source):
        is_elsewhere = line.whole and source in ELSEWHERE
        if not (is_elsewhere or reason_not_to_run(line)):
            alone = folder / f"mention-{number}"
            alone.mkdir()
            run_small(command, line, here if line.whole else alone, world)


SOURCES = sorted({line.source for line in LINES})
ELSEWHERE = {f"docs/{name}.md" for name in ("first-night", "first-mice", "first-cluster")}
"""Pages whose blocks tests/project/test_first_night.py runs; their mentions are run here."""
LONG = {line.source for line in LINES if line.whole and line.words[0] in {"train", "export"}}
LONG |= {"docs/default-model.md"}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, marks=[pytest.mark.slow] if source in LONG - ELSEWHERE else [])
        for source in SOURCES
    ],
)
def test_every_command_runs(
    source: str, command: Run, world: Path, tmp_path: Path, one_thread: None
) -> None:
    run_all(command, source, world, tmp_path)
