"""Model folders of random weights that know how their signals were preprocessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sleeptools.models.folder import build_model, save_model
from sleeptools.preprocessing.presets import Preset


def model_facts(preset: Preset) -> dict[str, object]:
    """Return the facts of a model folder whose training data a preset made."""
    return {
        "montage": list(preset.labels),
        "sample_rate": preset.sample_rate,
        "epoch_seconds": preset.epoch_seconds,
        "stages": list(preset.stages),
        "preprocessing": {"preset": preset.model_dump(mode="json")},
    }


def save_preset_model(
    folder: Path,
    preset: Preset,
    name: str = "ulw-sleepnet",
    config: Mapping[str, object] | None = None,
) -> Path:
    """Save a model of random weights for the signals of a preset."""
    save_model(build_model(name, dict(config or {})), folder, model_facts(preset))
    return folder
