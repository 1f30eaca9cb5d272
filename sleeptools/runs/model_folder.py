"""A trained model's folder, without torch: `config.json` and `model.safetensors`.

config.json (format sleeptools-model, version 1) has the model, its settings, and the signals it was
trained on; model.safetensors its weights, float32 under PyTorch's names (docs/folders.md). Each has
the SHA-256 of the other's content, so that a changed bit in either shows, and weights are never
used with the stages or the montage of other ones. Folders written before have no sums: they are
compared with the manifest of their run, or with one that `add_sums` gives them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sleeptools import store
from sleeptools.errors import DataError, MissingInputError, quoted

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
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WEIGHTS_SUM = "weights_sha256"
"""Entry of config.json: SHA-256 of the arrays of model.safetensors."""
CONFIG_SUM = "config_sha256"
"""Entry of the metadata of model.safetensors: SHA-256 of the facts in config.json."""
SHOWN = 4  # folders in a message
LEVELS = 4
"""A fold's files lie so deep in their run, which may list them."""


def write_model_folder(
    folder: Path, facts: Mapping[str, Any], arrays: Mapping[str, store.Array]
) -> None:
    """Write a model folder; the settings first, so that there are never weights without them.

    Parameters
    ----------
    facts
        `model`, `config`, those in `NEEDED`, and any other facts that belong to the model.
    arrays
        The weights by PyTorch's names.
    """
    head = {"format": KIND, "version": VERSION, **facts, WEIGHTS_SUM: store.digest(arrays)}
    store.write_json(folder / CONFIG, head)
    bound = {"format": WEIGHTS_KIND, "version": VERSION, CONFIG_SUM: _config_sum(head)}
    store.write_arrays(folder / WEIGHTS, arrays, bound)


def _config_sum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(store.digest_text(store.plain_values(facts)).encode()).hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model folder's `config.json`.

    Raises
    ------
    MissingInputError, DataError
        If the folder or the file is missing, is not a model's, is of a newer version, or is not the
        one that the weights beside it were written with.
    """
    path = store.need(folder, "model folder") / CONFIG
    if not path.exists() and (models := _models_below(folder)):
        raise MissingInputError(
            f"{folder}: holds {len(models)} model{'s' * (len(models) > 1)}, and is none",
            hint=f"give one of them: {', '.join(map(str, models[:SHOWN]))}",
            code="FILE-MISSING",
        )
    facts = store.read_json(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected an object", code="FACT-KIND")
    store.check_format(facts, path, KIND, VERSION)
    missing = [key for key in ("model", "config", *NEEDED) if key not in facts]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}", code="FACT-MISSING")
    store.check_facts(facts, path, CONFIG_FACTS)
    check_epoch_size(facts, path)
    if (folder / WEIGHTS).exists():
        bound = store.read_tensors(folder / WEIGHTS).facts.get(CONFIG_SUM)
        if (bound is not None or WEIGHTS_SUM in facts) and bound != _config_sum(facts):
            raise DataError(
                f"{path}: is not the file that {WEIGHTS} beside it was written with: it was "
                "changed or damaged since",
                hint="take the folder from where it was trained, or train again",
                code="MODEL-CONFIG",
            )
    if WEIGHTS_SUM not in facts:
        store.check_listed(path, LEVELS)
    return facts


def _models_below(folder: Path) -> list[Path]:
    """List the models of a run, the final one first, or of a protocol of one."""
    patterns = (f"*/{CONFIG}", f"seed-*/fold-*/{CONFIG}", f"*/seed-*/fold-*/{CONFIG}")
    return [path.parent for pattern in patterns for path in sorted(folder.glob(pattern))]


def check_epoch_size(facts: Mapping[str, Any], path: Path) -> None:
    """Check that sample rate and length make an epoch.

    Raises
    ------
    DataError
        If it has no sample, or very many.
    """
    if not 1 <= facts["sample_rate"] * facts["epoch_seconds"] <= MOST_SAMPLES:
        raise DataError(
            f"{path}: sample_rate {facts['sample_rate']} and epoch_seconds "
            f"{facts['epoch_seconds']} make no epoch",
            code="FACT-KIND",
        )


def read_weights(folder: Path) -> Mapping[str, store.Array]:
    """Read a model folder's weights, mapped from the file.

    Raises
    ------
    MissingInputError, DataError
        If the file is missing, is damaged, or is not a file of weights.
    """
    path = folder / WEIGHTS
    arrays = store.read_tensors(path).arrays
    expected = read_config(folder).get(WEIGHTS_SUM)
    if expected is None:
        store.check_listed(path, LEVELS)
    elif store.digest(arrays) != expected:
        raise DataError(
            f"{path}: the weights are not those that config.json was written with: the file was "
            "changed or damaged since",
            hint="take the folder from where it was trained, or train again",
            code="MODEL-WEIGHTS",
        )
    return arrays


def unverified(folder: Path) -> str:
    """Warn of a model folder that nothing has the sums of; empty if its files were compared.

    Raises as `read_weights`.
    """
    if WEIGHTS_SUM in read_config(folder):
        return ""
    if all(store.check_listed(folder / name, LEVELS) for name in (CONFIG, WEIGHTS)):
        return ""
    return (
        f"{folder}: of an earlier version, and without the sums of its files: a changed weight "
        f"would not show; 'sleeptools verify {quoted(folder)}' with `add_sums` keeps them from now "
        "on"
    )


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder holds a model and no more than that."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def add_sums(folder: Path) -> bool:
    """List the files of a model folder in a manifest of its own, unless they are verified already.

    Returns
    -------
    added
        Whether there were none.

    Raises
    ------
    MissingInputError, DataError
        If the folder is no model's, or is damaged.
    OutputError
        If it cannot be written to.
    """
    read_weights(folder)
    if not unverified(folder):
        return False
    with store.lock(folder):
        store.Manifest(KIND).write(folder, [folder / CONFIG, folder / WEIGHTS])
    return True
