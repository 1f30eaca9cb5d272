"""ULW-SleepNet: one 30-s epoch of any number of signals at 100 Hz to five stages, 13,337 weights.

Wang, Zhou, Xu, Cong, Al-Sa'd, Raitoharju, "ULW-SleepNet: An Ultra-Lightweight Network for
Multimodal Sleep Stage Scoring", ICASSP 2026, arXiv 2602.23852.

Every signal goes by itself through the same extractor of three blocks, two units of a separable
convolution each beside a linear shortcut, and is averaged over time to 32 features; two linear
layers with nothing between them classify the features of all signals. The layers are listed in
`sleeptools.native.layer_tables.ulw_sleepnet`. Padding, BatchNorm (eps 1e-3, momentum 0.99, the
share of the old statistics) and first weights (Glorot, biases zero) are those of Keras, in which
the authors wrote.

The published 13.3 K weights and 7.89 MFLOP are those of four signals: two EEG, EOG and EMG, the
default. What the authors' program does otherwise:

signals    10 channels of ISRUC group 3; its training on Sleep-EDF was not published.
recipe     the learning rate falls along half a cosine and starts again after 10, 30, 70, 150, ...
           steps, not passes. The same in both recipes, as the paper's abstract gives none.
           "authors": the pass is kept by accuracy (theirs, on the test fold: `best-on-test`),
           and Adam adds Keras's 1e-7.
           "default": by kappa, and Adam adds PyTorch's 1e-8.
decay      an L2 penalty of 1e-3 is written down, but its Keras layer ignores that: there is none.
folds      by recording, which puts the nights of a subject into different folds and drops some.
           Here by subject, in both recipes.

Input is microvolts as recorded; there is no normalisation before the first layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sleeptools.models.layers.config import HumanConfig
from sleeptools.models.layers.dropout import (
    Dropout,
    draw_seed,
    drop_maps,
    dropout_probability,
)
from sleeptools.models.layers.folded_weights import FoldedWeights
from sleeptools.models.layers.keras_defaults import ADAM_EPS
from sleeptools.models.layers.native_training import batch_counted, to_float32, trains_native
from sleeptools.models.layers.stacking import LayerSeed, next_seed
from sleeptools.models.ops.conv_block import Running
from sleeptools.models.ops.separable_blocks import separable_blocks
from sleeptools.models.ops.separable_stream import separable_stream
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.native.layer_tables import ulw_sleepnet
from sleeptools.native.separable_blocks import join_blocks
from sleeptools.native.separable_stream import fold_separable

_AUTHORS = Recipe(
    variant="authors",
    passes=50,
    batch=32,
    learning_rate=1e-3,
    eps=ADAM_EPS,
    amsgrad=True,
    schedule=Schedule(kind="cosine_restarts", steps=10, growth=2.0),
    selection="accuracy",
)
RECIPES = {
    "default": _AUTHORS.model_copy(
        update={"variant": "default", "eps": 1e-8, "selection": "kappa"}
    ),
    "authors": _AUTHORS,
}
RECIPE = RECIPES["default"]

ABOUT = {
    "paper": "Wang et al. 2026, arXiv 2602.23852",
    "parameters": 13_337,
    "recipes": {"default": 13_337, "authors": 13_337},
    "macs": 3_498_352,
    "montage": "2 EEG, EOG, EMG; any signals",
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": 5,
    "native": ["separable_blocks", "separable_stream"],
}

GROUPS = {
    "encoder": ("extractor",),
    "block1": ("extractor.0",),
    "block2": ("extractor.1",),
    "block3": ("extractor.2",),
    "classifier": ("linear1", "linear2"),
}
"""Parts that fine-tuning may freeze, by the names of their modules."""


class Config(HumanConfig):
    """Settings of ULW-SleepNet.

    Parameters
    ----------
    channels
        Channels of the input, of any kind and in any order.
    dropout
        Dropout probability after each block.
    head_dropout
        Dropout probability before the linear layers.
    """

    channels: int = Field(default=4, ge=1, le=64)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    head_dropout: float = Field(default=0.3, ge=0, lt=1)


class SeparableConv(nn.Module):
    """A depthwise convolution, then a pointwise one with bias."""

    def __init__(self, layer: ulw_sleepnet.SeparableLayer) -> None:
        super().__init__()
        inputs, outputs, kernel = layer.inputs, layer.outputs, layer.kernel
        self.depthwise = nn.Conv1d(
            inputs, inputs, kernel, layer.stride, kernel // 2, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv1d(inputs, outputs, 1)
        # Keras counts the inputs of all maps for the fan-in of a depthwise kernel
        _init_uniform(self.depthwise.weight, inputs * kernel, kernel)
        _init_uniform(self.pointwise.weight, inputs, outputs)
        _init_bias(self.pointwise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T) to (N, outputs, T / stride)."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class SeparableUnit(SeparableConv):
    """A separable convolution, BatchNorm, ReLU and a pool over two steps."""

    def __init__(self, layer: ulw_sleepnet.SeparableLayer) -> None:
        super().__init__(layer)
        self.norm = nn.BatchNorm1d(layer.outputs, eps=ulw_sleepnet.NORM_EPS, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T) to (N, outputs, T / 2), the half rounded up."""
        x = functional.relu(self.norm(super().forward(x)))  # (N, outputs, T)
        return functional.max_pool1d(x, 2, ceil_mode=True)


class ExtractorBlock(nn.Module):
    """Main stream of two units, plus a linear shortcut."""

    def __init__(self, block: ulw_sleepnet.BlockLayers, dropout: float) -> None:
        super().__init__()
        self.unit1 = SeparableUnit(block.unit1)
        self.unit2 = SeparableUnit(block.unit2)
        self.shortcut1 = SeparableConv(block.shortcut1)
        self.shortcut2 = SeparableConv(block.shortcut2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seed: LayerSeed | None) -> Tensor:
        """(N, inputs, T) to (N, outputs, T / 4), both halves rounded up; `seed` of its dropout."""
        x = self.unit2(self.unit1(x)) + self.shortcut2(self.shortcut1(x))
        return drop_maps(x, dropout_probability(self.dropout), seed)


class FoldedExtractor(FoldedWeights):
    """All blocks of a model for `separable_stream`."""

    def __init__(self, extractor: nn.Sequential) -> None:
        self.extractor = extractor
        super().__init__([extractor])

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C, 32)."""
        self.refresh()
        return separable_stream(x, self.weights(), ulw_sleepnet.WIDTHS, ulw_sleepnet.KERNEL)

    def join(self) -> Tensor:
        """Fold each BatchNorm and each shortcut; differentiable."""
        tensors = dict(self.extractor.named_parameters()) | dict(self.extractor.named_buffers())
        names = [name for name, _ in self.extractor.named_children()]
        return torch.cat(fold_separable(tensors, names, ulw_sleepnet.NORM_EPS))


class TrainedExtractor:
    """All blocks of a model for `separable_blocks`."""

    def __init__(self, extractor: nn.Sequential) -> None:
        self.extractor = extractor
        self.names = [name for name, _ in extractor.named_children()]

    def serves(self, x: Tensor) -> bool:
        """Whether the native op trains on `x`; not with a layer in evaluation mode, as frozen."""
        trained = (m.training for m in self.extractor.modules() if not isinstance(m, nn.Dropout))
        return trains_native(x) and all(trained) and len(set(self.dropouts())) == 1

    def dropouts(self) -> list[float]:
        """List each block's probability; 0 for one whose layer does not train."""
        layers = (m for m in self.extractor.modules() if isinstance(m, nn.Dropout))
        return [dropout_probability(layer) for layer in layers]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, T) to (B, C, 32), float32 also under autocast."""
        p = self.dropouts()[0]
        with torch.autocast("cpu", enabled=False):
            weights = torch.cat(join_blocks(dict(self.extractor.named_parameters()), self.names))
            return separable_blocks(
                to_float32(x),
                weights,
                ulw_sleepnet.WIDTHS,
                ulw_sleepnet.KERNEL,
                ulw_sleepnet.NORM_EPS,
                p,
                draw_seed(p, len(self.names)),
                running=[*self._running()],
            )

    def _running(self) -> Iterator[Running]:
        for norm in self.extractor.modules():
            if isinstance(norm, nn.BatchNorm1d):
                yield batch_counted(norm)


class Model(nn.Module):
    """ULW-SleepNet; see the head of the module.

    Parameters
    ----------
    config
        Settings of the model.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        blocks = [ExtractorBlock(block, config.dropout) for block in ulw_sleepnet.blocks()]
        self.extractor = nn.Sequential(*blocks)
        self.dropout = Dropout(config.head_dropout)
        (_, features, hidden), (_, _, stages) = ulw_sleepnet.dense(config.channels, config.stages)
        self.linear1 = nn.Linear(features, hidden)
        self.linear2 = nn.Linear(hidden, stages)
        for linear in (self.linear1, self.linear2):
            _init_uniform(linear.weight, linear.in_features, linear.out_features)
            _init_bias(linear)
        self.folded = FoldedExtractor(self.extractor)
        self.trained = TrainedExtractor(self.extractor)

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
        features = self.dropout(self.features(x).flatten(1))  # (B, 32 C)
        logits: Tensor = self.linear2(self.linear1(features))  # (B, stages)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Run the extractor on every signal: (B, C, T) to (B, C, 32)."""
        if not self.training and self.folded.serves(x):
            return self.folded(x)
        if self.training and self.trained.serves(x):
            return self.trained(x)
        maps, seed = x.flatten(0, 1).unsqueeze(1), None
        if any(self.trained.dropouts()):  # those of all blocks follow each other, as in the op
            seed = next_seed(len(self.extractor))
        for index, block in enumerate(self.extractor):
            maps = block(maps, seed and seed.following(index))  # at last (B C, 32, T / 64)
        return maps.mean(2).view(*x.shape[:2], ulw_sleepnet.WIDTHS[-1])


def _init_uniform(weight: Tensor, fan_in: int, fan_out: int) -> None:
    limit = math.sqrt(6 / (fan_in + fan_out))
    nn.init.uniform_(weight, -limit, limit)


def _init_bias(layer: nn.Conv1d | nn.Linear) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
