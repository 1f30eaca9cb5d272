"""Training on a GPU: what only one can show. Nothing here runs without it."""

from __future__ import annotations

import copy
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from instruments.device_steps import TRAINING, Setup
from sleeptools import registry
from sleeptools.commands.train import TrainingProgress, TrainOptions, train
from sleeptools.errors import Stopped, UnavailableError
from sleeptools.models.folder import build_model
from sleeptools.native.devices import runs_kernels
from sleeptools.training.device import float32_products
from sleeptools.training.group import Group
from stacked_trainings import epochs_of, trainings
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.gpu
MODELS = [name for name in registry.names("models") if name != "spectral"]


def options(**recipe: Any) -> TrainOptions:
    settings = {"recipe": {"batch": 16, **recipe}}
    return TrainOptions(folds=2, fold=0, passes=3, settings=settings, device="cuda", explain=False)


def test_the_kernels_run_on_this_card(gpu: torch.device) -> None:
    assert runs_kernels(gpu.index)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_training_stops_continues_and_ends(
    gpu: torch.device, tmp_path: Path, precision: str
) -> None:
    epochs, run = write_epochs(tmp_path / "epochs"), tmp_path / "run"

    def stop(progress: TrainingProgress) -> None:
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(epochs, run, options(precision=precision), on_progress=stop)
    train(epochs, run, options(precision=precision))
    log = pl.read_csv(run / "leak-free/seed-0/fold-00/log.csv")
    assert len(log) == 3
    assert np.isfinite(log["loss"].to_numpy()).all()
    flags = json.loads((run / "manifest.json").read_text())["torch"]
    assert (flags["matmul_tf32"], flags["cudnn_tf32"]) == (precision == "tf32",) * 2


@pytest.mark.parametrize("count", [1, 2])
def test_steps_in_a_graph_are_those_of_the_cpu(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """With the set on the device and streamed to it, the same bits; on the CPU nearly the same."""
    epochs = epochs_of("ulw-sleepnet", tmp_path / "epochs", count=20)
    losses = {}
    for where, share in {"device": 0.6, "streamed": 0.0, "cpu": 0.6}.items():
        monkeypatch.setattr("sleeptools.training.batches.SHARE", share)
        recipe = {"batch": 4, "passes": 2, "eps": 1e-3}
        device = "cpu" if where == "cpu" else "cuda"
        made = trainings("ulw-sleepnet", epochs, tmp_path / where, recipe=recipe, device=device)
        with float32_products("fp32", torch.device(device)):
            Group(made[1 : 1 + count], lambda *_: None).run()
        losses[where] = [row["loss"] for t in made[1 : 1 + count] for row in t.state.rows]
    assert losses["device"] == losses["streamed"]
    assert losses["device"] == pytest.approx(losses["cpu"], rel=1e-3)


def test_a_batch_that_is_too_large_is_told(gpu: torch.device, tmp_path: Path) -> None:
    epochs = write_epochs(tmp_path / "epochs")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction(150e6 / total, gpu)
    try:
        with pytest.raises(UnavailableError) as error:
            train(epochs, tmp_path / "run", options(batch=10_000))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
    assert error.value.code == "MEM-DEVICE"


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_holds_the_step_of_every_model(gpu: torch.device, name: str) -> None:
    network = build_model(name, {}).to(gpu)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    config: Any = network.config
    span = config.input_span
    count = span.sequence if span.sequence > 1 else 1 + 2 * span.context
    size = (config.channels, round(config.sample_rate * config.epoch_seconds))
    x = torch.randn(4, *((count,) if count > 1 else ()), *size, device=gpu)
    stages = torch.arange(4 * max(1, span.sequence), device=gpu) % config.stages
    recipe = registry.load("models", name).RECIPE
    weights = torch.tensor(recipe.class_weights, device=gpu) if recipe.class_weights else None
    setup = Setup(network, x, stages, weights, recipe, "fp32", rate=0.0, folds=2)
    gradients = []
    for contender in ("PyTorch eager", "+ CUDA graph"):
        work = TRAINING[contender](setup._replace(network=copy.deepcopy(network)))
        work.run()
        gradients.append(work.result())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4)
