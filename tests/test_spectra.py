"""The maps show a wave where its electrode is and in the band of its frequency."""

import numpy as np
import pytest

from sleeptools import spectra
from sleeptools.errors import DataError

HEAD = ("Fp1", "Fpz", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8",
        "P7", "P3", "Pz", "P4", "P8", "O1", "O2")  # fmt: skip
BAND_OF = {2: 0, 6: 1, 10: 2, 20: 3, 40: 4}


def waves(electrodes: tuple[str, ...], loud: str, hz: float, rate: float = 128) -> np.ndarray:
    time = np.arange(round(30 * rate)) / rate
    quiet = np.random.default_rng(0).normal(size=(2, len(electrodes), len(time)))
    quiet[:, electrodes.index(loud)] += 30 * np.sin(2 * np.pi * hz * time)
    return quiet.astype(np.float32)


@pytest.mark.parametrize("hz", BAND_OF)
@pytest.mark.parametrize("variant", ["original", "rewrite"])
def test_a_wave_is_where_it_is(variant: spectra.Variant, hz: int) -> None:
    for loud, row, column in (("Fp1", 0, 3), ("C4", 7, 11), ("O2", 15, 11), ("T7", 7, 0)):
        found = spectra.maps(waves(HEAD, loud, hz), HEAD, 128, variant)
        assert found.shape == (2, 5, 16, 16)
        assert found.dtype == np.float32
        picture = found[0, BAND_OF[hz]]
        peak = np.unravel_index(np.argmax(picture), picture.shape)
        assert abs(peak[0] - row) <= 2
        assert abs(peak[1] - column) <= 2


def test_the_rewrite_has_the_power_of_a_wave() -> None:
    """A sine of amplitude 30 has 450 uV^2, all in one pixel of one band."""
    found = spectra.maps(waves(("F3", "C3"), "C3", 10), ("F3", "C3"), 128, "rewrite")
    assert found[0, 2].max() == pytest.approx(450, rel=0.02)
    assert (found[0] > 100).sum() == 1
    assert (found[0, 2] > 0).sum() == 2


def test_the_original_is_a_z_score_over_electrodes() -> None:
    grid = spectra._spread(tuple(spectra.place(e) for e in HEAD))
    np.testing.assert_allclose(grid.sum(0), 1, atol=1e-9)  # a constant stays a constant
    found = spectra.maps(waves(HEAD, "Cz", 10), HEAD, 128)
    for gain in (1e-3, 1e3):
        louder = spectra.maps(waves(HEAD, "Cz", 10) * np.float32(gain), HEAD, 128)
        np.testing.assert_allclose(louder, found, rtol=1e-3, atol=1e-3)


def test_epochs_are_mapped_one_by_one() -> None:
    many = np.concatenate([waves(HEAD, e, 6) for e in HEAD * 2])
    found = spectra.maps(many, HEAD, 128)
    np.testing.assert_allclose(found[66:68], spectra.maps(many[66:68], HEAD, 128), atol=1e-5)
    assert spectra.maps(many[:0], HEAD, 128).shape == (0, 5, 16, 16)


def test_what_cannot_be_mapped() -> None:
    two = waves(("F3", "C3"), "C3", 10)
    with pytest.raises(DataError, match="2 electrodes do not span a map"):
        spectra.maps(two, ("F3", "C3"), 128)
    with pytest.raises(DataError, match="'E1' has no place"):
        spectra.maps(two, ("F3", "E1"), 128)
    with pytest.raises(DataError, match="share a place"):
        spectra.maps(two, ("F3", "F1"), 128, "rewrite")
    with pytest.raises(DataError, match="below 50 Hz"):
        spectra.maps(waves(HEAD, "Cz", 10, 100), HEAD, 100)
