"""Processing: what is done to a signal between recording and epochs, step after step.

A preset lists the steps; this is their schema, with units, and the order they run in. A channel is
resampled as a whole before anything else, unless `resample` stands elsewhere in the list; then come
the steps over the recording, then it is cut, and then the steps over each epoch by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from sleeptools.recording.recording import Samples
from sleeptools.recording.signals import filters, resampling, scaling


class Base(BaseModel):
    """What every step has.

    Parameters
    ----------
    of
        Modalities ("eeg") or names of channels that it is done to; all if left out.
    over
        "recording": once over the whole channel; "epoch": to every epoch by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    of: tuple[str, ...] = ()
    over: Literal["recording", "epoch"] = "recording"

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """List what `do` may say for it."""
        return get_args(cls.model_fields["do"].annotation)

    def concerns(self, label: str, modality: str) -> bool:
        """Tell whether it is done to a channel."""
        return not self.of or label in self.of or modality in self.of

    def check(self, rate: float) -> None:
        """Raise a DataError if it cannot be done at a rate in Hz."""

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Do it along the last axis of (..., n) float32 at a rate in Hz."""
        raise NotImplementedError


class Filter(Base):
    """A filter by second-order sections; zero-phase unless `causal`."""

    causal: bool = False

    def sections(self, rate: float) -> filters.Sections:
        """Design it for a sample rate, Hz."""
        raise NotImplementedError

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Run it."""
        run = filters.causal if self.causal else filters.zero_phase
        return run(samples, self.sections(rate))


Order = Annotated[int, Field(ge=1, le=12)]
Hz = Annotated[float, Field(gt=0, le=1e5)]


class BandPass(Filter):
    """Butterworth band-pass of `order` from `low_hz` to `high_hz`."""

    do: Literal["band-pass"]
    low_hz: Hz
    high_hz: Hz
    order: Order = 4

    def sections(self, rate: float) -> filters.Sections:
        """Design it."""
        return filters.butterworth("bandpass", (self.low_hz, self.high_hz), self.order, rate)

    def check(self, rate: float) -> None:
        """Check that it lies below half the rate."""
        filters.check((self.low_hz, self.high_hz), rate)


class Pass(Filter):
    """Butterworth high-pass or low-pass of `order` at `hz`."""

    do: Literal["high-pass", "low-pass"]
    hz: Hz
    order: Order = 4

    def sections(self, rate: float) -> filters.Sections:
        """Design it."""
        kind: Literal["highpass", "lowpass"] = "highpass" if self.do == "high-pass" else "lowpass"
        return filters.butterworth(kind, (self.hz,), self.order, rate)

    def check(self, rate: float) -> None:
        """Check that it lies below half the rate."""
        filters.check((self.hz,), rate)


class Notch(Filter):
    """Notch at the mains frequency `hz`, `width_hz` wide."""

    do: Literal["notch"]
    hz: Hz = 50.0
    width_hz: Hz = 2.0

    def sections(self, rate: float) -> filters.Sections:
        """Design it."""
        return filters.notch(self.hz, self.width_hz, rate)

    def check(self, rate: float) -> None:
        """Check that it lies below half the rate."""
        filters.check((self.hz,), rate)


class Resample(Base):
    """To the preset's sample rate, by `resampling.resample`; listed only to be done elsewhere.

    Beyond its ends a channel, or an epoch, is taken to hold its value, or to be zero.
    """

    do: Literal["resample"]
    beyond: resampling.Beyond = "hold"


class ZScore(Base):
    """Mean 0 and standard deviation 1."""

    do: Literal["z-score"]

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Scale."""
        del rate
        return scaling.z_score(samples)


class RobustScale(Base):
    """Median 0 and distance of the quartiles 1."""

    do: Literal["robust-scale"]

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Scale."""
        del rate
        return scaling.robust(samples)


class Baseline(Base):
    """Subtract a polynomial of `degree` from every epoch: 0 the mean, 1 a line, up to 12."""

    do: Literal["baseline"]
    over: Literal["epoch"] = "epoch"
    degree: int = Field(0, ge=0, le=12)

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Subtract."""
        del rate
        return scaling.without_baseline(samples, self.degree)


class Clip(Base):
    """Clip to -`limit` ... `limit`: microvolts, or what an earlier step has scaled to."""

    do: Literal["clip"]
    limit: float = Field(gt=0)

    def apply(self, samples: Samples, rate: float) -> Samples:
        """Clip."""
        del rate
        return scaling.clip(samples, self.limit)


STEP_KINDS: tuple[type[Base], ...] = (
    BandPass,
    Pass,
    Notch,
    Resample,
    ZScore,
    RobustScale,
    Baseline,
    Clip,
)
Step = Annotated[
    BandPass | Pass | Notch | Resample | ZScore | RobustScale | Baseline | Clip,
    Field(discriminator="do"),
]


def in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Put the resampling first, where it is not listed.

    Raises
    ------
    ValueError
        If a step over the recording stands after one over epochs, or two steps resample.
    """
    resampling = [s for s in steps if isinstance(s, Resample)]
    if len(resampling) > 1 or any(s.of for s in resampling):
        raise ValueError("'resample' is done once and to all channels, so it takes no 'of'")
    whole = tuple(steps) if resampling else (Resample(do="resample"), *steps)
    for before, after in itertools.pairwise(whole):
        if (before.over, after.over) == ("epoch", "recording"):
            raise ValueError(
                f"{after.do!r} over the recording stands after {before.do!r} over each epoch"
            )
    return whole


def check_steps(steps: Sequence[Step], rate: float) -> None:
    """Check the steps that come after the resampling to a rate in Hz.

    Raises
    ------
    DataError
        If a filter does not lie below half the rate.
    """
    whole = in_order(steps)
    first = next(i for i, s in enumerate(whole) if isinstance(s, Resample))
    for step in whole[first:]:
        step.check(rate)


def run_steps(
    steps: Sequence[Step],
    samples: Samples,
    rate: float,
    to: float,
    cut: Callable[[Samples, float], Samples],
) -> Samples:
    """Make epochs of one channel.

    Parameters
    ----------
    steps
        Those that concern the channel.
    samples
        (n,) float32, uV.
    rate, to
        Its sample rate and the one wanted, Hz.
    cut
        Cuts a channel of a rate into epochs.

    Returns
    -------
    epochs
        (epochs, samples) float32.
    """
    whole = True
    for step in in_order(steps):
        if whole and step.over == "epoch":
            samples, whole = cut(samples, rate), False
        if isinstance(step, Resample):
            samples, rate = resampling.resample(samples, rate, to, beyond=step.beyond), to
        else:
            samples = step.apply(samples, rate)
    return cut(samples, rate) if whole else samples
