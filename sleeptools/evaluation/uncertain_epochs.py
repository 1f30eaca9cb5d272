"""The epochs most worth a human's second look: those in which the model is least certain.

Certainty is the margin between the probabilities of the two likeliest stages. The truth is not
used, so that the list is the one that an unscored night would get. The share of the model's errors
in it tells what a second look is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import polars as pl

LISTED_SHARE: Final = 0.05
"""Share of the epochs that is listed."""


def rank_by_certainty(tested: pl.DataFrame, stages: Sequence[str]) -> pl.DataFrame:
    """Order epochs, the least certain first.

    Parameters
    ----------
    tested
        Predictions of one protocol; the hypnodensities of several seeds are averaged.
    stages
        Stage names, as in the columns `p_NAME`.

    Returns
    -------
    table
        recording, subject, night, epoch, onset (s), predicted (name), probability, second (name of
        the next likeliest stage), margin (probability less that of the second), entropy (bits),
        scored (name: what the scorer wrote).
    """
    import polars as pl

    columns = [f"p_{name}" for name in stages]
    keys = ["recording", "subject", "night", "epoch", "onset", "stage"]
    mean = tested.group_by(keys).agg(pl.col(columns).mean()).sort("recording", "epoch")
    p = mean.select(columns).to_numpy().astype(np.float64)
    order = np.argsort(-p, axis=1, kind="stable")
    best, second = (np.take_along_axis(p, order[:, i : i + 1], 1)[:, 0] for i in (0, 1))
    entropy = -(p * np.log2(p.clip(1e-12, None))).sum(1)
    name = np.array(stages)
    table = mean.select(*keys[:-1]).with_columns(
        pl.Series("predicted", name[order[:, 0]]),
        pl.Series("probability", best),
        pl.Series("second", name[order[:, 1]]),
        pl.Series("margin", best - second),
        pl.Series("entropy", entropy),
        pl.Series("scored", name[mean["stage"].to_numpy()]),
    )
    return table.sort("margin", "recording", "epoch")


def least_certain(ranking: pl.DataFrame, share: float = LISTED_SHARE) -> pl.DataFrame:
    """Return the first epochs of a ranking, a share of all, which are worth a second look."""
    return ranking.head(math.ceil(share * len(ranking)))


def share_of_errors(ranking: pl.DataFrame, share: float = LISTED_SHARE) -> float:
    """Share of all wrong epochs that the list holds; NaN where nothing is wrong."""
    wrong = (ranking["predicted"] != ranking["scored"]).to_numpy()
    listed = wrong[: len(least_certain(ranking, share))].sum()
    return float(listed / wrong.sum()) if wrong.any() else float("nan")
