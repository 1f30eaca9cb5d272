"""What each recipe trains, against networks and an optimiser built from the papers apart."""

import contextlib

import numpy as np
import pytest
import torch

import cost
import golden_models
import rebuilt
from comparing import close, make, without_dropout
from sleeptools import registry
from sleeptools.errors import UsageError
from sleeptools.models.recipe.recipe import brought_settings
from sleeptools.models.sleepprintnet import SpectralMap
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import make_optimiser

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = [n for n in registry.names("models") if hasattr(registry.load("models", n), "RECIPES")]
EVERY = [(n, r) for n in MODELS for r in registry.load("models", n).RECIPES]
BROUGHT = [(n, r) for n, r in EVERY if brought_settings(registry.load("models", n), r)]
SIX = ("F3", "C3", "O1", "F4", "C4", "O2")
SMALL = {
    "salientsleepnet": {"sequence": 11, "filters": 4},
    "slumbernet": {"epoch_seconds": 0.5, "filters": 4},
}
"""Settings with which a step is quick; the sizes as published are counted without content."""
REBUILT = {
    ("attnsleep", "mmasleepnet"): lambda s, x, _: rebuilt.attnsleep(s, x[:, :1]),
    ("attnsleep", "mmasleepnet-isruc"): lambda s, x, _: rebuilt.attnsleep(s, x[:, :1]),
    ("mmasleepnet", "printed"): lambda s, x, _: rebuilt.mmasleepnet(s, x, printed=True),
    ("mmasleepnet", "released"): lambda s, x, _: rebuilt.mmasleepnet(s, x, printed=False),
    ("mouse-cnn", "paper"): lambda s, x, _: rebuilt.mouse_cnn(s, x),
    ("mouse-cnn-attention", "paper"): lambda s, x, _: rebuilt.mouse_cnn(s, x, (4, 4, 4, 4)),
    ("salientsleepnet", "mmasleepnet"): lambda s, x, c: rebuilt.salientsleepnet(
        s, x[:, :, [1, 2]], c.filters
    ),
    ("salientsleepnet", "mmasleepnet-isruc"): lambda s, x, c: rebuilt.salientsleepnet(
        s, x[:, :, [1, 6]], c.filters
    ),
    ("sleepprintnet", "mmasleepnet"): lambda s, x, _: rebuilt.sleepprintnet(s, x, ("F3", "C3")),
    ("sleepprintnet", "mmasleepnet-isruc"): lambda s, x, _: rebuilt.sleepprintnet(s, x, SIX),
    ("slumbernet", "paper"): lambda s, x, c: rebuilt.slumbernet(
        s, x.transpose(1, 2), c.filters, printed=True
    ),
    ("slumbernet", "authors"): lambda s, x, c: rebuilt.slumbernet(
        s, x.reshape(len(x), -1, 2), c.filters, printed=False
    ),
}
"""The rebuilt network of each recipe that brings one along, on the input of ours."""
PARAMETERS = {
    ("attnsleep", "mmasleepnet"): 522_805,
    ("attnsleep", "mmasleepnet-isruc"): 522_805,
    ("mmasleepnet", "printed"): 1_425_619,
    ("mmasleepnet", "released"): 1_604_229,
    ("mouse-cnn", "paper"): 338_438,
    ("mouse-cnn-attention", "paper"): 494_214,
    ("salientsleepnet", "mmasleepnet"): 1_184_371,
    ("salientsleepnet", "mmasleepnet-isruc"): 1_184_371,
    ("sleepprintnet", "mmasleepnet"): 3_372_517,
    ("sleepprintnet", "mmasleepnet-isruc"): 3_519_973,
    ("slumbernet", "paper"): 1_935_931,
    ("slumbernet", "authors"): 5_338_931,
}


def trained(name, recipe, more=None):
    """The model that a recipe trains."""
    return make(name, brought_settings(registry.load("models", name), recipe) | (more or {}))


def test_every_network_that_a_recipe_brings_along_is_rebuilt():
    assert set(REBUILT) == set(PARAMETERS) == set(BROUGHT)


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_the_list_has_every_recipe_with_its_parameters(name, recipe):
    module = registry.load("models", name)
    assert list(module.ABOUT["recipes"]) == list(module.RECIPES)
    settings = brought_settings(module, recipe)
    assert module.ABOUT["recipes"][recipe] == cost.parameters(name, settings)


@pytest.mark.parametrize(("name", "recipe"), BROUGHT)
def test_parameters(name, recipe):
    settings = brought_settings(registry.load("models", name), recipe)
    assert cost.parameters(name, settings) == PARAMETERS[name, recipe]


@pytest.mark.parametrize(("name", "recipe"), [b for b in BROUGHT if b[0] in SMALL])
def test_sizes_of_every_layer_as_published(name, recipe):
    """The networks whose step below is of a narrow one: without content, every shape, none left."""
    with torch.device("meta"):
        model = trained(name, recipe, {"sequence": 11} if name == "salientsleepnet" else {})
        x = torch.empty(1, *golden_models.shape(model.config))
    state = rebuilt.State(model)
    logits = REBUILT[name, recipe](state, x, model.config)
    assert (logits.shape[-1], state.left) == (model.config.stages, [])


def test_keras_counts_the_statistics_of_slumbernets_text():
    state = trained("slumbernet", "paper").state_dict()
    assert sum(t.numel() for t in state.values() if t.dim()) == 1_944_059


@contextlib.contextmanager
def double_precision():
    """What is made without a type is made in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(params=BROUGHT, ids="-".join)
def pair(request):
    """A recipe's model and the rebuilt network with its weights, in float64, and their input."""
    name, recipe = request.param
    model = golden_models.fill(trained(name, recipe, SMALL.get(name))).double()
    x = golden_models.signals(model.config, 2 if name == "salientsleepnet" else 4).double()
    if name.startswith("mouse"):
        x = x / 40
        with double_precision():  # single precision of its window is no part of the table
            model.spectrum.window = torch.hann_window(model.config.samples)
    if name == "sleepprintnet":  # single precision of its tapers is no part of the table
        with double_precision():
            model.map = SpectralMap(model.config)
    state = rebuilt.State(model)

    def table(*, training):
        logits = REBUILT[request.param](state.rewind(training=training), x, model.config)
        assert state.left == []
        return logits

    return model, state, table, x, registry.load("models", name).RECIPES[recipe]


def test_logits(pair):
    model, _, table, x, _ = pair
    with torch.no_grad():
        close(model(x), table(training=False), 1e-11)


def test_a_step_of_training(pair):
    """Logits by the batch's statistics, the recipe's loss, its gradients and three updates."""
    model, state, table, x, recipe = pair
    model = without_dropout(model)
    ours, theirs = model(x), table(training=True)
    close(ours, theirs, 1e-10)
    stages = torch.arange(ours[..., 0].numel()) % model.config.stages
    weights = torch.tensor(recipe.class_weights, dtype=torch.float64)
    given = weights if len(weights) else None
    value = stage_loss(ours.flatten(0, -2), stages, given, recipe.loss)
    expected = rebuilt.loss(theirs.flatten(0, -2), stages, recipe.class_weights, recipe.loss)
    close(value, expected, 1e-11)
    optimiser = make_optimiser(list(model.parameters()), recipe)
    value.backward()
    trained_names = [n for n, p in model.named_parameters() if p.requires_grad]
    leaves = [state.leaves[n] for n in trained_names]
    gradients = dict(zip(trained_names, torch.autograd.grad(expected, leaves), strict=True))
    largest = max(g.abs().max() for g in gradients.values())
    for name, p in model.named_parameters():
        if name in state.frozen:
            assert p.grad is None
        else:
            error = (p.grad - gradients[name]).abs().max()
            assert error <= 1e-9 * max(gradients[name].abs().max(), 1e-3 * largest), name
    by_hand = rebuilt.Adam(
        {n: state.leaves[n].detach().clone() for n in trained_names},
        rate=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.eps,
        decay=recipe.weight_decay,
        amsgrad=recipe.amsgrad,
    )
    for factor in (1.0, -0.5, 0.1):  # of the gradients; AMSGrad keeps the highest
        for name, p in model.named_parameters():
            if name not in state.frozen:
                p.grad = factor * gradients[name]
        optimiser.step()
        by_hand.step({n: factor * g for n, g in gradients.items()})
    for name, p in model.named_parameters():
        if name not in state.frozen:
            moved = (by_hand.weights[name] - state.leaves[name]).abs().max()
            assert (p - by_hand.weights[name]).abs().max() <= 1e-9 * max(moved, 1e-6), name


# --- what the papers and programs say of each -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rate", "passes", "batch", "weighted", "loss"),
    [
        ("attnsleep", 1e-4, 150, 256, False, "weighted_ce"),
        ("sleepprintnet", 1e-5, 230, 256, False, "weighted_ce"),
        ("salientsleepnet", 1e-4, 75, 8, True, "softmax_ce"),
    ],
)
def test_the_baselines_of_mmasleepnets_paper(name, rate, passes, batch, weighted, loss):
    recipes = registry.load("models", name).RECIPES
    recipe = recipes["mmasleepnet"]
    assert (recipe.learning_rate, recipe.passes, recipe.batch) == (rate, passes, batch)
    assert (recipe.optimiser, recipe.amsgrad, recipe.weight_decay) == ("adam", True, 0.01)
    assert (recipe.betas, recipe.eps, recipe.schedule.kind) == ((0.9, 0.999), 1e-8, "constant")
    assert recipe.class_weights == ((1.0, 1.8, 1.0, 1.25, 1.2) if weighted else ())
    assert (recipe.loss, recipe.selection, recipe.selection_on_test) == (
        loss,
        "accuracy",
        "accuracy",
    )
    differs = {
        k
        for k in type(recipe).model_fields
        if getattr(recipe, k) != getattr(recipes["mmasleepnet-isruc"], k)
    }
    rate_too = {"learning_rate"} if name == "attnsleep" else set()
    assert differs == {"variant", "passes"} | rate_too


def test_attnsleep_begins_with_pytorchs_weights():
    model = trained("attnsleep", "mmasleepnet")
    assert torch.equal(model.afr.norm1.weight, torch.ones(30))
    bound = 1 / np.sqrt(64 * 8)  # kaiming_uniform of nn.Conv1d
    assert 0.9 * bound < model.streams.small.conv2.conv.weight.abs().max() <= bound


def test_ulw_sleepnet_adds_what_keras_adds():
    recipes = registry.load("models", "ulw-sleepnet").RECIPES
    assert (recipes["authors"].eps, recipes["default"].eps) == (1e-7, 1e-8)


def test_slumbernets_text_augments_every_sample_and_adds_noise():
    recipes = registry.load("models", "slumbernet").RECIPES
    text = recipes["paper"].augmentation
    assert (text.gains, text.per_sample, text.shift) == ((0.3, 0.05), True, 1.0)
    assert text.noise > 0
    assert (text.cached, text.interleaved) == (False, False)
    assert recipes["authors"].augmentation.noise == recipes["default"].augmentation.noise == 0


@pytest.mark.parametrize("network", ["authors", "paper"])
def test_slumbernets_dropout(network):
    """Two places in a block and its sum; none by default, as published."""
    plain = make("slumbernet", {"filters": 1, "network": network})
    assert not [m for m in plain.modules() if isinstance(m, torch.nn.Dropout)]
    config = {"filters": 4, "epoch_seconds": 0.5, "network": network}
    model = golden_models.fill(make("slumbernet", config | {"dropout": 0.3}))
    x = golden_models.signals(model.config)
    close(model(x), golden_models.fill(make("slumbernet", config))(x), 1e-6)
    calls = []
    for block in model.blocks:
        block.dropout.register_forward_hook(lambda *_: calls.append(1))
    assert not torch.equal(model.train()(x), model(x))
    assert len(calls) == 2 * 3 * 7


def test_heads_for_each_signal_and_spectrum():
    model = golden_models.fill(make("mouse-cnn-attention", {"heads": [1, 2, 4, 8]})).double()
    counts = [b[4].attention.num_heads for b in model.branches]
    assert counts == [1, 2, 4, 8]
    alike = golden_models.fill(make("mouse-cnn-attention", {"heads": [4] * 4})).double()
    x = golden_models.signals(model.config).double() / 40
    assert torch.equal(alike(x), golden_models.fill(make("mouse-cnn-attention")).double()(x))
    assert (alike(x) - model(x)).abs().max() > 1e-4
    with pytest.raises(UsageError, match="one number, or 4: of each signal and each spectrum"):
        make("mouse-cnn-attention", {"heads": [4, 4]})
    with pytest.raises(UsageError, match="heads"):
        make("mouse-cnn-attention", {"heads": [3, 3, 3, 3]})
