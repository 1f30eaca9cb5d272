"""MMASleepNet: one 30-s epoch of EEG, EOG and EMG at 100 Hz to five stages.

Zheng, Luo, Zou, Zhang, Li, "MMASleepNet: A multimodal attention network based on
electrophysiological signals for automatic sleep staging", Front. Neurosci. 2022, 16:973761.

Each modality goes through two convolution streams, one with short and one with long kernels (MBFE),
whose outputs are joined on time; the EEG's 128 maps count as two modalities of 64. A residual
squeeze-and-excitation block weighs the modalities (Eq. 3-6), one Transformer encoder layer without
positions looks across them (Eq. 7-11), its output gates its input (O = Z * encoder(Z)), and two
linear layers classify.

The paper and its authors' program differ; every difference is a setting, and the defaults are what
the published parameter count (1.5 M) and figures come from:

kernels  "paper": 50/500 samples for EEG, 25/250 for EOG and EMG. "authors": 64/512 for all.
tokens   "authors": 64 tokens of 4 maps x 24 steps each. "paper": 96 tokens (modality, step) x 64.
se       "authors": relu(F + F' * E), F' two 1x1 convolutions of F, E its excitation.
         "paper" (Eq. 5): F + F * E.
recipe   "paper": weight decay 1e-3; cross-entropy divided by the number of epochs (Eq. 13).
         "authors": weight decay 1e-2, amsgrad, and a softmax before the cross-entropy, which keeps
         the loss above 0.905 and its gradients small; the pass is kept by accuracy.
         "default": the paper's, with the cross-entropy divided by the summed weights, so that the
         step size does not depend on a batch's mix of stages; the pass is kept by kappa.

Input is microvolts as recorded; there is no normalisation but the first BatchNorm.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools import native, ops, streams
from sleeptools.models._recipe import Recipe
from sleeptools.ops.conv_block import Running, conv_block
from sleeptools.ops.dropout import dropout
from sleeptools.ops.feed_forward import feed_forward
from sleeptools.ops.modal_se import modal_se
from sleeptools.ops.two_stream_conv import join, pack, two_stream_conv

MAPS = 64  # feature maps of one modality
STEPS = 24  # time steps after the two streams are joined: 13 + 11, for every kernel set
HEADS = 4
SLOPE = 0.01  # of LeakyReLU
HIDDEN = 2048  # of the encoder's feed-forward; PyTorch's default, the paper gives none
MODALITIES = {"eeg": ("eeg",), "eeg+eog": ("eeg", "eog"), "all": ("eeg", "eog", "emg")}

_PAPER = Recipe(
    variant="paper", weight_decay=1e-3, class_weights=(1.0, 1.8, 1.0, 1.25, 1.2),
    loss="weighted_ce_n",
)  # fmt: skip
RECIPES = {
    "default": _PAPER.model_copy(update={"variant": "default", "loss": "weighted_ce"}),
    "paper": _PAPER,
    "authors": _PAPER.model_copy(
        update={
            "variant": "authors", "weight_decay": 1e-2, "amsgrad": True, "loss": "softmax_ce",
            "selection": "accuracy",
        }
    ),
}  # fmt: skip
RECIPE = RECIPES["default"]


class Config(BaseModel):
    """What makes one MMASleepNet differ from another.

    Parameters
    ----------
    eeg
        EEG channels, 2 for Sleep-EDF and 6 for ISRUC; one EOG and one EMG channel follow them.
    stages
        Number of stages.
    kernels, tokens, se
        See the head of the module.
    dropout
        Probability after each stream's first pool and after the streams are joined.
    modalities
        What the model looks at; the input carries all channels in any case.
    fusion
        "full", "mbfe+te" (no squeeze-and-excitation, no gate) or "mbfe" (no encoder either), the
        paper's ablations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    eeg: int = Field(default=2, ge=1, le=64)
    stages: int = Field(default=5, ge=2, le=16)
    kernels: Literal["paper", "authors"] = "paper"
    tokens: Literal["authors", "paper"] = "authors"
    se: Literal["authors", "paper"] = "authors"
    dropout: float = Field(default=0.5, ge=0, lt=1)
    modalities: Literal["all", "eeg+eog", "eeg"] = "all"
    fusion: Literal["full", "mbfe+te", "mbfe"] = "full"

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.eeg + 2

    @property
    def sample_rate(self) -> float:
        """Hz."""
        return 100.0

    @property
    def epoch_seconds(self) -> float:
        """Length of an epoch, s."""
        return 30.0


class Parts(NamedTuple):
    """What the model computes on the way, M modalities (the EEG counts twice), T tokens of D.

    Parameters
    ----------
    fused
        (B, M, 64, 24): the branches' maps.
    weighed
        (B, M, 64, 24): after the squeeze-and-excitation block.
    tokens
        (B, T, D): the encoder's input Z.
    gated
        (B, T, D): what the classifier takes, flattened.
    """

    fused: Tensor
    weighed: Tensor
    tokens: Tensor
    gated: Tensor


class Conv(nn.Module):
    """Convolution without bias, BatchNorm, LeakyReLU with slope 0.01."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, pad: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, pad, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.norm(self.conv(x))  # (B, outputs, T)
        return functional.leaky_relu(x, SLOPE, inplace=True)

    def block(self, x: Tensor, pool: tuple[int, int, int], dropout: float) -> Tensor:
        """Do the same in training on (B, T, inputs), with the pool and dropout after it."""
        norm, conv = self.norm, self.conv
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        sizes = [conv.stride[0], int(conv.padding[0]), *pool]
        return conv_block(
            x, conv.weight, norm.weight, norm.bias, sizes, "leaky_relu", SLOPE, norm.eps, dropout,
            draw_seed(dropout), running=Running(norm.running_mean, norm.running_var, norm.momentum),
        )  # (B, T', outputs)  # fmt: skip

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution that does both."""
        norm = self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        return ops.fold_batch_norm(
            self.conv.weight, None, mean, variance, norm.weight, norm.bias, eps=norm.eps
        )


def trains_native(x: Tensor) -> bool:
    """Whether training takes native ops; they are float32, and on a GPU cuDNN has Tensor Cores."""
    if torch.compiler.is_compiling() or x.is_cuda or torch.is_autocast_enabled("cpu"):
        return False
    return ops.runs_native(x)


def share(layer: nn.Dropout) -> float:
    """Give the probability with which a layer drops, 0 outside training."""
    return layer.p if layer.training else 0.0


def draw_seed(dropout: float) -> int:
    """Draw the seed of a native dropout from PyTorch's generator, which a run restores."""
    return int(torch.randint(2**63 - 1, ())) if dropout > 0 else 0


def drop(x: Tensor, p: float) -> Tensor:
    """Run the native dropout of (N, T, D)."""
    return dropout(x, p, draw_seed(p)) if p > 0 else x


class Shape(NamedTuple):
    """Kernel, stride and padding of a stream's layers."""

    first: tuple[int, int, int]
    pool: tuple[int, int, int]
    later: tuple[int, int, int]
    last_pool: tuple[int, int, int]


def shapes(modality: str, kernels: str) -> tuple[Shape, Shape]:
    """Layers of the short-kernel and of the long-kernel stream of a modality."""
    short, long = (50, 500) if modality == "eeg" else (25, 250)
    pad = 24 if modality == "eeg" else 8
    if kernels == "authors":
        short, long, pad = 64, 512, 24
    return (
        Shape((short, 8, pad), (8, 8, 4), (8, 1, 4), (4, 4, 2)),
        Shape((long, 64, 24), (4, 4, 2), (6, 1, 4), (2, 2, 1)),
    )


class Stream(nn.Module):
    """Four convolutions with a pool after the first and after the last."""

    def __init__(self, inputs: int, width: int, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, width, *shape.first)
        self.pool1 = nn.MaxPool1d(*shape.pool)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv(width, 2 * width, *shape.later)
        self.conv3 = Conv(2 * width, 2 * width, *shape.later)
        self.conv4 = Conv(2 * width, 2 * width, *shape.later)
        self.pool2 = nn.MaxPool1d(*shape.last_pool)
        later = streams.Layer(2 * width, *shape.later)
        first = streams.Layer(width, *shape.first, shape.pool)
        self.layers = (first, later, later, later._replace(pool=shape.last_pool))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, 3000) to (B, 2 * width, 13) for short kernels, 11 for long ones."""
        x = self.dropout(self.pool1(self.conv1(x)))  # (B, width, 47 or 11 or 12)
        x = self.conv4(self.conv3(self.conv2(x)))  # (B, 2 * width, 50 or 20 or 21)
        out: Tensor = self.pool2(x)
        return out

    def blocks(self, x: Tensor, dropout: float) -> Tensor:
        """(B, 3000, inputs) to (B, steps, 2 * width) in training, `dropout` after the last pool."""
        dropouts = (self.dropout.p, 0.0, 0.0, dropout)
        for conv, layer, p in zip(self.convs(), self.layers, dropouts, strict=True):
            x = conv.block(x, layer.pool, p)
        return x

    def convs(self) -> tuple[Conv, Conv, Conv, Conv]:
        """All four, in their order."""
        return self.conv1, self.conv2, self.conv3, self.conv4


class Branch(nn.Module):
    """One modality: a short-kernel and a long-kernel stream joined on time (MBFE)."""

    def __init__(self, modality: str, config: Config) -> None:
        super().__init__()
        inputs, width = (config.eeg, MAPS) if modality == "eeg" else (1, MAPS // 2)
        short, long = shapes(modality, config.kernels)
        self.small = Stream(inputs, width, short, config.dropout)
        self.large = Stream(inputs, width, long, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, 3000) to (B, 1 or 2 modalities, 64, 24)."""
        if trains_native(x) and all(module.training for module in self.modules()):
            x, p = x.mT.contiguous(), self.dropout.p  # (B, 3000, inputs)
            x = torch.cat([self.small.blocks(x, p), self.large.blocks(x, p)], 1).mT
            return x.reshape(len(x), -1, MAPS, STEPS)
        x = self.dropout(torch.cat([self.small(x), self.large(x)], 2))  # (B, 64 or 128, 24)
        return x.view(len(x), -1, MAPS, STEPS)


class FoldedStreams:
    """All streams of a model for `two_stream_conv`, packed again when a weight has changed.

    Parameters
    ----------
    found
        The first channel of each stream, its channels, and the stream.
    """

    def __init__(self, found: list[tuple[int, int, Stream]]) -> None:
        self.shape = streams.describe(streams.Stream(c, n, s.layers) for c, n, s in found)
        self.convs = [conv for *_, stream in found for conv in stream.convs()]
        modules = [module for conv in self.convs for module in (conv.conv, conv.norm)]
        self.sources = [
            (tensors, name)
            for module in modules
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]
        self.state: list[Any] = []
        self.weights = self.packed = torch.empty(0)

    def __call__(self, x: Tensor, precision: str) -> Tensor:
        """(B, channels, 3000) to (B, maps, 24)."""
        # Storage and version of every tensor tell an assignment, a step of an optimiser and a
        # loaded state; training, which PyTorch does not count for running statistics, shows in
        # num_batches_tracked. Inference tensors have no versions: None here, and never equal.
        state: list[Any] = [native.variant(), precision]
        tensors = [t for source, name in self.sources if (t := source[name]) is not None]
        try:
            state += [t.data_ptr() for t in tensors] + [t._version for t in tensors]
        except RuntimeError:
            state = [None]
        if state != self.state or state == [None]:
            with torch.no_grad():
                self.weights = self.join()
            self.packed = pack(self.weights, self.shape, precision)
            self.state = state
        weights = self.join() if torch.is_grad_enabled() else self.weights
        return two_stream_conv(x, weights, self.shape, "leaky_relu", SLOPE, precision, self.packed)

    def join(self) -> Tensor:
        """Fold each BatchNorm into its convolution; differentiable."""
        return join([conv.folded() for conv in self.convs])


Folded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class ModalSE(nn.Module):
    """Residual squeeze-and-excitation over the modalities; 96 parameters for four."""

    def __init__(self, modalities: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv1 = nn.Conv2d(modalities, modalities, 1)
        self.norm1 = nn.BatchNorm2d(modalities)
        self.conv2 = nn.Conv2d(modalities, modalities, 1)
        self.norm2 = nn.BatchNorm2d(modalities)
        self.squeeze = nn.Conv2d(modalities, modalities, 1)
        self.excite = nn.Conv2d(modalities, modalities, 1)

    def forward(self, f: Tensor) -> Tensor:
        """(B, M, 64, 24) to the same; with fixed statistics in one pass by the native op."""
        if self.training or torch.compiler.is_compiling() or f.dtype != self.conv1.weight.dtype:
            return self.reference(f)
        return modal_se(f, *self.folded(), kind=self.kind)

    def reference(self, f: Tensor) -> Tensor:
        """Compute the same layer by layer, from the statistics of the batch in training mode."""
        g = functional.relu(self.norm1(_mix(self.conv1, f)))  # (B, M, 64, 24)
        g = self.norm2(_mix(self.conv2, g))  # F'
        e = functional.relu(self.squeeze(g.mean((2, 3), keepdim=True)))  # (B, M, 1, 1)
        e = torch.sigmoid(self.excite(e))
        if self.kind == "paper":
            return f + f * e
        return functional.relu(f + g * e)  # (B, M, 64, 24)

    def folded(self) -> Folded:
        """Weights (M, M) and biases (M,) of the four layers, BatchNorm folded in."""
        return (
            *_folded(self.conv1, self.norm1),
            *_folded(self.conv2, self.norm2),
            *_matrix(self.squeeze),
            *_matrix(self.excite),
        )


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = _matrix(conv)
    return ops.fold_batch_norm(weight, bias, mean, variance, norm.weight, norm.bias, eps=norm.eps)


def _mix(conv: nn.Conv2d, f: Tensor) -> Tensor:
    """Run a 1x1 convolution; on a CPU as a product, oneDNN takes four times as long to train it."""
    if not trains_native(f):
        mixed: Tensor = conv(f)
        return mixed
    weight, bias = _matrix(conv)
    return torch.baddbmm(bias[:, None], weight.expand(len(f), -1, -1), f.flatten(2)).view_as(f)


def _matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight (M, M) and bias (M,) of a 1x1 convolution."""
    assert conv.bias is not None
    return conv.weight.flatten(1), conv.bias


class Model(nn.Module):
    """MMASleepNet; see the head of the module.

    Parameters
    ----------
    config
        Which variant.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts = MODALITIES[config.modalities]
        count = len(parts) + 1  # the EEG counts twice
        count_tokens, width = (MAPS, count * STEPS)
        if config.tokens == "paper":
            count_tokens, width = count * STEPS, MAPS
        branches = {m: Branch(m, config) for m in parts}
        self.branches = nn.ModuleDict(branches)
        if config.fusion == "full":
            self.se = ModalSE(count, config.se)
        if config.fusion != "mbfe":
            self.encoder = nn.TransformerEncoderLayer(width, HEADS, HIDDEN, 0.1, batch_first=True)
        self.linear1 = nn.Linear(count_tokens * width, 32)
        self.linear2 = nn.Linear(32, config.stages)
        self.precision = "fp32"  # of the native streams in evaluation
        n = config.eeg
        place = {"eeg": (0, n), "eog": (n, 1), "emg": (n + 1, 1)}
        self.folded = FoldedStreams(
            [(*place[m], s) for m, branch in branches.items() for s in (branch.small, branch.large)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score epochs.

        Parameters
        ----------
        x
            (B, channels, 3000) float32, uV, channels in the order EEG, EOG, EMG.

        Returns
        -------
        logits
            (B, stages); their softmax is the hypnodensity.
        """
        flat = self.features(x).gated.flatten(1)  # (B, 1536 M)
        logits: Tensor = self.linear2(functional.relu(self.linear1(flat)))  # (B, stages)
        return logits

    def features(self, x: Tensor) -> Parts:
        """Everything up to the classifier; `x` as in `forward`."""
        fused = self.fuse(x)
        weighed = self.se(fused) if self.config.fusion == "full" else fused
        tokens = self.tokenise(weighed)
        if self.config.fusion == "mbfe":
            return Parts(fused, weighed, tokens, tokens)
        encoded = self.encode(tokens)  # (B, T, D)
        gated = tokens * encoded if self.config.fusion == "full" else encoded
        return Parts(fused, weighed, tokens, gated)

    def fuse(self, x: Tensor) -> Tensor:
        """Run the branches: (B, channels, 3000) to (B, M, 64, 24)."""
        if self._fuses(x):
            return self.folded(x, self.precision).view(len(x), -1, MAPS, STEPS)
        n = self.config.eeg
        signals = {"eeg": x[:, :n], "eog": x[:, n : n + 1], "emg": x[:, n + 1 : n + 2]}
        return torch.cat([branch(signals[m]) for m, branch in self.branches.items()], 1)

    def _fuses(self, x: Tensor) -> bool:
        """Whether the native op runs all streams as one; on a GPU cuDNN has the Tensor Cores."""
        if self.training or torch.compiler.is_compiling() or x.is_cuda or not ops.runs_native(x):
            return False
        return self.linear1.weight.dtype == x.dtype and not torch.is_autocast_enabled("cpu")

    def tokenise(self, f: Tensor) -> Tensor:
        """(B, M, 64, 24) to (B, 64, 24 M), or as the paper writes it to (B, 24 M, 64)."""
        if self.config.tokens == "paper":
            return f.transpose(2, 3).flatten(1, 2)
        return f.reshape(len(f), MAPS, -1)  # M = 4: token t is modality t // 16, 4 of its maps

    def encode(self, z: Tensor) -> Tensor:
        """(B, T, D) to the same; on the CPU the native op does the layer's feed-forward block."""
        layer = self.encoder
        if not trains_native(z):
            encoded: Tensor = layer(z)
            return encoded
        z = layer.norm1(z + drop(self.attend(z), share(layer.dropout1)))
        weights = layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias
        p = share(layer.dropout)
        changed = feed_forward(z.flatten(0, 1), *weights, dropout=p, seed=draw_seed(p))  # (B T, D)
        out: Tensor = layer.norm2(z + drop(changed.view_as(z), share(layer.dropout2)))
        return out

    def attend(self, z: Tensor) -> Tensor:
        """(B, T, D) to the same; as PyTorch, but in training with the native dropout."""
        attention = self.encoder.self_attn
        if not attention.training:
            looked: Tensor = attention(z, z, z, need_weights=False)[0]
            return looked
        batch, tokens, width = z.shape
        qkv = functional.linear(z, attention.in_proj_weight, attention.in_proj_bias)  # (B, T, 3 D)
        qkv = qkv.view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k, v = (part.flatten(0, 1) for part in qkv)  # (B heads, T, D / heads)
        weights = ((width // HEADS) ** -0.5 * q @ k.mT).softmax(2)  # (B heads, T, T)
        mixed = drop(weights, attention.dropout) @ v  # (B heads, T, D / heads)
        mixed = mixed.view(batch, HEADS, tokens, -1).transpose(1, 2).flatten(2)  # (B, T, D)
        out: Tensor = attention.out_proj(mixed)
        return out
