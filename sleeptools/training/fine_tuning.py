"""Fine-tuning: a training that begins with another model's weights, of which some may be frozen.

A frozen part is as in scoring: its weights get no gradient and no weight decay, its dropout is off,
and its BatchNorm normalises by the parent's statistics. The statistics of all other BatchNorm
layers belong to the parent's epochs; they are estimated anew from the training epochs, by the
weights as they are and without dropout, before the first step and after every pass (Li et al. 2017,
arXiv:1603.04779, adapt by these alone).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sleeptools import registry, store
from sleeptools.errors import DataError, UsageError
from sleeptools.models.folder import weights_mismatch
from sleeptools.models.recipe.recipe import Recipe
from sleeptools.runs import model_folder
from sleeptools.runs.parent import Parent
from sleeptools.store import settings

ESTIMATED: Final = 4096  # epochs, at most, that the statistics of BatchNorm are estimated from

Modules = list[nn.Module]


def read_parent_weights(parent: Parent) -> dict[str, Tensor]:
    """Read the weights of a parent.

    Raises
    ------
    MissingInputError, DataError
        If they are gone, damaged, or no longer those that the training was planned with.
    """
    arrays = model_folder.read_weights(parent.folder)
    if store.sha256(parent.folder / model_folder.WEIGHTS) != parent.weights:
        raise DataError(
            f"{parent.folder}: the weights are no longer those that this training began with",
            hint="give the model as it was, or another run folder",
            code="MODEL-WEIGHTS",
        )
    return {name: torch.tensor(array) for name, array in arrays.items()}


def check_parent(parent: Parent, model: nn.Module) -> None:
    """Refuse a parent whose weights do not fit a model.

    Raises
    ------
    DataError
        With the first weight whose name or shape differs.
    """
    if mismatch := weights_mismatch(model_folder.read_weights(parent.folder), model):
        raise DataError(
            f"{parent.folder}: its weights do not fit the model with these settings: {mismatch}",
            hint="leave the settings of `model` as the parent has them, or train without `parent`",
            code="MODEL-SHAPES",
        )


def group_modules(model: nn.Module) -> dict[str, Modules]:
    """List the parts of a model that can be frozen, by group; none that this variant lacks."""
    groups: Mapping[str, Sequence[str]] = getattr(
        registry.load("models", str(model.name)), "GROUPS", {}
    )
    by_group = {
        group: [m for pattern in patterns for m in _named(model, pattern)]
        for group, patterns in groups.items()
    }
    return {group: modules for group, modules in by_group.items() if modules}


def _named(model: nn.Module, pattern: str) -> Modules:
    """List the modules of a name, in which "*" is one number."""
    name = re.compile(re.escape(pattern).replace(r"\*", r"\d+"))
    return [module for path, module in model.named_modules() if name.fullmatch(path)]


def frozen_parts(model: nn.Module, recipe: Recipe) -> Modules:
    """Find the parts that a recipe freezes.

    Raises
    ------
    UsageError
        For an unknown group, or if nothing would be left to train.
    """
    groups = group_modules(model)
    if recipe.freeze and not groups:
        raise UsageError(f"`freeze`: {model.name} has no groups to freeze", code="USE-NAME")
    settings.check_keys(recipe.freeze, groups, section="`freeze`")
    modules = [module for group in recipe.freeze for module in groups[group]]
    frozen = {id(p) for module in modules for p in module.parameters()}
    if not any(p.requires_grad and id(p) not in frozen for p in model.parameters()):
        raise UsageError(
            f"`freeze={','.join(recipe.freeze)}`: nothing would be left to train",
            hint=f"groups of {model.name}: {', '.join(groups)}",
            code="USE-TOGETHER",
        )
    return modules


class Tuned:
    """The parts of a model in fine-tuning: which are frozen, and whose statistics are made anew.

    Parameters
    ----------
    model
        The model; its frozen parts take no gradient from now on.
    recipe
        The recipe.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model
        self.frozen = [m for top in frozen_parts(model, recipe) for m in top.modules()]
        for module in self.frozen:
            module.requires_grad_(False)
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        still = {id(m) for m in self.frozen if recipe.batch_norm != "all"}
        as_before = recipe.batch_norm == "kept"
        self.fixed = norms if as_before else []
        self.renewed = [] if as_before else [m for m in norms if id(m) not in still]

    def train(self) -> nn.Module:
        """Set the model to training, and its frozen parts and fixed statistics to scoring."""
        self.model.train()
        for module in (*self.frozen, *self.fixed):
            # cuDNN has gradients through recurrent layers in training only; ours drop nothing
            if not isinstance(module, nn.RNNBase):
                module.training = False
        return self.model

    @torch.no_grad()
    def estimate(self, batches: Callable[[], Iterator[Tensor]]) -> None:
        """Estimate the statistics of BatchNorm anew: the mean of those of all batches.

        Parameters
        ----------
        batches
            Gives batches of training epochs as the model takes them.
        """
        if not self.renewed:
            return
        self.model.eval()  # without dropout
        renewed = {id(norm) for norm in self.renewed}
        for module in self.model.modules():  # what holds such a layer must not pass it by
            module.training = any(id(m) in renewed for m in module.modules())
        momenta = [norm.momentum for norm in self.renewed]
        for norm in self.renewed:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        try:
            for x in batches():
                self.model(x)
        finally:
            for norm, momentum in zip(self.renewed, momenta, strict=True):
                norm.momentum = momentum
