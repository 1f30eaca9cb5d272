"""Models of more than one epoch: their counts, what they see, and SleepPrintNet's map."""

import numpy as np
import pytest
import torch

import cost
import golden_models
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
