"""AttnSleep against a network assembled from its tables."""

import pytest
import torch
from torch import nn

import cost
import golden_models
from comparing import close, make, without_dropout
from sleeptools import native
from sleeptools.errors import UsageError


def stream(first, pool, later, pad, last):
    """Convolutions (kernel, stride, padding), pools, in the order of the table."""

    def conv(i, o, *sizes):
        return [nn.Conv1d(i, o, *sizes, bias=False), nn.BatchNorm1d(o), nn.GELU()]

    return nn.Sequential(
        *conv(1, 64, *first),
        nn.MaxPool1d(*pool),
        nn.Dropout(),
        *conv(64, 128, later, 1, pad),
        *conv(128, 128, later, 1, pad),
        nn.MaxPool1d(*last),
    )


class Layer(nn.Module):
    """Attention written out, a head after the other."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(30, 30, 7, padding=6) for _ in range(3)])
        self.out = nn.Linear(80, 80)
        self.gain, self.shift = nn.Parameter(torch.ones(80)), nn.Parameter(torch.zeros(80))
        self.ff = nn.Sequential(nn.Linear(80, 120), nn.ReLU(), nn.Linear(120, 80))

    def forward(self, x):
        q, k, v = (conv(x)[:, :, :80] for conv in self.convs)
        heads = []
        for start in range(0, 80, 16):
            a, b, c = (t[:, :, start : start + 16] for t in (q, k, v))
            heads.append((a @ b.transpose(1, 2) / 4).softmax(-1) @ c)
        x = q + self.out(torch.cat(heads, -1))
        return x + self.ff(normal(x, self.gain, self.shift))


def normal(x, gain, shift):
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().sum(-1, keepdim=True) / (x.shape[-1] - 1)).sqrt()
    return gain * centred / (deviation + 1e-6) + shift


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = stream((50, 6, 24), (8, 2, 4), 8, 4, (4, 4, 2))
        self.large = stream((400, 50, 200), (4, 2, 2), 7, 3, (2, 2, 1))
        c, norm = nn.Conv1d, nn.BatchNorm1d
        self.main = nn.Sequential(c(128, 30, 1), norm(30), nn.ReLU(), c(30, 30, 1), norm(30))
        self.gate = nn.Sequential(
            nn.Linear(30, 1, bias=False), nn.ReLU(), nn.Linear(1, 30, bias=False), nn.Sigmoid()
        )
        self.skip = nn.Sequential(c(128, 30, 1, bias=False), norm(30))
        self.layers = nn.Sequential(Layer(), Layer())
        self.gain, self.shift = nn.Parameter(torch.ones(80)), nn.Parameter(torch.zeros(80))
        self.classifier = nn.Linear(2400, 5)

    def forward(self, x):
        maps = torch.cat([self.small(x), self.large(x)], 2)
        assert maps.shape[1:] == (128, 80)
        f = self.main(maps)
        f = torch.relu(f * self.gate(f.mean(2))[:, :, None] + self.skip(maps))
        return self.classifier(normal(self.layers(f), self.gain, self.shift).flatten(1))


# the model's modules and the table's; each holds its tensors in its own order
PARTS = {
    "streams.small": "small",
    "streams.large": "large",
    "afr.conv1": "main.0",
    "afr.norm1": "main.1",
    "afr.conv2": "main.3",
    "afr.norm2": "main.4",
    "afr.squeeze": "gate.0",
    "afr.excite": "gate.2",
    "afr.skip": "skip.0",
    "afr.skip_norm": "skip.1",
    "linear": "classifier",
}
PARTS |= {
    f"encoders.{i}.{ours}": f"layers.{i}.{theirs}"
    for i in (0, 1)
    for ours, theirs in {
        "query": "convs.0",
        "key": "convs.1",
        "value": "convs.2",
        "out": "out",
        "feed_forward.0": "ff.0",
        "feed_forward.3": "ff.2",
    }.items()
}


def copied(model):
    table = Table()
    for ours, theirs in PARTS.items():
        values = model.get_submodule(ours).state_dict().values()
        names = list(table.get_submodule(theirs).state_dict())
        state = dict(zip(names, values, strict=True))
        table.get_submodule(theirs).load_state_dict(state)
    norms = [(model.norm, table)]
    norms += [(model.encoders[i].norm, table.layers[i]) for i in (0, 1)]
    for norm, norm_of_table in norms:
        norm_of_table.load_state_dict({"gain": norm.weight, "shift": norm.bias}, strict=False)
    return table.eval()


@pytest.fixture(params=native.variants())
def core(request):
    with native.using_variant(request.param):
        yield request.param


def test_logits(core):
    model = golden_models.fill(make("attnsleep", {"channel": 2}))
    table = copied(model)
    x = golden_models.signals(model.config)
    channel = x[:, 2:3]
    with torch.no_grad():
        # its norms make rounding larger: PyTorch alone is 5e-6 from double, each core up to 1.2e-5
        close(model(x), table(channel), 3e-5)
        close(model.double()(x.double()), table.double()(channel.double()), 1e-11)
        # statistics of the batch, layer by layer
        ours, theirs = (without_dropout(m) for m in (model, table))
        close(ours(x.double()), theirs(channel.double()), 1e-9)


def test_parameters():
    model = make("attnsleep")

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(model) == 522_805
    assert count(model.streams) + count(model.afr) == 407_600
    assert count(model.encoders) + count(model.norm) == 103_200
    assert count(model.linear) == 12_005
    unused = [p for p in model.parameters() if not p.requires_grad]
    assert sum(p.numel() for p in unused) == 12_980
    assert count(copied(model)) == 522_805 - 12_980


def test_macs():
    """The program's convolutions also compute six steps that it cuts off: 63.9 M."""
    assert cost.macs("attnsleep") + 2 * 3 * 6 * 7 * 30 * 30 == 63_944_140


def test_initial_weights():
    model = make("attnsleep")
    weight = model.streams.large.conv3.conv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.streams.small.conv2.norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    default_start = make("attnsleep", {"init": "pytorch"})
    assert (default_start.streams.small.conv2.norm.weight == 1).all()


def test_a_channel_that_is_not_there():
    with pytest.raises(UsageError, match=r"channel = 4: .*expected 0 to 3"):
        make("attnsleep", {"channel": 4})
