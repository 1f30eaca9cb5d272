"""Processing steps of a preset: filters, resampling and scaling between recording and epochs.

A preset lists the steps; this is their schema, with units, and the order in which they run. A whole
channel is resampled first, unless `resample` stands elsewhere in the list; then come the steps over
the recording, then the channel is cut into epochs, and then come the steps over each epoch. What
lies on either side of an interruption of the recording is filtered and resampled by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sleeptools.recording.recording import Samples
from sleeptools.recording.signals import filters, resampling, scaling


class BaseStep(BaseModel):
    """The settings and methods that all steps share.

    Parameters
    ----------
    of
        Modalities ("eeg") or names of channels that the step applies to; all if left out.
    over
        "recording": once over the whole channel; "epoch": over each epoch by itself.
    """

    # a preset checks its steps by its own schema; theirs is made where one is made by itself
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    of: tuple[str, ...] = ()
    over: Literal["recording", "epoch"] = "recording"

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """List the values of `do` that select this step."""
        return get_args(cls.model_fields["do"].annotation)

    @property
    def scales_recording(self) -> bool:
        """Whether the step takes its scale from the whole channel."""
        return isinstance(self, ZScore | RobustScale) and self.over == "recording"

    def concerns(self, label: str, modality: str) -> bool:
        """Return whether the step applies to a channel."""
        return not self.of or label in self.of or modality in self.of

    def check(self, rate: float) -> None:
        """Check that the step is possible at a rate in Hz.

        Raises
        ------
        DataError
            If a filter does not lie below half the rate.
        """

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Process (..., n) float32 samples of a rate in Hz along the last axis."""
        raise NotImplementedError

    def apply_to_stretches(self, stretches: Sequence[Samples], rate: float) -> list[Samples]:
        """Process the stretches of an interrupted channel as one: with one scale for all."""
        if len(stretches) == 1:
            return [self.apply(stretches[0], rate)]
        bounds = np.cumsum([s.shape[-1] for s in stretches[:-1]])
        return np.split(self.apply(np.concatenate(stretches), rate), bounds)


class Filter(BaseStep):
    """A filter by second-order sections; zero-phase unless `causal`."""

    causal: bool = False

    def sections(self, rate: float) -> filters.Sections:
        """Return the filter's second-order sections for a sample rate in Hz."""
        raise NotImplementedError

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Filter."""
        run = filters.causal if self.causal else filters.zero_phase
        return run(samples, self.sections(rate))

    def apply_to_stretches(self, stretches: Sequence[Samples], rate: float) -> list[Samples]:
        """Filter each stretch by itself, so that nothing rings over a gap."""
        return [self.apply(s, rate) for s in stretches]


Order = Annotated[int, Field(ge=1, le=12)]
Hz = Annotated[float, Field(gt=0, le=1e5)]


class BandPass(Filter):
    """Butterworth band-pass of `order` from `low_hz` to `high_hz`."""

    do: Literal["band-pass"]
    low_hz: Hz
    high_hz: Hz
    order: Order = 4

    def sections(self, rate: float) -> filters.Sections:
        """Return the filter's second-order sections for a sample rate in Hz."""
        return filters.butterworth("bandpass", (self.low_hz, self.high_hz), self.order, rate)

    def check(self, rate: float) -> None:
        """Check that the filter lies below half the rate."""
        filters.check((self.low_hz, self.high_hz), rate)


class HighOrLowPass(Filter):
    """Butterworth high-pass or low-pass of `order` at `hz`."""

    do: Literal["high-pass", "low-pass"]
    hz: Hz
    order: Order = 4

    def sections(self, rate: float) -> filters.Sections:
        """Return the filter's second-order sections for a sample rate in Hz."""
        kind: Literal["highpass", "lowpass"] = "highpass" if self.do == "high-pass" else "lowpass"
        return filters.butterworth(kind, (self.hz,), self.order, rate)

    def check(self, rate: float) -> None:
        """Check that the filter lies below half the rate."""
        filters.check((self.hz,), rate)


class Notch(Filter):
    """Notch at the mains frequency `hz`, `width_hz` wide."""

    do: Literal["notch"]
    hz: Hz = 50.0
    width_hz: Hz = 2.0

    def sections(self, rate: float) -> filters.Sections:
        """Return the filter's second-order sections for a sample rate in Hz."""
        return filters.notch(self.hz, self.width_hz, rate)

    def check(self, rate: float) -> None:
        """Check that the filter lies below half the rate."""
        filters.check((self.hz,), rate)


class Resample(BaseStep):
    """Resample to the preset's sample rate; listed only where it is not to be the first step.

    `beyond` says which values are assumed beyond the ends of a channel or epoch; see
    `resampling.resample`.
    """

    do: Literal["resample"]
    beyond: resampling.Beyond = "hold"


class ZScore(BaseStep):
    """Scale to mean 0 and standard deviation 1."""

    do: Literal["z-score"]

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Scale."""
        del rate
        return scaling.z_score(samples)


class RobustScale(BaseStep):
    """Scale to median 0 and interquartile range 1.

    Not `centre`d, to a median magnitude of 1 with nothing subtracted: a channel that is never
    negative, such as an envelope of the EMG, keeps its ratios.
    """

    do: Literal["robust-scale"]
    centre: bool = True

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Scale."""
        del rate
        return scaling.robust(samples) if self.centre else scaling.magnitude(samples)


class Baseline(BaseStep):
    """Subtract a fitted polynomial of `degree` 0 (the mean) to 12 from every epoch."""

    do: Literal["baseline"]
    over: Literal["epoch"] = "epoch"
    degree: int = Field(0, ge=0, le=12)

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Subtract."""
        del rate
        return scaling.without_baseline(samples, self.degree)


class Clip(BaseStep):
    """Clip to -`limit` to `limit`, in microvolts or the unit that an earlier step scaled to."""

    do: Literal["clip"]
    limit: float = Field(gt=0)

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Clip."""
        del rate
        return scaling.clip(samples, self.limit)


STEP_KINDS: tuple[type[BaseStep], ...] = (
    BandPass,
    HighOrLowPass,
    Notch,
    Resample,
    ZScore,
    RobustScale,
    Baseline,
    Clip,
)
ProcessingStep = Annotated[
    BandPass | HighOrLowPass | Notch | Resample | ZScore | RobustScale | Baseline | Clip,
    Field(discriminator="do"),
]


def ordered_steps(steps: Sequence[ProcessingStep]) -> tuple[ProcessingStep, ...]:
    """Return the steps in the order in which they run: resampling first, where it is not listed.

    Raises
    ------
    ValueError
        If a step over the recording stands after one over epochs, or two steps resample.
    """
    resamplings = [s for s in steps if isinstance(s, Resample)]
    if len(resamplings) > 1 or any(s.of for s in resamplings):
        raise ValueError("'resample' is done once and to all channels, so it takes no 'of'")
    ordered = tuple(steps) if resamplings else (Resample(do="resample"), *steps)
    for before, after in itertools.pairwise(ordered):
        if (before.over, after.over) == ("epoch", "recording"):
            raise ValueError(
                f"{after.do!r} over the recording stands after {before.do!r} over each epoch"
            )
    return ordered


def check_steps(steps: Sequence[ProcessingStep], rate: float) -> None:
    """Check the steps from the resampling on, at the rate in Hz that it resamples to.

    Raises
    ------
    DataError
        If a filter does not lie below half the rate.
    """
    ordered = ordered_steps(steps)
    first = next(i for i, s in enumerate(ordered) if isinstance(s, Resample))
    for step in ordered[first:]:
        step.check(rate)


def run_steps(
    steps: Sequence[ProcessingStep],
    stretches: Sequence[Samples],
    rate: float,
    target_rate: float,
    cut: Callable[[Sequence[Samples], float], Samples],
) -> Samples:
    """Make the epochs of one channel.

    Parameters
    ----------
    steps
        The steps that apply to the channel.
    stretches
        The channel, in pieces (n,) float32, uV, between which the recording was interrupted.
    rate, target_rate
        Sample rate of the channel, and that of the epochs, Hz.
    cut
        Cuts stretches of a rate in Hz into epochs.

    Returns
    -------
    epochs
        (epochs, samples) float32.
    """
    is_cut = False
    for step in ordered_steps(steps):
        if step.over == "epoch" and not is_cut:
            stretches, is_cut = [cut(stretches, rate)], True
        if isinstance(step, Resample):
            stretches = [
                resampling.resample(s, rate, target_rate, beyond=step.beyond) for s in stretches
            ]
            rate = target_rate
        else:
            stretches = step.apply_to_stretches(stretches, rate)
    return stretches[0] if is_cut else cut(stretches, rate)
