"""Building, saving and loading models.

A model folder is described in `sleeptools.runs.model_folder`. Its weights are checked against the
architecture by name, shape, type and finiteness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sleeptools import registry, store
from sleeptools.errors import DataError, SleeptoolsError
from sleeptools.runs import model_folder
from sleeptools.store import settings


def build_model(name: str, config: Mapping[str, Any] | None = None) -> nn.Module:
    """Make a model with fresh weights from torch's current seed.

    Parameters
    ----------
    name
        Name of the model as on the command line, for example "mmasleepnet".
    config
        Settings that differ from the model's defaults.

    Raises
    ------
    UsageError
        For an unknown model or setting, or a value out of range.
    """
    module = registry.load("models", name)
    chosen = settings.resolve(module.Config, config or {}, section=f"model {name}")
    model: nn.Module = module.Model(chosen)
    model.name = name  # type: ignore[assignment]
    return model


def save_model(model: nn.Module, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a model folder.

    Parameters
    ----------
    facts
        `montage`, `sample_rate` (Hz), `epoch_seconds`, `stages` and `preprocessing`, and any other
        facts that belong to the model.
    """
    missing = [key for key in model_folder.NEEDED if key not in facts]
    assert not missing, f"a model folder needs {missing}"
    config: Any = model.config
    head = {"model": model.name, "config": config.model_dump(), **facts}
    arrays = {k: v.detach().cpu().numpy() for k, v in model.state_dict().items()}
    model_folder.write_model_folder(folder, head, arrays)


def load_model(folder: Path) -> nn.Module:
    """Load a model folder, in eval mode, on the CPU.

    Returns
    -------
    model
        The model, with the folder's facts as its attribute `facts`.

    Raises
    ------
    MissingInputError
        If a file is missing.
    DataError
        If the files are damaged or do not fit each other.
    """
    facts = model_folder.read_config(folder)
    try:
        model = build_model(facts["model"], facts["config"])
    except SleeptoolsError as e:
        raise DataError(f"{folder / 'config.json'}: {e}", hint=e.hint, code="MODEL-CONFIG") from e
    path = folder / "model.safetensors"
    arrays = model_folder.read_weights(folder)
    check_weights(arrays, model, path)
    # a copy: the file is mapped read-only, and a model may be trained further
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    model.facts = facts  # type: ignore[assignment]
    return model.eval()


def check_weights(arrays: Mapping[str, store.Array], model: nn.Module, path: Path) -> None:
    """Compare stored weights with a model's architecture.

    Raises
    ------
    DataError
        If a name, a shape or a type differs, or a value is not finite.
    """
    if mismatch := weights_mismatch(arrays, model):
        raise DataError(f"{path}: {mismatch}", code="MODEL-SHAPES")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds values that are not finite", code="MODEL-FINITE")


def weights_mismatch(arrays: Mapping[str, store.Array], model: nn.Module) -> str:
    """Say which name, shape or type of stored weights is not the model's; empty if they fit."""
    expected = {k: (tuple(v.shape), str(v.dtype)[6:]) for k, v in model.state_dict().items()}
    missing, extra = set(expected) - set(arrays), set(arrays) - set(expected)
    if missing or extra:
        return (
            f"weights do not fit the model: {_listed('missing', missing)}"
            f"{'; ' if missing and extra else ''}{_listed('unknown', extra)}"
        )
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.shape != shape or str(array.dtype) != dtype:
            return f"{name} is {array.dtype} {array.shape}; expected {dtype} {shape}"
    return ""


def _listed(word: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    if not ordered:
        return ""
    ending = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""  # noqa: PLR2004 - names shown
    return f"{word} {', '.join(ordered[:3])}{ending}"
