"""Checks of an op's arguments, for NumPy arrays and torch tensors alike: shapes and choices."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn, Protocol


class Shaped(Protocol):
    """A NumPy array or a torch tensor, as far as the checks here look at it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""


class Axis(NamedTuple):
    """An axis that is `factor` times as long as the one that first had this name."""

    factor: int
    name: str


class ArrayShape(NamedTuple):
    """The axes of an array, and whether None may stand in its place."""

    name: str
    axes: tuple[Axis, ...]
    optional: bool


class Shapes:
    """The shapes of an op's arrays.

    Parameters
    ----------
    op
        Name of the op, for messages.
    arrays
        The axes of each array in words: `x="batch tokens width"`, `w_in="3*width width"`, and
        `gate="batch inputs or None"` for one that may be left out. A name stands for the same
        length throughout, that of the first axis that has it.
    """

    def __init__(self, op: str, **arrays: str) -> None:
        self.op = op
        self.arrays = tuple(_parse(name, words) for name, words in arrays.items())
        self._check_once = functools.lru_cache(maxsize=256)(self.check_shapes)

    def check(self, *arrays: Shaped | None) -> Mapping[str, int]:
        """Check arrays, in the order in which they are described.

        Returns
        -------
        dict
            The length of each axis, under its name.

        Raises
        ------
        ValueError
            Naming the first array of another shape, the shape expected and its own.
        """
        return self._check_once(*[None if array is None else array.shape for array in arrays])

    def check_shapes(self, *shapes: tuple[int, ...] | None) -> dict[str, int]:
        """As `check`, for the shapes alone, and looking at each of them again.

        `check` remembers the shapes that it has seen, which torch.compile cannot look into.
        """
        lengths: dict[str, int] = {}
        for expected, shape in zip(self.arrays, shapes, strict=True):
            if shape is None:
                assert expected.optional, expected.name
                continue
            if len(shape) != len(expected.axes):
                self._refuse(expected, shape, lengths)
            for length, (factor, axis) in zip(shape, expected.axes, strict=True):
                if axis not in lengths:
                    lengths[axis] = length
                elif length != factor * lengths[axis]:
                    self._refuse(expected, shape, lengths)
        return lengths

    def _refuse(
        self, expected: ArrayShape, shape: Sequence[int], lengths: dict[str, int]
    ) -> NoReturn:
        words = [
            str(axis.factor * lengths[axis.name]) if axis.name in lengths else axis.name
            for axis in expected.axes
        ]
        comma = "," if len(words) == 1 else ""
        raise ValueError(
            f"{self.op}: {expected.name} has shape {tuple(shape)}; "
            f"expected ({', '.join(words)}{comma})"
        )


def _parse(name: str, words: str) -> ArrayShape:
    """Read "3*width width" or "batch inputs or None"."""
    axes = words.removesuffix(" or None")
    pairs = (word.rpartition("*") for word in axes.split())
    return ArrayShape(name, tuple(Axis(int(n or 1), axis) for n, _, axis in pairs), axes != words)


def check_shape(op: str, name: str, shape: Sequence[int], expected: tuple[int, ...]) -> None:
    """Compare the shape of an argument with the one that an op expects.

    Raises
    ------
    ValueError
        Naming the argument, the shape expected and its own.
    """
    if shape != expected:
        raise ValueError(f"{op}: {name} has shape {tuple(shape)}; expected {expected}")


def check_choice(op: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that a setting is one of a few.

    Raises
    ------
    ValueError
        Naming the setting, its value and the choices.
    """
    if value not in choices:
        *first, last = map(repr, choices)
        raise ValueError(f"{op}: {name} is {value!r}; expected {', '.join(first)} or {last}")
