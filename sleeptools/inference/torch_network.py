"""Models without kernels, and all models where the native core is off, through torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

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
        with np.errstate(invalid="ignore", over="ignore"):
            # the sum of an epoch is finite only if all of it is; a maximum could hide a value
            finite = np.isfinite(x.sum(tuple(range(1, x.ndim))))
            density = _softmax(self._logits(x))
        density[~finite] = np.nan
        density[~np.isfinite(density).all(-1)] = np.nan
        return density

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


def _softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    density: Floats = e / e.sum(-1, keepdims=True)
    return density
