"""What `train` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sleeptools.runs.folds import LEAK_FREE, SUBJECTS

BY_SEED, PUBLISHED = "seed", "published"


@dataclass(frozen=True)
class TrainOptions:
    """What `train` is asked for.

    Parameters
    ----------
    model
        Name of the model.
    split
        Of `folds.SPLITS`: "subjects", or "stratified-epochs", which is leaky.
    folds
        Number of folds, dealt by `folds_seed`; None with published folds, or only `final`.
    folds_from
        "seed" or "published".
    folds_seed
        Of the folds and of the validation subjects; the same for every training seed.
    fold
        Train only this fold, from 0; None for all.
    protocols
        Of `folds.FOLD_PROTOCOLS`, in the order to train.
    seeds
        Of the weights, the order of the epochs and the dropout; `final` takes the first.
    final
        Also train on everybody; the number of passes is fixed beforehand.
    passes
        Instead of the recipe's.
    device
        "auto", "cpu" or "cuda".
    threads
        CPU threads; None for OMP_NUM_THREADS, SLURM_CPUS_PER_TASK or all, and for a training that
        continues, as many as it began with. Results are the same to the bit only with the same
        number.
    explain
        Write explain.safetensors for every fold's test epochs.
    watch_test
        Under leak-free, also judge the test fold after every pass, to measure what choosing on it
        would gain. It goes into the log and the audit, and changes no result.
    settings
        Tables "model" and "recipe": what differs from the model's and its recipe's defaults.
    """

    model: str = "mmasleepnet"
    split: str = SUBJECTS
    folds: int | None = None
    folds_from: str = BY_SEED
    folds_seed: int = 0
    fold: int | None = None
    protocols: Sequence[str] = (LEAK_FREE,)
    seeds: Sequence[int] = (0,)
    final: bool = False
    passes: int | None = None
    device: str = "auto"
    threads: int | None = None
    explain: bool = True
    watch_test: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
