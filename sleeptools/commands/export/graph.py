"""The graph of a trained model in plain PyTorch operators, from signals to probabilities."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sleeptools import native
from sleeptools.errors import UsageError
from sleeptools.inference.engine import Engine
from sleeptools.models.folder import load_model

EXAMPLES: Final = 2  # a batch of one would be taken for a fixed size


class Probabilities(nn.Module):
    """A model and the softmax of its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, samples) to (B, stages); of several epochs as the model."""
        logits: Tensor = self.model(x)
        return logits.softmax(-1)


def export_graph(engine: Engine, folder: Path) -> torch.export.ExportedProgram:
    """Trace a model folder's model without native ops; the batch may be of any size.

    The input is called `signals`, the output `probabilities` by the formats that have names.

    Raises
    ------
    UsageError
        If the engine asks the model for more or fewer epochs at once than a graph would take.
    """
    several = (engine.span.sequence, 1 + 2 * engine.span.context)
    size = (EXAMPLES, *(n for n in several if n > 1), *engine.size)
    with quiet(), native.using_variant("reference"):
        loaded = load_model(folder)
        config: Any = loaded.config
        if config.input_span != engine.span:
            raise UsageError(
                f"{folder}: {engine.facts['model']} looks at a night as a whole, which a graph of "
                "a fixed number of epochs cannot"
            )
        model = Probabilities(loaded).eval().requires_grad_(False)
        program = torch.export.export(
            model, (torch.zeros(size),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        ours = {str(n.target) for n in program.graph.nodes if "sleeptools" in str(n.target)}
        assert not ours, f"the graph holds {ours}"
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep PyTorch's exporters from warning about their own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
