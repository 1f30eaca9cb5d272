"""Settings of dropout as the native core takes them."""

from __future__ import annotations

from sleeptools.native.check import Shapes

SHAPES = Shapes("dropout", x="batch steps maps")


def check_dropout(op: str, dropout: float, seed: int) -> None:
    """Check the settings of an op's dropout.

    Raises
    ------
    ValueError
        Naming the one out of range.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"{op}: dropout is {dropout}; expected 0 to below 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"{op}: seed is {seed}; expected 0 to 2^63 - 1")


def drop_below(dropout: float) -> int:
    """Threshold for a random 32-bit word below which a unit is dropped."""
    return min(round(dropout * 2**32), 2**32 - 1)
