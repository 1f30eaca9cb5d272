"""`spectral` in NumPy: from the epochs of a night to their hypnodensity, without torch.

The levels of an epoch's bands mean little by themselves: amplifiers and skulls differ. They are
therefore scaled over the night, step by step, so that hours of wake before or after it do not
change what is said of its sleep: first over the eight quietest hours, then over what that scores as
sleep with half an hour on either side, as in training, and again until that stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.inference.weights import Weights
from sleeptools.native import Floats
from sleeptools.recording.signals.band_levels import BANDS, band_powers

NAME: Final = "spectral"
NIGHT: Final = 960  # epochs, the eight hours
MARGIN: Final = 60  # epochs of wake around sleep
ROUNDS: Final = 8  # at most, until the period stays
BETA: Final = list(BANDS).index("beta")

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class Network:
    """A trained `spectral`.

    Parameters
    ----------
    config
        Settings of the model, as in `config.json`.
    weights
        Arrays of `model.safetensors`, under PyTorch's names.

    Raises
    ------
    DataError
        If an array has another shape than the settings ask for.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        members, width = range(int(config["members"])), int(config["width"])
        stages = int(config["stages"])

        def take(name: str, *shape: int) -> Floats:
            """Stack an array of every member."""
            return np.stack([weights.take(f"members.{m}.{name}", *shape) for m in members])

        def both(name: str, *shape: int) -> Floats:
            """Stack an array of both directions of every member: (members, 2, ...)."""
            return np.stack([take(f"recur.{name}_l0{way}", *shape) for way in ("", "_reverse")], 1)

        self.enter = take("enter.weight", width, len(BANDS)), take("enter.bias", width)
        self.leave = take("leave.weight", stages, 3 * width), take("leave.bias", stages)
        self.inputs = both("weight_ih", 3 * width, width), both("bias_ih", 3 * width)
        self.states = both("weight_hh", 3 * width, width), both("bias_hh", 3 * width)

    def __call__(self, x: Floats) -> Floats:
        """Score the epochs of a night, (epochs, 1, 3000) uV: (epochs, stages)."""
        return self.score_night(self.levels(x), np.arange(len(x)))

    def levels(self, x: Floats) -> Doubles:
        """Return the levels of epochs (B, 1, 3000), uV: (B, bands) dB, NaN if not finite."""
        return band_powers(x[:, 0])

    def score_night(self, levels: Doubles, numbers: Numbers) -> Floats:
        """Score the epochs of a night.

        Parameters
        ----------
        levels
            (epochs, bands) dB, of the whole night.
        numbers
            (epochs,) number of each epoch in the night, ascending; those that are missing are taken
            to lie between their neighbours.

        Returns
        -------
        density
            (epochs, stages) float32; NaN where the levels are.
        """
        density = np.full((len(levels), len(self.leave[1][0])), np.nan, np.float32)
        heard = np.isfinite(levels).all(1)
        if not heard.any():
            return density
        places = numbers[heard] - numbers[heard][0]
        every = np.arange(places[-1] + 1)
        filled = np.stack([np.interp(every, places, band) for band in levels[heard].T], 1)
        is_heard = np.zeros(len(every), bool)
        is_heard[places] = True
        period, before = quietest(filled), np.zeros(len(every), bool)
        scored = np.empty(0, np.float32)
        for _ in range(ROUNDS):
            if np.array_equal(period, before):
                break
            scored = self.score(scaled(filled, is_heard & period))
            period, before = sleep_period(scored), period
        density[heard] = scored[places]
        return density

    def score(self, levels: Doubles) -> Floats:
        """Score scaled levels (epochs, bands): the hypnodensity (epochs, stages)."""
        weight, bias = self.enter
        entered = levels.astype(np.float32) @ weight.swapaxes(1, 2) + bias[:, None]
        entered = np.maximum(entered, 0.0)  # (members, epochs, width)
        joined = np.concatenate([self._recur(entered), entered], -1)
        weight, bias = self.leave
        logits = (joined @ weight.swapaxes(1, 2) + bias[:, None]).mean(0)
        power = np.exp(logits - logits.max(1, keepdims=True))
        density: Floats = power / power.sum(1, keepdims=True)
        return density

    def _recur(self, entered: Floats) -> Floats:
        """Run the recurrent units both ways: (members, epochs, width) to (..., 2 * width)."""
        ways = np.stack([entered, entered[:, ::-1]], 1)  # (members, 2, epochs, width)
        weight, bias = self.inputs
        inputs = np.moveaxis(ways @ weight.swapaxes(2, 3) + bias[:, :, None], 2, 0)
        inputs = np.ascontiguousarray(inputs)  # (epochs, members, 2, 3 * width)
        weight, bias = self.states
        width = entered.shape[-1]
        state = np.zeros((*weight.shape[:2], width), np.float32)
        out = np.empty((len(inputs), *state.shape), np.float32)
        for epoch, given in enumerate(inputs):
            held = (weight @ state[..., None])[..., 0] + bias
            gates = given[..., : 2 * width] + held[..., : 2 * width]
            gates = 0.5 + 0.5 * np.tanh(0.5 * gates)  # the logistic function
            reset, keep = gates[..., :width], gates[..., width:]
            new = np.tanh(given[..., 2 * width :] + reset * held[..., 2 * width :])
            state = new + keep * (state - new)
            out[epoch] = state
        forth, back = out[:, :, 0], out[::-1, :, 1]
        return np.moveaxis(np.concatenate([forth, back], -1), 0, 1)


def scaled(levels: Doubles, over: npt.NDArray[np.bool_]) -> Doubles:
    """Scale levels to mean 0 and standard deviation 1 over some epochs."""
    part = levels[over]
    values: Doubles = (levels - part.mean(0)) / (part.std(0) + 1e-6)
    return values


def quietest(levels: Doubles) -> npt.NDArray[np.bool_]:
    """Mark the `NIGHT` epochs in a row in which there is the least beta: (epochs,)."""
    total = np.r_[0.0, np.cumsum(levels[:, BETA])]
    size = min(NIGHT, len(levels))
    first = int(np.argmin(total[size:] - total[: len(total) - size]))
    marked = np.zeros(len(levels), bool)
    marked[first : first + size] = True
    return marked


def sleep_period(density: Floats) -> npt.NDArray[np.bool_]:
    """Mark the epochs from `MARGIN` before sleep to `MARGIN` after it; all if there is none.

    Sleep is the stretch with the most epochs of sleep less those of wake (Kadane's algorithm), so
    that naps, and single epochs of the day that look like sleep, lie outside.
    """
    total = np.r_[0, np.cumsum(np.where(density.argmax(1) > 0, 1, -1))]
    gain = total - np.minimum.accumulate(total)  # of the best stretch that ends here
    end = int(np.argmax(gain))
    marked = np.zeros(len(density), bool)
    if not end:
        return ~marked
    begin = int(np.argmin(total[: end + 1]))
    marked[max(0, begin - MARGIN) : end + MARGIN] = True
    return marked
