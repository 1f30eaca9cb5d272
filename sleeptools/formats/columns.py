"""Text files of two columns, EEG and EMG, one sample per line: the recordings of SlumberNet.

Jha et al. 2024, doi:10.1038/s41598-024-54727-0. Numbers are separated by blanks or tabs and are in
microvolts, as SleepSign exports them; there is no header. The sample rate is in the file's name
only: `NAME-256Hz.txt`. A day at 256 Hz has 22 million lines, so the text is read in blocks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from sleeptools import store
from sleeptools.errors import DataError
from sleeptools.recording import montage
from sleeptools.recording.recording import Recording, Samples, Signal

LABELS: Final = ("EEG", "EMG")
RATE: Final = re.compile(r"-(\d+(?:\.\d+)?)Hz$", re.IGNORECASE)
BLOCK: Final = 1 << 24  # bytes read at a time
TABS: Final = bytes.maketrans(b"\t", b" ")


def accepts(path: Path, head: bytes) -> bool:
    """Recognise the format by its first lines, two numbers each."""
    del path
    lines = head.splitlines()[:3]
    return bool(lines) and all(_is_sample(line) for line in lines)


def _is_sample(line: bytes) -> bool:
    fields = line.split()
    try:
        return len([float(x) for x in fields]) == len(LABELS)
    except ValueError:
        return False


def read(path: Path) -> Recording:
    """Read a recording; the text is parsed whenever the samples of a signal are used.

    Raises
    ------
    DataError
        If the file's name does not have the sample rate, or the file is empty; when samples are
        used, for the first line that is not two numbers.
    """
    match = RATE.search(store.need(path).stem)
    if match is None and _is_scoring(path):
        raise DataError(
            f"{path.name}: two columns of whole numbers 0..5 (the first may count the epochs): a "
            "scoring?",
            hint="write the column of stages alone, one a line, and name their `scheme`",
            code="TXT-SCORING",
        )
    if match is None or float(match[1]) == 0:
        raise DataError(
            f"{path.name}: the name does not say the sample rate", hint="expected NAME-256Hz.txt"
        )
    size = _lines(path)
    if size == 0:
        raise DataError(f"{path.name}: holds no samples")
    signals = {
        label: Signal(
            label,
            float(match[1]),
            "uV",
            montage.modality(label),
            size,
            partial(_samples, path, size, column),
        )
        for column, label in enumerate(LABELS)
    }
    return Recording(path.stem, path.stem, 1, signals)


def _is_scoring(path: Path) -> bool:
    """Tell whether a text is more likely epoch numbers or times and stages, or two scorings."""
    with path.open("rb") as file:
        lines = file.read(BLOCK // 16).splitlines()[:LOOKED_AT]
    try:
        rows = [[float(x) for x in line.split()] for line in lines]
        first, second = zip(*rows, strict=True)
    except ValueError:  # a line cut by the end of the block, or samples that are malformed
        return False
    stages = all(x in LIKE_STAGES for x in second)
    steps = {round(b - a, 6) for a, b in itertools.pairwise(first)}
    counted = len(steps) <= 1 and min(steps, default=1) > 0
    return stages and (counted or all(x in LIKE_STAGES for x in first))


LIKE_STAGES: Final = (-1, *range(10))  # numbers that programs write for stages
LOOKED_AT: Final = 1000  # lines


def write(path: Path, samples: Sequence[Samples]) -> None:
    """Write EEG and EMG of one sample rate, each (samples,) float32 in microvolts."""
    import polars as pl

    store.write_columns(path, pl.DataFrame(dict(zip(LABELS, samples, strict=True))))


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the text in blocks of whole lines, without blank lines at its end."""
    end = _end(path)
    remainder = b""
    with path.open("rb") as file:
        while block := file.read(min(BLOCK, end - file.tell())):
            lines, newline, remainder = (remainder + block).rpartition(b"\n")
            if lines:
                yield lines + newline
    if remainder:
        yield remainder + b"\n"


def _end(path: Path) -> int:
    """Count the bytes up to the end of the last line that is not blank."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - BLOCK))
        tail = file.read()
    return size - len(tail) + len(tail.rstrip())


def _lines(path: Path) -> int:
    return sum(block.count(b"\n") for block in _blocks(path))


def _samples(path: Path, size: int, column: int) -> Samples:
    """Parse one column: (size,) float32."""
    samples = np.empty(size, np.float32)
    done = 0
    for block in _blocks(path):
        values = _parse_column(block, column)
        if values is None:
            raise DataError(_complaint(path, block, done))
        samples[done : done + len(values)] = values[: size - done]
        done += len(values)
    if done != size:
        raise DataError(f"{path.name}: was {size} lines long and is now {done}")
    return samples


def _parse_column(block: bytes, column: int) -> Samples | None:
    """Parse a block's lines: (lines,) float32, or None where one is not two numbers."""
    tab = b"\t" in block[: block.index(b"\n")]
    values = _table(block, "\t" if tab else " ", column)
    return _table(_separated(block), " ", column) if values is None else values


def _table(block: bytes, separator: str, column: int) -> Samples | None:
    """Parse lines of two numbers with exactly one separator, twice as fast; None if they differ."""
    import polars as pl

    try:
        table = pl.read_csv(
            block,
            has_header=False,
            separator=separator,
            quote_char=None,
            ignore_errors=True,
            schema=dict.fromkeys(LABELS, pl.Float32),
        )
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):  # a line of more than two
        return None
    if any(table.null_count().row(0)):
        return None
    return table[LABELS[column]].to_numpy()


def _separated(block: bytes) -> bytes:
    """Put one blank where there are several, or tabs, and none at the ends of a line."""
    text = block.translate(TABS, b"\r")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    if text.startswith(b" ") or b"\n " in text:
        text = text.replace(b"\n ", b"\n").removeprefix(b" ")
    return text.replace(b" \n", b"\n")


def _complaint(path: Path, block: bytes, before: int) -> str:
    lines = block.splitlines()
    bad = next((i for i, line in enumerate(lines) if not _is_sample(line)), 0)
    return (
        f"{path.name}: line {before + bad + 1} is {lines[bad][:60].decode('latin-1')!r}; "
        f"expected two numbers, {' and '.join(LABELS)}"
    )
