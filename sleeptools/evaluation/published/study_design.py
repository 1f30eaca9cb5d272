"""How a result came about, and whether a printed one can be compared with ours.

What the printed results were made with stands in designs.toml; where a text and its program differ,
or readings of a text, each is a design, and a result of ours may agree with any of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from importlib import resources
from typing import Any, Final

from sleeptools.evaluation.published import DATASET_FAMILIES
from sleeptools.runs.folds import HELD_OUT, published_folds

NOT_SAID: Final = (None, "", "unknown")
AGGREGATES: Final = frozenset({"pooled", "mean of folds", "mean of subjects"})


@dataclass(frozen=True)
class StudyDesign:
    """How a run's numbers came about, for comparison with printed ones.

    Parameters
    ----------
    preset
        Preset of the epochs, for example "sleep-edf".
    simulated
        Whether the data is simulated; None if unknown.
    subjects, epochs, folds
        Numbers of tested subjects, of test epochs of all folds, and of folds.
    rules
        Scoring rules, "R&K" or "AASM", or "" if unknown.
    optimistic
        Whether the kept pass was chosen on the scored fold.
    model
        Name of the model.
    settings, recipe
        Settings of the model and of its training; empty where unknown.
    split
        "subjects", or "epochs" where a subject's epochs are in training and test.
    members
        Test subjects of each fold; empty where unknown, or where epochs are divided.
    aggregates
        Over what our numbers are there, of `AGGREGATES`.
    unseen
        Whether the subjects are ones that no training of the study has seen, not folds of it.
    fine_tuned
        Whether the trainings began with another model's weights.
    """

    preset: str
    simulated: bool | None
    subjects: int
    epochs: int
    folds: int
    rules: str
    optimistic: bool
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    split: str = "subjects"
    members: tuple[frozenset[str], ...] = ()
    aggregates: frozenset[str] = AGGREGATES
    unseen: bool = False
    fine_tuned: bool = False


class Weight(IntEnum):
    """How much a difference forbids a comparison, the heaviest first."""

    DATA = 0
    PROTOCOL = 1
    MODEL = 2
    TRAINING = 3


@dataclass(frozen=True, order=True)
class DesignDifference:
    """One difference between a result of ours and a printed one.

    Parameters
    ----------
    weight
        How much it matters.
    text
        It, in words.
    """

    weight: Weight
    text: str


@dataclass(frozen=True)
class DesignComparison:
    """What differs between a result of ours and a printed one, and what cannot be told.

    Parameters
    ----------
    differences
        What is known to differ, the heaviest first.
    unknown
        What one of the two does not say.
    """

    differences: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def comparable(self) -> bool:
        """Whether everything is known, and agrees."""
        return not (self.differences or self.unknown)


def compare_designs(ours: StudyDesign, row: Mapping[str, Any]) -> DesignComparison:
    """Compare how a result of ours and a printed one came about.

    Parameters
    ----------
    ours
        How our result came about.
    row
        Row of `published_results`.
    """
    differences = [*_data(ours, row), *_protocol(ours, row), *_model(ours, row)]
    differences.sort(key=lambda difference: difference.weight)  # stable: else in this order
    return DesignComparison(
        tuple(difference.text for difference in differences), tuple(_unknown(ours, row))
    )


def _data(ours: StudyDesign, row: Mapping[str, Any]) -> Iterator[DesignDifference]:
    if ours.simulated:
        text = f"ours is simulated data, theirs real recordings ({row['dataset']})"
        yield DesignDifference(Weight.DATA, text)
    family = DATASET_FAMILIES.get(ours.preset, "")
    if not (family and str(row["dataset"]).startswith(family)):
        text = f"data of the preset {ours.preset or 'unknown'} against {row['dataset']}"
        yield DesignDifference(Weight.DATA, text)
    for noun in ("subjects", "epochs"):
        yield from _counts(ours, row, noun, Weight.DATA)
    if row["rules"] and ours.rules and str(row["rules"]) not in ours.rules:
        yield DesignDifference(Weight.DATA, f"scoring rules {ours.rules} against {row['rules']}")


def _subjects(row: Mapping[str, Any]) -> str:
    """Name the subjects of a printed result."""
    return "animals" if row["species"] == "mouse" else "subjects"


def _counts(
    ours: StudyDesign, row: Mapping[str, Any], noun: str, weight: Weight
) -> Iterator[DesignDifference]:
    count, printed = getattr(ours, noun), row[noun]
    if printed is not None and count != printed:
        name = _subjects(row) if noun == "subjects" else noun
        name = name[:-1] if count == 1 else name
        yield DesignDifference(weight, f"{count:,} {name} against {printed:,}")


def _protocol(ours: StudyDesign, row: Mapping[str, Any]) -> Iterator[DesignDifference]:
    """Say what differs in how data were divided, passes chosen, and numbers put together."""
    noun = _subjects(row)
    splits = {
        "subjects": f"whole {noun}",
        "epochs": f"epochs, so that it is tested on the {noun} that it was trained on",
    }
    if row["split"] in splits and row["split"] != ours.split:
        text = f"ours divides {splits[ours.split]}; theirs {splits[str(row['split'])]}"
        yield DesignDifference(Weight.PROTOCOL, text)
    if (row["members"] == HELD_OUT) != ours.unseen:
        kinds = f"{noun} of the folds", f"{noun} that no training of the study has seen"
        tested, printed = kinds if row["members"] == HELD_OUT else kinds[::-1]
        yield DesignDifference(Weight.PROTOCOL, f"tested on {tested} against {printed}")
    if row["selection"] not in NOT_SAID:
        optimistic = str(row["selection"]).startswith("best pass on the test fold")
        if optimistic != ours.optimistic:
            chosen = "on the scored test fold" if ours.optimistic else "without the test fold"
            text = f"pass chosen {chosen} against {row['selection']}"
            yield DesignDifference(Weight.PROTOCOL, text)
    yield from _counts(ours, row, "folds", Weight.PROTOCOL)
    if ours.members and ours.folds == row["folds"] and not _same_folds(ours, row):
        yield DesignDifference(Weight.PROTOCOL, f"other {noun} are tested together in a fold")
    if row["aggregate"] not in (*NOT_SAID, *ours.aggregates):
        averaged = " and ".join(sorted(ours.aggregates))
        text = f"ours is {averaged}, theirs the {row['aggregate']}".replace("subjects", noun)
        yield DesignDifference(Weight.PROTOCOL, text)


def _same_folds(ours: StudyDesign, row: Mapping[str, Any]) -> bool:
    """Whether the same subjects are tested together; true where the print does not say."""
    if row["members"] == "each subject":
        return all(len(fold) == 1 for fold in ours.members)
    if row["members"] != "published":
        return True
    subjects = frozenset[str]().union(*ours.members)
    if ours.subjects != row["subjects"] or len(subjects) != row["subjects"]:
        return False
    return {frozenset(fold.test) for fold in published_folds(subjects)} == set(ours.members)


def _model(ours: StudyDesign, row: Mapping[str, Any]) -> Iterator[DesignDifference]:
    """Say what differs from the design that ours is nearest to, of those behind the print."""
    if ours.fine_tuned:
        text = "ours is fine-tuned, and has learnt from other subjects, too"
        yield DesignDifference(Weight.DATA, text)
    if row["model"] != ours.model:
        text = f"model {ours.model} against {row['printed_model']}"
        yield DesignDifference(Weight.MODEL, text)
        return
    names = str(row["designs"] or "").split()
    each = [list(_unequal(ours, printed_designs()[name])) for name in names]
    yield from min(each, key=len, default=[])


def _unequal(ours: StudyDesign, printed: Mapping[str, Any]) -> Iterator[DesignDifference]:
    tables = (
        (Weight.MODEL, "setting", ours.settings, printed.get("settings", {})),
        (Weight.TRAINING, "recipe", ours.recipe, printed.get("recipe", {})),
    )
    for weight, noun, values, expected in tables:
        for name, value in expected.items():
            if name in values and not _agrees(values[name], value):
                text = f"{noun} {name} {_plain(values[name])} against {_plain(value)} of the paper"
                yield DesignDifference(weight, text)


def _agrees(ours: Any, printed: Any) -> bool:
    """Whether ours is what is printed; of a table, only what is printed counts."""
    if isinstance(printed, Mapping):
        return isinstance(ours, Mapping) and all(
            name in ours and _agrees(ours[name], value) for name, value in printed.items()
        )
    return bool((list(ours) if isinstance(ours, tuple) else ours) == printed)


def _plain(value: Any) -> str:
    """Write a setting for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(v)}" for name, v in value.items())
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _unknown(ours: StudyDesign, row: Mapping[str, Any]) -> Iterator[str]:
    if ours.simulated is None:
        yield "whether ours is simulated data"
    for noun in ("subjects", "epochs", "folds"):
        if row[noun] is None:
            yield f"their number of {_subjects(row) if noun == 'subjects' else noun}"
    if row["split"] in NOT_SAID:
        yield f"whether they kept {_subjects(row)} apart"
    if row["members"] in NOT_SAID:
        yield "who is in which of their folds"
    if row["selection"] in NOT_SAID:
        yield "how they chose the pass"
    if row["aggregate"] in NOT_SAID:
        yield "over what their number is taken"
    if row["model"] == ours.model:
        designs = [printed_designs()[name] for name in str(row["designs"] or "").split()]
        yield from dict.fromkeys(text for d in designs for text in d.get("unsaid", ()))
        if not designs:
            yield "with which settings and training theirs was made"
        elif not (ours.settings and ours.recipe):
            yield "with which settings and training ours was made"
    if ours.split == "subjects" and not ours.members:
        yield "who is in which of our folds"


@cache
def printed_designs() -> Mapping[str, Mapping[str, Any]]:
    """Read the settings and recipes behind the printed results, by name, of designs.toml."""
    text = resources.files("sleeptools.evaluation.published").joinpath("designs.toml").read_text()
    return tomllib.loads(text)
