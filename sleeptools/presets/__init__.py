"""Presets: how one publication's data were made from recordings, as TOML files of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sleeptools import stages, store
from sleeptools.errors import DataError, UsageError

FOLDER = Path(__file__).parent
TrimRule = Literal["drop-then-trim", "trim-then-drop", "drop-last", "none"]


class Trim(BaseModel):
    """Which epochs around sleep are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    rule: TrimRule = "drop-then-trim"
    margin_minutes: float = Field(30.0, ge=0, le=1440)
    last_epochs: int = Field(30, ge=0)


class Preset(BaseModel):
    """A preprocessing, resolved: what goes into epochs.toml and every model's config.

    Amplitudes stay in microvolts; nothing is normalised unless a preset says so. A signal whose own
    rate is within `rate_tolerance`, a fraction, of `sample_rate` is not resampled: an epoch is then
    the first `samples` samples from its onset on, and the rates of a set may differ a little.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    data_set: str
    montage: tuple[str, ...] = Field(min_length=1)
    sample_rate: float = Field(gt=0, le=1e5)
    rate_tolerance: float = Field(0.0, ge=0, le=0.01)
    epoch_seconds: float = Field(30.0, ge=1, le=60)
    stages: tuple[str, ...] = stages.HUMAN
    rules: str = ""
    scorer: int = Field(1, ge=1)
    trim: Trim = Trim()

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return round(self.epoch_seconds * self.sample_rate)

    def rate_of(self, own: float) -> float:
        """Rate at which a signal is cut into epochs: its own, or the one it is resampled to, Hz."""
        near = abs(own / self.sample_rate - 1) <= self.rate_tolerance
        return own if near else self.sample_rate


def names() -> list[str]:
    """List the presets of the package."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name: str) -> Preset:
    """Load a preset by name, or from a TOML file of one's own.

    Raises
    ------
    UsageError
        For a name that is not there.
    DataError
        For a file with an unknown, missing or impossible setting; the message names it.
    """
    path = FOLDER / f"{name}.toml"
    if name.endswith(".toml"):
        path = Path(name)
    elif not path.exists():
        raise UsageError(
            f"unknown preset {name!r}; there are: {', '.join(names())}",
            hint="or give a TOML file of your own",
        )
    try:
        return Preset(**store.read_toml(path))
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors())
        raise DataError(f"{path}: {problems}") from e


def changed(
    preset: Preset, *, trim: str | None, margin_minutes: float | None, scorer: int | None = None
) -> Preset:
    """Return the preset with another trimming, or another scorer as the truth.

    Raises
    ------
    UsageError
        For a rule that there is not, or a negative margin.
    """
    if scorer is not None:
        preset = preset.model_copy(update={"scorer": scorer})
    wanted = {"rule": trim, "margin_minutes": margin_minutes}
    values = preset.trim.model_dump() | {k: v for k, v in wanted.items() if v is not None}
    try:
        return preset.model_copy(update={"trim": Trim(**values)})
    except ValidationError as e:
        problem = e.errors()[0]
        raise UsageError(f"trim: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from e
