"""What the page of a night is told: the facts that its scripts read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any, Final

import numpy as np

from sleeptools.commands.review.shown_signals import ShownSignal
from sleeptools.commands.score.files import BIDS_SUFFIX
from sleeptools.formats.review import Review, sidecar_facts
from sleeptools.recording.hypnogram import seconds_of_day
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.report.review_page import stage_codes

EPOCH_OF_PYTHON: Final = datetime(1970, 1, 1)
MOUSE_EPOCHS_SHOWN: Final = 5  # a mouse's epoch is too short to be judged without its neighbours


def page_facts(review: Review, signals: Sequence[ShownSignal]) -> dict[str, Any]:
    """Gather the facts of a night; their names are those of the scripts."""
    h = review.hypnogram
    mouse = h.names == MOUSE_STAGES
    begin = h.begin
    facts = {
        "id": review.recording,
        "sha256": review.sha256,
        "bidsName": BIDS_SUFFIX.sub("", review.recording),
        "names": h.names,
        "epochSeconds": h.epoch_seconds,
        "onset": h.onset,
        "count": len(h),
        "span": h.epoch_seconds * (MOUSE_EPOCHS_SHOWN if mouse else 1),
        "beginMicros": _micros(begin),
        "dated": isinstance(begin, datetime),
        "proposed": stage_codes(review.proposed.stages, review.proposed.reasons),
        "density": _density(review),
        "stages": stage_codes(h.stages, h.reasons),
        "touched": _flags(review.touched),
        "artefact": _flags(review.artefact),
        "lights": [review.lights_off, review.lights_on],
        "scorer": h.scorer,
        "model": review.model,
    }
    facts["fingerprint"] = _fingerprint(facts)
    facts["sidecar"] = json.dumps(sidecar_facts(review), indent=2) + "\n"
    facts["channels"] = [signal.facts for signal in signals]
    return facts


def _micros(begin: datetime | time | None) -> int | None:
    """Return microseconds since 1970, or since midnight where no date is known."""
    if begin is None:
        return None
    if isinstance(begin, datetime):
        since = begin.replace(tzinfo=None) - EPOCH_OF_PYTHON
        return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
    return round(seconds_of_day(begin) * 1e6)


def _density(review: Review) -> list[int]:
    """Return ten-thousandths, -1 where there is no probability; empty if there is none at all."""
    if not np.isfinite(review.density).any():
        return []
    numbers = np.rint(review.density.astype(np.float64) * 1e4)
    return np.where(np.isfinite(numbers), numbers, -1).astype(np.int64).reshape(-1).tolist()


def _flags(values: np.typing.NDArray[np.bool_]) -> str:
    return "".join("1" if v else "0" for v in values.tolist())


def _fingerprint(facts: Mapping[str, Any]) -> str:
    """Tell pages of one night apart that begin with other stages."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
