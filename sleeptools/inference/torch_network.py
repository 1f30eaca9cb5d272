"""Models without kernels, and all models where the native core is off, through torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sleeptools.inference.density import finite_density, softmax
from sleeptools.models.folder import load_model
from sleeptools.native import Floats, threads
from sleeptools.preprocessing.sequences import InputSpan


class TorchNetwork:
    """A model folder's model in PyTorch.

    Parameters
    ----------
    folder
        As `models.save_model` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.model = load_model(folder)
        config: Any = self.model.config
        self.input_span: InputSpan = config.input_span

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples): the probability of each stage, (B, stages).

        A model that looks at several epochs takes (B, epochs, channels, samples), and a sequence
        model gives (B, epochs, stages).
        """
        return finite_density(x, lambda epochs: softmax(self._logits(epochs)))

    @torch.inference_mode()
    def _logits(self, x: Floats) -> Floats:
        before = torch.get_num_threads()
        torch.set_num_threads(threads.threads_in_use() or before)
        tensor = torch.from_numpy(np.require(x, requirements="W"))  # torch warns of a read-only map
        try:
            logits: Floats = self.model(tensor).float().numpy()
        finally:
            torch.set_num_threads(before)
        return logits
