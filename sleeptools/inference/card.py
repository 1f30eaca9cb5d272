"""The card of a network in an ONNX file: what it scores, and how its input is made.

A card (format sleeptools-card, version 1, docs/export.md) has the facts of a model folder's
config.json, or for another's network the few that `KINDS` lists. An export of ours carries it in
the file's metadata; that of another's network lies beside the file as NAME.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.preprocessing import presets
from sleeptools.preprocessing.sequences import InputSpan
from sleeptools.runs import model_folder, temperature

CARD_KIND: Final = "sleeptools-card"
VERSION: Final = 1
METADATA: Final = "sleeptools-card"
"""Key of the card in the metadata of an ONNX or pt2 file."""
OUTPUTS: Final = ("probabilities", "logits")
KINDS: Final = {
    "model": "text",
    "montage": "texts",
    "sample_rate": "positive",
    "epoch_seconds": "positive",
    "stages": "texts",
    "scaling": "tables?",
    "sequence": "whole?",
    "context": "whole?",
    "output": "text?",
    "licence": "text",
    "preprocessing": "table?",
    "sha256": "text?",
}
LARGEST_SPAN: Final = 1000  # epochs at once


def make_card(facts: Mapping[str, Any], span: InputSpan) -> dict[str, Any]:
    """Make the card of a trained model of ours.

    Parameters
    ----------
    facts
        Contents of the model folder's config.json; all of them are kept.
    span
        Epochs that the model takes at once.
    """
    preset = facts["preprocessing"].get("preset", {})
    return {
        **facts,
        "format": CARD_KIND,
        "version": VERSION,
        "scaling": preset.get("processing", []),
        "sequence": span.sequence,
        "context": span.context,
        "output": "probabilities",
        "licence": facts.get("licence", "not stated"),
    }


def card_text(card: Mapping[str, Any]) -> str:
    """Write a card as it stands in a file's metadata: JSON in ASCII."""
    return json.dumps(store.plain_values(card), sort_keys=True)


def parse_card(text: str, path: Path) -> dict[str, Any]:
    """Parse and check the card in a file's metadata.

    Raises
    ------
    DataError
        Naming the file and the first wrong fact.
    """
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}: its card is not valid JSON: {e}", code="JSON-SYNTAX") from e
    return check_card(card, path)


def check_card(card: Any, path: Path) -> dict[str, Any]:
    """Check a card, and add to another's the preset that its facts amount to.

    Returns
    -------
    facts
        What a model folder's config.json has, and `sequence`, `context`, `output` and `licence`.

    Raises
    ------
    DataError
        Naming the file and the first wrong fact.
    """
    store.check_facts(card, path, KINDS)
    store.check_format(card, path, CARD_KIND, VERSION)
    model_folder.check_epoch_size(card, path)
    facts = {"sequence": 1, "context": 0, "output": OUTPUTS[0], "preprocessing": {}, **card}
    span = InputSpan(facts["sequence"], facts["context"])
    if not (1 <= span.sequence <= LARGEST_SPAN and 0 <= span.context <= LARGEST_SPAN) or (
        span.sequence > 1 and span.context
    ):
        raise DataError(
            f"{path}: sequence {span.sequence} and context {span.context}; expected a sequence of "
            f"1 to {LARGEST_SPAN} epochs, or a context of 0 to {LARGEST_SPAN} on either side",
            code="FACT-KIND",
        )
    if facts["output"] not in OUTPUTS:
        raise DataError(
            f"{path}: output is {facts['output']!r}; expected {' or '.join(OUTPUTS)}",
            code="FACT-KIND",
        )
    if "preset" not in facts["preprocessing"]:
        facts["preprocessing"] = {"preset": _preset(facts, path).model_dump(mode="json")}
        facts.setdefault(temperature.CALIBRATION, temperature.uncalibrated("its card has none"))
    return facts


def _preset(facts: Mapping[str, Any], path: Path) -> presets.Preset:
    """Resolve the preset of another's card, which must say how its signals are scaled."""
    if facts.get("scaling") is None:
        raise DataError(
            f"{path}: lacks scaling",
            hint="the list of processing steps, as in docs/presets.md; [] for microvolts as "
            "recorded",
            code="FACT-MISSING",
        )
    settings = {
        "name": facts["model"],
        "data_set": "card",
        "trim": {"rule": "none"},
        "processing": facts["scaling"],
        "quality": "exclude",
    }
    settings |= {key: facts[key] for key in ("montage", "sample_rate", "epoch_seconds", "stages")}
    return presets.resolve(settings, source=str(path))
