"""Signals packed for a page: 8 bits with a scale per 10-s block, delta-coded, deflated, as text.

A block's range is divided into 254 steps; code 0 is a sample that is not there. What is stored is
each code less its linear prediction from the codes before it (in whole numbers, so that it comes
back exactly), deflated. Text holds 15 bits in a character, which in a page of UTF-16 are 16: base64
would make the page a quarter larger. `unpack` of signals.js is the other half.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from sleeptools.recording.recording import Samples

BLOCK_SECONDS: Final = 10.0
STEPS: Final = 254  # codes 1 to 255
SHIFT: Final = 12  # bits behind the point of a coefficient
ORDER: Final = 8
SHORTEST_BLOCK: Final = 64  # samples; shorter ones are predicted by the code before alone
FITTED: Final = 500  # blocks at most to which the prediction is fitted
LARGEST_SUM: Final = 1 << 22  # of the coefficients' sizes: 127 times it is within 31 bits
BITS: Final = 15
FIRST_CHARACTER: Final = 0x4000  # of a range without surrogates or line ends
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackedSignal:
    """A signal as text, and what is needed to read it.

    Parameters
    ----------
    text
        Block minima and steps as little-endian float32, then the residuals, deflated.
    size
        Number of samples.
    block
        Samples of a block.
    coefficients
        Weights of the prediction in units of 2**-12, that of the code before first.
    steps
        (blocks,) float32 size of a code in the signal's unit; half of it is the largest error.
    """

    text: str = field(repr=False)
    size: int
    block: int
    coefficients: tuple[int, ...]
    steps: Samples = field(repr=False)


def pack(samples: Samples, sample_rate: float, finest: float = 0.0) -> PackedSignal:
    """Pack a signal.

    Parameters
    ----------
    samples
        (n,) float32; NaN where there is none.
    sample_rate
        Hz.
    finest
        Smallest step worth keeping, in the signal's unit: that of the file, for example.
    """
    block = max(1, round(BLOCK_SECONDS * sample_rate))
    codes, minima, steps = _quantised(samples, block, finest)
    coefficients = _coefficients(codes) if block >= SHORTEST_BLOCK else (1 << SHIFT,)
    residuals = codes - _prediction(codes, coefficients)
    raw = residuals.astype(np.uint8).reshape(-1)[: len(samples)]
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    head = minima.astype("<f4").tobytes() + steps.astype("<f4").tobytes()
    packed = squeeze.compress(head) + squeeze.compress(raw.tobytes()) + squeeze.flush()
    return PackedSignal(_as_text(packed), len(samples), block, coefficients, steps)


def unpack(packed: PackedSignal) -> Samples:
    """Return the samples, as the page draws them: (n,) float32, NaN where there is none."""
    data = zlib.decompress(_from_text(packed.text), -15)
    blocks = -(-packed.size // packed.block)
    scales = np.frombuffer(data, "<f4", 2 * blocks).reshape(2, blocks, 1)
    residuals = np.zeros(blocks * packed.block, np.uint8)
    residuals[: packed.size] = np.frombuffer(data, np.uint8, packed.size, 8 * blocks)
    codes = residuals.reshape(blocks, packed.block).astype(np.int32)
    for i in range(1, packed.block):
        first = max(0, i - len(packed.coefficients))
        codes[:, i] += _predicted(codes[:, first:i], packed.coefficients)
        codes[:, i] &= 0xFF
    values = scales[0] + scales[1] * (codes - 1).astype(np.float32)
    values[codes == 0] = np.nan
    return np.asarray(values.reshape(-1)[: packed.size], np.float32)


def _quantised(
    samples: Samples, block: int, finest: float
) -> tuple[npt.NDArray[np.int32], Samples, Samples]:
    """Return codes (blocks, samples of a block), and minimum and step of each block."""
    blocks = -(-len(samples) // block)
    padded = np.full((blocks, block), np.nan, np.float32)
    padded.reshape(-1)[: len(samples)] = samples
    finite = np.isfinite(padded)
    low = np.where(finite, padded, np.inf).min(1, initial=np.inf)
    high = np.where(finite, padded, -np.inf).max(1, initial=-np.inf)
    low, high = (np.where(np.isfinite(v), v, 0).astype(np.float32) for v in (low, high))
    step = np.maximum((high - low) / STEPS, finest).astype(np.float32)
    step[step == 0] = 1
    codes = np.rint((np.where(finite, padded, 0) - low[:, None]) / step[:, None]) + 1
    return np.where(finite, codes.clip(1, 255), 0).astype(np.int32), low, step


def _coefficients(codes: npt.NDArray[np.int32]) -> tuple[int, ...]:
    """Fit the prediction to the autocorrelation of blocks from all over it (Makhoul 1975)."""
    centred = codes[:: -(-len(codes) // FITTED)].astype(np.float32) - np.float32(128)
    n = codes.shape[1]
    lags = [float((centred[:, : n - k] * centred[:, k:]).mean()) for k in range(ORDER + 1)]
    matrix = np.array([[lags[abs(i - j)] for j in range(ORDER)] for i in range(ORDER)])
    matrix += np.eye(ORDER) * (1e-6 * lags[0] + 1e-9)
    solved = np.rint(np.linalg.solve(matrix, lags[1:]) * (1 << SHIFT))
    if not np.isfinite(solved).all() or np.abs(solved).sum() > LARGEST_SUM:
        return (1 << SHIFT,)
    return tuple(int(c) for c in solved)


def _prediction(
    codes: npt.NDArray[np.int32], coefficients: tuple[int, ...]
) -> npt.NDArray[np.int32]:
    """Predict every code of a block but the first from those before it."""
    predicted = np.zeros_like(codes)
    order = len(coefficients)
    for i in range(1, min(order, codes.shape[1])):
        predicted[:, i] = _predicted(codes[:, :i], coefficients)
    if codes.shape[1] > order:
        total = np.full((len(codes), codes.shape[1] - order), 1 << (SHIFT - 1), np.int32)
        centred = codes - 128
        for k, c in enumerate(coefficients, 1):
            total += c * centred[:, order - k : codes.shape[1] - k]
        predicted[:, order:] = (total >> SHIFT) + 128
    return predicted


def _predicted(
    before: npt.NDArray[np.int32], coefficients: tuple[int, ...]
) -> npt.NDArray[np.int32]:
    """Predict one code of every block; near its start the code before is the prediction."""
    if before.shape[1] < len(coefficients):
        return before[:, -1]
    total = ((before[:, ::-1] - 128) * np.array(coefficients, np.int32)).sum(1, dtype=np.int32)
    predicted: npt.NDArray[np.int32] = ((total + (1 << (SHIFT - 1))) >> SHIFT) + 128
    return predicted


def _as_text(data: bytes) -> str:
    """Write bytes as characters of 15 bits; the first is the number of bits that fill the last."""
    count = -(-len(data) * 8 // BITS)
    groups = np.zeros((-(-len(data) // BITS), BITS + 1), np.uint32)  # 15 bytes are 8 characters
    padded = np.zeros((len(groups), BITS), np.uint8)
    padded.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    groups[:, :BITS] = padded
    values = np.empty((len(groups), 8), np.uint32)
    for k in range(8):
        byte, bit = divmod(BITS * k, 8)
        three = groups[:, byte] << 16 | groups[:, byte + 1] << 8 | groups[:, byte + 2]
        values[:, k] = three >> (24 - BITS - bit) & (1 << BITS) - 1
    numbers = np.concatenate([[count * BITS - len(data) * 8], values.reshape(-1)[:count]])
    return (numbers + FIRST_CHARACTER).astype("<u2").tobytes().decode("utf-16-le")


def _from_text(text: str) -> bytes:
    values = np.frombuffer(text.encode("utf-16-le"), "<u2") - np.uint16(FIRST_CHARACTER)
    fill = int(values[0])
    wide = np.stack([values[1:] >> 8, values[1:] & 0xFF], axis=1).astype(np.uint8)
    bits = np.unpackbits(wide, axis=1)[:, 1:].reshape(-1)
    return np.packbits(bits[: len(bits) - fill]).tobytes()
