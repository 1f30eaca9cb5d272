"""Signal quality: epochs in which an electrode was off, an amplifier at its limit, or mains louder.

Judged on the stored numbers, before any step of a preset, except for mains, which is judged after
its filters. A wave whose tips are cut off is still there; a signal that is flat or at the rail is
not, and no stage can be told from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.montage.units import VOLTAGE_MODALITIES
from sleeptools.recording.recording import Samples, Signal, Stored
from sleeptools.recording.timeline import SLACK, Onsets

Mask = npt.NDArray[np.bool_]
Masks = dict[str, Mask]
"""(epochs,) of each kind."""

NOT_FINITE, OUT_OF_RANGE, RAILED, FLAT = "not finite", "out of range", "railed", "flat"
CLIPPED, MAINS, GAP = "clipped", "mains", "gap"
KINDS: Final = (NOT_FINITE, OUT_OF_RANGE, RAILED, FLAT, CLIPPED, MAINS)
"""What an epoch of a channel can be counted as."""
EXCLUDING: Final = (GAP, NOT_FINITE, OUT_OF_RANGE, RAILED, FLAT)
"""Reasons why an epoch has no signal, the gravest first."""

FLAT_RANGE: Final = 0.1  # uV from the lowest to the highest sample of an epoch
FINEST_STEP: Final = 1.0  # uV; a signal that moves by one such step of its numbers is flat too
FLAT_RATE: Final = 10.0  # Hz; slower signals, such as an envelope of EMG, may stand still
RAIL_SHARE: Final = 0.01  # of the samples of an epoch
RAIL_SAMPLES: Final = 3  # at least: in 1-Hz signals one sample is more than RAIL_SHARE
STUCK_SHARE: Final = 0.5
AMPLIFIER_RAIL: Final = 500.0  # uV; a limit below cuts off the tips of waves that EEG can have
MAINS_HZ: Final = (50.0, 60.0)
MAINS_SHARE: Final = 0.5  # of the power
MAINS_SECONDS: Final = 0.5  # s; mains within 1 Hz of its frequency counts
SCREENED: Final = 8  # pieces of an epoch that are looked at first
SCREEN_SHARE: Final = 0.1  # of their power, below which the whole epoch is not looked at
BLOCK: Final = 1 << 18  # samples at a time, so that they stay in the cache


def judge(signal: Signal, stored: Stored, onsets: Onsets, epoch_seconds: float) -> Masks:
    """Judge the epochs of a signal, and of the signals that it is made of.

    Parameters
    ----------
    signal
        The signal; only of voltages it is judged whether they are flat, railed or clipped.
    stored
        (size,) what `signal.read` returns.
    onsets
        (epochs,) s from the start of the recording, of epochs that touch no gap.
    epoch_seconds
        Length of an epoch, s.

    Returns
    -------
    masks
        By kind, all of `KINDS` but mains: (epochs,).
    """
    size = round(epoch_seconds * signal.sample_rate)
    first = signal.sample_numbers(onsets)
    masks = _judge_stored(signal, stored, np.clip(first, 0, max(0, len(stored) - size)), size)
    for part in signal.parts:
        for kind, mask in judge(part, part.read(), onsets, epoch_seconds).items():
            masks[kind] |= mask
    masks[CLIPPED] &= ~(masks[FLAT] | masks[RAILED])
    return masks


def epoch_grid(signal: Signal, epoch_seconds: float, onset: float = 0.0) -> Onsets:
    """Return the onsets of all epochs from begin to end of a signal, s; `onset` is one of them."""
    begin = onset % epoch_seconds
    count = int((signal.seconds - begin + SLACK) // epoch_seconds)
    return begin + epoch_seconds * np.arange(max(0, count), dtype=np.float64)


def touch_gap(signal: Signal, onsets: Onsets, epoch_seconds: float) -> Mask:
    """Return which epochs touch an interruption of the recording: (epochs,)."""
    begins, _, sizes = signal.stretches
    stretch = signal.stretches.holding(onsets)
    ends = begins + sizes / signal.sample_rate
    mask: Mask = (onsets < begins[stretch] - SLACK) | (
        onsets + epoch_seconds > ends[stretch] + SLACK
    )
    return mask


def count_in_gaps(signals: Iterable[Signal], epoch_seconds: float, onset: float = 0.0) -> int:
    """Count the epochs on a grid that touch an interruption of the recording of the signals."""
    shortest = min(signals, key=lambda s: s.seconds, default=None)
    if shortest is None:
        return 0
    onsets = epoch_grid(shortest, epoch_seconds, onset)
    return int(touch_gap(shortest, onsets, epoch_seconds).sum())


def whole_epochs(signal: Signal, epoch_seconds: float, onset: float = 0.0) -> Onsets:
    """Return the onsets of the epochs of `epoch_grid` that touch no gap, s."""
    onsets = epoch_grid(signal, epoch_seconds, onset)
    return onsets[~touch_gap(signal, onsets, epoch_seconds)]


def judge_whole(signal: Signal, stored: Stored, epoch_seconds: float, onset: float = 0.0) -> Masks:
    """Judge all whole epochs of a recorded signal, with mains as it is before any filter."""
    onsets = whole_epochs(signal, epoch_seconds, onset)
    masks = judge(signal, stored, onsets, epoch_seconds)
    masks[MAINS] = np.zeros(len(onsets), bool)
    if _is_voltage(signal) and _mains_below(signal.sample_rate):
        size = round(epoch_seconds * signal.sample_rate)
        first = signal.sample_numbers(onsets)
        for epochs, rows in _blocks(stored, np.minimum(first, len(stored) - size), size):
            masks[MAINS][epochs] = mains(rows, signal.sample_rate)
    return masks


def counts(masks: Mapping[str, Mask]) -> dict[str, int]:
    """Count the epochs of each kind that there is."""
    return {kind: int(masks[kind].sum()) for kind in KINDS if kind in masks and masks[kind].any()}


def counts_text(channels: Mapping[str, Mapping[str, int]]) -> str:
    """Write counts by channel and kind as a text: "EEG Fpz-Cz: 40 flat, 2 clipped"."""
    listed = ((c, ", ".join(f"{n} {kind}" for kind, n in k.items())) for c, k in channels.items())
    return "; ".join(f"{channel}: {text}" for channel, text in listed if text)


def reasons(masks: Sequence[Mapping[str, Mask]]) -> npt.NDArray[np.str_]:
    """Say of every epoch why it has no signal: (epochs,); "" if all channels have one.

    Parameters
    ----------
    masks
        By kind, of each channel.
    """
    kinds = [kind for kind in EXCLUDING if kind != GAP]
    return np.select([np.any([m[kind] for m in masks], axis=0) for kind in kinds], kinds, "")


def with_signal(signal: Signal, stored: Stored, onsets: Onsets, bad: Mask, most: int) -> Stored:
    """Draw about `most` finite stored numbers at most, evenly from the epochs that have a signal.

    They are drawn from the whole signal if no epoch is bad, or every one.
    """
    if not bad.any() or bad.all():
        drawn = stored[:: max(1, -(-len(stored) // most))]
    else:
        rate = signal.sample_rate
        first = signal.sample_numbers(onsets[~bad])
        size = int(np.diff(onsets).min(initial=1.0) * rate) if len(onsets) > 1 else int(rate)
        step = max(1, len(first) * size // most)
        numbers = (first[:, None] + np.arange(0, max(1, size), step)).ravel()
        drawn = stored[numbers[numbers < len(stored)]]
    return drawn[np.isfinite(drawn)]


def bridged(samples: Samples) -> Samples:
    """Return samples with a straight line wherever they are not finite, zero if none is."""
    finite = np.isfinite(samples)
    if finite.all():
        return samples
    bridge = np.flatnonzero(~finite)
    filled = np.where(finite, samples, np.float32(0))
    if finite.any():
        filled[bridge] = np.interp(bridge, np.flatnonzero(finite), samples[finite])
    return filled


def mains(epochs: Stored, rate: float) -> Mask:
    """Return the epochs with more than half of their power within 1 Hz of 50 or 60 Hz.

    Parameters
    ----------
    epochs
        (epochs, samples) of any scale.
    rate
        Hz; nothing can be said below twice the mains frequency.

    Returns
    -------
    mask
        (epochs,).
    """
    mask = np.zeros(len(epochs), bool)
    length = min(round(MAINS_SECONDS * rate), epochs.shape[-1])
    frequencies = _mains_below(rate)
    if not frequencies or not length:
        return mask
    basis = np.concatenate([_mains_basis(hz, length, rate) for hz in frequencies], 1)
    used = epochs.shape[-1] // length * length
    step = max(1, BLOCK // used)
    for start in range(0, len(epochs), step):
        pieces = epochs[start : start + step, :used].reshape(-1, used // length, length)
        sparse = max(1, pieces.shape[1] // SCREENED)  # most epochs are far from it
        loud = np.flatnonzero(_mains_share(pieces[:, ::sparse], basis) > SCREEN_SHARE)
        mask[start + loud] = _mains_share(pieces[loud], basis) > MAINS_SHARE
    return mask


def _mains_share(pieces: npt.NDArray[Any], basis: Samples) -> Samples:
    """Return the share of the power that is mains: (epochs,) of (epochs, pieces, samples)."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is counted apart
        block = pieces.astype(np.float32)
        block -= block.mean((1, 2), keepdims=True)
        power = np.einsum("eps,eps->e", block, block)
        waves = (block.reshape(-1, block.shape[-1]) @ basis) ** 2
        per_frequency = waves.reshape(*block.shape[:2], basis.shape[1] // 2, 2).sum((1, 3))
        share: Samples = per_frequency.max(1) / np.maximum(power, np.float32(1e-20))
        return share


def _mains_below(rate: float) -> list[float]:
    return [hz for hz in MAINS_HZ if hz + 1 < rate / 2]


def _mains_basis(hz: float, length: int, rate: float) -> Samples:
    """Return a wave of mains as two orthonormal columns without a mean: (length, 2)."""
    angle = 2 * np.pi * hz / rate * np.arange(length)
    pair = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.linalg.qr(pair - pair.mean(0))[0].astype(np.float32)


def _is_voltage(signal: Signal) -> bool:
    return signal.unit == "uV" or signal.modality in VOLTAGE_MODALITIES


def _blocks(
    stored: Stored, first: npt.NDArray[np.int64], size: int
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Yield the stored numbers of some epochs at a time: (epochs, size), a view where it can be."""
    step = max(1, BLOCK // max(1, size))
    windows = np.lib.stride_tricks.sliding_window_view(stored, size) if len(first) else stored
    for start in range(0, len(first), step):
        numbers = first[start : start + step]
        epochs = slice(start, start + len(numbers))
        if (np.diff(numbers) == size).all():
            yield epochs, stored[numbers[0] : numbers[-1] + size].reshape(-1, size)
        else:
            yield epochs, windows[numbers]


def _judge_stored(signal: Signal, stored: Stored, first: npt.NDArray[np.int64], size: int) -> Masks:
    """Judge a signal by its own stored numbers; epochs begin at the samples `first`."""
    masks = {kind: np.zeros(len(first), bool) for kind in KINDS if kind != MAINS}
    if not len(first) or not 0 < size <= len(stored):
        return masks
    low, high = _extremes(stored, first, size)
    bottom, top = signal.stored_range or (-np.inf, np.inf)
    finite = np.isfinite(low) & np.isfinite(high)
    masks[NOT_FINITE] = ~finite
    masks[OUT_OF_RANGE] = (low < bottom) | (high > top)
    if not _is_voltage(signal) or not finite.any():
        return masks
    slow = signal.sample_rate < FLAT_RATE
    span = np.subtract(high, low, out=np.zeros_like(high), where=finite)
    still = finite & _is_still(signal, span) & (not slow)
    lowest = max(bottom, float(low[finite].min()))
    highest = min(top, float(high[finite].max()))
    for edge, limit, side in ((lowest, bottom, -1), (highest, top, 1)):
        value = abs(edge * signal.gain + signal.offset)
        if value <= FLAT_RANGE or (slow and edge != limit):
            continue  # zero is no rail of what is rectified; what is slow stays at its extremes
        reached = (low <= edge) if side < 0 else (high >= edge)
        masks[RAILED] |= still & reached & (edge == limit)
        numbers = np.flatnonzero(finite & reached & ~still)
        samples = _count_at(stored, first[numbers], size, edge, side)
        often = samples >= max(RAIL_SAMPLES, np.floor(RAIL_SHARE * size) + 1)
        stays = often if value >= AMPLIFIER_RAIL else (samples > STUCK_SHARE * size) & (not slow)
        masks[RAILED][numbers[stays]] = True
        masks[CLIPPED][numbers[often]] = True
    masks[FLAT] = still & ~masks[RAILED]
    return masks


def _extremes(stored: Stored, first: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    """Return the lowest and highest stored number of every epoch: (2, epochs)."""
    extremes = np.empty((2, len(first)))
    with np.errstate(invalid="ignore"):
        for epochs, rows in _blocks(stored, first, size):
            extremes[0, epochs] = rows.min(1)
            extremes[1, epochs] = rows.max(1)
    return extremes


def _count_at(
    stored: Stored, first: npt.NDArray[np.int64], size: int, edge: float, side: int
) -> npt.NDArray[np.int64]:
    """Count the samples of every epoch at an edge or beyond it: (epochs,)."""
    samples = np.zeros(len(first), np.int64)
    bound = stored.dtype.type(edge)
    for epochs, rows in _blocks(stored, first, size):
        samples[epochs] = np.count_nonzero(rows <= bound if side < 0 else rows >= bound, axis=1)
    return samples


def _is_still(signal: Signal, span: npt.NDArray[np.float64]) -> Mask:
    """Return where the range of stored numbers is too small for a signal; one step is noise."""
    known = signal.unit == "uV"
    step = abs(signal.gain)
    whole = np.issubdtype(np.dtype(signal.dtype), np.integer)
    noise = 1.0 if known and whole and step <= FINEST_STEP else 0.0
    still: Mask = span <= noise
    return still | (span * step < FLAT_RANGE) if known else still
