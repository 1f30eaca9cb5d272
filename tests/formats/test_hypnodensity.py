"""Our own table of a scored night: written and read back, and what is refused."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from sleeptools import formats
from sleeptools.errors import DataError
from sleeptools.formats import hypnodensity
from sleeptools.recording.hypnogram import Hypnogram
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES


def scored(names: tuple[str, ...], seconds: float, begin: object) -> tuple[Hypnogram, np.ndarray]:
    rng = np.random.default_rng(3)
    density = rng.dirichlet(np.ones(len(names)), 50).astype(np.float32)
    density[[0, 7, 49]] = np.nan
    stages = np.where(np.isnan(density[:, 0]), -1, np.nan_to_num(density).argmax(1))
    return Hypnogram(stages.astype(np.int8), names, seconds, begin=begin), density


@pytest.mark.parametrize(
    ("names", "seconds"), [(HUMAN_STAGES, 30.0), (MOUSE_STAGES, 1.0), (MOUSE_STAGES, 2.5)]
)
@pytest.mark.parametrize("begin", [None, datetime(2024, 3, 1, 23, 59, 30)])
def test_a_table_reads_back(
    tmp_path: Path, names: tuple[str, ...], seconds: float, begin: datetime | None
) -> None:
    hypnogram, density = scored(names, seconds, begin)
    path = tmp_path / "night.csv"
    hypnodensity.write_table(path, hypnogram, density, ["gap"] * 50)
    back = formats.read_hypnogram(path)
    assert back.stages.tolist() == hypnogram.stages.tolist()
    assert (back.names, back.epoch_seconds, back.onset) == (names, seconds, 0)
    assert back.begin == begin
    np.testing.assert_allclose(hypnodensity.read_density(path), density, rtol=1e-6)
    line = path.read_text().splitlines()[1]
    assert line.endswith(",gap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("\n3,", "\n4,", 1), "line 5: epoch '4' follows epoch 2"),
        (lambda t: t.replace("p_REM", "p_R"), "columns of probabilities"),
        (lambda t: t.split("\n", 1)[0] + "\n", "has no epochs"),
        (lambda t: t.replace("\n1,30,", "\n1,x,"), "line 3: onset"),
        (lambda t: t.replace(",W,", ",X,"), "unknown stage text 'X'"),
        (lambda t: t.replace("2024-", "1-", 1), "is no time"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, change, message: str) -> None:
    hypnogram, density = scored(HUMAN_STAGES, 30.0, datetime(2024, 3, 1))
    path = tmp_path / "night.csv"
    hypnodensity.write_table(path, hypnogram, density)
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        formats.read_hypnogram(path)


def test_probabilities_that_are_no_numbers(tmp_path: Path) -> None:
    hypnogram, density = scored(HUMAN_STAGES, 30.0, None)
    path = tmp_path / "night.csv"
    hypnodensity.write_table(path, hypnogram, density)
    p = f"{density[1, 0]:.7g}"
    path.write_text(path.read_text().replace(p, "much"))
    with pytest.raises(DataError, match="a probability is no number"):
        hypnodensity.read_density(path)
