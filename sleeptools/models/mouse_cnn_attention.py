"""Mouse CNN with attention: `mouse-cnn` with self-attention after each block of every branch.

Fazla Rabbi Mashrur, Yixuan Luo, Paul Berggren, Yanlong Zhao, "Mice Sleep Staging from EEG and EMG
signals": multi-head self-attention without a mask after each convolution layer, otherwise as the
CNN and trained alike. The report contradicts itself on what it gains: the abstract has 86.89 % for
it against 85.81 %, the table by mouse 84.65 against 85.25.

A completion, not the authors' network (see `mouse_cnn`): here four heads over the steps of a
branch, as wide as the block, added to their input and followed by LayerNorm. The report tuned the
heads and does not give them; `heads` takes one number, or one for each branch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo

from sleeptools.models.layers import mouse_cnn
from sleeptools.models.layers.mouse_cnn import MouseCNN

ABOUT = {
    "paper": "Mashrur et al., Mice Sleep Staging from EEG and EMG signals; our completion",
    "parameters": 494_211,
    "recipes": {"default": 494_211, "paper": 494_214},
    "macs": 23_922_784,
    "montage": "EEG, EMG",
    "sample_rate": 512.0,
    "epoch_seconds": 1.0,
    "stages": 3,
    "native": [],
}

RECIPES = mouse_cnn.RECIPES
RECIPE = RECIPES["default"]
MODEL_SETTINGS = mouse_cnn.MODEL_SETTINGS
GROUPS = mouse_cnn.GROUPS

Heads = Literal[1, 2, 4, 8, 16]


def _one_for_each_branch(value: int | tuple[int, ...], info: ValidationInfo) -> object:
    branches = 2 * info.data.get("channels", 0)
    if isinstance(value, tuple) and branches and len(value) != branches:
        raise ValueError(f"expected one number, or {branches}: of each signal and each spectrum")
    return value


class Config(mouse_cnn.Config):
    """Settings of the mouse CNN with attention, beside those of `mouse_cnn`.

    Parameters
    ----------
    heads
        Attention heads: of all branches, or of each signal's branch and then of each spectrum's.
    """

    heads: Annotated[Heads | tuple[Heads, ...], AfterValidator(_one_for_each_branch)] = 4

    @property
    def branch_heads(self) -> tuple[int, ...]:
        """Attention heads of every branch."""
        return self.heads if isinstance(self.heads, tuple) else (self.heads,) * (2 * self.channels)


class Model(MouseCNN):
    """The mouse CNN with attention; see the head of the module."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.branch_heads)
