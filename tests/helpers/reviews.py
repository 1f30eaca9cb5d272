"""Reviews of made-up nights, and random edits of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time

import numpy as np

from sleeptools.formats.review import Review
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import HUMAN_STAGES, REASONS, SCORED, UNANNOTATED, UNSCORED

SHA = "5e" * 32


def random_hypnogram(
    rng: np.random.Generator,
    names: tuple[str, ...] = HUMAN_STAGES,
    epochs: int = 400,
    epoch_seconds: float = 30.0,
    onset: float = 0.0,
    begin: datetime | time | None = datetime(2026, 3, 28, 22, 31, 17, 250_000),
) -> Hypnogram:
    stages = rng.integers(0, len(names), epochs).astype(np.int8)
    reasons = np.where(rng.random(epochs) < 0.9, SCORED, rng.integers(1, len(REASONS), epochs))
    stages[reasons != SCORED] = UNSCORED
    return Hypnogram(stages, names, epoch_seconds, onset, reasons.astype(np.int8), begin=begin)


def untouched(rng: np.random.Generator, hypnogram: Hypnogram, recording: str = "night-1") -> Review:
    n, k = len(hypnogram), len(hypnogram.names)
    density = rng.dirichlet(np.ones(k), n).astype(np.float32).round(4)
    density[rng.random(n) < 0.05] = np.nan
    none = np.zeros(n, bool)
    return Review(recording, SHA, hypnogram, hypnogram, none, none, density, model="model ab12")


def edited(rng: np.random.Generator, review: Review, edits: int) -> Review:
    """Make random edits, as a hand does them."""
    h = review.hypnogram
    stages, reasons = h.stages.copy(), h.reasons.copy()
    touched, artefact = review.touched.copy(), review.artefact.copy()
    lights: list[float | None] = [review.lights_off, review.lights_on]
    for _ in range(edits):
        i, kind = int(rng.integers(len(h))), rng.random()
        if kind < 0.6:
            reason = SCORED if rng.random() < 0.9 else int(rng.integers(1, UNANNOTATED))
            reasons[i], touched[i] = reason, True
            stages[i] = rng.integers(len(h.names)) if reason == SCORED else UNSCORED
        elif kind < 0.8:
            touched[i] |= reasons[i] != UNANNOTATED
        elif kind < 0.95:
            artefact[i] = not artefact[i]
        else:
            which = int(rng.integers(2))
            lights[which] = None if rng.random() < 0.2 else h.onset + i * h.epoch_seconds
    corrected = replace(h, stages=stages, reasons=reasons, scorer="A. Scorer")
    return replace(
        review,
        hypnogram=corrected,
        touched=touched,
        artefact=artefact,
        lights_off=lights[0],
        lights_on=lights[1],
    )


def assert_same(one: Review, other: Review) -> None:
    """Check that two reviews agree in everything."""
    for a, b in ((one.hypnogram, other.hypnogram), (one.proposed, other.proposed)):
        assert np.array_equal(a.stages, b.stages)
        assert np.array_equal(a.reasons, b.reasons)
        assert (a.names, a.epoch_seconds, a.onset, a.begin) == (
            *(b.names, b.epoch_seconds, b.onset, b.begin),
        )
    assert one.hypnogram.scorer == other.hypnogram.scorer
    assert np.array_equal(one.touched, other.touched)
    assert np.array_equal(one.artefact, other.artefact)
    assert np.array_equal(one.density, other.density, equal_nan=True)
    assert one.hands() == other.hands()
    facts = ("recording", "sha256", "lights_off", "lights_on", "model")
    assert [getattr(one, f) for f in facts] == [getattr(other, f) for f in facts]
