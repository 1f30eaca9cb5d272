"""Questions of somebody who has never seen the tree: a name answers each, and a first line agrees.

The path must exist, the name of the file or of its folder must hold a word of the question, and the
first line of the docstring (the first comment of a C++ or CUDA file) must hold the words given.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAME = 4  # letters in which two forms of a word agree: written, writing

QUESTIONS = [  # question, path, regular expressions that the first line must match
    ("Where is wake trimmed?", "sleeptools/preprocessing/trimming.py", ["trim", "wake"]),
    (
        "Where are kappa and the other metrics computed?",
        "sleeptools/evaluation/metrics.py",
        ["agreement|kappa|metric", "stages"],
    ),
    ("Where is a Luna file read?", "sleeptools/formats/luna.py", ["luna"]),
    (
        "Where is the CPU kernel of the feed-forward block?",
        "csrc/cpu/feed_forward.cpp",
        ["feed-forward", "block"],
    ),
    ("Where is a run folder written?", "sleeptools/runs/writing.py", ["run", "writ"]),
    (
        "Where is the Bland-Altman table made?",
        "sleeptools/evaluation/bland_altman.py",
        ["bland", "bias|limits|agreement"],
    ),
    ("Where are spindles simulated?", "sleeptools/datasets/simulation/eeg.py", ["spindles"]),
    (
        "Where is the header of an EDF file parsed?",
        "sleeptools/formats/parsing/edf_header.py",
        ["header", "edf"],
    ),
    (
        "Where are names of channels matched?",
        "sleeptools/recording/montage/names.py",
        ["channel", "name"],
    ),
    (
        "Where are epochs cut out of a recording?",
        "sleeptools/preprocessing/epoching.py",
        ["epochs", "cut"],
    ),
    ("Where are subjects dealt into folds?", "sleeptools/runs/folds.py", ["fold", "subject"]),
    ("Where is the training loss computed?", "sleeptools/training/loss.py", ["loss", "stages"]),
    (
        "Where is the learning rate scheduled?",
        "sleeptools/models/recipe/schedule.py",
        ["learning rate"],
    ),
    (
        "Where is the SVG of a hypnogram drawn?",
        "sleeptools/report/svg.py",
        ["svg", "hypnogram"],
    ),
    (
        "Where is the CUDA kernel of modal SE (squeeze-and-excitation)?",
        "csrc/cuda/modal_se.cu",
        ["modal-wise squeeze-and-excitation"],
    ),
    (
        "Where is the checkpoint of a training kept?",
        "sleeptools/training/checkpoint.py",
        ["training", "unfinished|checkpoint"],
    ),
    ("Which errors have which exit code?", "sleeptools/errors.py", ["wrong|error", "exit code"]),
    ("Where are units of amplitudes?", "sleeptools/recording/montage/units.py", ["units"]),
    (
        "Where is a signal resampled?",
        "sleeptools/recording/signals/resampling.py",
        ["resampl"],
    ),
    (
        "Where are the presets of the publications?",
        "sleeptools/preprocessing/presets/__init__.py",
        ["preset", "toml"],
    ),
    (
        "Where are the published values?",
        "sleeptools/evaluation/published/__init__.py",
        ["papers|publication|published", "print|value"],
    ),
    (
        "Where are sleep statistics such as sleep latency computed?",
        "sleeptools/evaluation/sleep_statistics.py",
        ["sleep statistics"],
    ),
    (
        "Where are intervals bootstrapped?",
        "sleeptools/evaluation/bootstrap.py",
        ["interval", "subject"],
    ),
    (
        "Where is an external recording scored by the inference engine?",
        "sleeptools/inference/engine.py",
        ["inference", "model"],
    ),
    (
        "Where is a network in an ONNX file run?",
        "sleeptools/inference/onnx_network.py",
        ["onnx", "network"],
    ),
    (
        "Where is a model exported to other formats?",
        "sleeptools/commands/export/__init__.py",
        ["export", "format"],
    ),
    (
        "Where are files of Sleep-EDF paired?",
        "sleeptools/datasets/sleep_edf.py",
        ["sleep-edf"],
    ),
    (
        "Where is a file downloaded over HTTP?",
        "sleeptools/datasets/download/http.py",
        ["http"],
    ),
    (
        "Where are files stored so that none is ever half written?",
        "sleeptools/store/files.py",
        ["file", "whole|atomic"],
    ),
]


def first_line(path: Path) -> str:
    """First line of a module's docstring, or the first comment of a C++ or CUDA file."""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    comment = re.match(r"(?://.*\n)+", text)
    return comment[0].replace("// ", "").replace("\n", " ") if comment else ""


def words(text: str) -> set[str]:
    """Words in lower case, each by the letters in which its forms agree."""
    return {w.rstrip("s")[:SAME] for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 1}


def ids(question: str, _path: str, _answer: list[str]) -> str:
    return "-".join(re.findall(r"\w+", question.lower())[2:])


def test_there_are_twenty_questions_on_different_files() -> None:
    assert len({path for _, path, _ in QUESTIONS}) == len(QUESTIONS) >= 20


@pytest.mark.parametrize(
    ("question", "path", "answer"), QUESTIONS, ids=[ids(*row) for row in QUESTIONS]
)
def test_a_newcomer_finds(question: str, path: str, answer: list[str]) -> None:
    file = ROOT / path
    assert file.is_file()
    names = words(file.stem if file.stem != "__init__" else file.parent.name)
    names |= words(file.parent.name)
    asked = words(question) - words("where is are the of a an in")
    assert names & asked, f"neither {file.stem} nor {file.parent.name} is a word of the question"
    line = first_line(file).lower()
    assert all(re.search(word, line) for word in answer), line
