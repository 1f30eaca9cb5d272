"""Files and texts in a message: as short as tells one from the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

TEXT_LIMIT: Final = 8  # texts in a message


def short_names(paths: Sequence[Path]) -> list[str]:
    """Name files each by its last parts: its own name, and the folders that others have not.

    `p01/night.edf` and `p02/night.edf` keep their folders, `p02/other.edf` is `other.edf`.

    Parameters
    ----------
    paths
        Paths of the files; one that is there twice has its whole path both times.
    """
    absolute = [path.absolute() for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["/".join(p.parts[-n:]) for p, n in zip(absolute, depths, strict=True)]
        counts = Counter(names)
        next_depths = [
            n + 1 if counts[name] > 1 and n < len(p.parts) else n
            for name, n, p in zip(names, depths, absolute, strict=True)
        ]
        if next_depths == depths:
            return names
        depths = next_depths


def listing(texts: Iterable[str], limit: int = TEXT_LIMIT) -> str:
    """Join texts by commas: the first of them, and how many more there are."""
    listed = list(texts)
    rest_text = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest_text
