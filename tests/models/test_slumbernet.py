"""SlumberNet: its counts, its taps against the definition, its layouts, its augmentation."""

import json

import numpy as np
import pytest
import torch

import cost
import golden_models
from comparing import close, make
from sleeptools.models import slumbernet
from sleeptools.models.recipe.augmentation import Augmentation
from sleeptools.recording.stages import MOUSE_STAGES
from sleeptools.training.augmentation import augment
from synthetic_epochs import write_epochs

SMALL = {"blocks": 5, "filters": 2, "epoch_seconds": 1.0}


def as_defined(monkeypatch):
    monkeypatch.setattr(slumbernet.SameConv, "forward", slumbernet.SameConv.reference)


def test_counts_as_published(monkeypatch):
    model = make("slumbernet")
    weights = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for b in model.buffers() if b.dim())
    assert (weights, weights + statistics) == (5_338_931, 5_345_011)
    block_sizes = [sum(t.numel() for t in b.state_dict().values() if t.dim()) for b in model.blocks]
    assert block_sizes == [1_328, 6_720, 26_240, 103_680, 412_160, 1_643_520, 3_150_592]
    assert round(cost.macs("slumbernet") / 1e9, 2) == 0.89
    as_defined(monkeypatch)
    assert round(cost.macs("slumbernet") / 1e9, 3) == 2.729


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 9])
def test_left_out_taps_change_nothing(channels, monkeypatch):
    """Also in training: outputs, gradients and running statistics."""
    x = torch.from_numpy(golden_models.uniform((4, channels, 64), 5)).double()
    outcomes = []
    for definition in (False, True):
        model = (
            golden_models.fill(make("slumbernet", SMALL | {"channels": channels})).double().train()
        )
        if definition:
            as_defined(monkeypatch)
        out = model(x)
        out.square().sum().backward()
        outcomes.append([out.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for ours, theirs in zip(*outcomes, strict=True):
        close(ours, theirs, 1e-11)


def test_the_authors_layout_is_their_reshape():
    proper, authors = (
        golden_models.fill(make("slumbernet", SMALL | {"layout": layout}))
        for layout in ("proper", "authors")
    )
    x = golden_models.signals(proper.config)  # (B, 2, 64)
    plane = x.numpy().reshape(-1, 64, 2)  # (B, rows, columns) of their network
    close(authors(x), proper(torch.from_numpy(plane.transpose(0, 2, 1).copy())))
    assert not torch.allclose(authors(x), proper(x), atol=1e-3)


def test_other_animals():
    """Four signals of 30 s and five stages, as for people."""
    config = SMALL | {"channels": 4, "sample_rate": 100.0, "epoch_seconds": 30.0, "stages": 5}
    assert make("slumbernet", config)(torch.zeros(1, 4, 3000)).shape == (1, 5)


def test_blocks():
    counts = [cost.parameters("slumbernet", {"blocks": n}) for n in range(5, 10)]
    assert counts == sorted(counts)
    assert counts[2] == 5_338_931


# --- augmentation ---------------------------------------------------------------------------------

X = torch.from_numpy(golden_models.uniform((6, 2, 64), 8))
NUMBERS = np.array([5, 3, 11, 2, 7, 30])


def changed(augmentation, seeds=(0, 1), x=X, numbers=NUMBERS):
    return augment(x, numbers, Augmentation(**augmentation), seeds)


def test_a_gain_for_each_signal():
    ratio = (changed({"gains": (0.3, 0.05)}) / X).numpy()
    assert np.ptp(ratio, axis=2).max() < 1e-5
    assert 0.05 < np.abs(ratio[:, 0] - 1).max() <= 0.3 + 1e-6
    assert 0 < np.abs(ratio[:, 1] - 1).max() <= 0.05 + 1e-6
    assert len(np.unique(ratio[:, :, 0].round(6))) == 12
    every = (changed({"gains": (0.3,), "per_sample": True}) / X).numpy()
    assert np.ptp(every, axis=2).min() > 0.3
    assert np.abs(every - 1).max() <= 0.3 + 1e-5


def test_one_shift_for_all_signals():
    shifted = changed({"shift": 1.0})
    shifts = []
    for before, after in zip(X, shifted, strict=True):
        fits = [s for s in range(64) if torch.equal(before.roll(s, 1), after)]
        assert len(fits) == 1
        shifts += fits
    assert len(set(shifts)) > 2
    small = changed({"shift": 2 / 64})
    for before, after in zip(X, small, strict=True):
        assert any(torch.equal(before.roll(s, 1), after) for s in range(-2, 3))


def test_noise_goes_by_the_signal():
    x = X * torch.tensor([1.0, 50.0])[:, None]
    noise = changed({"noise": 0.2}, x=x) - x
    ratio = noise.std(2) / x.std(2)
    assert 0.15 < ratio.min() < ratio.max() < 0.25


def test_it_depends_on_the_epoch_and_the_seeds_alone():
    augmentation = {"gains": (0.3, 0.05), "shift": 1.0, "noise": 0.1}
    batch = changed(augmentation)
    assert torch.equal(changed(augmentation, x=X[3:5], numbers=NUMBERS[3:5]), batch[3:5])
    assert not torch.allclose(changed(augmentation, seeds=(0, 2)), batch)
    assert changed({}) is X


def test_interleaved_is_the_authors_plane():
    """Column 0 of their plane: every second sample of both signals, the EEG's first."""
    ratio = (changed({"gains": (0.3, 0.0), "interleaved": True}) / X).numpy()
    assert np.ptp(ratio[:, :, ::2].reshape(6, -1), axis=1).max() < 1e-5
    assert np.abs(ratio[:, :, ::2] - 1).max() > 0.05
    assert np.abs(ratio[:, :, 1::2] - 1).max() < 1e-6


def test_sequences_of_epochs():
    augmentation = {"gains": (0.3,), "shift": 1.0}
    sequences = changed(augmentation, x=X.view(3, 2, 2, 64), numbers=NUMBERS.reshape(3, 2))
    assert torch.equal(sequences.view(6, 2, 64), changed(augmentation))


def fits_one_second(command):
    """Train on ./epochs; what does not fit is said with what makes it fit."""
    small = (
        "--set",
        "model.blocks=5",
        "--set",
        "model.filters=1",
        "--passes",
        1,
        "--folds",
        2,
        "--fold",
        0,
        "--threads",
        1,
        "--no-explain",
    )
    ran = command("train", "epochs", "--model", "slumbernet", *small)
    assert ran.code == 65
    remedy = "--set model.sample_rate=512 --set model.epoch_seconds=1"
    assert f"{remedy} makes it fit" in " ".join(ran.err.split())
    ran = command("train", "epochs", "--model", "slumbernet", *small, *remedy.split())
    assert ran.code == 0, ran.err
    ran = command("evaluate", "runs/slumbernet", "--partial", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)[0]["stages"] == ["Wake", "NREM", "REM"]


def test_one_second_epochs_at_512_hz(command, tmp_path):
    size = {"channels": 2, "sample_rate": 512.0, "epoch_seconds": 1.0, "names": MOUSE_STAGES}
    write_epochs(tmp_path / "epochs", subjects=2, **size)
    fits_one_second(command)


@pytest.mark.slow
def test_the_one_second_epochs_of_the_mouse_report(command):
    assert command("simulate", "kjaerby", "raw", "--subjects", 2, "--hours", 0.5).code == 0
    assert command("preprocess", "kjaerby", "raw").code == 0
    fits_one_second(command)
