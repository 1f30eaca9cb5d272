"""Read settings from a TOML file and from texts such as `a.b=c`, and check them with pydantic.

An unknown key is an error that lists the known ones. pydantic is imported only where settings are
checked, because the help of a command must be fast.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sleeptools.errors import MissingInputError, UsageError, did_you_mean
from sleeptools.store.files import read_toml

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

SettingsModel = TypeVar("SettingsModel", bound="BaseModel")
Nested = dict[str, Any]


def read_settings(path: Path | None, overrides: Iterable[str] = ()) -> Nested:
    """Read a TOML file, or nothing, and apply overrides to it.

    Parameters
    ----------
    path
        The TOML file, or None.
    overrides
        Texts "a.b=c". The value is TOML (`3`, `true`, `[1, 2]`, `"x"`); a value that is not valid
        TOML is taken as text, so that `recipe.variant=authors` needs no quotes.

    Raises
    ------
    UsageError
        For an override without a name or a "=", one below a key that has a plain value, or one
        that replaces a table by a plain value.
    MissingInputError
        If the file cannot be read.
    DataError
        If the file is not valid TOML.
    """
    values = _file(path) if path else {}
    for text in overrides:
        name, equals, value = text.partition("=")
        keys = [key.strip() for key in name.split(".")]
        if not equals or not all(keys):
            raise UsageError(f"`settings={text}`: expected NAME=VALUE, such as recipe.batch=128")
        _put(values, keys, _value(value.strip()), text)
    return values


def _file(path: Path) -> Nested:
    try:
        return read_toml(path)
    except OSError as e:
        raise MissingInputError(f"{path}: {e.strerror}", code="FILE-READ") from e


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: Nested, keys: list[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UsageError(f"`settings={text}`: {key!r} is a value, not a table")
    if isinstance(values.get(keys[-1]), dict) and not isinstance(value, dict):
        raise UsageError(f"`settings={text}`: {keys[-1]!r} is a table, not a value")
    values[keys[-1]] = value


def settings_table(values: Mapping[str, Any], name: str) -> Nested:
    """Return a copy of one table of the settings, empty if there is none of that name.

    Raises
    ------
    UsageError
        If that name has a plain value.
    """
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(
            f"settings: {name} is {table!r}; expected a table",
            hint=f"`{name}.NAME=VALUE`, or in a file NAME = VALUE below [{name}]",
        )
    return dict(table)


def resolve(kind: type[SettingsModel], values: Mapping[str, Any], *, section: str) -> SettingsModel:
    """Check settings and fill in the defaults.

    Parameters
    ----------
    kind
        The pydantic model that defines the settings.
    values
        Settings that differ from its defaults.
    section
        Name of the settings in messages, for example "recipe".

    Raises
    ------
    UsageError
        For an unknown key (the known ones are listed) or a value that is not allowed.
    """
    from pydantic import ValidationError

    check_keys(values, kind.model_fields, section=section)
    try:
        return kind.model_validate(dict(values))
    except ValidationError as e:
        raise UsageError("; ".join(_line(section, error) for error in e.errors())) from e


def _line(section: str, error: ErrorDetails) -> str:
    name = ".".join(str(key) for key in error["loc"])
    message = error["msg"][:1].lower() + error["msg"][1:]
    return f"{section}: {name} = {error['input']!r}: {message}"


def check_keys(values: Iterable[str], names: Iterable[str], *, section: str) -> None:
    """Refuse keys that are not among `names`.

    Parameters
    ----------
    section
        Name of the settings in the message, for example "recipe".

    Raises
    ------
    UsageError
        For the first unknown key; the message lists the known ones.
    """
    choices = list(names)
    for key in values:
        if key not in choices:
            raise UsageError(
                f"{section}: unknown setting {key!r}; there are: {', '.join(choices)}",
                hint=did_you_mean(key, choices),
                code="USE-NAME",
            )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences of two settings, a line each: "recipe.batch: 256 there, 128 now"."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, 'nothing')} there, {after.get(name, 'nothing')} now"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", list(value) if isinstance(value, tuple) else value
