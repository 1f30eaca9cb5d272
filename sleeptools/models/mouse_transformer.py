"""Mouse Transformer: one 1-s epoch of mouse EEG and EMG at 512 Hz to three stages.

Fazla Rabbi Mashrur, Yixuan Luo, Paul Berggren, Yanlong Zhao, "Mice Sleep Staging from EEG and EMG
signals". The report gives the plan: an encoder of six layers each for EEG and EMG, their outputs
joined and classified by an MLP. Trained with SGD at 0.1 in one cycle, 30 passes, batches of 512.

A completion, not the authors' network: the report gives no sizes. Ours are 32 tokens of 16 samples
each (as in the same laboratory's sDREAMER), width 128, 8 heads, a feed-forward of 512, learned
positions, dropout 0.1, the mean over the tokens, and an MLP of 128. The momentum of SGD goes
through the cycle, as PyTorch does it by default.

Input is standardised over each recording.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import MouseConfig
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.encoder import encode
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables.mouse_transformer import HEADS, HIDDEN, PATCH, WIDTH

ABOUT = {
    "paper": "Mashrur et al., Mice Sleep Staging from EEG and EMG signals; our completion",
    "parameters": 2_425_091,
    "recipes": {"default": 2_425_091, "paper": 2_425_091},
    "macs": 78_807_424,
    "montage": "EEG, EMG",
    "sample_rate": 512.0,
    "epoch_seconds": 1.0,
    "stages": 3,
    "native": ["feed_forward"],
}

_PAPER = Recipe(
    variant="paper",
    passes=30,
    batch=512,
    optimiser="sgd",
    learning_rate=0.1,
    schedule=Schedule(kind="one_cycle"),
    selection="macro_f1",
    selection_on_test="macro_f1",
)
RECIPES = {"default": _PAPER.model_copy(update={"variant": "default"}), "paper": _PAPER}
RECIPE = RECIPES["default"]

GROUPS = {"encoder": ("encoders",), "classifier": ("linear1", "linear2")}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(MouseConfig):
    """Settings of the mouse Transformer, beside those of `MouseConfig`.

    Parameters
    ----------
    layers
        Layers of each encoder.
    dropout
        Dropout probability in the encoders.
    """

    layers: int = Field(default=6, ge=1, le=24)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class SignalEncoder(nn.Module):
    """One signal: patches, positions, encoder layers, their mean."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH, WIDTH)
        self.positions = nn.Parameter(torch.empty(config.samples // PATCH, WIDTH))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, config.dropout, batch_first=True)
            for _ in range(config.layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) to (B, 128); samples after the last complete patch are not used."""
        z = x.unfold(1, PATCH, PATCH)  # (B, tokens, 16)
        z = self.dropout(self.embed(z) + self.positions)  # (B, tokens, 128)
        for layer in self.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            z = encode(layer, z)
        return z.mean(1)


class Model(nn.Module):
    """The mouse Transformer; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(SignalEncoder(config) for _ in range(config.channels))
        self.linear1 = nn.Linear(config.channels * WIDTH, WIDTH)
        self.linear2 = nn.Linear(WIDTH, config.stages)

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, T) float32, standardised over the recording.

        Returns
        -------
        logits
            (B, stages); their softmax is the hypnodensity.
        """
        encoded = [encoder(x[:, i]) for i, encoder in enumerate(self.encoders)]  # (B, 128) each
        hidden = functional.relu(self.linear1(torch.cat(encoded, 1)))
        logits: Tensor = self.linear2(hidden)  # (B, stages)
        return logits
