"""Models without kernels, and all models where the native core is off, through torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sleeptools import models, native


class Network:
    """A model folder's model in PyTorch.

    Parameters
    ----------
    folder
        As `models.save` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.model = models.load(folder)
        config = self.model.config
        self.sequence: int = getattr(config, "sequence", 1)
        self.context: int = getattr(config, "context", 0)

    @torch.inference_mode()
    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score epochs (B, channels, samples): logits (B, stages).

        A model that looks at several epochs takes (B, epochs, channels, samples), and a sequence
        model gives (B, epochs, stages).
        """
        before = torch.get_num_threads()
        torch.set_num_threads(native.threads_in_use() or before)
        mine = torch.from_numpy(np.require(x, requirements="W"))  # torch warns of a read-only map
        try:
            logits: NDArray[np.float32] = self.model(mine).float().numpy()
        finally:
            torch.set_num_threads(before)
        return logits
