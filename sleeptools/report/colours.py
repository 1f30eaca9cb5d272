"""Colours of a page and of its figures, as CSS values with a fallback for files of their own.

The stage colours differ in brightness, so that colour-blind readers can tell them apart (wake
light, N1 to N3 ever darker), and REM in hue.
"""

from __future__ import annotations

import re
from typing import Final

STAGES: Final[dict[str, str]] = {
    "W": "#f0b429",
    "Wake": "#f0b429",
    "REM": "#c0417f",
    "N1": "#9bd0ee",
    "N2": "#4a97d2",
    "NREM": "#4a97d2",
    "N3": "#2257a0",
}
STAGE_ORDER: Final[tuple[str, ...]] = ("W", "Wake", "REM", "N1", "N2", "N3", "NREM")
"""Order of the stages in a figure, from the top."""
PRINTED_INK: Final = "#1b2027"
"""`INK` in a drawing that is a file of its own."""
INK: Final = "currentColor"
MUTED: Final = "var(--muted,#59626e)"
GRID: Final = "var(--line,#d9dee4)"
SHEET: Final = "var(--sheet,#ffffff)"
ACCENT: Final = "var(--accent,#1f5fa8)"
SECOND: Final = "var(--second,#b5541c)"
THIRD: Final = "var(--third,#3f7d4e)"
SHADE: Final = "var(--shade,#123f75)"
WRONG: Final = "var(--wrong,#c23b22)"


def stage_colour(name: str) -> str:
    """Return a stage's fill as a CSS value."""
    return f"var(--stage-{name},{STAGES.get(name, '#888888')})"


def fixed_colours(css: str) -> str:
    """Replace CSS variables by their fallbacks, for a drawing in a file of its own."""
    return re.sub(r"var\(--[\w-]+,(#\w+)\)", r"\1", css).replace(INK, PRINTED_INK)
