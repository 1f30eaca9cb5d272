"""How a model is trained: the settings that every model's `RECIPE` fills in.

Two optimisers, Adam and SGD, with weight decay as an L2 term inside them (as in torch.optim.Adam,
not AdamW); the published recipes differ in their settings, in the schedule of the learning rate, in
the loss, in the augmentation, and in the pass that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from sleeptools.errors import UsageError, did_you_mean
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.models.recipe.schedule import Schedule
from sleeptools.store import settings

FINE_TUNING: Final = "fine-tuning"
"""Recipe of every model for a training that begins with a parent."""
TUNING_PASSES: Final = 20
TUNING_BATCH: Final = 32  # at most: own nights are few
TUNING_RATE: Final = 0.1  # of the default recipe's learning rate
TUNING_SETTINGS: Final = ("freeze", "batch_norm")
Loss = Literal["weighted_ce", "weighted_ce_n", "softmax_ce"]
BatchNorms = Literal["new", "all", "kept"]
Selection = Literal["kappa", "accuracy", "macro_f1", "last"]
SelectionOnTest = Literal["kappa", "accuracy", "macro_f1"]
StepPrecision = Literal["fp32", "tf32", "bf16"]
Beta = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class Recipe(BaseModel):
    """Settings of one training.

    Parameters
    ----------
    variant
        Name of the recipe in the model's `RECIPES` that the other settings were taken from.
    passes
        Times through the training epochs.
    batch
        Epochs per step, or sequences for a sequence model; the last step of a pass takes the
        remainder, and a remainder of one is added to the step before.
    optimiser
        `adam` or `sgd`.
    learning_rate, weight_decay
        Learning rate and weight decay of the optimiser; a schedule starts from this rate, or rises
        to it.
    betas, eps, amsgrad
        As in torch.optim.Adam.
    momentum
        As in torch.optim.SGD.
    schedule
        How the learning rate changes.
    class_weights
        Weight of each stage in the loss, in the order of the stages; empty for equal weights.
    loss
        `weighted_ce`: cross-entropy of the logits, the sum divided by the summed weights;
        `weighted_ce_n`: the same divided by the number of epochs;
        `softmax_ce`: `weighted_ce` with the probabilities in place of the logits.
    augmentation
        Random changes of the training epochs.
    selection
        Metric of the validation epochs by which the best pass is kept; `last` keeps the last one.
    selection_on_test
        Metric of the test epochs by which the protocol best-on-test keeps a pass, as the papers do.
    precision
        `fp32`; `tf32`, on a GPU alone: products, also of the judging after a pass, take float32
        operands rounded to TF32, of 10 bits behind the point, and add in float32; or `bf16`: the
        products of a step take operands rounded to bfloat16 (torch.autocast). Weights and optimiser
        are float32 with each, and a trained model is scored in float32.
    freeze
        Groups of the model's `GROUPS` that do not change in fine-tuning: no weight, and no
        statistic of BatchNorm; without dropout.
    batch_norm
        Statistics of BatchNorm in fine-tuning. `new`: estimated anew from the training epochs after
        every pass, but for frozen groups; `all`: in frozen groups, too; `kept`: the parent's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    variant: str = "default"
    passes: int = Field(default=150, ge=1)
    batch: int = Field(default=256, ge=1)
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False
    momentum: Beta = 0.9
    schedule: Schedule = Schedule()
    class_weights: tuple[Weight, ...] = ()
    loss: Loss = "weighted_ce"
    augmentation: Augmentation = Augmentation()
    selection: Selection = "kappa"
    selection_on_test: SelectionOnTest = "accuracy"
    precision: StepPrecision = "fp32"
    freeze: tuple[str, ...] = ()
    batch_norm: BatchNorms = "new"

    def table(self, *, fine_tuned: bool) -> dict[str, Any]:
        """Give the settings as in a run's files; those of fine-tuning only where there is a parent.

        Parameters
        ----------
        fine_tuned
            Whether the training begins with a parent.
        """
        left_out = set() if fine_tuned else {*TUNING_SETTINGS}
        return self.model_dump(mode="json", exclude_none=True, exclude=left_out)


def fine_tuning_recipe(module: ModuleType) -> Recipe:
    """Give a model's recipe for fine-tuning.

    The default recipe in small batches, at a tenth of its learning rate, in one cycle that ends at
    nearly nothing, so that the last pass is good where no validation subject chooses one; the
    model's `FINE_TUNING` says what else is different.
    """
    base: Recipe = module.RECIPE
    changes = {
        "variant": FINE_TUNING,
        "passes": TUNING_PASSES,
        "batch": min(TUNING_BATCH, base.batch),
        "learning_rate": TUNING_RATE * base.learning_rate,
        "schedule": Schedule(kind="one_cycle"),
    }
    return base.model_copy(update=changes | getattr(module, "FINE_TUNING", {}))


def brought_settings(module: ModuleType, variant: str) -> dict[str, Any]:
    """Give the settings of the model that one of its recipes brings along, by `MODEL_SETTINGS`.

    A publication trains a network of its own: what is given for the model prevails over these, and
    these over the defaults. Empty for a recipe that trains the default network.
    """
    return dict(getattr(module, "MODEL_SETTINGS", {}).get(variant, {}))


def resolve_recipe(module: ModuleType, values: Mapping[str, Any]) -> Recipe:
    """Resolve a model's recipe: one of its `RECIPES` by `variant`, and settings on top.

    Raises
    ------
    UsageError
        For an unknown variant or setting, or a value that is not allowed.
    """
    recipes: dict[str, Recipe] = {**getattr(module, "RECIPES", {"default": module.RECIPE})}
    recipes[FINE_TUNING] = fine_tuning_recipe(module)
    variant = str(values.get("variant", "default"))
    if variant not in recipes:
        raise UsageError(
            f"recipe: this model has none called {variant!r}; there are: {', '.join(recipes)}",
            hint=did_you_mean(variant, [*recipes]) or "`recipe=NAME` takes one of them",
            code="USE-NAME",
        )
    base = recipes[variant].model_dump() if variant != "default" else module.RECIPE.model_dump()
    settings.check_keys(values, base, section="recipe")
    nested = {k: v for k, v in base.items() if isinstance(v, dict)}
    merged = {k: v | new for k, v in nested.items() if isinstance(new := values.get(k), dict)}
    return settings.resolve(Recipe, {**base, **values, **merged}, section="recipe")
