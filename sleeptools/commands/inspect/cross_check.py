"""An EDF or BDF file as two readers see it, ours and pyedflib's, which is EDFlib: what differs.

pyedflib keeps annotations by the number of open files, and mixes them up where one is left open, so
that each file is closed before the next is opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sleeptools.formats.parsing.edf_annotations import Annotations, read_tals
from sleeptools.formats.parsing.edf_header import Header, SignalHeader, read_header
from sleeptools.formats.parsing.edf_records import read_digital
from sleeptools.recording.hypnogram import Event, add_seconds

if TYPE_CHECKING:
    from pyedflib import EdfReader

BLOCK: Final = 1 << 20  # samples of a signal at a time
RESOLUTION: Final = 1e-6  # s; EDFlib counts times in 100 ns
KINDS: Final = ("EDF", "EDF+", "BDF", "BDF+")
"""Kind by EDFlib's number of it."""
COMPARED: Final = (
    "kind",
    "start",
    "number of signals",
    "labels, units, transducers and prefilters",
    "physical and digital ranges",
    "sample rates",
    "samples",
    "annotations",
)


@dataclass(frozen=True)
class Difference:
    """Something that the two readers read otherwise.

    Parameters
    ----------
    what
        What differs, for example "sample rate of 'EEG'".
    ours, theirs
        What our reader reads, and what pyedflib does.
    in_data
        Whether the data differ: signals, ranges, rates, samples, annotations or the start; else
        only texts that describe them.
    """

    what: str
    ours: str
    theirs: str
    in_data: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.ours} here, {self.theirs} in pyedflib"


def cross_check_file(path: Path) -> dict[str, Any]:
    """Read an EDF or BDF file with both readers, and tell every difference.

    The samples are compared by blocks, in the memory of one.

    Parameters
    ----------
    path
        A file that our reader can read.

    Returns
    -------
    facts
        JSON-serialisable: `reader` (name and version of the second reader), `refused` (why that one
        cannot read the file, or None), `compared` (what was compared), `differences` (each with
        `what`, `ours`, `theirs` and `in_data`) and `agree` (None where it refuses).

    Raises
    ------
    DataError
        If our reader cannot read the file.
    """
    header = read_header(path)
    annotations = read_tals(header)
    facts: dict[str, Any] = {"reader": f"pyedflib {metadata.version('pyedflib')}", "refused": None}
    reader = _open(path)
    if isinstance(reader, str):
        return facts | {"refused": reader, "compared": [], "differences": [], "agree": None}
    try:
        differences = list(_differences(header, annotations, reader))
    finally:
        reader.close()
    return facts | {
        "compared": [*COMPARED],
        "differences": [asdict(d) for d in differences],
        "agree": not differences,
    }


def second_opinion(path: Path) -> str:
    """Say what pyedflib makes of a file that our reader refuses."""
    reader = _open(path)
    if isinstance(reader, str):
        return f"pyedflib refuses it, too: {reader}"
    try:
        count, seconds = reader.signals_in_file, reader.file_duration
        return f"pyedflib reads it: {count} signals of {seconds:g} s"
    finally:
        reader.close()


def _open(path: Path) -> EdfReader | str:
    """Open a file with pyedflib, or say why it refuses."""
    import pyedflib

    try:
        return pyedflib.EdfReader(str(path))
    except (OSError, ValueError) as e:
        return str(e).removeprefix(f"{path}: ").strip() or type(e).__name__


def _differences(
    header: Header, annotations: Annotations, reader: EdfReader
) -> Iterator[Difference]:
    kind = KINDS[reader.filetype]
    ours = header.kind[:3] + "+" * ("+" in header.kind)
    if ours != kind:
        yield Difference("kind", header.kind, kind, in_data=False)
    yield from _start(header, annotations, reader)
    sampled = [s for s in header.signals if not s.is_annotations]
    # to EDFlib a signal of annotations is one like others in a file that is not marked EDF+
    signals = sampled if "+" in kind else header.signals
    if len(signals) != reader.signals_in_file:
        yield Difference("number of signals", str(len(signals)), str(reader.signals_in_file))
    for number, signal in enumerate(signals[: reader.signals_in_file]):
        yield from _texts(signal, number, reader)
        yield from _numbers(header, signal, number, reader)
        yield from _samples(header, signal, number, reader)
    if annotations.events and "+" not in kind:
        count = str(len(annotations.events))
        yield Difference("number of annotations", count, "0", in_data=False)
    else:
        yield from _annotations(annotations, reader)


def _start(header: Header, annotations: Annotations, reader: EdfReader) -> Iterator[Difference]:
    ours = add_seconds(header.clock, annotations.first)
    # not getStartdatetime, which takes 0.39 s for 0.039 s
    fraction = timedelta(microseconds=reader.starttime_subsecond / 10)
    theirs = fraction + datetime(
        reader.startdate_year,
        reader.startdate_month,
        reader.startdate_day,
        reader.starttime_hour,
        reader.starttime_minute,
        reader.starttime_second,
    )
    shown = f"{theirs:%F %T.%f}"
    match ours:
        case datetime() if abs((theirs - ours).total_seconds()) > RESOLUTION:
            yield Difference("start", f"{ours:%F %T.%f}", shown)
        case time() if (theirs.hour, theirs.minute, theirs.second) != (
            ours.hour,
            ours.minute,
            ours.second,
        ):
            yield Difference("start", f"{ours:%T.%f}, without a date", shown)
        case None:
            yield Difference("start", "unknown", shown, in_data=False)


def _texts(signal: SignalHeader, number: int, reader: EdfReader) -> Iterator[Difference]:
    for what, ours, theirs in (
        ("label", signal.label, reader.getLabel(number)),
        ("unit", signal.unit, reader.getPhysicalDimension(number)),
        ("transducer", signal.transducer, reader.getTransducer(number)),
        ("prefilter", signal.prefilter, reader.getPrefilter(number)),
    ):
        if ours.strip() != theirs.strip():
            yield Difference(
                f"{what} of signal {number + 1}", repr(ours), repr(theirs.strip()), in_data=False
            )


def _numbers(
    header: Header, signal: SignalHeader, number: int, reader: EdfReader
) -> Iterator[Difference]:
    ours_and_theirs = (
        ("physical minimum", signal.physical_min, reader.getPhysicalMinimum(number)),
        ("physical maximum", signal.physical_max, reader.getPhysicalMaximum(number)),
        ("digital minimum", signal.digital_min, reader.getDigitalMinimum(number)),
        ("digital maximum", signal.digital_max, reader.getDigitalMaximum(number)),
        ("sample rate", header.sample_rate(signal), reader.getSampleFrequency(number)),
        ("samples", header.records * signal.samples_per_record, reader.getNSamples()[number]),
    )
    for what, ours, theirs in ours_and_theirs:
        if not math.isclose(ours, float(theirs), rel_tol=1e-9, abs_tol=1e-12):
            yield Difference(f"{what} of {signal.label!r}", f"{ours:.10g}", f"{theirs:.10g}")


def _samples(
    header: Header, signal: SignalHeader, number: int, reader: EdfReader
) -> Iterator[Difference]:
    """Compare the stored numbers, and tell how many differ and the first of them."""
    per_record = signal.samples_per_record
    step = max(1, BLOCK // per_record)
    length = int(reader.getNSamples()[number])
    count, first = 0, None
    for record in range(0, header.records, step):
        ours = read_digital(header, signal, slice(record, record + step))
        start = record * per_record
        size = max(0, min(len(ours), length - start))
        if not size:
            break
        theirs = reader.readSignal(number, start, size, digital=True)
        differing = np.flatnonzero(ours[:size] != theirs)
        count += len(differing)
        if len(differing) and first is None:
            k = int(differing[0])
            first = (start + k, int(ours[k]), int(theirs[k]))
    if first is not None:
        sample, our_value, their_value = first
        what = f"{count} samples of {signal.label!r}, the first at sample {sample + 1}"
        yield Difference(what, str(our_value), str(their_value))


def _annotations(annotations: Annotations, reader: EdfReader) -> Iterator[Difference]:
    onsets, durations, texts = reader.readAnnotations()
    theirs = sorted(
        (float(o), max(0.0, float(d)), str(t))
        for o, d, t in zip(onsets, durations, texts, strict=True)
        if t
    )
    ours = sorted(annotations.events)
    if len(ours) != len(theirs):
        yield Difference("number of annotations", str(len(ours)), str(len(theirs)))
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1):
        apart = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
        if apart > RESOLUTION or a[2].strip() != b[2].strip():
            yield Difference(f"annotation {number}", _annotation_text(a), _annotation_text(b))
            break


def _annotation_text(event: Event) -> str:
    onset, duration, text = event
    return f"{text[:40]!r} at {onset:.7g} s for {duration:.7g} s"
