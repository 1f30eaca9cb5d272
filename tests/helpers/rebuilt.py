"""Networks of the papers, rebuilt from their layer tables with plain functions of PyTorch.

A rebuilt network takes its weights one after the other out of a model's state. The sizes are those
of the tables, written down here again: a weight that the table does not have, or has otherwise, is
an error as it is taken.
"""

import numpy as np
import torch
from scipy.signal import windows
from torch.nn import functional

KINDS = ("weighted_ce", "weighted_ce_n", "softmax_ce")


class State:
    """A model's state, to be taken in order; parameters are leaves of their own."""

    def __init__(self, model):
        trained = dict(model.named_parameters())
        self.leaves = {
            name: value.detach().clone().requires_grad_(name in trained)
            if value.is_floating_point()
            else value
            for name, value in model.state_dict().items()
        }
        self.frozen = {name for name, p in trained.items() if not p.requires_grad}
        self.training = model.training
        self.left = list(self.leaves.items())

    def rewind(self, *, training):
        self.training, self.left = training, list(self.leaves.items())
        return self

    def take(self, *shape):
        name, value = self.left.pop(0)
        assert tuple(value.shape) == shape, f"{name}: {tuple(value.shape)}, the table has {shape}"
        return value

    def dense(self, inputs, outputs, *, bias=True):
        """Weight and bias of a linear layer, as a function."""
        w, b = self.take(outputs, inputs), self.take(outputs) if bias else 0
        return lambda x: x @ w.T + b

    def conv(self, inputs, outputs, kernel, stride=1, pad=0, *, dilation=1, bias=True):
        w = self.take(outputs, inputs, kernel)
        b = self.take(outputs) if bias else None
        return lambda x: functional.conv1d(x, w, b, stride, pad, dilation)

    def norm(self, count, eps=1e-5, *, affine=True):
        """BatchNorm by the batch's own statistics in training, else by the running ones."""
        gain, shift = (self.take(count), self.take(count)) if affine else (None, None)
        mean, variance = self.take(count), self.take(count)
        self.take()
        training = self.training

        def apply(x):
            places, m, v = [1, count, *[1] * (x.dim() - 2)], mean, variance
            if training:
                around = [0, *range(2, x.dim())]
                m = x.mean(around)
                v = (x - m.view(places)).square().mean(around)
            x = (x - m.view(places)) / (v.view(places) + eps).sqrt()
            return x * gain.view(places) + shift.view(places) if affine else x

        return apply

    def layer_norm(self, width):
        gain, shift = self.take(width), self.take(width)

        def apply(x):
            away = x - x.mean(-1, keepdim=True)
            return gain * away / (away.square().mean(-1, keepdim=True) + 1e-5).sqrt() + shift

        return apply

    def prelu(self, count):
        slope = self.take(count)
        return lambda x: torch.where(x > 0, x, x * slope.view(1, count, *[1] * (x.dim() - 2)))


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


def attend(qkv, heads, divisor):
    """Joined heads (B, T, D) of queries, keys and values, a head after the other."""
    width = qkv[0].shape[-1] // heads
    joined = []
    for start in range(0, heads * width, width):
        q, k, v = (t[:, :, start : start + width] for t in qkv)
        joined.append((q @ k.transpose(1, 2) / divisor).softmax(-1) @ v)
    return torch.cat(joined, -1)


# --- MMASleepNet ----------------------------------------------------------------------------------


def table_2(state, inputs, width, kernels, pad, activation=leaky):
    """Both streams of a modality, MMASleepNet's Table 2: 24 steps of twice the width."""
    plans = [
        ((kernels[0], 8, pad), (8, 8, 4), (8, 1, 4), (4, 4, 2)),
        ((kernels[1], 64, 24), (4, 4, 2), (6, 1, 4), (2, 2, 1)),
    ]
    streams = []
    for first, pool, later, last in plans:
        layers = [(state.conv(inputs, width, *first, bias=False), state.norm(width))]
        for i in (width, 2 * width, 2 * width):
            layers.append((state.conv(i, 2 * width, *later, bias=False), state.norm(2 * width)))
        streams.append((layers, pool, last))

    def run(x):
        maps = []
        for layers, pool, last in streams:
            y = x
            for i, (conv, norm) in enumerate(layers):
                y = activation(norm(conv(y)))
                y = functional.max_pool1d(y, *pool) if i == 0 else y
            maps.append(functional.max_pool1d(y, *last))
        assert [m.shape[2] for m in maps] == [13, 11]
        return torch.cat(maps, 2)

    return run


def printed_encoder(state, width, heads, divisor):
    """As the paper's Eqs. 7 and 8: the products divided by `divisor`, the heads only joined."""
    project = state.dense(width, 3 * width)
    norms = [state.layer_norm(width) for _ in range(2)]
    first, second = state.dense(width, 2048), state.dense(2048, width)

    def run(z):
        z = norms[0](z + attend(project(z).chunk(3, -1), heads, divisor))
        return norms[1](z + second(torch.relu(first(z))))

    return run


def usual_encoder(state, width, heads):
    """As PyTorch's layer: its scale, a projection of the joined heads."""
    project, out = state.dense(width, 3 * width), state.dense(width, width)
    first, second = state.dense(width, 2048), state.dense(2048, width)
    norms = [state.layer_norm(width) for _ in range(2)]

    def run(z):
        mixed = attend(project(z).chunk(3, -1), heads, (width // heads) ** 0.5)
        z = norms[0](z + out(mixed))
        return norms[1](z + second(torch.relu(first(z))))

    return run


def mmasleepnet(state, x, *, printed):
    """As its paper prints it, or as its authors' program was released, for two EEG channels."""
    eeg, other, pad = ((50, 500), (25, 250), 8) if printed else ((64, 512), (64, 512), 24)
    branches = [
        table_2(state, 2, 64, eeg, 24),
        table_2(state, 1, 32, other, pad),
        table_2(state, 1, 32, other, pad),
    ]
    hidden = 2 if printed else 4
    mixes = []
    for inputs, outputs, normed in (
        (4, 4, True),
        (4, 4, True),
        (4, hidden, False),
        (hidden, 4, False),
    ):
        w, b = state.take(outputs, inputs, 1, 1), state.take(outputs)
        mixes.append((w[:, :, 0, 0], b, state.norm(outputs) if normed else lambda f: f))
    width, tokens = (64, 96) if printed else (96, 64)
    encoder = printed_encoder(state, 64, 4, 8.0) if printed else usual_encoder(state, 96, 4)
    first, last = state.dense(6144, 32), state.dense(32, 5)

    def mix(i, f):
        w, b, norm = mixes[i]
        return norm(torch.einsum("oi,bihw->bohw", w, f) + b[:, None, None])

    maps = [branch(part) for branch, part in zip(branches, x.split([2, 1, 1], 1), strict=True)]
    f = torch.stack([maps[0][:, :64], maps[0][:, 64:], maps[1], maps[2]], 1)  # (B, 4, 64, 24)
    g = mix(1, torch.relu(mix(0, f)))
    squeezed = g if printed else g.mean((2, 3), keepdim=True)
    e = torch.sigmoid(mix(3, torch.relu(mix(2, squeezed))))
    assert e.shape[1:] == ((4, 64, 24) if printed else (4, 1, 1))
    f = f + f * e if printed else torch.relu(f + g * e)
    z = f.permute(0, 1, 3, 2) if printed else f
    z = z.reshape(len(x), tokens, width)
    return last(torch.relu(first((z * encoder(z)).flatten(1))))


# --- the baselines, as the authors of MMASleepNet rewrote them ------------------------------------


def attnsleep(state, x):
    """AttnSleep of one channel, (B, 1, 3000)."""
    streams = []
    for first, pool, later, last in (
        ((50, 6, 24), (8, 2, 4), (8, 1, 4), (4, 4, 2)),
        ((400, 50, 200), (4, 2, 2), (7, 1, 3), (2, 2, 1)),
    ):
        layers = [(state.conv(1, 64, *first, bias=False), state.norm(64))]
        for inputs in (64, 128):
            layers.append((state.conv(inputs, 128, *later, bias=False), state.norm(128)))
        streams.append((layers, pool, last))
    main = [state.conv(128, 30, 1), state.norm(30), state.conv(30, 30, 1), state.norm(30)]
    squeeze, excite = state.dense(30, 1, bias=False), state.dense(1, 30, bias=False)
    skip = [state.conv(128, 30, 1, bias=False), state.norm(30)]

    def custom_norm():
        gain, shift = state.take(80), state.take(80)

        def apply(x):
            centred = x - x.mean(-1, keepdim=True)
            deviation = (centred.square().sum(-1, keepdim=True) / 79).sqrt()
            return gain * centred / (deviation + 1e-6) + shift

        return apply

    layers = []
    for _ in range(2):
        causal = [state.conv(30, 30, 7) for _ in range(3)]
        parts = state.dense(80, 80), custom_norm(), state.dense(80, 120), state.dense(120, 80)
        state.conv(30, 30, 7)  # nothing calls it
        custom_norm()
        layers.append((causal, *parts))
    norm, classify = custom_norm(), state.dense(2400, 5)

    maps = []
    for convs, pool, last in streams:
        y = x
        for i, (conv, batch_norm) in enumerate(convs):
            y = batch_norm(conv(y))
            y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
            y = functional.max_pool1d(y, *pool) if i == 0 else y
        maps.append(functional.max_pool1d(y, *last))
    maps = torch.cat(maps, 2)
    assert maps.shape[1:] == (128, 80)
    f = main[3](main[2](torch.relu(main[1](main[0](maps)))))
    gate = torch.sigmoid(excite(torch.relu(squeeze(f.mean(2)))))
    z = torch.relu(f * gate[:, :, None] + skip[1](skip[0](maps)))
    for causal, out, inner, first, second in layers:
        q, k, v = (conv(functional.pad(z, (6, 0))) for conv in causal)
        z = q + out(attend((q, k, v), 5, 4.0))
        z = z + second(torch.relu(first(inner(z))))
    return classify(norm(z).flatten(1))


PIXELS = {"F3": (4, 3), "C3": (7, 4), "O1": (14, 5), "F4": (4, 12), "C4": (7, 11), "O2": (14, 10)}


def multitaper_bands(eeg, sample_rate=100):
    """Power of each channel in five bands, summed over its frequencies, (B, channels, 5).

    NumPy and SciPy in double precision: tapers of four steps' half-bandwidth that keep more than
    nine tenths of their energy, weighted by that share; both ends of a band belong to it.
    """
    x = eeg.numpy() - eeg.numpy().mean(-1, keepdims=True)
    tapers, shares = windows.dpss(x.shape[-1], 4, 8, return_ratios=True)
    tapers, shares = tapers[shares > 0.9], shares[shares > 0.9]
    assert len(tapers) == 7
    power = sum(
        share * np.abs(np.fft.fft(x * taper)) ** 2
        for taper, share in zip(tapers, shares, strict=True)
    )
    power /= shares.sum()  # two-sided: negative frequencies, too
    hertz = np.abs(np.fft.fftfreq(x.shape[-1], 1 / sample_rate))
    bands = []
    for low, high in ((0, 4), (4, 8), (8, 13), (13, 30), (30, 50)):
        bands.append(power[..., (low - 1e-9 <= hertz) & (hertz <= high + 1e-9)].sum(-1))
    return torch.from_numpy(np.stack(bands, -1))


def head_map(eeg, electrodes):
    """Power of five bands, one pixel for an electrode, (B, 5, 16, 16)."""
    image = eeg.new_zeros(len(eeg), 5, 16, 16)
    power = multitaper_bands(eeg)
    for i, electrode in enumerate(electrodes):
        image[:, :, *PIXELS[electrode]] = power[:, i]
    return image


def sleepprintnet(state, x, electrodes):
    """SleepPrintNet of one epoch: MMASleepNet's released streams beside a map of the head."""
    sizes = (len(electrodes), 1, 1)
    streams = [
        table_2(state, n, width, (64, 512), 24)
        for n, width in zip(sizes, (64, 32, 32), strict=True)
    ]

    def conv2d(inputs, outputs, kernel):
        w = state.take(outputs, inputs, kernel, kernel)
        return lambda x: functional.conv2d(x, w, padding=kernel // 2)

    first, norm = conv2d(5, 32, 1), state.norm(32)
    wide, wide_norm = conv2d(32, 64, 3), state.norm(64)
    skip, skip_norm = conv2d(32, 64, 1), state.norm(64)
    dense, classify = state.dense(9280, 256), state.dense(256, 5)
    maps = [stream(part) for stream, part in zip(streams, x.split(sizes, 1), strict=True)]
    image = leaky(norm(first(head_map(x[:, : sizes[0]], electrodes))))
    image = wide_norm(wide(image)) + skip_norm(skip(image))
    image = leaky(functional.max_pool2d(image, 4, 2))
    features = torch.cat([*(m.flatten(1) for m in maps), image.flatten(1)], 1)
    return classify(torch.relu(dense(features)))


def salientsleepnet(state, x, filters):
    """SalientSleepNet of a sequence of one EEG and one EOG channel, (B, epochs, 2, 3000)."""
    scale = filters / 16
    maps = [filters * 2**level for level in range(5)]
    inner, scales = int(8 * scale), [max(1, int(w * scale)) for w in (32, 24, 46, 8, 5)]
    pools = (10, 8, 6, 4, 4)

    def dilated(inputs, outputs, dilation=1):
        conv = state.conv(inputs, outputs, 5, pad=2 * dilation, dilation=dilation)
        norm = state.norm(outputs, 1e-3)
        return lambda x: norm(conv(x))

    def resized(x, like):
        return functional.interpolate(x, like.shape[2], mode="linear", align_corners=False)

    def unit(inputs, outputs, pool):
        first = dilated(inputs, outputs)
        down = [dilated(outputs, inner), dilated(inner, inner), dilated(inner, inner)]
        bottom = dilated(inner, inner)
        up = [dilated(2 * inner, inner), dilated(2 * inner, inner), dilated(2 * inner, outputs)]

        def run(x):
            outer = first(x)
            one = down[0](outer)
            two = down[1](functional.max_pool1d(one, pool))
            three = down[2](functional.max_pool1d(two, pool))
            y = up[0](torch.cat([bottom(three), three], 1))
            y = up[1](torch.cat([resized(y, two), two], 1))
            y = up[2](torch.cat([resized(y, one), one], 1))
            return y + outer

        return run

    def structure():
        entering = [1, *(m // 2 for m in maps)]
        encoders = [
            (unit(i, m, p), state.conv(m, m // 2, 1))
            for i, m, p in zip(entering, maps, pools, strict=False)
        ]
        scaled = []
        for m, s in zip(maps, scales, strict=True):
            convs = [dilated(m // 2, s, d) for d in (1, 2, 3, 4)]
            reduce = state.conv(4 * s, 2 * s, 5, pad=2)
            scaled.append((convs, reduce, dilated(2 * s, s)))
        below = [maps[1] // 2, maps[2] // 2, maps[3] // 2, scales[4]]
        decoders = []
        for level, (b, s, m, p) in enumerate(zip(below, scales, maps, pools, strict=False)):
            run = unit(b + s, m, p)
            decoders.append((run, state.conv(m, m // 2, 1) if level else lambda x: x))
        state.conv(maps[0], maps[0] // 2, 1)  # nothing calls it

        def run(x):
            levels = []
            for level, ((encode, halve), (convs, reduce, last)) in enumerate(
                zip(encoders, scaled, strict=True)
            ):
                x = functional.max_pool1d(x, pools[level - 1]) if level else x
                x = torch.relu(halve(encode(x)))
                levels.append(last(reduce(torch.cat([conv(x) for conv in convs], 1))))
            y = levels[4]
            for level in (3, 2, 1, 0):
                decode, halve = decoders[level]
                y = halve(decode(torch.cat([resized(y, levels[level]), levels[level]], 1)))
            return y

        return run

    eeg, eog = structure(), structure()
    squeeze, excite = state.dense(filters, filters // 4), state.dense(filters // 4, filters)
    mix, classify = state.conv(filters, filters, 1), state.conv(filters, 5, 5, pad=2)
    epochs = x.shape[1]
    one, two = (run(x[:, :, i].reshape(len(x), 1, -1)) for i, run in enumerate((eeg, eog)))
    fused = one + two + one * two
    weight = torch.sigmoid(excite(torch.relu(squeeze(fused.mean(2)))))
    mixed = torch.tanh(mix(fused * weight[:, :, None]))
    return classify(mixed.unflatten(2, (epochs, 3000)).mean(3)).transpose(1, 2)


# --- SlumberNet -----------------------------------------------------------------------------------


def slumbernet(state, plane, filters, *, printed):
    """SlumberNet on its plane (B, time, signals), one tap of a kernel after the other."""

    def same_conv(inputs, outputs, time, width):
        """Keras's padding "same": of an even kernel the smaller half comes before."""
        w, b = state.take(outputs, inputs, width, time), state.take(outputs)
        norm = state.norm(outputs, 1e-3)

        def run(x):  # (B, inputs, time, signals)
            rows, columns = x.shape[2:]
            padded = functional.pad(x, ((width - 1) // 2, width // 2, (time - 1) // 2, time // 2))
            out = b[:, None, None].expand(outputs, rows, columns)
            for i in range(time):
                for j in range(width):
                    part = padded[:, :, i : i + rows, j : j + columns]
                    out = out + torch.einsum("oi,bits->bots", w[:, :, j, i], part)
            return norm(out)

        return run

    widths = [filters * 2**i for i in range(7)]
    widths = widths if printed else [*widths[:6], widths[5]]
    blocks, entering = [], 1
    for i, width in enumerate(widths):
        last = i == 6 and not printed
        kernels = (1, 1, 1) if printed else (8, 8, 8) if last else (8, 5, 3)
        convs = [
            same_conv(a, width, 2, k)
            for a, k in zip((entering, width, width), kernels, strict=True)
        ]
        shortcut = (
            state.norm(width, 1e-3) if last else same_conv(entering, width, 1 if printed else 2, 1)
        )
        blocks.append((convs, shortcut))
        entering = width
    classify = state.dense(entering, 3)
    x = plane[:, None]
    for (first, second, third), shortcut in blocks:
        x = torch.relu(third(torch.relu(second(torch.relu(first(x))))) + shortcut(x))
    return classify(x.mean((2, 3)))


# --- the mouse report -----------------------------------------------------------------------------


def mouse_cnn(state, x, heads=None):
    """The mouse CNN with the report's classifier; with heads of attention for each branch."""
    standardise = state.norm(2 * 257, affine=False)
    branches = []
    for branch in range(4):
        blocks = []
        for inputs, width in ((1, 16), (16, 32), (32, 64), (64, 64)):
            block = [state.conv(inputs, width, 7, 2, 3), state.prelu(width), state.norm(width)]
            if heads:
                w, b = state.take(3 * width, width), state.take(3 * width)
                block += [(w, b, state.dense(width, width), state.layer_norm(width))]
            blocks.append(block)
        last = state.dense(512, 64), state.prelu(64), state.norm(64)
        branches.append((blocks, last, heads[branch] if heads else 0))
    first, activate = state.dense(256, 64), state.prelu(64)
    second, activate_again = state.dense(64, 3), state.prelu(3)
    window = torch.from_numpy(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512))
    spectrum = torch.log(1 + torch.fft.rfft(x * window).abs())
    spectrum = standardise(spectrum.flatten(1)).view(spectrum.shape)
    inputs = [x[:, :1], x[:, 1:], spectrum[:, :1], spectrum[:, 1:]]
    features = []
    for (blocks, (dense, prelu, norm), count), signal in zip(branches, inputs, strict=True):
        y = signal
        for conv, activation, batch_norm, *attention in blocks:
            y = batch_norm(activation(conv(y)))
            for w, b, out, layer_norm in attention:
                z = y.transpose(1, 2)
                mixed = attend((z @ w.T + b).chunk(3, -1), count, (z.shape[2] / count) ** 0.5)
                y = layer_norm(z + out(mixed)).transpose(1, 2)
        y = functional.adaptive_avg_pool1d(y, 8)
        features.append(norm(prelu(dense(y.flatten(1)))))
    return activate_again(second(activate(first(torch.cat(features, 1)))))


# --- training -------------------------------------------------------------------------------------


def loss(logits, stages, weights, kind):
    """A recipe's loss, epoch by epoch."""
    assert kind in KINDS
    values = logits.softmax(1) if kind == "softmax_ce" else logits
    total, divisor = 0.0, 0.0
    for row, stage in zip(values, stages.tolist(), strict=True):
        weight = weights[stage] if len(weights) else 1.0
        total = total + weight * (row.exp().sum().log() - row[stage])
        divisor += 1.0 if kind == "weighted_ce_n" else weight
    return total / divisor


class Adam:
    """Adam with weight decay in the gradient, and with AMSGrad or not; Kingma and Ba, Reddi."""

    def __init__(self, weights, *, rate, betas, eps, decay, amsgrad):
        self.weights, self.rate, self.betas, self.eps = weights, rate, betas, eps
        self.decay, self.amsgrad, self.count = decay, amsgrad, 0
        self.first, self.second, self.highest = (
            {k: torch.zeros_like(v) for k, v in weights.items()} for _ in range(3)
        )

    def step(self, gradients):
        self.count += 1
        a, b = self.betas
        for name, weight in self.weights.items():
            g = gradients[name] + self.decay * weight
            self.first[name] = a * self.first[name] + (1 - a) * g
            self.second[name] = b * self.second[name] + (1 - b) * g * g
            self.highest[name] = torch.maximum(self.highest[name], self.second[name])
            v = self.highest[name] if self.amsgrad else self.second[name]
            scaled = (v / (1 - b**self.count)).sqrt() + self.eps
            weight.sub_(self.rate * self.first[name] / (1 - a**self.count) / scaled)
