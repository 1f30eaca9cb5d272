"""The networks of the mouse report: their spectra, and what attention and tokens see."""

import numpy as np
import pytest
import torch

import golden_models
from comparing import close, make
from sleeptools import registry
from sleeptools.models.recipe.recipe import resolve_recipe
from sleeptools.models.recipe.schedule import Schedule

CNN = ("mouse-cnn", "mouse-cnn-attention")


def test_spectra():
    """log(1 + magnitude) of the windowed epoch, by hand, and standardised."""
    spectrum = make("mouse-cnn").spectrum
    x = torch.from_numpy(golden_models.uniform((64, 2, 512), 3))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    expected = np.log1p(np.abs((x.numpy() * window) @ turns.T))
    close(spectrum.eval()(x) * (1 + 1e-5) ** 0.5, torch.from_numpy(expected).float(), 1e-5)
    standardised = spectrum.train()(x)
    close(standardised.mean(0), torch.zeros(2, 257), 1e-5)
    close(standardised.std(0, correction=0), torch.ones(2, 257), 1e-3)
    assert not list(spectrum.parameters())


@pytest.mark.parametrize("name", [*CNN, "mouse-transformer"])
@pytest.mark.parametrize("channel", [0, 1])
def test_every_signal_is_seen(name, channel):
    model = golden_models.fill(make(name))
    x = golden_models.signals(model.config) / 40
    altered = x.clone()
    altered[:, channel] = altered[:, channel].flip(1)
    assert (model(x) - model(altered)).abs().max() > 1e-3


def test_attention_is_over_the_steps_of_a_branch():
    """Without it a step sees its neighbours only; with it, all others."""
    for name, reaches in zip(CNN, (False, True), strict=True):
        branch = golden_models.fill(make(name)).branches[0]
        first = next(i for i, m in enumerate(branch) if i and isinstance(m, torch.nn.Conv1d))
        blocks = torch.nn.Sequential(*list(branch)[:first])
        x = torch.from_numpy(golden_models.uniform((1, 1, 512), 3))
        far = x.clone()
        far[..., -8:] += 1
        changed = (blocks(x) - blocks(far)).abs().amax((0, 1))  # (256 steps,)
        assert bool(changed[:200].max() > 1e-6) is reaches
        assert changed[-3:].min() > 1e-6


def test_the_order_of_the_tokens_matters():
    model = golden_models.fill(make("mouse-transformer", {"layers": 2}))
    x = golden_models.signals(model.config) / 40
    assert (model(x) - model(x.roll(64, 2))).abs().max() > 1e-3
    encoder = model.encoders[0]
    with torch.no_grad():
        encoder.positions.zero_()
        close(encoder(x[:, 0]), encoder(x[:, 0].roll(64, 1)), 1e-5)


def test_recipes():
    for name in CNN:
        recipe = resolve_recipe(registry.load("models", name), {"variant": "paper"})
        assert (recipe.optimiser, recipe.learning_rate, recipe.batch) == ("adam", 0.01, 64)
        assert (recipe.schedule, recipe.passes) == (Schedule(kind="one_cycle"), 30)
        assert recipe.selection == "macro_f1"
    recipe = registry.load("models", "mouse-transformer").RECIPE
    assert (recipe.optimiser, recipe.learning_rate, recipe.batch) == ("sgd", 0.1, 512)
