"""ULW-SleepNet against a network assembled from its tables, its engine, and its counts."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import cost
import golden_models
from comparing import close, make, without_dropout
from sleeptools import native, registry
from sleeptools.errors import DataError
from sleeptools.inference.networks.ulw_sleepnet import Network
from sleeptools.models.folder import build_model
from sleeptools.models.recipe.recipe import resolve_recipe
from sleeptools.native import separable_stream
from sleeptools.native.layer_tables import ulw_sleepnet

NAME = "ulw-sleepnet"
pytestmark = pytest.mark.usefixtures("one_thread")
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


@pytest.fixture(params=native.variants())
def core(request):
    with native.using_variant(request.param):
        yield request.param


def same(x, kernel, stride):
    """Pad as Keras does for padding "same": evenly, what is over at the end."""
    steps = -(-x.shape[-1] // stride)
    total = max((steps - 1) * stride + kernel - x.shape[-1], 0)
    return total // 2, total - total // 2


class Separable(nn.Module):
    """SeparableConv1D with padding "same"."""

    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        self.depth = nn.Parameter(torch.zeros(inputs, 1, kernel))
        self.point = nn.Parameter(torch.zeros(outputs, inputs, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        x = functional.pad(x, same(x, self.kernel, self.stride))
        maps = [
            functional.conv1d(x[:, i : i + 1], w[None], stride=self.stride)
            for i, w in enumerate(self.depth)
        ]
        return torch.einsum("oik,bit->bot", self.point, torch.cat(maps, 1)) + self.bias[:, None]


class Pool(nn.Module):
    """MaxPooling1D(2, padding "same")."""

    def forward(self, x):
        x = functional.pad(x, same(x, 2, 2), value=-torch.inf)
        return torch.maximum(x[..., ::2], x[..., 1::2])


class Table(nn.Module):
    """The network of the publication, each signal through the extractor in turn."""

    def __init__(self, signals, stages=5):
        super().__init__()
        self.main, self.shortcut = nn.ModuleList(), nn.ModuleList()
        for i, f in ((1, 8), (8, 16), (16, 32)):
            units = []
            for inputs in (i, f):
                norm = nn.BatchNorm1d(f, eps=1e-3, momentum=1 - 0.99)
                units += [Separable(inputs, f, 3, 1), norm, nn.ReLU(), Pool()]
            self.main.append(nn.Sequential(*units))
            self.shortcut.append(nn.Sequential(Separable(i, f, 1, 2), Separable(f, f, 1, 2)))
        self.head = nn.Sequential(nn.Linear(32 * signals, 64), nn.Linear(64, stages))

    def extract(self, x):
        lengths = []
        for main, shortcut in zip(self.main, self.shortcut, strict=True):
            x = main(x) + shortcut(x)
            lengths.append(x.shape[-1])
        assert lengths == [750, 188, 47]
        return x.mean(-1)

    def forward(self, x):
        features = torch.stack([self.extract(signal[None]) for signal in x.flatten(0, 1)], 1)
        return self.head(features.view(len(x), -1))

    def in_step(self, x):
        """Compute the same with the statistics of the whole batch."""
        return self.head(self.extract(x.flatten(0, 1)[:, None]).view(len(x), -1))


def filled(channels=4, stages=5):
    """Make the model and the table with equal weights; the table has the shortcuts last."""
    model = golden_models.fill(make(NAME, {"channels": channels, "stages": stages}))
    table = Table(channels, stages).eval()
    ours = list(model.extractor)
    for block, main, shortcut in zip(ours, table.main, table.shortcut, strict=True):
        for source, target in (
            (block.unit1, main[0]),
            (block.unit2, main[4]),
            (block.shortcut1, shortcut[0]),
            (block.shortcut2, shortcut[1]),
        ):
            target.depth.data = source.depthwise.weight.data.clone()
            target.point.data = source.pointwise.weight.data.clone()
            target.bias.data = source.pointwise.bias.data.clone()
        for source, target in ((block.unit1, main[1]), (block.unit2, main[5])):
            target.load_state_dict(source.norm.state_dict())
    for source, target in ((model.linear1, table.head[0]), (model.linear2, table.head[1])):
        target.load_state_dict(source.state_dict())
    return model, table


@pytest.mark.parametrize("channels", [1, 4, 10])
def test_against_its_tables(channels, core):
    model, table = filled(channels)
    x = golden_models.signals(model.config)
    with torch.no_grad():
        close(model(x), table(x[:, :, None]), 1e-5)
        close(model.double()(x.double()), table.double()(x.double()[:, :, None]), 1e-11)


def test_against_its_tables_in_training():
    """Statistics of the batch, gradients, and running statistics that move by a hundredth."""
    model, table = filled()
    x = golden_models.signals(model.config).double()
    ours, theirs = without_dropout(model.double())(x), table.double().train().in_step(x)
    close(ours, theirs, 1e-10)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    block, main, shortcut = model.extractor[1], table.main[1], table.shortcut[1]
    close(block.unit1.depthwise.weight.grad, main[0].depth.grad, 1e-9)
    close(block.shortcut1.depthwise.weight.grad, shortcut[0].depth.grad, 1e-9)
    close(block.unit2.norm.running_var, main[5].running_var, 1e-10)
    assert block.unit2.norm.momentum == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("channels", "trainable", "all_weights"),
    [
        (1, 7_193, 7_417),
        (2, 9_241, 9_465),
        (3, 11_289, 11_513),
        (4, 13_337, 13_561),
        (10, 25_625, 25_849),
    ],
)
def test_parameters_as_published(channels, trainable, all_weights):
    assert cost.parameters(NAME, {"channels": channels}) == trainable
    assert ulw_sleepnet.parameters(channels) == trainable
    model = make(NAME, {"channels": channels})
    state = {k: tuple(v.shape) for k, v in model.state_dict().items() if "tracked" not in k}
    assert ulw_sleepnet.arrays(channels) == state
    buffers = sum(b.numel() for n, b in model.named_buffers() if "tracked" not in n)
    assert trainable + buffers == all_weights


def test_operations_as_published():
    """The table's count is PyTorch's of the layers, and the publication's."""
    for channels in (1, 4):
        assert ulw_sleepnet.macs(channels) == cost.macs(NAME, {"channels": channels})
    assert ulw_sleepnet.macs(4) == 3_498_352
    per_signal = [sum(layer.macs for layer in block) for block in ulw_sleepnet.blocks()]
    assert per_signal == [232_500, 330_136, 309_824]
    assert ulw_sleepnet.flops(4) / 1e6 == pytest.approx(7.885, abs=5e-4)


def test_first_weights_are_those_of_keras():
    """Uniform up to Glorot's limit, for a depthwise kernel with all maps in its fan-in."""
    model = make(NAME)
    unit = model.extractor[2].unit2
    for weight, limit in (
        (unit.depthwise.weight, (6 / (32 * 3 + 3)) ** 0.5),
        (unit.pointwise.weight, (6 / 64) ** 0.5),
        (model.linear1.weight, (6 / (128 + 64)) ** 0.5),
    ):
        assert 0.93 * limit < weight.abs().max() <= limit
    assert not unit.pointwise.bias.any()
    assert not model.linear2.bias.any()


def test_recipes():
    module = registry.load("models", NAME)
    ours, authors = resolve_recipe(module, {}), resolve_recipe(module, {"variant": "authors"})
    assert (ours.passes, ours.batch, ours.learning_rate, ours.amsgrad) == (50, 32, 1e-3, True)
    assert (ours.class_weights, ours.weight_decay, ours.loss) == ((), 0.0, "weighted_ce")
    assert (ours.selection, authors.selection) == ("kappa", "accuracy")
    assert authors.schedule == ours.schedule


# --- the native op in the model -------------------------------------------------------------------


def layer_by_layer(model, x):
    with native.using_variant("reference"):
        return model.features(x)


@needs_core
@torch.no_grad()
def test_notices_changed_weights(monkeypatch):
    model, _ = filled()
    x, untouched = golden_models.signals(model.config), copy.deepcopy(model)
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    calls = []
    monkeypatch.setattr(
        "sleeptools.models.ulw_sleepnet.fold_separable",
        lambda *a: calls.append(1) or separable_stream.fold_separable(*a),
    )

    def check(changed, folds):
        close(changed.features(x), layer_by_layer(changed, x), 1e-6)
        assert len(calls) == folds

    check(model, 1)
    check(model, 1)
    model.extractor[0].unit2.pointwise.weight.mul_(0.5)
    check(model, 2)
    model.extractor[2].unit1.norm.running_mean.add_(0.5)
    check(model, 3)
    model.extractor[1].shortcut1.depthwise.weight.add_(0.5)
    check(model, 4)
    model.load_state_dict(state)
    check(model, 5)
    model.train()(x)
    check(model.eval(), 6)
    check(untouched, 7)


@needs_core
def test_can_be_tuned_with_fixed_statistics():
    model, _ = filled()
    x = golden_models.signals(model.config)
    parameters = list(model.extractor.parameters())
    gradients = torch.autograd.grad(model.features(x).square().mean(), parameters)
    expected = torch.autograd.grad(layer_by_layer(model, x).square().mean(), parameters)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours - theirs).norm() < 1e-2 * theirs.norm()  # rounding decides what a pool takes


# --- the engine -----------------------------------------------------------------------------------


def network(model):
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    return Network(model.config.model_dump(), weights, "fp32")


@needs_core
@pytest.mark.parametrize(("channels", "stages"), [(1, 5), (4, 5), (10, 3)])
def test_engine(channels, stages):
    """From a model folder's arrays to the model's hypnodensity, without torch."""
    model, _ = filled(channels, stages)
    x = golden_models.signals(model.config)
    run = network(model)
    with torch.no_grad():
        expected = model.double()(x.double()).softmax(1).float()
    hypnodensity = run(x.numpy())
    assert hypnodensity.dtype == np.float32
    close(torch.from_numpy(hypnodensity), expected, 1e-6)
    assert run(x.numpy()[:0]).shape == (0, stages)


@needs_core
def test_engine_keeps_epochs_apart():
    model, _ = filled()
    x = golden_models.signals(model.config, 70).numpy()
    run = network(model)
    expected = run(x)
    x[33, 2, 100] = np.nan
    hypnodensity = run(x)
    assert np.isnan(hypnodensity[33]).all()
    assert np.array_equal(np.delete(hypnodensity, 33, 0), np.delete(expected, 33, 0))


def test_engine_refuses_weights_of_other_settings():
    weights = {k: v.numpy() for k, v in make(NAME).state_dict().items()}
    with pytest.raises(DataError, match=r"linear1\.weight is \(64, 128\); expected \(64, 320\)"):
        Network({"channels": 10, "stages": 5}, weights, "fp32")
    weights["extractor.1.unit2.norm.bias"] = np.zeros(8, np.float32)
    with pytest.raises(DataError, match=r"unit2\.norm\.bias is \(8,\); expected \(16,\)"):
        Network({"channels": 4, "stages": 5}, weights, "fp32")


@needs_core
@pytest.mark.parametrize("shape", [(2, 3, 3000), (2, 4, 2999), (4, 3000)])
def test_engine_refuses_other_shapes(shape):
    model, _ = filled()
    with pytest.raises(ValueError, match=r"x has shape \(.*; expected \(\d, 4, 3000\)"):
        network(model)(np.zeros(shape, np.float32))


def test_model_takes_no_epochs(core):
    model = build_model(NAME).eval()
    assert model(torch.empty(0, 4, 3000)).shape == (0, 5)
