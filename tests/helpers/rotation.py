"""The seed of this run of the tests: which of the long ones come first, and what is sampled."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
SEED: Final = os.environ.get("SLEEPTOOLS_SEED") or time.strftime("%Y-%m-%d", time.gmtime())
ROUND: Final = 4  # tests of a module in a row


def sample(items: Sequence[T], count: int, *names: object) -> list[T]:
    """Draw some of the items, others for every seed and for all `names`, in their order."""
    if len(items) <= count:
        return list(items)
    numbers = random.Random(f"{SEED} {names}").sample(range(len(items)), count)
    return [items[number] for number in sorted(numbers)]


def rotated(items: Sequence[T], groups: Sequence[Hashable]) -> list[T]:
    """Shuffle items by the seed, a few of each group at a time.

    A group that has many items, or long ones, so leaves time for the others; and what its items
    share is set up once for a few of them.
    """
    rng = random.Random(SEED)
    shuffled = rng.sample(range(len(items)), len(items))
    turns: dict[Hashable, int] = {}
    keys: dict[int, tuple[int, int]] = {}
    for number in shuffled:
        turn = turns[groups[number]] = turns.get(groups[number], -1) + 1
        keys[number] = turn // ROUND, list(turns).index(groups[number])
    return [items[number] for number in sorted(shuffled, key=keys.__getitem__)]
