"""Models of more than one epoch: their counts, what they see, and SleepPrintNet's map."""

import numpy as np
import pytest
import torch

import cost
import golden_models
import rebuilt
from comparing import close, make
from sleeptools.errors import UsageError
from sleeptools.models.folder import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
SIX = {"electrodes": ["F3", "C3", "O1", "F4", "C4", "O2"]}
MMA = {"variant": "mmasleepnet"}


def keras_count(name, config):
    """Weights and statistics of BatchNorm."""
    with torch.device("meta"):
        state = build_model(name, config).state_dict()
    return sum(v.numel() for k, v in state.items() if "num_batches" not in k)


def test_salientsleepnet_counts():
    assert keras_count("salientsleepnet", {}) == 948_795
    assert cost.parameters("salientsleepnet", MMA) == 1_184_371
    assert round(20 * cost.macs("salientsleepnet", MMA) / 1e9, 2) == 8.74


def test_sleepprintnet_counts():
    published = SIX | {"eog": 2, "emg": 3, "sample_rate": 128.0}
    biases = 6 * 128 + 2 * 6 * 64  # before a BatchNorm; see the model's head
    assert keras_count("sleepprintnet", published) + biases == 3_617_381
    assert build_model("sleepprintnet", published).linear1.in_features == 18_976
    assert cost.parameters("sleepprintnet", MMA) == 3_372_517
    assert cost.parameters("sleepprintnet", MMA | SIX) == 3_519_973
    assert round(cost.macs("sleepprintnet", MMA) / 1e6, 1) == 46.9


def test_masleepnet_has_the_sizes_of_its_head():
    model = make("masleepnet")
    assert model.steps.input_size == 3 * 128
    maps = model.maps(golden_models.signals(model.config, 2))
    assert maps.shape == (2, 384, 80)
    assert not hasattr(model, "epochs")
    assert cost.parameters("masleepnet", {"sequence": 20}) == 2_187_421


@pytest.mark.parametrize(
    ("name", "config"),
    [("masleepnet", {"sequence": 3}), ("salientsleepnet", {"sequence": 11, "filters": 4})],
)
def test_epochs_of_a_sequence_see_each_other(name, config):
    model = golden_models.fill(make(name, config))
    x = golden_models.signals(model.config, 1)
    altered = x.clone()
    altered[:, 1] = altered[:, 1].flip(-1)
    changed = (model(x) - model(altered)).abs().amax((0, 2))  # (epochs,)
    assert changed.shape == (config["sequence"],)
    assert changed.min() > 1e-6
    assert abs(int(changed.argmax()) - 1) <= 2


def test_salientsleepnet_takes_two_channels_standardised():
    model = golden_models.fill(make("salientsleepnet", {"sequence": 11, "filters": 4, "eeg": 1}))
    x = golden_models.signals(model.config, 1)
    rescaled = x * torch.tensor([1.0, 7.0, 0.2, 1.0])[:, None] + 3
    rescaled[:, :, [0, 3]] = 0
    close(model(x), model(rescaled), 1e-4)
    with pytest.raises(UsageError, match=r"eog = 4: .*expected 0 to 3"):
        make("salientsleepnet", {"eog": 4})


def test_sleepprintnet_looks_at_the_neighbours():
    model = golden_models.fill(make("sleepprintnet"))
    x = golden_models.signals(model.config, 1)
    for neighbour in (0, 2):
        altered = x.clone()
        altered[:, neighbour] = altered[:, neighbour].flip(-1)
        assert (model(x) - model(altered)).abs().max() > 1e-4
    alone = golden_models.fill(make("sleepprintnet", MMA))
    assert alone(x[:, 1]).shape == (1, 5)
    with pytest.raises(UsageError, match="sample_rate = 50"):
        make("sleepprintnet", {"sample_rate": 50.0})


@pytest.mark.parametrize(("hertz", "band"), [(2, 0), (6, 1), (10, 2), (20, 3), (40, 4)])
def test_the_map_shows_a_rhythm_where_it_is(hertz, band):
    times = torch.arange(3000) / 100
    x = torch.zeros(1, 2, 3000)
    x[0, 1] = 50 * torch.sin(2 * np.pi * hertz * times)
    pixels = make("sleepprintnet", MMA | {"electrodes": ["F3", "O2"]}).map(x)
    assert pixels.shape == (1, 5, 16, 16)
    b, row, column = np.unravel_index(int(pixels[0].argmax()), (5, 16, 16))
    assert (b, row, column) == (band, 14, 11)
    assert (pixels[0] > 0.01 * pixels.max()).sum() == 1
    spread = make("sleepprintnet", {"electrodes": ["F3", "O2"]}).map(x)
    b, row, column = np.unravel_index(int(spread[0].argmax()), (5, 16, 16))
    assert b == band
    assert (abs(row - 15), abs(column - 11.25) < 1) == (0, True)
    assert (spread[0, band].abs() > 0.05 * spread.abs().max()).sum() > 9
    close(spread, make("sleepprintnet", {"electrodes": ["F3", "O2"]}).map(9 * x), 1e-4)


@pytest.mark.parametrize("sample_rate", [100.0, 128.0])
def test_the_multitaper_map_is_that_of_its_formula_in_double_precision(sample_rate):
    settings = MMA | SIX | {"spectrum": "multitaper", "sample_rate": sample_rate}
    spectral_map = make("sleepprintnet", settings).map
    noise = np.random.default_rng(5).normal(size=(3, 6, round(30 * sample_rate))).cumsum(-1)
    noise += 300 * np.random.default_rng(6).normal(size=(3, 6, 1))  # the mean is taken out
    power = rebuilt.multitaper_bands(torch.from_numpy(noise), sample_rate)
    pixels = spectral_map(torch.from_numpy(noise).float())
    rows, columns = zip(*(rebuilt.PIXELS[e] for e in SIX["electrodes"]), strict=True)
    ours = pixels[:, :, rows, columns].transpose(1, 2)
    assert ours.shape == power.shape
    assert ((ours - power).abs() / power).max() < 2e-5
    pixels[:, :, rows, columns] = 0
    assert not pixels.any()


def test_the_multitaper_map_is_mnes():
    """As in the program of the MMASleepNet authors; since its version 1.3, MNE cuts the tapers from
    those of one sample more.
    """
    multitaper = pytest.importorskip("mne.time_frequency").psd_array_multitaper
    noise = np.random.default_rng(7).normal(size=(2, 2, 3000)).cumsum(-1)
    spectral_map = make("sleepprintnet", MMA | {"spectrum": "multitaper"}).map
    pixels = spectral_map(torch.from_numpy(noise).float())
    for band, (low, high) in enumerate(((0, 4), (4, 8), (8, 13), (13, 30), (30, 50))):
        power, _ = multitaper(noise, 100.0, low, high, verbose=False)
        ratio = pixels[:, band, [2, 11], [8, 8]] / torch.from_numpy(power.sum(-1))
        assert (ratio - 1).abs().max() < 3e-3


@pytest.mark.parametrize("settings", [{}, MMA, MMA | {"spectrum": "multitaper"}])
def test_both_ends_of_a_band_belong_to_it(settings):
    """13 Hz is in alpha and beta, where single precision took it for a little more."""
    bands = make("sleepprintnet", settings).map.bands
    at = {hertz: bands[30 * hertz] > 0 for hertz in (3, 4, 7, 8, 13, 30, 50)}
    if settings:
        inside = {4: [0, 1], 8: [1, 2], 13: [2, 3], 30: [3, 4], 50: [4]}
    else:
        inside = {3: [0], 4: [1], 7: [1], 8: [2], 13: [2], 30: [3], 50: [4]}
    for hertz, expected in inside.items():
        assert at[hertz].nonzero().flatten().tolist() == expected


def test_multitapers_belong_to_the_variant_that_sums_them():
    with pytest.raises(UsageError, match='spectrum = "multitaper" needs variant = "mmasleepnet"'):
        make("sleepprintnet", {"spectrum": "multitaper"})
