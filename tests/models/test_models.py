"""Every model of the drawer, the folder a model is kept in, and MMASleepNet against its tables."""

import copy
import json

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.nn import functional

import cost
import golden_models
from comparing import close, make, without_dropout
from sleeptools import native, registry, store
from sleeptools.commands.train import TrainOptions, train
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.models.folder import build_model, load_model, save_model
from sleeptools.models.mmasleepnet import Config, Model
from sleeptools.models.recipe.recipe import Recipe, resolve_recipe
from sleeptools.models.recipe.schedule import Position, Schedule, rate_at
from sleeptools.recording.stages import HUMAN_STAGES, MOUSE_STAGES
from sleeptools.runs import model_folder
from sleeptools.training.loss import stage_loss
from sleeptools.training.optimisation import adjust_optimiser, make_optimiser
from synthetic_epochs import write_epochs

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = registry.names("models")
EVERY_VARIANT = [(n, v, c) for n in NAMES for v, c in golden_models.variants(n).items()]
NARROW = {
    "slumbernet": {"blocks": 5, "filters": 4, "epoch_seconds": 1.0},
    "mouse-transformer": {"layers": 2},
    "salientsleepnet": {"sequence": 11, "filters": 8},
}
"""Settings with which the heavy ones are quick to train."""
FACTS = {
    "montage": ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"],
    "sample_rate": 100.0,
    "epoch_seconds": 30.0,
    "stages": ["W", "N1", "N2", "N3", "REM"],
    "preprocessing": {"preset": {"name": "sleep-edf"}},
}


# --- every model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_module_has_what_a_model_has(name):
    module = registry.load("models", name)
    assert isinstance(module.RECIPE, Recipe)
    config, about = module.Config(), module.ABOUT
    recipes = getattr(module, "RECIPES", {"default": module.RECIPE})
    assert {key: recipe.variant for key, recipe in recipes.items()} == {k: k for k in recipes}
    assert all(len(r.class_weights) in {0, config.stages} for r in recipes.values())
    assert config.channels > 0
    assert (about["sample_rate"], about["epoch_seconds"], about["stages"]) == (
        config.sample_rate,
        config.epoch_seconds,
        config.stages,
    )
    assert (about["parameters"], about["macs"]) == (cost.parameters(name), cost.macs(name))
    assert {op.replace("_", "-") for op in about["native"]} <= set(registry.names("ops"))
    assert module.__doc__


@pytest.fixture(params=native.variants())
def core(request):
    """Every CPU variant of the native core that this machine can run, and the reference."""
    with native.using_variant(request.param):
        yield request.param


NATIVE = {n for n in NAMES if registry.load("models", n).ABOUT["native"]}


@pytest.mark.parametrize(
    ("name", "variant", "config"), [v for v in EVERY_VARIANT if v[0] in NATIVE]
)
def test_golden_on_every_cpu_variant(name, variant, config, core):
    assert native.variant() == core
    check_golden(name, variant, config)


@pytest.mark.parametrize(
    ("name", "variant", "config"), [v for v in EVERY_VARIANT if v[0] not in NATIVE]
)
def test_golden(name, variant, config):
    check_golden(name, variant, config)


def check_golden(name, variant, config):
    """Logits are what they were when tests/golden was written."""
    stored = store.read_tensors(golden_models.path(name), golden_models.KIND)
    assert set(stored.arrays) == set(golden_models.variants(name))
    logits = golden_models.logits(name, config)
    assert logits.shape[0] == golden_models.BATCH
    expected = torch.from_numpy(np.array(stored[variant]))
    close(torch.from_numpy(logits), expected, golden_models.TOLERANCE.get(name, 2e-5))
    assert np.ptp(stored[variant], 0).max() > 1e-3  # they do depend on the input


def narrow(name, seed=0):
    return make(name, NARROW.get(name), seed)


@pytest.mark.parametrize("name", NAMES)
def test_epochs_of_a_batch_do_not_see_each_other(name):
    model = golden_models.fill(narrow(name))
    x = golden_models.signals(model.config)
    logits = model(x)
    assert logits.shape == (*(x.shape[:-2] if outputs(model) else x.shape[:1]), model.config.stages)
    altered = x.clone()
    altered[1:] *= -2
    assert torch.equal(model(altered)[0], logits[0])
    # in double: one epoch's sums run in another order than several's, 8e-5 in AttnSleep's float32
    x, exact = x.double(), model.double()
    close(torch.cat([exact(epoch[None]) for epoch in x]), exact(x), 1e-10)


def outputs(model):
    """Whether a model scores every epoch of its input."""
    return model.config.input_span.sequence > 1


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    model = narrow(name).train()
    x = golden_models.signals(model.config, 4)
    logits = model(x)
    stages = torch.arange(logits[..., 0].numel()).view(logits.shape[:-1]) % 3
    stage_loss(logits.flatten(0, -2), stages.flatten(), None, "weighted_ce").backward()
    frozen = 0
    for key, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, key
            if name == "ulw-sleepnet" and key.endswith("pointwise.bias"):
                continue  # BatchNorm takes it away: 0, or what rounding leaves of it
            assert p.grad.abs().sum() > 0, key
        else:
            frozen += p.numel()
    assert frozen == (12_980 if name == "attnsleep" else 0)  # "unused" in its head


@pytest.mark.parametrize("name", NAMES)
def test_takes_a_step_in_bf16(name):
    model = narrow(name).train()
    x = golden_models.signals(model.config, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x).float()
    stages = torch.arange(logits[..., 0].numel()).view(logits.shape[:-1]) % 3
    stage_loss(logits.flatten(0, -2), stages.flatten(), None, "weighted_ce").backward()
    for key, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad.dtype == torch.float32, key
            assert p.grad.isfinite().all(), key


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name):
    def weights(seed):
        return torch.cat([p.flatten() for p in narrow(name, seed=seed).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "salientsleepnet" else n for n in NAMES],
)
def test_learns_a_few_epochs_by_heart(name):
    model = without_dropout(narrow(name))
    rng = np.random.default_rng(0)
    config = model.config
    count = 2 if outputs(model) else 2 * config.stages
    *length, channels, samples = golden_models.shape(config)
    scored = length if outputs(model) else []
    stages = torch.from_numpy(rng.permuted(np.resize(np.arange(config.stages), (count, *scored))))
    times = np.arange(samples) / config.sample_rate
    pitch = (1 + 3 * stages.numpy()[..., None, None]) * 30 / config.epoch_seconds
    waves = 30 * np.sin(2 * np.pi * pitch * times)  # (..., 1, T)
    if length and not scored:
        waves = waves[:, None]  # the neighbours are alike
    noise = rng.normal(0, 15, (count, *length, channels, samples))
    x = torch.from_numpy((waves + noise).astype(np.float32))
    rate = 1e-2 if name == "salientsleepnet" else 1e-3  # its tanh and means make small gradients
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(60):
        logits = model(x)
        if (logits.argmax(-1) == stages).float().mean() > 0.95:
            return
        optimiser.zero_grad()
        stage_loss(logits.flatten(0, -2), stages.flatten(), None, "weighted_ce").backward()
        optimiser.step()
    pytest.fail("does not learn a few epochs by heart")


# --- every model in training ----------------------------------------------------------------------


def epochs_for(config, folder, **facts):
    size = {
        "channels": config.channels,
        "sample_rate": config.sample_rate,
        "epoch_seconds": config.epoch_seconds,
        "names": HUMAN_STAGES if config.stages == 5 else MOUSE_STAGES,
    }
    return write_epochs(folder, subjects=2, **size | {"count": 10, "gaps": (4,)} | facts)


def options(name):
    settings = {"model": NARROW.get(name, {}), "recipe": {"batch": 4}}
    return TrainOptions(model=name, folds=2, fold=0, passes=1, settings=settings, threads=1)


@pytest.mark.parametrize("name", NAMES)
def test_trains_and_scores_every_epoch_once(name, tmp_path, monkeypatch):
    config = registry.load("models", name).Config(**NARROW.get(name, {}))
    data = epochs_for(config, tmp_path / "epochs")
    train(data, tmp_path / "a", options(name))
    train(data, tmp_path / "b", options(name))
    fold = "leak-free/seed-0/fold-00"
    table = pl.read_parquet(tmp_path / "a" / fold / "predictions.parquet")
    assert table["epoch"].to_list() == list(range(10))
    assert np.isfinite(table.select("^p_.*$").to_numpy()).all()
    for file in ("model.safetensors", "predictions.parquet", "explain.safetensors"):
        assert (tmp_path / "a" / fold / file).read_bytes() == (
            tmp_path / "b" / fold / file
        ).read_bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"channels": 17}, "expects channels {c.channels}, the epochs have 17"),
        ({"sample_rate": 50.0}, "expects a sample rate in Hz of {c.sample_rate:g}, .* have 50"),
        ({"epoch_seconds": 3.0}, "expects seconds an epoch {c.epoch_seconds:g}, .* have 3"),
        ({"names": tuple("ABCD")}, "expects stages {c.stages}, the epochs have 4"),
    ],
)
def test_epochs_that_do_not_fit(name, facts, words, tmp_path):
    config = registry.load("models", name).Config(**NARROW.get(name, {}))
    data = epochs_for(config, tmp_path / "epochs", count=1, **facts)
    with pytest.raises(DataError, match=words.format(c=config)) as e:
        train(data, tmp_path / "run", options(name))
    assert e.value.exit_code == 65


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_is_not_there(name):
    with pytest.raises(UsageError, match=r"unknown setting 'widht'; there are: .*stages") as e:
        make(name, {"widht": 1})
    assert e.value.exit_code == 2


# --- recipes --------------------------------------------------------------------------------------


def test_losses():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.0, 0.0]])
    stages, weights = torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0])
    losses = -logits.log_softmax(1)[torch.arange(3), stages] * weights[stages]
    close(stage_loss(logits, stages, weights, "weighted_ce"), losses.sum() / 5)
    close(stage_loss(logits, stages, weights, "weighted_ce_n"), losses.sum() / 3)
    twice = -logits.softmax(1).log_softmax(1)[torch.arange(3), stages] * weights[stages]
    close(stage_loss(logits, stages, weights, "softmax_ce"), twice.sum() / 5)
    doubled, unscored = torch.cat([logits, logits + 1]), torch.cat([stages, torch.full((3,), -1)])
    for kind in ("weighted_ce", "weighted_ce_n", "softmax_ce"):
        close(
            stage_loss(doubled, unscored, weights, kind), stage_loss(logits, stages, weights, kind)
        )


def test_the_authors_loss_has_a_floor():
    sure = 1000 * torch.eye(5)
    assert stage_loss(sure, torch.arange(5), None, "softmax_ce").item() > 0.90
    assert stage_loss(sure, torch.arange(5), None, "weighted_ce").item() == 0


def test_recipes_of_mmasleepnet():
    module = registry.load("models", "mmasleepnet")
    authors = resolve_recipe(module, {"variant": "authors", "batch": 8})
    assert (authors.weight_decay, authors.amsgrad, authors.loss) == (0.01, True, "softmax_ce")
    assert (authors.batch, authors.passes, authors.learning_rate) == (8, 150, 1e-4)
    assert authors.selection == "accuracy"
    paper = resolve_recipe(module, {"variant": "paper"})
    assert (paper.weight_decay, paper.amsgrad, paper.loss) == (1e-3, False, "weighted_ce_n")
    assert paper.class_weights == (1.0, 1.8, 1.0, 1.25, 1.2)
    assert resolve_recipe(module, {}) == module.RECIPE


# --- schedules ------------------------------------------------------------------------------------


def rates(recipe, steps, losses=()):
    """Learning rate and momentum of every step; `losses` of the passes done before all of them."""
    weight = nn.Parameter(torch.ones(2))
    optimiser = make_optimiser([weight], recipe)
    settings = []
    for step in range(steps):
        adjust_optimiser(optimiser, recipe, Position(step, steps, losses))
        group = optimiser.param_groups[0]
        settings.append((group["lr"], group.get("momentum", group.get("betas", [None])[0])))
    return np.array(settings)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_one_cycle_is_that_of_pytorch(kind):
    recipe = Recipe(optimiser=kind, learning_rate=0.1, schedule=Schedule(kind="one_cycle"))
    optimiser = make_optimiser([nn.Parameter(torch.ones(2))], recipe)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=57)
    expected = []
    for _ in range(57):
        group = optimiser.param_groups[0]
        expected.append((group["lr"], group.get("momentum", group.get("betas", [None])[0])))
        optimiser.step()
        if len(expected) < 57:
            theirs.step()
    np.testing.assert_allclose(rates(recipe, 57), expected, rtol=1e-9)


def test_cosine_restarts_are_those_of_pytorch_and_of_the_publication():
    """A descent ends where the next begins, after 10, 30, 70, ... steps; the last is cut short."""
    recipe = registry.load("models", "ulw-sleepnet").RECIPE
    optimiser = make_optimiser([nn.Parameter(torch.ones(2))], recipe)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=10, T_mult=2)
    expected = []
    for _ in range(200):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    learning_rates = rates(recipe, 200)[:, 0]
    np.testing.assert_allclose(learning_rates, expected, rtol=1e-9)
    assert np.flatnonzero(learning_rates == 1e-3).tolist() == [0, 10, 30, 70, 150]
    assert learning_rates[5] == pytest.approx(5e-4)


def test_drop_after_so_many_passes():
    recipe = Recipe(learning_rate=1e-3, schedule=Schedule(kind="drop", passes=10))
    assert rates(recipe, 1, [1.0] * 9)[0, 0] == 1e-3
    assert rates(recipe, 1, [1.0] * 10)[0, 0] == pytest.approx(1e-4)
    assert rates(recipe, 1, [1.0] * 60)[0, 0] == pytest.approx(1e-4)


def test_plateau_waits_for_the_loss_to_fall():
    schedule = Schedule(kind="plateau", passes=3, factor=0.5, lowest=0.2)

    def factor(losses):
        return rate_at(schedule, Position(0, 1, losses)).factor

    assert factor([]) == factor([5.0]) == 1
    falling = [5.0, 4.0, 3.0]
    assert factor([*falling, 3.1, 3.0]) == 1
    assert factor([*falling, 3.1, 3.0, 2.99995]) == 0.5  # too little to be noticed
    assert factor([*falling, 3.1, 3.0, 2.9]) == 1
    assert factor([*falling, *[3.1] * 5]) == 0.5
    assert factor([*falling, *[3.1] * 6]) == 0.25
    assert factor([*falling, *[3.1] * 30]) == 0.2
    assert factor([*falling, *[3.1] * 3, 2.0, 1.0]) == 0.5  # what is lowered stays lowered


def test_a_setting_within_a_table_keeps_the_rest_of_it():
    module = registry.load("models", "mmasleepnet")
    recipe = resolve_recipe(module, {"schedule": {"kind": "drop"}})
    assert recipe.schedule == Schedule(kind="drop")
    for values in ({"schedule": "drop"}, {"schedule": {"kind": "none"}}, {"batch": {}}):
        with pytest.raises(UsageError, match="recipe: "):
            resolve_recipe(module, values)


# --- the model folder -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_model(golden_models.fill(make("mmasleepnet", {"tokens": "paper"})), tmp_path / "m", FACTS)
    return tmp_path / "m"


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name, tmp_path):
    model = golden_models.fill(narrow(name))
    save_model(model, tmp_path / "m", FACTS)
    back = load_model(tmp_path / "m")
    x = golden_models.signals(model.config)
    assert torch.equal(back(x), model(x))
    assert back.facts["model"] == name
    assert back.facts["montage"] == FACTS["montage"]
    assert not back.training


def change(path, **facts):
    """Write a model folder whose files fit each other, with other facts."""
    weights = store.read_tensors(path.parent / "model.safetensors").arrays
    arrays = {name: np.array(array) for name, array in weights.items()}
    model_folder.write_model_folder(path.parent, {**json.loads(path.read_text()), **facts}, arrays)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"format": "other"}, "expected sleeptools-model"),
        ({"version": 2}, "version 2"),
        ({"model": "none"}, "unknown model"),
        ({"config": {"kernel": 1}}, "unknown setting 'kernel'"),
        ({"config": {"eeg": 0}}, "eeg = 0"),
        ({"config": {}}, "expected float32"),
        ({"config": {"fusion": "mbfe"}}, "unknown encoder"),
        ({"config": {"fusion": "full", "modalities": "eeg"}}, r"branches\.emg.*more"),
    ],
)
def test_a_folder_that_does_not_fit(folder, facts, words):
    change(folder / "config.json", **facts)
    with pytest.raises(DataError, match=words):
        load_model(folder)


@pytest.mark.parametrize("key", ["montage", "preprocessing", "config"])
def test_a_config_that_lacks_something(folder, key):
    facts = json.loads((folder / "config.json").read_text())
    del facts[key]
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=f"lacks {key}"):
        load_model(folder)


def test_weights_that_are_not_finite(folder):
    t = store.read_tensors(folder / "model.safetensors")
    arrays = {k: np.array(v) for k, v in t.arrays.items()}
    arrays["linear1.bias"][3] = np.nan
    model_folder.write_model_folder(folder, store.read_json(folder / "config.json"), arrays)
    with pytest.raises(DataError, match=r"linear1\.bias holds values that are not finite"):
        load_model(folder)


@pytest.mark.parametrize("size", [0, 7, 100, 40_000, 100_000])
def test_weights_cut_short(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError):
        load_model(folder)


def test_missing_files(folder, tmp_path):
    with pytest.raises(MissingInputError, match="no such model folder"):
        load_model(tmp_path / "none")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingInputError, match=r"model\.safetensors"):
        load_model(folder)


def test_unknown_names():
    with pytest.raises(UsageError, match="mmasleepnet"):
        build_model("masleepnett")
    with pytest.raises(UsageError, match="eeg, stages, kernels"):
        build_model("mmasleepnet", {"kernel": "paper"})


# --- MMASleepNet ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        ({}, 1_581_637),
        ({"kernels": "authors"}, 1_604_229),
        ({"eeg": 6}, 1_722_437),
        ({"eeg": 6, "kernels": "authors"}, 1_751_685),
        ({"tokens": "paper"}, 1_429_797),
        ({"se": "paper"}, 1_581_637),
    ],
)
def test_parameters_as_published(config, parameters):
    model = make("mmasleepnet", config)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_parameters_of_the_parts():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    model = make("mmasleepnet", {"kernels": "authors"})
    eeg, eog = model.branches["eeg"], model.branches["eog"]
    assert (count(eeg.small), count(eeg.large)) == (336_768, 312_192)
    assert (count(eog.small), count(eog.large)) == (84_416, 78_272)
    assert (count(model.se), count(model.encoder)) == (96, 432_992)
    assert (count(model.linear1), count(model.linear2)) == (196_640, 165)
    paper = make("mmasleepnet").branches
    assert (count(paper["eeg"]), count(paper["emg"])) == (645_632, 153_056)


@pytest.mark.parametrize(
    ("name", "variant", "config"), [v for v in EVERY_VARIANT if v[0] == "mmasleepnet"]
)
def test_features(name, variant, config):
    model = golden_models.fill(make(name, config))
    features = model.features(golden_models.signals(model.config))
    modalities = {"all": 4, "eeg+eog": 3, "eeg": 2}[model.config.modalities]
    assert (
        features.fused.shape == features.weighed.shape == (golden_models.BATCH, modalities, 64, 24)
    )
    tokens = (24 * modalities, 64) if model.config.tokens == "paper" else (64, 24 * modalities)
    assert features.tokens.shape == features.gated.shape == (golden_models.BATCH, *tokens)


def test_an_ablation_does_not_look_at_the_other_channels():
    model = golden_models.fill(make("mmasleepnet", {"modalities": "eeg"}))
    x = golden_models.signals(model.config)
    altered = x.clone()
    altered[:, 2:] = 7.0
    assert torch.equal(model(x), model(altered))


@pytest.mark.parametrize("kind", ["authors", "paper"])
def test_modal_se_op_against_its_layers(kind):
    se = golden_models.fill(make("mmasleepnet", {"se": kind})).se
    f = torch.from_numpy(golden_models.uniform((5, 4, 64, 24), 1))
    close(se(f), se.reference(f))
    twin = copy.deepcopy(se).double()
    close(twin(f.double()).float(), se(f))


# An independent assembly from the tables of the publication, with the same weights.


def table_stream(inputs, width, kernel, stride, pad, pool, later, last):
    """Layers of one stream in the order of the table."""

    def conv(i, o, k, s, p):
        return [nn.Conv1d(i, o, k, s, p, bias=False), nn.BatchNorm1d(o), nn.LeakyReLU(0.01)]

    layers = [*conv(inputs, width, kernel, stride, pad), nn.MaxPool1d(*pool), nn.Dropout()]
    for i in (width, 2 * width, 2 * width):
        layers += conv(i, 2 * width, later, 1, 4)
    return nn.Sequential(*layers, nn.MaxPool1d(*last))


def table_branch(inputs, width, short, long, pad):
    return nn.ModuleList(
        [
            table_stream(inputs, width, short, 8, pad, (8, 8, 4), 8, (4, 4, 2)),
            table_stream(inputs, width, long, 64, 24, (4, 4, 2), 6, (2, 2, 1)),
        ]
    )


class Table(nn.Module):
    """The network with the authors' tokens, its attention written out."""

    def __init__(self, eeg, kernels):
        super().__init__()
        by_authors = kernels == "authors"
        short, long, pad = (64, 512, 24) if by_authors else (25, 250, 8)
        self.branches = nn.ModuleList(
            [
                table_branch(eeg, 64, 64 if by_authors else 50, 512 if by_authors else 500, 24),
                table_branch(1, 32, short, long, pad),
                table_branch(1, 32, short, long, pad),
            ]
        )
        c = nn.Conv2d
        self.block = nn.Sequential(
            c(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), c(4, 4, 1), nn.BatchNorm2d(4)
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), c(4, 4, 1), nn.ReLU(), c(4, 4, 1), nn.Sigmoid()
        )
        self.qkv = nn.Linear(96, 288)
        self.out = nn.Linear(96, 96)
        self.ff = nn.Sequential(nn.Linear(96, 2048), nn.ReLU(), nn.Linear(2048, 96))
        self.norms = nn.ModuleList([nn.LayerNorm(96), nn.LayerNorm(96)])
        self.classifier = nn.Sequential(nn.Linear(6144, 32), nn.ReLU(), nn.Linear(32, 5))

    def attend(self, z):
        q, k, v = self.qkv(z).chunk(3, -1)
        heads = [t.reshape(len(z), 64, 4, 24).transpose(1, 2) for t in (q, k, v)]
        score = heads[0] @ heads[1].transpose(-1, -2) / 24**0.5
        mixed = (score.softmax(-1) @ heads[2]).transpose(1, 2).reshape(len(z), 64, 96)
        return self.out(mixed)

    def forward(self, x):
        eeg = x.shape[1] - 2
        modalities = (x[:, :eeg], x[:, eeg : eeg + 1], x[:, eeg + 1 :])
        maps = [
            torch.cat([branch[0](p), branch[1](p)], 2)
            for branch, p in zip(self.branches, modalities, strict=True)
        ]
        f = torch.stack([maps[0][:, :64], maps[0][:, 64:], maps[1], maps[2]], 1)
        g = self.block(f)
        f = functional.relu(f + g * self.gate(g))
        z = f.reshape(len(x), 64, 96)
        a = self.norms[0](z + self.attend(z))
        encoded = self.norms[1](a + self.ff(a))
        return self.classifier((z * encoded).flatten(1))


@pytest.mark.parametrize(
    ("eeg", "kernels"), [(2, "paper"), (2, "authors"), (6, "paper"), (6, "authors")]
)
def test_mmasleepnet_against_its_tables(eeg, kernels, core):
    model = golden_models.fill(Model(Config(eeg=eeg, kernels=kernels)))
    table = Table(eeg, kernels).eval()
    names, values = list(table.state_dict()), list(model.state_dict().values())
    assert [v.shape for v in table.state_dict().values()] == [v.shape for v in values]
    table.load_state_dict(dict(zip(names, values, strict=True)))
    x = golden_models.signals(model.config)
    with torch.no_grad():
        # the kernels sum in another order than PyTorch, whose own float32 is 1.5e-5 from float64
        close(model(x), table(x), 1e-5 if core == "reference" else 3e-5)
        close(model.double()(x.double()), table.double()(x.double()), 1e-11)
    # statistics of the batch, layer by layer
    close(without_dropout(model)(x.double()), without_dropout(table)(x.double()), 1e-9)
