"""One of several processes that train together: trains a fold, and writes what it ended with.

    python -m tests.helpers.one_rank EPOCHS RUN OUT [PARENT] [KILLED_AFTER]

OUT/RANK.json gets the SHA-256 of all parameters of this process, and the loss of every step. (The
steps by which `train` tells how long it will take are made again, and count as these.)
KILLED_AFTER=N in the environment ends rank 1 by SIGKILL after N steps.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from sleeptools import store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.training import loop, shared

SMALL = {"blocks": 5, "filters": 4, "dropout": 0.0}
RECIPE = {"batch": 16, "schedule": {"kind": "constant"}}


def note(self, out: Path, losses: dict[int, float]) -> None:
    parameters = {name: p.detach().numpy() for name, p in self.state.model.named_parameters()}
    facts = {"parameters": store.digest(parameters), "losses": list(losses.values())}
    (out / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(facts))


def main() -> None:
    epochs, run, out = map(Path, sys.argv[1:4])
    parent = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    kind = shared.SharedTraining if "RANK" in os.environ else loop.Training
    step, finish = kind.step, kind.finish
    losses: dict[int, float] = {}
    killed_after = int(os.environ.get("KILLED_AFTER", "0"))

    def noted_step(self) -> int:
        if killed_after and os.environ.get("RANK") == "1" and self.state.step == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)
        before = self.state.loss
        count = step(self)
        losses[self.state.step] = (self.state.loss - before) / count
        return count

    def noted_finish(self) -> None:
        note(self, out, losses)  # the last weights; `finish` brings back the best
        finish(self)

    kind.step, kind.finish = noted_step, noted_finish
    settings = {"model": {} if parent else SMALL, "recipe": RECIPE}
    if parent is not None:
        settings["recipe"] = {**RECIPE, "variant": "default", "batch_norm": "kept"}
    torch.set_num_threads(1)
    options = TrainOptions(
        model="slumbernet",
        folds=2,
        fold=0,
        passes=4,
        threads=1,
        explain=False,
        parent=parent,
        allow_shared_subject_ids=parent is not None,
        settings=settings,
    )
    train(epochs, run, options)


if __name__ == "__main__":
    main()
