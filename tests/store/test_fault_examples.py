"""Every code has an example that raises it, and what its hint proposes leads out of it."""

import re
from pathlib import Path

import pytest

from sleeptools.commands import convert, preprocess, train
from sleeptools.commands.simulate import simulate
from sleeptools.preprocessing import presets
from sleeptools.store.codes import code_meanings
from tests.helpers import fault_examples
from tests.helpers.fault_examples import Example, Folder, lines, proposals

BARE_HELP = re.compile(r"(?:try )?'sleeptools[\w -]* (?:--help|-h)'[^']*")
EXAMPLES = fault_examples.load()
BY_SPEED = [
    pytest.param(example, id=code, marks=[pytest.mark.slow] if example.slow else [])
    for code, example in EXAMPLES.items()
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """What the examples begin with: a chain of tiny nights, and mice."""
    folder = tmp_path_factory.mktemp("stock")
    raw = simulate("sleep-edf", folder / "raw", subjects=2, hours=0.5)
    simulate("isruc", folder / "isruc", subjects=1, hours=0.5, subset="I")
    simulate("slumbernet", folder / "slumbernet", subjects=1, hours=0.5)
    convert.convert("sleep-edf", raw, folder / "recordings")
    preset = presets.load("sleep-edf")
    epochs = preprocess.preprocess(preset, folder / "recordings", folder / "epochs")
    options = train.TrainOptions(model="ulw-sleepnet", folds=2, passes=1, explain=False)
    train.train(epochs, folder / "run", options)
    return folder


def test_every_code_has_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(code_meanings())


@pytest.mark.parametrize("example", BY_SPEED)
def test_example(example: Example, stock: Path, tmp_path: Path) -> None:
    if example.needs:
        pytest.importorskip(example.needs)
    here = Folder(tmp_path / "here", stock)
    ran = here.run(lines(example.script))
    assert (ran.code, ran.exit) == (example.code, example.exit), ran.err
    assert "Traceback" not in ran.err
    hint = ran.hint
    assert not BARE_HELP.fullmatch(hint), hint
    follow(example, hint, here)
    mended = here.run(example.mending)
    assert (mended.code, mended.exit) == ("", 0), mended.err


def follow(example: Example, hint: str, here: Folder) -> None:
    """Do what a hint proposes, each in a copy: it may not end with the same code."""
    if example.command.startswith("sleeptools "):
        for number, commands in enumerate(proposals(hint, example.command)):
            there = here.copied(f"try-{number}")
            outcome = there.run(commands)
            assert outcome.code != example.code, (hint, commands, outcome.err)
            assert outcome.exit not in (1, 2), (hint, commands, outcome.err)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_example_in_a_shell(example: Example, stock: Path, tmp_path: Path) -> None:
    if example.needs:
        pytest.importorskip(example.needs)
    ran = Folder(tmp_path / "here", stock).shell(example.script)
    assert (ran.code, ran.exit) == (example.code, example.exit), ran.err
