"""Settings: what is not understood is refused, with what there is."""

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.store import settings


class Kind(BaseModel):
    model_config = ConfigDict(extra="forbid")
    batch: int = Field(default=256, ge=1)
    variant: str = "default"
    weights: tuple[float, ...] = ()


def test_file_and_overrides(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[recipe]\nbatch = 3\nvariant = 'paper'\n")
    found = settings.read_settings(
        path, ["recipe.batch=7", "model.kernels=authors", "x=[1, 2]", "y = a=b"]
    )
    assert found == {
        "recipe": {"batch": 7, "variant": "paper"},
        "model": {"kernels": "authors"},
        "x": [1, 2],
        "y": "a=b",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("true", True), ("1e-4", 1e-4), ("paper", "paper"), ('"3"', "3"), ("", "")],
)
def test_values(text, value):
    assert settings.read_settings(None, [f"a={text}"]) == {"a": value}


@pytest.mark.parametrize("text", ["a", "=3", "a..b=3", ".=1"])
def test_override_without_name_or_value(text):
    with pytest.raises(UsageError, match="expected NAME=VALUE"):
        settings.read_settings(None, [text])


def test_override_into_a_value():
    with pytest.raises(UsageError, match="not a table"):
        settings.read_settings(None, ["a=3", "a.b=4"])


@pytest.mark.parametrize("texts", [["a.b=4", "a=3"], ["a.b.c=4", "a.b=x"]])
def test_override_of_a_table(texts):
    with pytest.raises(UsageError, match="a table, not a value"):
        settings.read_settings(None, texts)


def test_something_else_in_the_place_of_a_table():
    assert settings.settings_table({}, "recipe") == {}
    with pytest.raises(UsageError, match="recipe is 3; expected a table"):
        settings.settings_table({"recipe": 3}, "recipe")


def test_unreadable_files(tmp_path):
    with pytest.raises(MissingInputError):
        settings.read_settings(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(DataError, match="not valid TOML"):
        settings.read_settings(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(DataError):
        settings.read_settings(tmp_path / "bad.toml")


def test_defaults_are_filled_in():
    assert settings.resolve(Kind, {"batch": 8}, section="recipe") == Kind(batch=8)


def test_unknown_key_lists_the_known_ones():
    with pytest.raises(UsageError, match="batch, variant, weights") as e:
        settings.resolve(Kind, {"btch": 3}, section="recipe")
    assert e.value.exit_code == 2
    assert e.value.hint == "did you mean 'batch'?"


@pytest.mark.parametrize("values", [{"batch": 0}, {"batch": "many"}, {"weights": ["x"]}])
def test_values_out_of_range(values):
    name = next(iter(values))
    with pytest.raises(UsageError, match=rf"recipe: {name}\b.* = "):
        settings.resolve(Kind, values, section="recipe")


def test_difference():
    old = {"folds": 20, "recipe": {"batch": 256, "betas": [0.9, 0.999]}, "gone": 1}
    new = {"folds": 20, "recipe": {"batch": 128, "betas": (0.9, 0.999)}, "added": 2}
    assert settings.difference(old, new) == [
        "recipe.batch: 256 there, 128 now",
        "gone: 1 there, nothing now",
        "added: nothing there, 2 now",
    ]
    assert settings.difference(old, old) == []
