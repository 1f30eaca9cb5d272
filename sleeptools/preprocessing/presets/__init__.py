"""Presets: how a publication made its epochs from recordings, as the TOML files of this folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from sleeptools import store
from sleeptools.errors import DataError, UsageError, did_you_mean
from sleeptools.preprocessing.steps import (
    STEP_KINDS,
    ProcessingStep,
    RobustScale,
    check_steps,
    ordered_steps,
)
from sleeptools.recording import stages
from sleeptools.recording.montage import MICROVOLTS, MODALITIES, MontageChannel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FOLDER = Path(__file__).parent
TrimRule = Literal["drop-then-trim", "trim-then-drop", "drop-last", "none"]
Quality = Literal["count", "exclude"]
TRIMS_WAKE = ("drop-then-trim", "trim-then-drop")


class Trim(BaseModel):
    """Which epochs around sleep are kept; the rules are those of `trimming.select_epochs`.

    Parameters
    ----------
    rule
        Order of dropping unscored epochs and trimming wake.
    margin_minutes
        Wake kept before and after sleep, minutes.
    last_epochs
        Number of epochs that "drop-last" drops at the end of the scoring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rule: TrimRule = "drop-then-trim"
    margin_minutes: float = Field(30.0, ge=0, le=1440)
    last_epochs: int = Field(30, ge=0)


class Preset(BaseModel):
    """How epochs are made from recordings: what epochs.toml and every model's config hold.

    Amplitudes stay in microvolts; nothing is normalised unless a preset says so.

    Parameters
    ----------
    name, data_set
        Name of the preset, and of the data set that it is for.
    montage
        The channels, each a name or a table of a name and what serves as it; see
        `montage.MontageChannel`.
    assume_unit
        Unit of voltages whose file names none, for example "uV"; empty to refuse such files.
    sample_rate
        Sample rate of the epochs, Hz.
    rate_tolerance
        A signal whose own rate differs from `sample_rate` by no more than this fraction is not
        resampled: an epoch is then the first `samples` samples from its onset on.
    epoch_seconds
        Length of an epoch, s.
    stages
        Stage names.
    rules
        Scoring rules, as a text.
    scorer
        Number of the scorer whose hypnogram counts, from 1.
    trim
        Which epochs are kept.
    processing
        Steps between recording and epochs, in order.
    quality
        What becomes of epochs whose signal was not there (flat, at the rail, out of range, not
        finite): "count" keeps and counts them, as published sets do, "exclude" leaves them out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    data_set: str
    montage: tuple[MontageChannel, ...] = Field(min_length=1)
    assume_unit: str = ""
    sample_rate: float = Field(gt=0, le=1e5)
    rate_tolerance: float = Field(0.0, ge=0, le=0.01)
    epoch_seconds: float = Field(30.0, ge=1, le=60)
    stages: tuple[str, ...] = Field(stages.HUMAN_STAGES, min_length=2)
    rules: str = ""
    scorer: int = Field(1, ge=1)
    trim: Trim = Trim()
    processing: tuple[ProcessingStep, ...] = ()
    quality: Quality = "count"

    def steps(self, label: str, modality: str) -> tuple[ProcessingStep, ...]:
        """Return the steps that apply to a channel."""
        return tuple(s for s in self.processing if s.concerns(label, modality))

    @property
    def samples(self) -> int:
        """Number of samples per epoch."""
        return self.samples_at(self.sample_rate)

    def samples_at(self, rate: float) -> int:
        """Return the number of samples per epoch before resampling, at a rate in Hz."""
        near = self.rate_of(rate) == rate
        return round(self.epoch_seconds * (self.sample_rate if near else rate))

    def rate_of(self, sample_rate: float) -> float:
        """Return the rate at which a signal is cut into epochs, Hz: its own, or the preset's."""
        near = abs(sample_rate / self.sample_rate - 1) <= self.rate_tolerance
        return sample_rate if near else self.sample_rate

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the channels, in the montage's order."""
        return tuple(c.name for c in self.montage)

    @field_validator("montage", mode="before")
    @classmethod
    def _named(cls, montage: Any) -> Any:
        if not isinstance(montage, list | tuple):
            return montage
        return [{"name": c} if isinstance(c, str) else c for c in montage]

    @field_validator("montage")
    @classmethod
    def _once(cls, montage: tuple[MontageChannel, ...]) -> tuple[MontageChannel, ...]:
        labels = [c.name for c in montage]
        if twice := sorted({n for n in labels if labels.count(n) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice")
        return montage

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ordered_steps(self.processing)
        allowed = (*self.labels, *MODALITIES)
        for name in (n for step in self.processing for n in step.of if n not in allowed):
            raise ValueError(f"processing of {name!r}; there are: {', '.join(allowed)}")
        return self

    @model_validator(mode="after")
    def _wake_first(self) -> Self:
        if self.trim.rule in TRIMS_WAKE and self.stages[0] not in stages.WAKE:
            raise ValueError(
                f"trim: {self.trim.rule!r} trims wake, but the first stage is {self.stages[0]!r}"
            )
        return self

    @field_serializer("montage")
    def _plain(self, montage: tuple[MontageChannel, ...]) -> list[str | dict[str, Any]]:
        return [{"name": c.name, "any_of": [*c.any_of]} if c.any_of else c.name for c in montage]

    @field_validator("assume_unit")
    @classmethod
    def _known_unit(cls, unit: str) -> str:
        if unit and unit not in MICROVOLTS:
            raise ValueError("unknown unit; expected one such as uV, mV or V")
        return unit


def names() -> list[str]:
    """List the presets of the package."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name: str) -> Preset:
    """Load a preset of the package by name, or one from a TOML file by path.

    A TOML file that says nothing of `quality` excludes epochs without a signal.

    Raises
    ------
    UsageError
        For an unknown name.
    DataError
        For a file with an unknown, missing or impossible setting; the message names it.
    """
    path = FOLDER / f"{name}.toml"
    if name.endswith(".toml"):
        path = Path(name)
    elif not path.exists():
        raise UsageError(
            f"unknown preset {name!r}; there are: {', '.join(names())}",
            hint=did_you_mean(name, names()) or "or give a TOML file of your own",
            code="USE-NAME",
        )
    values = store.read_toml(path)
    if "format" not in values:  # epochs.toml of an older version kept all epochs
        values = {"quality": "exclude"} | values
    return resolve(values, source=str(path))


def resolve(values: Mapping[str, Any], *, source: str) -> Preset:
    """Check the settings of a preset and fill in the defaults.

    Parameters
    ----------
    values
        As read from a TOML file; the format and version of epochs.toml are ignored. Those of an
        older version have no `quality`, and count.
    source
        Where the settings come from, for messages.

    Raises
    ------
    DataError
        For an unknown, missing or impossible setting; the message names it.
    """
    try:
        preset = Preset(**{k: v for k, v in values.items() if k not in ("format", "version")})
        check_steps(preset.processing, preset.sample_rate)
    except ValidationError as e:
        raise DataError(
            f"{source}: {'; '.join(map(_problem, e.errors()))}", code="PRE-VALUE"
        ) from e
    except DataError as e:
        raise DataError(f"{source}: {e}", hint=e.hint, code=e.code) from e
    return preset


def of_model(facts: Mapping[str, Any], source: str) -> Preset:
    """Resolve the preset by which a trained model's epochs were made.

    Parameters
    ----------
    facts
        As in the model folder's config.json.
    source
        Where they come from, for messages.

    Raises
    ------
    DataError
        If there is none, or as `resolve`.
    """
    settings = facts["preprocessing"].get("preset")
    if not isinstance(settings, dict):
        raise DataError(
            f"{source}: does not say how its signals were preprocessed", code="MODEL-PRESET"
        )
    return resolve(settings, source=source)


def _problem(error: ErrorDetails) -> str:
    """Describe what is wrong with a setting; for an unknown one, list those that there are."""
    loc = error["loc"]
    name = ".".join(map(str, loc))
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        text = error["msg"].removeprefix("Value error, ")
        return f"{name}: {text}" if name else text
    channel = [f.name for f in dataclasses.fields(MontageChannel)]
    tables: dict[Any, Any] = {"trim": Trim.model_fields, "montage": channel}
    steps = {str(tag): kind.model_fields for kind in STEP_KINDS for tag in kind.tags()}
    allowed = (
        steps[str(loc[2])] if loc[0] == "processing" else tables.get(loc[0], Preset.model_fields)
    )
    return f"{name}: unknown setting; there are: {', '.join(allowed)}"


def changed(
    preset: Preset,
    *,
    trim: str | None = None,
    margin_minutes: float | None = None,
    scorer: int | None = None,
    assume_unit: str | None = None,
    quality: str | None = None,
    robust_scale: bool = False,
) -> Preset:
    """Return the preset with some settings replaced; None keeps the preset's own.

    Parameters
    ----------
    preset
        The preset, which stays as it is.
    trim
        Trimming rule.
    margin_minutes
        Wake kept before and after sleep, minutes.
    scorer
        Number of the scorer whose hypnogram counts, from 1.
    assume_unit
        Unit of voltages whose file names none.
    quality
        What becomes of epochs whose signal was not there.
    robust_scale
        Divide each channel of a recording by its median magnitude, after the other steps over the
        recording, so that the gain of an amplifier does not matter.

    Raises
    ------
    UsageError
        For an unknown rule or unit, or a negative margin.
    """
    values = preset.model_dump()
    trimming = {"rule": trim, "margin_minutes": margin_minutes}
    values["trim"] |= {k: v for k, v in trimming.items() if v is not None}
    settings = {"scorer": scorer, "assume_unit": assume_unit, "quality": quality}
    values |= {k: v for k, v in settings.items() if v is not None}
    if robust_scale:
        steps = list(preset.processing)
        over_recording = [s for s in steps if s.over == "recording"]
        steps.insert(len(over_recording), RobustScale(do="robust-scale", centre=False))
        values["processing"] = [s.model_dump() for s in steps]
    try:
        return Preset(**values)
    except ValidationError as e:
        raise UsageError(_problem(e.errors()[0])) from e
