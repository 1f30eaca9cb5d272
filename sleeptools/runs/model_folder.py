"""A trained model's folder, read without torch: `config.json` and `model.safetensors`.

config.json (format sleeptools-model, version 1) has the model, its settings, and the signals it was
trained on; model.safetensors its weights, float32 under PyTorch's names (docs/folders.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import DataError

KIND = "sleeptools-model"
WEIGHTS_KIND = "sleeptools-weights"
VERSION = 1
MOST_SAMPLES = 1 << 24  # of an epoch
CONFIG_FACTS = {
    "model": "text",
    "config": "table",
    "montage": "texts",
    "sample_rate": "positive",
    "epoch_seconds": "positive",
    "stages": "texts",
}
NEEDED = ("montage", "sample_rate", "epoch_seconds", "stages", "preprocessing")


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model folder's `config.json`.

    Raises
    ------
    MissingInputError, DataError
        If the folder or the file is missing, is not a model's, or is of a newer version.
    """
    path = store.need(folder, "model folder") / "config.json"
    facts = store.read_json(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected an object")
    store.check_format(facts, path, KIND, VERSION)
    missing = [key for key in ("model", "config", *NEEDED) if key not in facts]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}", code="FACT-MISSING")
    store.check_facts(facts, path, CONFIG_FACTS)
    if not 1 <= facts["sample_rate"] * facts["epoch_seconds"] <= MOST_SAMPLES:
        raise DataError(
            f"{path}: sample_rate {facts['sample_rate']} and epoch_seconds "
            f"{facts['epoch_seconds']} make no epoch",
            code="FACT-KIND",
        )
    return facts


def read_weights(folder: Path) -> Mapping[str, store.Array]:
    """Read a model folder's weights, mapped from the file.

    Raises
    ------
    MissingInputError, DataError
        If the file is missing, is damaged, or is not a file of weights.
    """
    return store.read_tensors(folder / "model.safetensors").arrays
