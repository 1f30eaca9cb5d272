"""MASleepNet: one 30-s epoch of EEG, EOG and EMG at 100 Hz, or a sequence of them, to five stages.

Wang, Gong, Wang, Dong, Huang, Zhang, Ma, "MASleepNet: A Sleep Staging Model Integrating Multi-Scale
Convolution and Attention Mechanisms", Biomimetics 2025, 10(10):642
(doi:10.3390/biomimetics10100642).

A reconstruction, not the authors' configuration: the paper gives the plan, the kernels 50 and 400
and the accuracies (84.53 % on Sleep-EDF-20, 82.56 % on Sleep-EDF-78); no program is public. The
plan: for each modality two convolution streams and a squeeze-and-excitation over their maps; a
bidirectional LSTM over the joined modalities, attention that pools its steps, and a linear
classifier.

Ours: streams of the geometry of AttnSleep (80 steps of 128 maps; both EEG channels are one
modality), a reduction of 16 in the excitation, an LSTM of 128 each way over the 80 steps, additive
attention, dropout 0.5. Whether the paper's LSTM runs within an epoch or across epochs is not known:
with `sequence` above 1 a second LSTM runs across the pooled epochs and all of them are scored.
Training: AttnSleep's, with the class weights of MMASleepNet.

Input is microvolts as recorded.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import HumanConfig
from sleeptools.models.layers.conv_streams import FoldedStreams, Nonlinearity, Stream, TwoStreams
from sleeptools.models.layers.dropout import Dropout
from sleeptools.models.layers.explain import Explained
from sleeptools.models.layers.stacking import run_recurrent
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables import attnsleep
from sleeptools.native.layer_tables.attnsleep import MAPS
from sleeptools.native.layer_tables.masleepnet import HIDDEN, REDUCTION

ABOUT = {
    "paper": "Wang et al. 2025, doi:10.3390/biomimetics10100642; our reconstruction",
    "parameters": 1_792_157,
    "macs": 222_256_384,
    "montage": "2 EEG, EOG, EMG",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": ["two_stream_conv"],
}

ABLATIONS: dict[str, dict[str, object]] = {
    "no-msconv": {"streams": "small"},
    "eeg": {"modalities": "eeg"},
    "no-se": {"excitation": False},
    "all": {},
}
"""What each of the paper's ablations changes: No-MSConv, EEG-Only, No-SE, and nothing."""

RECIPE = Recipe(
    passes=100,
    batch=128,
    learning_rate=1e-3,
    weight_decay=1e-3,
    schedule=Schedule(kind="drop", passes=10, factor=0.1),
    class_weights=(1.0, 1.8, 1.0, 1.25, 1.2),
)

GROUPS = {
    "encoder": ("streams", "excitations", "steps", "pool", "epochs"),
    "streams": ("streams", "excitations"),
    "recurrent": ("steps", "pool", "epochs"),
    "classifier": ("linear",),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanConfig):
    """Settings of MASleepNet.

    Parameters
    ----------
    eeg
        EEG channels; one EOG and one EMG channel follow them.
    sequence
        Consecutive epochs that are scored together; 1 scores each epoch by itself.
    layers
        Layers of each LSTM.
    dropout
        Dropout probability in the streams, after they are joined and before the classifier.
    modalities
        Modalities that the model uses; the input has all channels in any case.
    streams
        "both", or "small" for the stream with short kernels alone.
    excitation
        Whether squeeze-and-excitation weighs the maps.
    """

    eeg: int = Field(default=2, ge=1, le=64)
    sequence: int = Field(default=1, ge=1, le=200)
    layers: int = Field(default=1, ge=1, le=4)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    modalities: Literal["all", "eeg"] = "all"
    streams: Literal["both", "small"] = "both"
    excitation: bool = True

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.eeg + 2


class Excitation(nn.Module):
    """Squeeze-and-excitation over the maps of one modality."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Linear(MAPS, MAPS // REDUCTION)
        self.excite = nn.Linear(MAPS // REDUCTION, MAPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 128, 80) to the same."""
        weight = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean(2)))))  # (B, 128)
        return x * weight[:, :, None]


class AdditiveAttention(nn.Module):
    """Additive attention: the mean over the steps, weighted by a score of each step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width // 2)
        self.score = nn.Linear(width // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, steps, width) to (B, width)."""
        weight = self.score(torch.tanh(self.hidden(x))).softmax(1)  # (B, steps, 1)
        pooled: Tensor = (weight * x).sum(1)
        return pooled


class ShortKernels(nn.Sequential):
    """The stream with short kernels alone, (B, inputs, 3000) to (B, 128, 64)."""

    def __init__(self, inputs: int, activation: Nonlinearity, dropout: float) -> None:
        super().__init__(
            Stream(inputs, attnsleep.STREAMS[0], activation, dropout), Dropout(dropout)
        )


def bidirectional_lstm(inputs: int, layers: int) -> nn.LSTM:
    """Make a bidirectional LSTM, (B, steps, inputs) to (B, steps, 256)."""
    return nn.LSTM(inputs, HIDDEN, layers, batch_first=True, bidirectional=True)


def run_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run an LSTM; in float32 on CPUs without AVX-512, for which torch has none in bfloat16.

    Returns
    -------
    steps
        (B, steps, 256).
    """
    is_half = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if is_half and "AVX512" not in torch.backends.cpu.get_cpu_capability():
        with torch.autocast("cpu", enabled=False):
            return run_recurrent(lstm, x.float())
    return run_recurrent(lstm, x)


class Model(nn.Module):
    """MASleepNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        sizes = (config.eeg, 1, 1) if config.modalities == "all" else (config.eeg,)
        self.sizes = sizes  # channels of each modality
        gelu, two_streams = Nonlinearity("gelu"), config.streams == "both"
        self.streams = nn.ModuleList(
            TwoStreams(n, attnsleep.STREAMS, gelu, config.dropout)
            if two_streams
            else ShortKernels(n, gelu, config.dropout)
            for n in sizes
        )
        self.excitations = nn.ModuleList(
            Excitation() if config.excitation else nn.Identity() for _ in sizes
        )
        self.steps = bidirectional_lstm(len(sizes) * MAPS, config.layers)
        self.pool = AdditiveAttention(2 * HIDDEN)
        if config.sequence > 1:
            self.epochs = bidirectional_lstm(2 * HIDDEN, config.layers)
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(2 * HIDDEN, config.stages)
        branches = zip((0, config.eeg, config.eeg + 1), self.streams, strict=False)
        pairs = [(c, s) for c, s in branches if isinstance(s, TwoStreams)]
        self.folded = FoldedStreams(pairs) if two_streams else None

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs, or sequences.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV, channels in the order EEG, EOG, EMG; for sequences
            (B, epochs, channels, 3000).

        Returns
        -------
        logits
            (B, stages), or (B, epochs, stages); their softmax is the hypnodensity.
        """
        logits: Tensor = self.linear(self.dropout(self.attend(self.weigh(x), x)))
        return logits

    def weigh(self, x: Tensor) -> Tensor:
        """Join the weighed maps, (B, 384, 80); of sequences (B L, 384, 80)."""
        maps = self.maps(x.flatten(0, -3)).split_with_sizes([MAPS] * len(self.sizes), 1)
        return torch.cat([se(m) for se, m in zip(self.excitations, maps, strict=True)], 1)

    def attend(self, weighed: Tensor, x: Tensor) -> Tensor:
        """Give what the classifier takes, (B, 256) or (B, L, 256); `x` as in `forward`."""
        steps = run_lstm(self.steps, weighed.transpose(1, 2))  # (B, 80, 256)
        pooled: Tensor = self.pool(self.dropout(steps))  # (B, 256); of sequences (B L, 256)
        if self.config.sequence > 1:
            pooled = run_lstm(self.epochs, pooled.view(*x.shape[:2], -1))  # (B, L, 256)
        return pooled

    def explain(self, x: Tensor) -> Explained:
        """Give the features before and after the LSTM and its attention."""
        weighed = self.weigh(x)
        before = weighed.mean(2).view(*x.shape[:-2], -1)  # (B, 384) or (B, L, 384)
        return Explained(
            self.attend(weighed, x),
            "what LSTM and attention give the classifier",
            before,
            "means of the weighed maps",
        )

    def maps(self, x: Tensor) -> Tensor:
        """(B, channels, 3000) to (B, 384, 80): the streams of the modalities."""
        if not self.training and self.folded is not None and self.folded.serves(x):
            return self.folded(x)
        modalities = x[:, : sum(self.sizes)].split_with_sizes(self.sizes, 1)
        return torch.cat([s(m) for s, m in zip(self.streams, modalities, strict=True)], 1)
