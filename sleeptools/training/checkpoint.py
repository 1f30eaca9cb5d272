"""Checkpoints: the state of an unfinished training in one safetensors file, without pickle.

Everything a step depends on is here or follows from seed, protocol, fold and the number of the
step, so that a continued training ends in the same bits as one that was never interrupted: on the
same kind of CPU with the same number of threads, which is here for that reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sleeptools import store
from sleeptools.errors import DataError

KIND = "sleeptools-training-state"
VERSION = 1
SUM = "sha256"
"""Entry of the metadata: SHA-256 of the arrays and of the other entries."""


@dataclass
class State:
    """State of a training.

    Parameters
    ----------
    model, optimiser
        The model and its optimiser after `step` updates.
    step
        Updates done.
    loss, correct, seen
        Sums over the epochs of the present pass: loss, correct stages, and epochs.
    rows
        A row of the log for each finished pass.
    best, best_score, best_pass
        Weights of the best pass so far, its score, and its number from 1.
    audit
        Pass and purpose of every reading of the test fold.
    seconds
        Time of training so far, without breaks.
    threads
        CPU threads; several numbers where it was continued with another.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_score: float = float("-inf")
    best_pass: int = 0
    audit: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    threads: list[int] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Mean loss over the present pass so far, or over the last one; NaN before the first."""
        if self.seen:
            return self.loss / self.seen
        return float(self.rows[-1]["loss"]) if self.rows else math.nan

    def keep(self, score: float) -> None:
        """Keep the present weights as those of the best pass so far."""
        self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.best_score = score
        self.best_pass = len(self.rows) + 1


FACTS = ("step", "loss", "correct", "seen", "rows", "best_pass", "audit", "seconds", "threads")


def save(path: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (state.best or {}).items()}
    for i, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{k}": v for k, v in values.items()}
    arrays = {k: v.detach().cpu().numpy() for k, v in tensors.items()}
    arrays["best_score"] = np.array([state.best_score])  # JSON knows no infinity
    facts = {"format": KIND, "version": VERSION, **{name: getattr(state, name) for name in FACTS}}
    store.write_arrays(path, arrays, facts | {SUM: store.digest(arrays, facts)})


AGAIN = "'rm {path}', then run the same command again: this training begins anew"


def restore(path: Path, state: State, hint: str = AGAIN) -> None:
    """Put a saved state into a fresh one.

    Parameters
    ----------
    path
        The checkpoint.
    state
        A state of the same model and optimiser.
    hint
        What to do where the file cannot be used.

    Raises
    ------
    DataError
        If the file is damaged or belongs to another model.
    """
    file = store.read_tensors(path, KIND, VERSION)
    facts = {name: value for name, value in file.facts.items() if name != SUM}
    if file.facts.get(SUM) != store.digest(file.arrays, facts):
        raise DataError(
            f"{path}: the checkpoint is not as it was written: it is damaged, or of an earlier "
            "version",
            hint=hint.format(path=path),
            code="CKPT-HASH",
        )
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
    for name, array in file.arrays.items():
        group, _, key = name.partition(".")
        if group in groups:
            groups[group][key] = torch.from_numpy(np.array(array))
    try:
        state.model.load_state_dict(groups["model"])
        state.optimiser.load_state_dict(_optimiser(state, groups["optimiser"]))
        for name in FACTS:
            setattr(state, name, file.facts[name])
    except (RuntimeError, ValueError, KeyError) as e:
        raise DataError(
            f"{path}: does not fit this training: {e}",
            hint=hint.format(path=path),
            code="CKPT-FIT",
        ) from e
    state.best_score = float(file["best_score"][0])
    state.best = groups["best"] or None


def _optimiser(state: State, tensors: dict[str, Tensor]) -> dict[str, Any]:
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, _, key = name.partition(".")
        values.setdefault(int(i), {})[key] = tensor
    return {"state": values, "param_groups": state.optimiser.state_dict()["param_groups"]}
