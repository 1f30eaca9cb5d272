"""A hypnogram from small whole numbers, as hypothesis draws them."""

import numpy as np

from sleeptools.recording import stages
from sleeptools.recording.hypnogram import Hypnogram


def hypnogram_of(
    names: tuple[str, ...], codes: list[int], seconds: float, onset: float
) -> Hypnogram:
    """Codes 0, 1, ... are stages, -1, -2, -3 the reasons for none."""
    code = np.array(codes, np.int8)
    return Hypnogram(
        np.where(code >= 0, code, -1).astype(np.int8),
        names,
        seconds,
        onset,
        np.where(code >= 0, stages.SCORED, -code).astype(np.int8),
    )
