"""The parent of a fine-tuned model: the trained one whose weights it begins with.

What a parent has learnt from stays with its children: their config.json and their run's manifest
have a table `parent` (docs/folders.md), by which tested subjects are compared with the parent's,
and a model stays "simulated" whose parent learnt from simulated nights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sleeptools import registry, store
from sleeptools.errors import DataError
from sleeptools.preprocessing.epochs import EpochSet
from sleeptools.runs import model_folder
from sleeptools.runs.leakage import learnt_marks, learnt_subjects

SHOWN: Final = 12  # digits of a hash in a text
ORIGIN: Final = ("simulated", "simulators", "randomised", "fast")
"""Facts of a model on whether the nights that it has learnt from were simulated."""


@dataclass(frozen=True)
class Parent:
    """A trained model that another begins with.

    Parameters
    ----------
    folder
        Its model folder.
    facts
        Contents of its config.json.
    weights
        SHA-256 of its model.safetensors.
    """

    folder: Path
    facts: Mapping[str, Any] = field(repr=False)
    weights: str

    @property
    def model(self) -> str:
        """Name of the model, as on the command line."""
        return str(self.facts["model"])

    @cached_property
    def table(self) -> dict[str, Any]:
        """Table `parent` of a model's config.json and of a run's manifest."""
        trained_as = {
            k: self.facts[k] for k in ("protocol", "seed", "fold", "pass") if k in self.facts
        }
        grand, marks = self.facts.get("parent"), learnt_marks(self.facts)
        return {
            "model": str(self.folder),
            "name": self.model,
            "weights": self.weights,
            "trained_as": trained_as,
            "montage": list(self.facts["montage"]),
            "preset": preset_of(self.facts),
            "subjects": sorted(learnt_subjects(self.facts)),
            "night_marks": marks,
            "nights": {"count": len(marks), "sha256": store.digest({}, {"night_marks": marks})},
            **{key: self.facts[key] for key in ORIGIN if key in self.facts},
            **({"parent": _without_lists(grand)} if grand else {}),
        }

    def origin(self, data: EpochSet) -> dict[str, Any]:
        """Tell whether anything that a child on these epochs has learnt from was simulated."""
        simulators = {*data.simulators, *self.facts.get("simulators", ())}
        simulated = True if data.simulated else self.facts.get("simulated")
        variants = {
            "randomised": data.randomised or bool(self.facts.get("randomised")),
            "fast": data.fast or bool(self.facts.get("fast")),
        }
        stated = {} if simulated is None else {"simulated": simulated}
        return stated | {"simulators": sorted(simulators)} | variants

    def notes(self, data: EpochSet) -> Iterator[str]:
        """Tell what of these epochs is not as the parent learnt it; one sentence each."""
        channels = zip(self.facts["montage"], data.montage, strict=True)
        if pairs := [f"{new} for {old}" for old, new in channels if new != old]:
            yield f"Channels stand in for the parent's: {', '.join(pairs)}."
        theirs, ours = preset_of(self.facts), preset_of({"preprocessing": data.manifest})
        before, after = (preset.get("processing", []) for preset in (theirs, ours))
        if before != after:
            yield (
                "The signals are not processed as the parent's were: "
                f"{_steps(after)} now, {_steps(before)} there."
            )
        rules = [preset.get("rules") or "unknown" for preset in (theirs, ours)]
        if rules[0] != rules[1]:
            yield f"The rules of scoring are not the parent's: {rules[1]} now, {rules[0]} there."


def read_parent(folder: Path) -> Parent:
    """Read a trained model that another is to begin with.

    Parameters
    ----------
    folder
        Model folder: a fold of a run, `final`, or one from elsewhere.

    Raises
    ------
    MissingInputError
        If the folder or a file in it is missing.
    DataError
        If it is damaged, or no network of ours that can be trained further.
    """
    if folder.is_file():
        raise DataError(
            f"{folder}: a file of an exported network, which cannot be trained further",
            hint="give the model folder that it was exported from",
            code="MODEL-PARENT",
        )
    facts = model_folder.read_config(folder)
    trainable = registry.names("models")
    if facts["model"] not in trainable:
        raise DataError(
            f"{folder}: {facts['model']} cannot be trained further; there are: "
            f"{', '.join(trainable)}",
            code="MODEL-PARENT",
        )
    model_folder.read_weights(folder)  # compares them with the sums
    return Parent(folder, facts, store.sha256(folder / model_folder.WEIGHTS))


def describe(parent: Mapping[str, Any]) -> str:
    """Describe the parent in words, from the table `parent`."""
    trained = parent.get("trained_as", {})
    training = ", ".join(
        f"{k} {v}" if k != "protocol" else str(v) for k, v in trained.items() if v is not None
    )
    count = len(parent.get("subjects", ()))
    subjects = (
        f"{count} subject{'' if count == 1 else 's'}" if count else "subjects it does not name"
    )
    preset = parent.get("preset", {}).get("name")
    simulated = ", SIMULATED" if parent.get("simulated") else ""
    return (
        f"{parent.get('name')} ({f'{training}; ' if training else ''}weights "
        f"{str(parent.get('weights'))[:SHOWN]}), which learnt from {subjects}"
        f"{f' of {preset}' if preset else ''}{simulated}"
    )


def tuned_on_real(facts: Mapping[str, Any]) -> bool:
    """Tell whether a model of simulated nights was fine-tuned on real ones, from its facts."""
    epochs = facts.get("trained_on")
    real = isinstance(epochs, Mapping) and epochs.get("simulated") is False
    return bool(facts.get("simulated") and "parent" in facts and real)


def preset_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the preset of a model's epochs from the facts of its config.json, as far as known."""
    preprocessing = facts.get("preprocessing")
    preset = preprocessing.get("preset") if isinstance(preprocessing, Mapping) else None
    return dict(preset) if isinstance(preset, Mapping) else {"name": preset} if preset else {}


def _steps(processing: Any) -> str:
    """Write the processing steps of a preset in one line."""
    if not processing:
        return "as recorded"
    steps = (
        " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in step.values())
        for step in processing
    )
    return ", ".join(steps)


def _without_lists(parent: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table of a grandparent without what its child's table has already."""
    return {k: v for k, v in parent.items() if k not in {"subjects", "night_marks", "preset"}}
