"""How long a training takes is told first, and measuring it changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sleeptools import store
from sleeptools.commands.plan import plan
from sleeptools.commands.train import TrainOptions, smaller_choices, train
from sleeptools.runs.slurm_settings import SlurmSettings
from sleeptools.training import loop
from sleeptools.training.batches import EpochSource
from sleeptools.training.pace import Pace, estimate_text, measure_pace, rough
from sleeptools.training.plan import make_plan
from sleeptools.training.stop import Stop
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
DROPOUT = {"model": {"modalities": "eeg", "fusion": "mbfe"}, "recipe": {"batch": 8}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_epochs(tmp_path_factory.mktemp("epochs"), subjects=6, count=8)


def options(**given):
    basis = {"folds": 6, "fold": 0, "passes": 1, "settings": DROPOUT, "threads": 1}
    return TrainOptions(**({**basis, "explain": False} | given))


def test_the_first_line_tells_the_time_and_no_bit_changes(tiny, tmp_path):
    lines = []
    train(tiny, tmp_path / "a", options(), log=lines.append, estimate=True)
    assert lines[0].startswith("about ")
    assert lines[0].endswith(" on this machine, for 1 training of 1 pass")
    train(tiny, tmp_path / "b", options(), log=lines.append)
    assert sum(line.startswith("about ") for line in lines) == 1
    name = "leak-free/seed-0/fold-00/model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {p.name for p in (tmp_path / "a").rglob("*")} == {
        p.name for p in (tmp_path / "b").rglob("*")
    }


def pending(tiny, run, **given):
    planned = make_plan(tiny, run, options(fold=None, **given))
    return planned, list(planned.tasks())


def test_the_duration_follows_from_the_epochs(tiny, tmp_path):
    planned, tasks = pending(tiny, tmp_path / "run", passes=10, protocols=("best-on-test",))
    # 5 subjects of 8 epochs train, 8 epochs are judged after each pass and scored in the end
    assert Pace(1.0, 0.1).duration(tasks[0], planned.data) == pytest.approx(10 * (40 + 0.8) + 0.8)
    watched = replace(tasks[0], watch_test=True)
    assert Pace(1.0, 0.1).duration(watched, planned.data) == pytest.approx(10 * 41.6 + 0.8)


def test_smaller_choices(tiny, tmp_path):
    planned, tasks = pending(tiny, tmp_path / "run", passes=20, protocols=("best-on-test",))
    choices = smaller_choices(planned)
    text = estimate_text(Pace(10.0, 0.0), tasks, planned.data, choices)
    # 6 trainings of 20 passes through 40 epochs of 10 s; 5 folds have 4/5 of the training epochs
    assert text == (
        "about 13 h on this machine, for 6 trainings of 20 passes; "
        "less: `passes=2` 80 min, `folds=5` 11 h, `fold=0` 2.2 h"
    )
    assert "less" not in estimate_text(Pace(0.01, 0.0), tasks, planned.data, choices)
    tasks[0].folder.mkdir(parents=True)
    (tasks[0].folder / "state.safetensors").touch()
    assert smaller_choices(planned) == []
    alone = make_plan(tiny, tmp_path / "one", options(fold=2))
    assert smaller_choices(alone) == ["passes"]


def test_a_checkpoint_counts(tiny, tmp_path):
    planned, tasks = pending(tiny, tmp_path / "run", passes=4)
    before = Pace(1.0, 0.0).duration(tasks[0], planned.data)
    facts = {"format": "sleeptools-training-state", "version": 1, "rows": [{}, {}, {}]}
    store.write_arrays(tasks[0].folder / "state.safetensors", {"a": np.zeros(1)}, facts)
    assert Pace(1.0, 0.0).duration(tasks[0], planned.data) == before / 4


def test_nothing_is_written_by_measuring(tiny, tmp_path, monkeypatch):
    planned, tasks = pending(tiny, tmp_path / "run")
    source = EpochSource(planned.data, torch.device("cpu"))
    pace = measure_pace(tasks, source, Stop())
    assert pace.scored > 0
    assert pace.trained > 0
    monkeypatch.setattr(loop, "stage_loss", lambda logits, *_: (logits * float("nan")).sum())
    assert measure_pace(tasks, source, Stop()) is None  # the training itself tells of it
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (100, "2 min"), (5_000, "83 min"), (9_000, "2.5 h"), (400_000, "4.6 days")],
)
def test_rough(seconds, text):
    assert rough(seconds) == text


def test_a_plan_tells_how_long_a_task_takes(tiny, tmp_path):
    run = tmp_path / "run"
    planned = plan(tiny, run, {run: options(fold=None)})
    assert planned.seconds > 0
    on_devices = SlurmSettings(gres="gpu:1")
    if not torch.cuda.is_available():
        assert plan(tiny, run, {run: options(fold=None)}, slurm=on_devices).seconds is None
    train(tiny, run, options())
    log = run / "leak-free/seed-0/fold-00/log.csv"
    cells = log.read_text().splitlines()
    at = cells[0].split(",").index("seconds")
    values = cells[1].split(",")
    values[at] = "7200.0"
    log.write_text("\n".join([cells[0], ",".join(values)]) + "\n")
    assert plan(tiny, run, {run: options(fold=None)}, slurm=on_devices).seconds == 7200
