"""MMASleepNet: one 30-s epoch of EEG, EOG and EMG at 100 Hz to five stages.

Zheng, Luo, Zou, Zhang, Li, "MMASleepNet: A multimodal attention network based on
electrophysiological signals for automatic sleep staging", Front. Neurosci. 2022, 16:973761.

Each modality goes through two convolution streams, one with short and one with long kernels (MBFE),
whose outputs are joined on time; the EEG's 128 maps count as two modalities of 64. A residual
squeeze-and-excitation block weighs the modalities (Eq. 3-6), one Transformer encoder layer without
positions looks across them (Eq. 7-11), its output gates its input (O = Z * encoder(Z)), and two
linear layers classify.

The paper and its authors' program differ; every difference is a setting, and the defaults give the
published parameter count (1.5 M) and figures:

kernels  "paper": 50/500 samples for EEG, 25/250 for EOG and EMG. "authors": 64/512 for all.
tokens   "authors": 64 tokens of 4 maps x 24 steps each. "paper": 96 tokens (modality, step) x 64.
se       "authors": relu(F + F' * E), F' two 1x1 convolutions of F, E its excitation.
         "paper" (Eq. 5): F + F * E.
E        `se_reduction`: the program's excitation keeps the four modalities in its hidden layer, the
         text says that they become fewer. `gate`: one E for a modality, from its mean ("modality",
         the program), or one for each element of F' ("element", as Eq. 4 is printed).
heads    `scale`: products of queries and keys are divided by the root of a head's width ("head",
         the program) or of a token's ("token", Eq. 7). `projection`: whether a linear layer follows
         the joined heads (the program) or not (Eq. 8).
recipe   "paper": weight decay 1e-3; cross-entropy divided by the number of epochs (Eq. 13).
         "authors": weight decay 1e-2, amsgrad, and a softmax before the cross-entropy, which keeps
         the loss above 0.905 and its gradients small; the pass is kept by accuracy.
         "default": the paper's, with the cross-entropy divided by the summed weights, so that the
         step size does not depend on a batch's mix of stages; the pass is kept by kappa.
         "printed": "paper", and every setting above as the paper prints it.
         "released": "authors", and the kernels of the program that was released.

A reduction to half, where the paper gives no number, is ours. The kernels of the native core are
for the program's E and heads; the others are scored by PyTorch.

Input is microvolts as recorded; there is no normalisation but the first BatchNorm.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import HumanEpochs
from sleeptools.models.layers.conv_streams import FoldedStreams, Nonlinearity, TwoStreams
from sleeptools.models.layers.encoder import PrintedEncoderLayer, encode
from sleeptools.models.layers.explain import Explained
from sleeptools.models.layers.native_training import trains_native
from sleeptools.models.ops.modal_se import modal_se
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.native.batch_norm import fold_batch_norm
from sleeptools.native.layer_tables import mmasleepnet
from sleeptools.native.layer_tables.mmasleepnet import HEADS, HIDDEN, MAPS, SLOPE, STEPS, UNITS

ACTIVATION = Nonlinearity("leaky_relu", SLOPE)

_PAPER = Recipe(
    variant="paper",
    weight_decay=1e-3,
    class_weights=(1.0, 1.8, 1.0, 1.25, 1.2),
    loss="weighted_ce_n",
)
_AUTHORS = _PAPER.model_copy(
    update={
        "variant": "authors",
        "weight_decay": 1e-2,
        "amsgrad": True,
        "loss": "softmax_ce",
        "selection": "accuracy",
    }
)
RECIPES = {
    "default": _PAPER.model_copy(update={"variant": "default", "loss": "weighted_ce"}),
    "paper": _PAPER,
    "authors": _AUTHORS,
    "printed": _PAPER.model_copy(update={"variant": "printed"}),
    "released": _AUTHORS.model_copy(update={"variant": "released"}),
}
RECIPE = RECIPES["default"]
FINE_TUNING = {"learning_rate": 3e-4}
"""Three times the paper's rate, which is for 25,000 steps; fine-tuning takes some hundred."""

MODEL_SETTINGS = {
    "printed": {
        "kernels": "paper",
        "tokens": "paper",
        "se": "paper",
        "se_reduction": 2,
        "gate": "element",
        "scale": "token",
        "projection": False,
    },
    "released": {"kernels": "authors"},
}
"""Settings of the model that a recipe brings along."""

ABLATIONS = {
    "mbfe": {"fusion": "mbfe"},
    "mbfe+te": {"fusion": "mbfe+te"},
    "eeg": {"modalities": "eeg"},
    "eeg+eog": {"modalities": "eeg+eog"},
    "all": {},
}
"""The paper's Figure 4: what each variant changes."""

ABOUT = {
    "paper": "Zheng et al. 2022, doi:10.3389/fnins.2022.973761",
    "parameters": 1_581_637,
    "recipes": {
        "default": 1_581_637,
        "paper": 1_581_637,
        "authors": 1_581_637,
        "printed": 1_425_619,
        "released": 1_604_229,
    },
    "macs": 65_613_632,
    "montage": "2 EEG, EOG, EMG",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": ["two_stream_conv", "modal_se", "feed_forward"],
}

GROUPS = {
    "encoder": ("branches", "se", "encoder"),
    "streams": ("branches",),
    "fusion": ("se", "encoder"),
    "classifier": ("linear1", "linear2"),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanEpochs):
    """Settings of MMASleepNet.

    Parameters
    ----------
    eeg
        EEG channels, 2 for Sleep-EDF and 6 for ISRUC; one EOG and one EMG channel follow them.
    stages
        Number of stages.
    kernels, tokens, se, se_reduction, gate, scale, projection
        See the head of the module.
    dropout
        Dropout probability after each stream's first pool and after the streams are joined.
    modalities
        Modalities that the model uses; the input has all channels in any case.
    fusion
        "full", "mbfe+te" (no squeeze-and-excitation, no gate) or "mbfe" (no encoder either), the
        paper's ablations.
    """

    eeg: int = Field(default=2, ge=1, le=64)
    stages: int = Field(default=5, ge=2, le=16)
    kernels: Literal["paper", "authors"] = "paper"
    tokens: Literal["authors", "paper"] = "authors"
    se: Literal["authors", "paper"] = "authors"
    se_reduction: Literal[1, 2, 4] = 1
    gate: Literal["modality", "element"] = "modality"
    scale: Literal["head", "token"] = "head"
    projection: bool = True
    dropout: float = Field(default=0.5, ge=0, lt=1)
    modalities: Literal["all", "eeg+eog", "eeg"] = "all"
    fusion: Literal["full", "mbfe+te", "mbfe"] = "full"

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.eeg + 2


class Features(NamedTuple):
    """Intermediate results: M modalities (the EEG counts twice), T tokens of width D.

    Parameters
    ----------
    fused
        (B, M, 64, 24): the branches' maps.
    weighed
        (B, M, 64, 24): after the squeeze-and-excitation block.
    tokens
        (B, T, D): the encoder's input Z.
    gated
        (B, T, D): input of the classifier, before flattening.
    """

    fused: Tensor
    weighed: Tensor
    tokens: Tensor
    gated: Tensor


FoldedModalSE = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class ModalSE(nn.Module):
    """Residual squeeze-and-excitation over the modalities; 96 parameters for four."""

    def __init__(
        self, modalities: int, kind: str, reduction: int = 1, gate: str = "modality"
    ) -> None:
        super().__init__()
        self.kind, self.gate = kind, gate
        hidden = max(1, modalities // reduction)
        self.has_kernel = hidden == modalities and gate == "modality"
        self.conv1 = nn.Conv2d(modalities, modalities, 1)
        self.norm1 = nn.BatchNorm2d(modalities)
        self.conv2 = nn.Conv2d(modalities, modalities, 1)
        self.norm2 = nn.BatchNorm2d(modalities)
        self.squeeze = nn.Conv2d(modalities, hidden, 1)
        self.excite = nn.Conv2d(hidden, modalities, 1)

    def forward(self, f: Tensor) -> Tensor:
        """(B, M, 64, 24) to the same; with fixed statistics by the native op, if it has one."""
        folds = not (self.training or torch.compiler.is_compiling())
        if self.has_kernel and folds and f.dtype == self.conv1.weight.dtype:
            return modal_se(f, *self.folded(), kind=self.kind)
        return self.reference(f)

    def reference(self, f: Tensor) -> Tensor:
        """Compute the same layer by layer, from the statistics of the batch in training mode."""
        g = self.mixed(f)
        e = self.excitation(g)
        if self.kind == "paper":
            return f + f * e
        return functional.relu(f + g * e)  # (B, M, 64, 24)

    def mixed(self, f: Tensor) -> Tensor:
        """F', (B, M, 64, 24), of F."""
        g = functional.relu(self.norm1(_mix(self.conv1, f)))
        out: Tensor = self.norm2(_mix(self.conv2, g))
        return out

    def excitation(self, g: Tensor) -> Tensor:
        """E, (B, M, 1, 1), of F'; (B, M, 64, 24) where each element has its own."""
        if self.gate == "modality":
            g = g.mean((2, 3), keepdim=True)
        e = functional.relu(self.squeeze(g))
        return torch.sigmoid(self.excite(e))

    def folded(self) -> FoldedModalSE:
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
    return fold_batch_norm(weight, bias, mean, variance, norm.weight, norm.bias, eps=norm.eps)


def _mix(conv: nn.Conv2d, f: Tensor) -> Tensor:
    """Run a 1x1 convolution; on a CPU as a product, oneDNN takes four times as long to train it."""
    if not trains_native(f):
        mixed: Tensor = conv(f)
        return mixed
    weight, bias = _matrix(conv)
    return torch.baddbmm(bias[:, None], weight.expand(f.shape[0], -1, -1), f.flatten(2)).view_as(f)


def _matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight (M, M) and bias (M,) of a 1x1 convolution."""
    assert conv.bias is not None
    return conv.weight.flatten(1), conv.bias


def make_encoder(width: int, config: Config) -> nn.TransformerEncoderLayer | PrintedEncoderLayer:
    """Make the encoder layer: PyTorch's, or where the settings differ from it as printed."""
    if config.scale == "head" and config.projection:
        return nn.TransformerEncoderLayer(width, HEADS, HIDDEN, 0.1, batch_first=True)
    divided = width if config.scale == "token" else width // HEADS
    return PrintedEncoderLayer(
        width, HEADS, HIDDEN, divisor=divided**0.5, projection=config.projection
    )


class Model(nn.Module):
    """MMASleepNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = mmasleepnet.branches(config.eeg, config.kernels, config.modalities)
        count = mmasleepnet.modalities(config.modalities)
        count_tokens, width = mmasleepnet.tokens(config.modalities, config.tokens)
        branches = {
            shape.modality: TwoStreams(
                shape.channels, (shape.small, shape.large), ACTIVATION, config.dropout
            )
            for shape in self.shapes
        }
        self.branches = nn.ModuleDict(branches)
        if config.fusion == "full":
            self.se = ModalSE(count, config.se, config.se_reduction, config.gate)
        if config.fusion != "mbfe":
            self.encoder = make_encoder(width, config)
        self.linear1 = nn.Linear(count_tokens * width, UNITS)
        self.linear2 = nn.Linear(UNITS, config.stages)
        self.precision = "fp32"  # of the native streams in evaluation
        first = (shape.channel for shape in self.shapes)
        self.folded = FoldedStreams(list(zip(first, branches.values(), strict=True)))

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

    def features(self, x: Tensor) -> Features:
        """Compute everything up to the classifier; `x` as in `forward`."""
        fused = self.fuse(x)
        weighed = self.se(fused) if self.config.fusion == "full" else fused
        tokens = self.tokenise(weighed)
        if self.config.fusion == "mbfe":
            return Features(fused, weighed, tokens, tokens)
        encoded = encode(self.encoder, tokens)  # (B, T, D)
        gated = tokens * encoded if self.config.fusion == "full" else encoded
        return Features(fused, weighed, tokens, gated)

    def explain(self, x: Tensor) -> Explained:
        """Give the features before and after attention fusion (Figure 5), and E per modality."""
        features = self.features(x)
        before, after = features.fused.flatten(1), features.gated.flatten(1)
        if self.config.fusion == "mbfe":
            return Explained(after, "the branches' maps, which the classifier takes")
        explained = Explained(
            after, "what the encoder gives the classifier", before, "the branches' maps"
        )
        if self.config.fusion == "mbfe+te":
            return explained
        weights = self.se.excitation(self.se.mixed(features.fused)).mean((2, 3))  # (B, M)
        halves = ("EEG, first half of the maps", "EEG, second half of the maps")
        names = (branch.modality.upper() for branch in self.shapes[1:])
        return explained._replace(weights=weights, modalities=(*halves, *names))

    def fuse(self, x: Tensor) -> Tensor:
        """Run the branches: (B, channels, 3000) to (B, M, 64, 24)."""
        if not self.training and self.folded.serves(x):
            return self.folded(x, self.precision).view(x.shape[0], -1, MAPS, STEPS)
        maps = [
            streams(x[:, shape.channel : shape.channel + shape.channels])
            for shape, streams in zip(self.shapes, self.branches.values(), strict=True)
        ]
        return torch.cat(maps, 1).view(x.shape[0], -1, MAPS, STEPS)

    def tokenise(self, f: Tensor) -> Tensor:
        """(B, M, 64, 24) to (B, 64, 24 M), or as the paper writes it to (B, 24 M, 64)."""
        if self.config.tokens == "paper":
            return f.transpose(2, 3).flatten(1, 2)
        return f.reshape(f.shape[0], MAPS, -1)  # M = 4: token t is modality t // 16, 4 of its maps
