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

    @torch.inference_mode()
    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score epochs (B, channels, samples): logits (B, stages)."""
        before = torch.get_num_threads()
        torch.set_num_threads(native.threads_in_use() or before)
        try:
            logits: NDArray[np.float32] = self.model(torch.from_numpy(x)).float().numpy()
        finally:
            torch.set_num_threads(before)
        return logits
