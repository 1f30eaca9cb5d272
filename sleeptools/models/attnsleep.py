"""AttnSleep: one 30-s epoch of one EEG channel at 100 Hz to five stages.

Eldele, Chen, Liu, Wu, Kwoh, Li, Guan, "An Attention-Based Deep Learning Approach for Sleep Stage
Classification With Single-Channel EEG", IEEE TNSRE 2021, 29:809-818
(doi:10.1109/TNSRE.2021.3076234).

Two convolution streams (MRCNN) give 128 maps of 80 steps; a residual squeeze-and-excitation block
(AFR) reduces them to 30. Two encoder layers (TCE) take the 30 maps as tokens of width 80: causal
convolutions across the maps make query, key and value, five heads attend, and the query, not the
input, is the residual. A linear layer classifies.

Where the paper and its authors' program differ, this follows the program, which has the published
parameter count:

unused   Each encoder layer of the program normalises before its attention without using that, and
         has a convolution that nothing calls. Both together hold 12,980 of its 522,805 parameters;
         they are kept here, frozen, as `unused`.
weights  The paper's class-aware loss, max(1, log(mu M / M_k)) mu_k from the number of epochs of
         each stage, uses the counts of training and test epochs together; here its values for
         Sleep-EDF-20 are fixed weights.
recipe   "authors": Adam with amsgrad, 1e-3 and after ten passes 1e-4, the pass kept by accuracy.
         "mmasleepnet": as the MMASleepNet authors trained it as their baseline (unweighted, 1e-4,
         a decay of 1e-2, amsgrad; far below the original on the same data), with their initial
         weights, `init = "pytorch"`; "mmasleepnet-isruc": 1e-5 and 700 passes on ISRUC.
         "default": as the authors, but the pass is kept by kappa.

Input is microvolts as recorded.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import ChannelIndex, HumanConfig
from sleeptools.models.layers.conv_streams import FoldedStreams, Nonlinearity, TwoStreams
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.explain import Explained
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables import attnsleep
from sleeptools.native.layer_tables.attnsleep import (
    HEADS,
    HIDDEN,
    KERNEL,
    REDUCTION,
    STEPS,
    TOKENS,
)

ABOUT = {
    "paper": "Eldele et al. 2021, doi:10.1109/TNSRE.2021.3076234",
    "parameters": 522_805,
    "recipes": {
        "default": 522_805,
        "authors": 522_805,
        "mmasleepnet": 522_805,
        "mmasleepnet-isruc": 522_805,
    },
    "macs": 63_717_340,
    "montage": "EEG, one of the channels given",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": ["two_stream_conv"],
}

DROPOUT = 0.1  # in the encoder

_AUTHORS = Recipe(
    variant="authors",
    passes=100,
    batch=128,
    learning_rate=1e-3,
    weight_decay=1e-3,
    amsgrad=True,
    schedule=Schedule(kind="drop", passes=10, factor=0.1),
    class_weights=(0.30, 0.72, 0.30, 0.20, 0.30),
    selection="accuracy",
)
_MMASLEEPNET = Recipe(
    variant="mmasleepnet",
    passes=150,
    batch=256,
    weight_decay=1e-2,
    amsgrad=True,
    selection="accuracy",
)
RECIPES = {
    "default": _AUTHORS.model_copy(update={"variant": "default", "selection": "kappa"}),
    "authors": _AUTHORS,
    "mmasleepnet": _MMASLEEPNET,
    "mmasleepnet-isruc": _MMASLEEPNET.model_copy(
        update={"variant": "mmasleepnet-isruc", "passes": 700, "learning_rate": 1e-5}
    ),
}
RECIPE = RECIPES["default"]

MODEL_SETTINGS = {
    "mmasleepnet": {"init": "pytorch"},
    "mmasleepnet-isruc": {"init": "pytorch", "channels": 8},
}
"""Settings of the model that a recipe brings along."""

GROUPS = {
    "encoder": ("streams", "afr", "encoders", "norm"),
    "streams": ("streams", "afr"),
    "attention": ("encoders", "norm"),
    "classifier": ("linear",),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanConfig):
    """Settings of AttnSleep.

    Parameters
    ----------
    channels
        Channels of the input.
    channel
        Index of the EEG channel to score from; 0 is Fpz-Cz in the preset sleep-edf.
    dropout
        Dropout probability after each stream's first pool and after the streams are joined.
    init
        Initial weights. "authors": convolutions from N(0, 0.02), factors of BatchNorm from
        N(1, 0.02); "pytorch": PyTorch's defaults.
    """

    channels: int = Field(default=4, ge=1, le=64)
    channel: ChannelIndex = 0
    dropout: float = Field(default=0.5, ge=0, lt=1)
    init: Literal["authors", "pytorch"] = "authors"


class Recalibration(nn.Module):
    """Residual squeeze-and-excitation block from 128 to 30 maps (AFR)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 1)
        self.norm1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 1)
        self.norm2 = nn.BatchNorm1d(outputs)
        self.squeeze = nn.Linear(outputs, outputs // REDUCTION, bias=False)
        self.excite = nn.Linear(outputs // REDUCTION, outputs, bias=False)
        self.skip = nn.Conv1d(inputs, outputs, 1, bias=False)
        self.skip_norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 128, 80) to (B, 30, 80)."""
        f = functional.relu(self.norm1(self.conv1(x)))
        f = self.norm2(self.conv2(f))  # (B, 30, 80)
        e = torch.sigmoid(self.excite(functional.relu(self.squeeze(f.mean(2)))))  # (B, 30)
        return functional.relu(f * e[:, :, None] + self.skip_norm(self.skip(x)))


class UnbiasedLayerNorm(nn.Module):
    """Layer normalisation by the unbiased standard deviation plus 1e-6, as in the program."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        deviation, mean = torch.std_mean(x, -1, keepdim=True)
        return self.weight * (x - mean) / (deviation + 1e-6) + self.bias


class CausalConv(nn.Conv1d):
    """Convolution that looks only back in time."""

    def __init__(self) -> None:
        super().__init__(TOKENS, TOKENS, KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 30, 80) to the same."""
        return super().forward(functional.pad(x, (KERNEL - 1, 0)))


class ContextEncoder(nn.Module):
    """One layer of the temporal context encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = CausalConv(), CausalConv(), CausalConv()
        self.out = nn.Linear(STEPS, STEPS)
        self.norm = UnbiasedLayerNorm(STEPS)
        self.feed_forward = nn.Sequential(
            nn.Linear(STEPS, HIDDEN), nn.ReLU(), Dropout(DROPOUT), nn.Linear(HIDDEN, STEPS)
        )
        self.dropout = Dropout(DROPOUT)
        self.unused = nn.ModuleList([CausalConv(), UnbiasedLayerNorm(STEPS)]).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 30 tokens, 80) to the same."""
        query = self.query(x)
        q, k, v = (
            t.unflatten(2, (HEADS, -1)).transpose(1, 2)  # (B, 5, 30, 16)
            for t in (query, self.key(x), self.value(x))
        )
        if self.training:  # as below, with a mask that the seed decides
            weights = self.dropout((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1))  # (B, 5, 30, 30)
            mixed = weights @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        x = query + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))  # (B, 30, 80)
        out: Tensor = x + self.dropout(self.feed_forward(self.norm(x)))
        return out


class Model(nn.Module):
    """AttnSleep; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.streams = TwoStreams(1, attnsleep.STREAMS, Nonlinearity("gelu"), config.dropout)
        self.afr = Recalibration(attnsleep.MAPS, TOKENS)
        self.encoders = nn.Sequential(ContextEncoder(), ContextEncoder())
        self.norm = UnbiasedLayerNorm(STEPS)
        self.linear = nn.Linear(TOKENS * STEPS, config.stages)
        self.folded = FoldedStreams([(config.channel, self.streams)])
        if config.init == "authors":
            self.apply(_init_authors)

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV.

        Returns
        -------
        logits
            (B, stages); their softmax is the hypnodensity.
        """
        z = self.attend(self.afr(self.maps(x)))
        logits: Tensor = self.linear(z.flatten(1))  # (B, stages)
        return logits

    def attend(self, z: Tensor) -> Tensor:
        """Run the temporal context encoder: (B, 30, 80) to the same."""
        out: Tensor = self.norm(self.encoders(z))
        return out

    def explain(self, x: Tensor) -> Explained:
        """Give the features before and after the temporal context encoder."""
        z = self.afr(self.maps(x))
        return Explained(
            self.attend(z).flatten(1),
            "what the temporal context encoder gives the classifier",
            z.flatten(1),
            "the recalibrated maps",
        )

    def maps(self, x: Tensor) -> Tensor:
        """(B, channels, 3000) to (B, 128, 80): the two streams of one channel."""
        if not self.training and self.folded.serves(x):
            return self.folded(x)
        channel = self.config.channel
        maps: Tensor = self.streams(x[:, channel : channel + 1])
        return maps


def _init_authors(module: nn.Module) -> None:
    """Draw the initial weights of a layer as the authors do."""
    if isinstance(module, nn.Conv1d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm1d):
        nn.init.normal_(module.weight, 1.0, 0.02)
