"""The settings of edf.toml, for whatever reads the files that it names: docs/edf.md explains them.

A data set of such files is read as a whole by `datasets.edf`; a command that takes one file by its
path reads it by `read_named`, so that a signal has one name everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sleeptools import formats, store
from sleeptools.errors import DataError, did_you_mean
from sleeptools.formats import edf
from sleeptools.formats.parsing import text_files
from sleeptools.recording import label_schemes, stages
from sleeptools.recording.montage import MICROVOLTS, in_microvolts, modality
from sleeptools.recording.recording import Recording, Signal

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SETTINGS: Final = "edf.toml"
SPECIES: Final = (stages.HUMAN_STAGES, stages.MOUSE_STAGES)
TOKEN: Final = re.compile(r"\{(\w+)\}|(\*\*|\*)|([^{*]+|\{)")
PLACEHOLDERS: Final = {"subject": r"[^\W_](?:[\w. -]*?[\w.-])??", "night": r"[0-9]{1,6}"}
Modality = Literal["eeg", "eog", "emg", "ecg", "resp", "temp", "oximetry", "event", "other"]


class RenamedChannel(BaseModel):
    """The signal that a channel of the user's own name stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    label: str
    unit: str = ""
    modality: Modality | None = None
    scale: float = 1.0

    @field_validator("unit")
    @classmethod
    def _is_voltage(cls, unit: str) -> str:
        if unit and unit not in MICROVOLTS:
            raise ValueError(f"unknown unit; there are: {', '.join(MICROVOLTS)}")
        return unit


class EdfSettings(BaseModel):
    """The settings of edf.toml; docs/edf.md explains each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    signals: str
    hypnograms: tuple[str, ...] = ()
    align: Literal["clock", "start"] = "clock"
    least_overlap: float = Field(0.5, ge=0, le=1)
    epoch_seconds: float | None = Field(None, ge=1, le=60)
    epoch_from_onsets: bool = False
    ignore_bad_annotations: bool = False
    ignore_channels: tuple[str, ...] = ()
    scorer: str = ""
    stages: tuple[str, ...] = ()
    scheme: str = ""
    labels: dict[str, str] = {}
    channels: dict[str, RenamedChannel] = {}

    @field_validator("scheme")
    @classmethod
    def _is_scheme(cls, scheme: str) -> str:
        if scheme and scheme not in label_schemes.SCHEMES:
            similar = did_you_mean(scheme, [*label_schemes.SCHEMES])
            listed = f"there are: {', '.join(label_schemes.SCHEMES)}"
            raise ValueError(f"unknown scheme {scheme!r}; {similar or listed}")
        return scheme

    @field_validator("stages")
    @classmethod
    def _begins_with_wake(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = next((k for k in SPECIES if {*k} == {*names}), None)
        first = next((name for name in names if name in stages.WAKE), None)
        expected = known or (first, *(n for n in names if n != first)) if first else names
        if names != expected:
            listed = ", ".join(f'"{name}"' for name in expected)
            raise ValueError(f"the order is that of a model's numbers, wake first: [{listed}]")
        return names

    @field_validator("hypnograms", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _composed(cls, labels: dict[str, str]) -> dict[str, str]:
        return {text_files.composed(label): name for label, name in labels.items()}

    @field_validator("channels", mode="before")
    @classmethod
    def _labels_alone(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {k: {"label": v} if isinstance(v, str) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _labels_are_stages(self) -> EdfSettings:
        for label, name in self.labels.items():
            if name not in (*self.names, *stages.REASONS[1:]):
                allowed = ", ".join([*self.names, *stages.REASONS[1:]])
                raise ValueError(f"labels: {label!r} is {name!r}, which is none of {allowed}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Stage names: those given, or else the scheme's, or else those that `labels` are of."""
        if self.stages or self.scheme:
            return self.stages or label_schemes.label_scheme(self.scheme).names
        of_mice = {*stages.MOUSE_STAGES} - {*stages.HUMAN_STAGES}
        is_mouse = of_mice & {*self.labels.values()}
        return stages.MOUSE_STAGES if is_mouse else stages.HUMAN_STAGES

    def meaning(self) -> label_schemes.Scheme | str | None:
        """Return what labels mean: the scheme, completed by the settings' own labels and stages."""
        if not self.labels and not self.stages:
            return self.scheme or None
        scheme_labels = label_schemes.label_scheme(self.scheme).labels if self.scheme else {}
        stage_names = {name: name for name in self.names}
        labels = {**scheme_labels, **stage_names, **self.labels}
        return label_schemes.Scheme(self.names, labels, completes=not self.scheme)

    def reading(self, path: Path) -> formats.ReadSettings:
        """Return how the scoring in a file is read."""
        is_edf = self.ignore_bad_annotations and formats.find(path) is edf
        return {
            "scheme": self.meaning(),
            "epoch_seconds": self.epoch_seconds,
            "epoch_from_onsets": self.epoch_from_onsets,
            "scorer": self.scorer or None,
            "ignore_bad_annotations": is_edf,
        }


def load_settings(path: Path) -> EdfSettings:
    """Read settings from a file like edf.toml.

    Raises
    ------
    DataError
        For an unknown, missing or invalid setting; the message lists all settings.
    """
    try:
        return EdfSettings(**store.read_toml(path))
    except ValidationError as e:
        problems = "; ".join(map(_problem, e.errors()))
        is_unknown = any(p["type"] in ("extra_forbidden", "missing") for p in e.errors())
        raise DataError(
            f"{path}: {problems}",
            hint=f"there are: {', '.join(EdfSettings.model_fields)}" if is_unknown else None,
            code="SET-VALUE",
        ) from e


def _problem(error: ErrorDetails) -> str:
    """Say what is wrong with a setting, in our own words where pydantic's are not plain."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        similar = did_you_mean(name, [*EdfSettings.model_fields])
        return f"unknown setting {name!r}" + (f"; {similar}" if similar else "")
    text = error["msg"].removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


Key = tuple[str, str]
"""Subject and night; the night is empty where a pattern has none."""


def match_names(pattern: str, names: Iterable[str], path: Path) -> dict[Key, list[str]]:
    """Return the files that match a pattern, by subject and night.

    Parameters
    ----------
    pattern
        As `signals` and `hypnograms` of edf.toml have it.
    names
        Paths of the files from their folder on.
    path
        The file of settings, for messages.

    Raises
    ------
    DataError
        If the pattern has an unknown placeholder, or none for the subject.
    """
    expression = _expression(pattern, path)
    groups: dict[Key, list[str]] = {}
    for name in names:
        if match := expression.fullmatch(text_files.composed(_utf8(name))):
            fields = match.groupdict("")
            groups.setdefault((fields["subject"], fields.get("night", "")), []).append(name)
    return groups


def _utf8(name: str) -> str:
    """Read a file's name as UTF-8, also where the locale says that it is something else."""
    return os.fsencode(name).decode(errors="surrogateescape")


def _expression(pattern: str, path: Path) -> re.Pattern[str]:
    """Turn "{subject}/*_{night}.edf" into a regular expression; * stays within a folder.

    The ending may stand in capitals or not: some programs write .EDF.
    """
    pattern = text_files.composed(pattern)
    text, names = "", set()
    end = PurePosixPath(pattern).suffix
    end = "" if set(end) & {"{", "*"} else end
    for field, star, literal in TOKEN.findall(pattern[: len(pattern) - len(end)]):
        if literal:
            text += re.escape(literal)
        elif star:
            text += ".*" if star == "**" else "[^/]*"
        elif field not in PLACEHOLDERS:
            raise DataError(
                f"{path}: unknown part {{{field}}} in {pattern!r}",
                hint=f"there are: {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}, * and **",
                code="SET-PATTERN",
            )
        else:
            text += f"(?P={field})" if field in names else f"(?P<{field}>{PLACEHOLDERS[field]})"
            names.add(field)
    if "subject" not in names:
        raise DataError(
            f"{path}: {pattern!r} does not say where {{subject}} stands", code="SET-PATTERN"
        )
    return re.compile(text + (f"(?i:{re.escape(end)})" if end else ""))


def renamed(recording: Recording, settings: EdfSettings, name: str) -> dict[str, Signal]:
    """Rename the signals as the settings say; the others keep their labels.

    Parameters
    ----------
    recording
        The recording, with the labels of its file.
    settings
        The names; see `EdfSettings.channels`.
    name
        The file, for messages.

    Returns
    -------
    signals
        By their new names.

    Raises
    ------
    DataError
        If a signal is not there, has a unit already, or two would have one name.
    """
    new: dict[str, str] = {}
    signals = dict(recording.signals)
    for label, channel in settings.channels.items():
        if channel.label not in signals or channel.label in new:
            raise DataError(
                f"{name}: no signal {channel.label!r} to be {label!r}",
                hint=f"there are: {', '.join(n for n in signals if n not in new)}",
                code="EDF-CHANNEL",
            )
        new[channel.label] = label
        signals[channel.label] = _scaled(signals[channel.label], channel, label, name)
    named = {new.get(n, n): replace(s, label=new.get(n, n)) for n, s in signals.items()}
    if len(named) < len(signals):
        raise DataError(
            f"{name}: two signals of one name after {SETTINGS} has named them", code="SIG-TWICE"
        )
    return named


def _scaled(signal: Signal, channel: RenamedChannel, label: str, name: str) -> Signal:
    if channel.unit:
        if signal.unit:
            raise DataError(
                f"{name}: signal {signal.label!r} has a unit already ({signal.unit})",
                hint="scale multiplies where it is wrong; unit is for files that name none",
                code="SIG-UNIT",
            )
        signal = in_microvolts(signal, channel.unit)
    kind = modality(label)
    return replace(
        signal,
        gain=signal.gain * channel.scale,
        offset=signal.offset * channel.scale,
        modality=channel.modality or (signal.modality if kind == "other" else kind),
    )


# --- one file of a folder with settings -----------------------------------------------------------


@dataclass(frozen=True)
class FileSettings:
    """What the edf.toml of a file says of its signals.

    Parameters
    ----------
    path
        The edf.toml whose `signals` name the file; None where there is none: then every signal
        keeps its label.
    settings
        What stands in it.
    """

    path: Path | None = None
    settings: EdfSettings | None = None

    @property
    def ignore_channels(self) -> tuple[str, ...]:
        """Labels of the signals to leave out."""
        return self.settings.ignore_channels if self.settings else ()

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Stage names of the scoring, if anything says which."""
        if self.settings is None or not (self.settings.stages or self.settings.scheme):
            return ()
        return self.settings.names

    @property
    def text(self) -> str:
        """Say how channels are called, for people; "" where nothing is said of them."""
        names = [f"{name} = {label}" for label, name in self.names.items()]
        names += [f"{label} left out" for label in self.ignore_channels]
        return f"{self.path}: {', '.join(names)}" if names else ""

    @property
    def names(self) -> dict[str, str]:
        """Name of a channel by the label that its signal has in the file."""
        channels = self.settings.channels if self.settings else {}
        return {channel.label: name for name, channel in channels.items()}

    def named(self, recording: Recording) -> Recording:
        """Rename the signals of a recording; a note says which named ones it has not.

        Raises
        ------
        DataError
            As `renamed`.
        """
        if self.settings is None:
            return recording
        there = {n: c for n, c in self.settings.channels.items() if c.label in recording.signals}
        absent = [c.label for n, c in self.settings.channels.items() if n not in there]
        settings = self.settings.model_copy(update={"channels": there})
        notes = [str(recording.facts["notes"])] if recording.facts.get("notes") else []
        notes += [f"{SETTINGS} names a signal {label!r}, which is not there" for label in absent]
        facts = {**recording.facts, **({"notes": "; ".join(notes)} if notes else {})}
        signals = renamed(recording, settings, recording.id)
        return replace(recording, signals=signals, facts=facts)


def settings_of(path: Path) -> FileSettings:
    """Find the settings of a file: the nearest edf.toml, in its folder or above, that names it.

    Raises
    ------
    DataError
        If an edf.toml on the way is invalid.
    """
    file, here = path.absolute(), Path.cwd()
    for folder in file.parents:
        place = folder / SETTINGS
        place = place.relative_to(here) if place.is_relative_to(here) else place
        if place.is_file():
            settings = load_settings(place)
            if match_names(settings.signals, [file.relative_to(folder).as_posix()], place):
                return FileSettings(place, settings)
    return FileSettings()


def read_named(path: Path, *, ignore_channels: Sequence[str] = ()) -> Recording:
    """Read a recording as `formats.read_any`, its signals as the edf.toml that names it says.

    Raises
    ------
    DataError
        If the file or an edf.toml on the way is invalid.
    """
    settings = settings_of(path)
    ignored = [*dict.fromkeys((*settings.ignore_channels, *ignore_channels))]
    return settings.named(formats.read_any(path, ignore_channels=ignored))
