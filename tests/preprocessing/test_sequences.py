"""Windows of consecutive epochs: what they may hold, and that each epoch is scored once."""

import numpy as np
import pytest

from sleeptools.preprocessing.epochs import open_epochs
from sleeptools.preprocessing.sequences import NONE
from synthetic_epochs import write_epochs


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Two subjects with two nights of 23 epochs; left out are some before 4, 5 and 16."""
    folder = tmp_path_factory.mktemp("epochs")
    return open_epochs(
        write_epochs(
            folder,
            subjects=2,
            nights=2,
            count=23,
            gaps=(4, 5, 5, 16),
            channels=1,
            sample_rate=10.0,
            epoch_seconds=2.0,
        )
    )


SEGMENTS = [range(4), range(4, 5), range(5, 16), range(16, 23)]


def of_segments(windows, night):
    """Check that the inputs of every window are consecutive epochs of one segment."""
    for row in windows.inputs:
        found = [night.find_epoch(int(n)) for n in row]
        assert len({file.recording for file, _ in found}) == 1
        places = [place for _, place in found]
        assert any(set(places) <= set(s) for s in SEGMENTS)
        steps = np.diff(places)
        assert ((steps == 1) | (steps == 0)).all()


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 11, 20])
def test_sequences(night, length):
    numbers = night.numbers_of({"S01"})
    windows = night.windows(numbers, sequence=length)
    assert windows.inputs.shape == windows.targets.shape == (len(windows), length)
    scored = windows.targets != NONE
    assert (windows.targets[scored] == numbers).all()  # each once, in order
    assert (windows.inputs[scored] == windows.targets[scored]).all()
    of_segments(windows, night)
    # nothing is repeated where a segment is long enough
    full = sum(-(-len(s) // length) for s in SEGMENTS if len(s) >= length)
    assert (np.diff(windows.inputs, axis=1) == 1).all(1).sum() == 2 * full
    assert len(windows) == 2 * sum(-(-len(s) // length) for s in SEGMENTS)


@pytest.mark.parametrize("reach", [1, 2])
def test_context(night, reach):
    numbers = night.numbers_of({"S00"})
    windows = night.windows(numbers, context=reach)
    assert (windows.targets == numbers).all()
    assert (windows.inputs[:, reach] == numbers).all()
    of_segments(windows, night)
    assert windows.inputs[0].tolist() == [0] * reach + list(range(reach + 1))
    inside = windows.inputs[8]  # of the recording, far from any end
    assert inside.tolist() == list(range(8 - reach, 9 + reach))


def test_single_epochs(night):
    numbers = night.numbers_of({"S00", "S01"})
    windows = night.windows(numbers)
    assert windows.inputs.tolist() == windows.targets.tolist() == list(range(92))


def test_no_epochs(night):
    nobody = night.numbers_of(set())
    for how in ({}, {"sequence": 3}, {"context": 1}):
        assert len(night.windows(nobody, **how)) == 0


def test_gather_keeps_the_shape(night):
    windows = night.windows(night.numbers_of({"S01"}), sequence=3)
    x = night.gather(windows.inputs)
    assert x.shape == (*windows.inputs.shape, 1, 20)
    file, place = night.find_epoch(int(windows.inputs[4, 1]))
    assert (x[4, 1] == file.signals[place]).all()
