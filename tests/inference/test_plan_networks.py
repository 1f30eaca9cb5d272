"""Models that score on a plan of the native core: against PyTorch in double, and without torch."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sleeptools import native, registry
from sleeptools.errors import DataError
from sleeptools.inference.engine import Engine
from sleeptools.models.folder import build_model, save_model
from sleeptools.native import threads
from sleeptools.runs import model_folder

SMALL = {"blocks": 5, "filters": 3}
PRINTED = {"variant": "mmasleepnet"}
LAST = {  # the layer that gives the logits
    "mouse-cnn": "classifier.2",
    "mouse-cnn-attention": "classifier.2",
    "mouse-transformer": "linear2",
    "salientsleepnet": "classify",
    "sleepprintnet": "linear2",
}
# what rounding does to these is larger: their norms divide by small deviations, and PyTorch in
# single precision is as far from double (0.9 of the tolerance of others with AttnSleep)
SENSITIVE = {"attnsleep": 3, "sleepprintnet": 2}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("slumbernet", {}),
    ("slumbernet", SMALL | {"layout": "authors"}),
    ("slumbernet", SMALL | {"network": "paper"}),
    ("slumbernet", SMALL | {"network": "paper", "channels": 1, "stages": 5}),
    ("slumbernet", SMALL | {"channels": 3, "epoch_seconds": 1.0}),
    ("slumbernet", SMALL | {"sample_rate": 9.0, "epoch_seconds": 1.0}),
    ("slumbernet", SMALL | {"blocks": 6, "sample_rate": 2.0, "epoch_seconds": 1.0}),
    ("slumbernet", SMALL | {"channels": 9, "epoch_seconds": 0.5, "dropout": 0.3}),
    ("mouse-cnn", {}),
    ("mouse-cnn", {"classifier": "two-blocks", "channels": 3, "stages": 4}),
    ("mouse-cnn", {"channels": 1, "sample_rate": 100.0, "epoch_seconds": 4.0}),
    ("mouse-cnn", {"sample_rate": 33.0, "epoch_seconds": 1.0}),
    ("mouse-cnn-attention", {}),
    ("mouse-cnn-attention", {"heads": (1, 2, 8, 16), "epoch_seconds": 0.3, "stages": 4}),
    ("mouse-transformer", {"layers": 2}),
    ("mouse-transformer", {"layers": 1, "channels": 1, "epoch_seconds": 2.52}),
    ("attnsleep", {}),
    ("attnsleep", {"channels": 2, "channel": 1, "stages": 3}),
    ("masleepnet", {}),
    ("masleepnet", {"sequence": 3, "layers": 2, "stages": 4}),
    ("masleepnet", {"modalities": "eeg", "streams": "small", "excitation": False}),
    ("salientsleepnet", {"sequence": 11, "filters": 4}),
    ("salientsleepnet", {"sequence": 13, "filters": 4, "variant": "mmasleepnet", "channels": 5}),
    ("sleepprintnet", {}),
    ("sleepprintnet", {"sample_rate": 128.0, "electrodes": ("F3", "C4", "O1"), "eog": 2}),
    ("sleepprintnet", PRINTED | {"stages": 3}),
    ("sleepprintnet", PRINTED | {"spectrum": "multitaper", "electrodes": ("F3", "Fz")}),
]
RATES = (100.0, 128.0)  # of people: the networks are larger
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


@pytest.fixture(params=[v for v in native.variants() if v != "reference"] or ["reference"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using_variant(request.param):
        yield request.param


@pytest.fixture(scope="module", params=CASES, ids=str)
def trained(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Any, Path]:
    """A model with settled statistics that tells epochs apart, and its folder."""
    name, settings = request.param
    torch.manual_seed(7)
    model: Any = build_model(name, settings)
    config = model.config
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.PReLU | torch.nn.modules.batchnorm._BatchNorm):
                for vector in (v for v in module.parameters() if v is not None):
                    vector.uniform_(0.2, 1.2)
        for _ in range(4):
            model.train()(signals(8, config))
        last = model.get_submodule(LAST.get(name, "linear"))
        logits = model.eval()(signals(24, config)).flatten(0, -2)
        gain = 2 / logits.std(0).mean()
        last.weight *= gain
        # five units in the seventh digit of the largest logit, as much larger as the differences
        model.tolerance = 5e-7 * float(gain * logits.abs().max()) + 2e-6
        model.tolerance *= SENSITIVE.get(name, 1)
        last.bias.copy_(last.bias - model(signals(24, config)).flatten(0, -2).mean(0))
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder, facts(config))
    return model.eval(), folder


def signals(epochs: int, config: Any, seed: int = 0) -> torch.Tensor:
    """Noise of another size and rate in each epoch; where a model takes several at once, in each.

    A sequence counts as one epoch here.
    """
    random, span = np.random.default_rng(seed), config.input_span
    together = span.sequence if span.sequence > 1 else 1 + 2 * span.context
    places = (epochs, together, config.channels) if span.several else (epochs, config.channels)
    samples = round(config.sample_rate * config.epoch_seconds)
    waves = np.sin(np.arange(samples) * random.uniform(0.05, 2, (*places, 1)))
    noise = random.standard_normal((*places, samples)) * random.uniform(0.1, 1, (*places, 1))
    return torch.from_numpy((waves + noise).astype(np.float32))


def facts(config: Any) -> dict[str, Any]:
    return {
        "montage": [f"signal {i}" for i in range(config.channels)],
        "sample_rate": config.sample_rate,
        "epoch_seconds": config.epoch_seconds,
        "stages": [f"stage {i}" for i in range(config.stages)],
        "preprocessing": {},
    }


def in_double(model: Any, x: torch.Tensor) -> Any:
    with torch.no_grad(), native.using_variant("reference"):
        return copy.deepcopy(model).double()(x.double()).softmax(-1).numpy()


def test_equals_the_model(trained: tuple[Any, Path], variant: str) -> None:
    model, folder = trained
    engine = Engine.load(folder)
    assert engine.backend == ("torch" if variant == "reference" else "native")
    for count in (1, 9):
        x = signals(count, model.config, count)
        expected = in_double(model, x)
        result = engine.network(x.numpy())
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=0, atol=model.tolerance)
    assert np.ptp(expected.reshape(-1, expected.shape[-1]), 0).max() > 0.05


def test_bf16(trained: tuple[Any, Path], variant: str) -> None:
    """The stages that are clear; float32 where the CPU does not have the arithmetic."""
    model, folder = trained
    x = signals(24 if model.config.input_span.sequence == 1 else 2, model.config).numpy()
    exact, rounded = (Engine.load(folder, precision=p) for p in native.PRECISIONS)
    takes = registry.load("networks", exact.facts["model"]).HALF and native.has_bf16()
    assert rounded.precision == ("bf16" if takes else "fp32")
    expected, result = exact.network(x), rounded.network(x)
    if rounded.precision == "fp32":
        assert np.array_equal(result, expected)
    largest = 2**15 * model.tolerance  # bfloat16 has as many steps fewer than float32
    assert np.abs(result - expected).max() < largest
    ascending = np.sort(expected, -1)
    clear = ascending[..., -1] - ascending[..., -2] > 2 * largest
    assert (result.argmax(-1) == expected.argmax(-1))[clear].all()


@needs_core
def test_the_same_stages(trained: tuple[Any, Path]) -> None:
    model, folder = trained
    slow = model.config.model_dump().get("filters") == 8 or model.config.sample_rate in RATES
    count = 16 if slow else 300
    x = signals(4 if model.config.input_span.sequence > 1 else count, model.config, 1)
    stages = Engine.load(folder).network(x.numpy()).argmax(-1)
    assert np.array_equal(stages, in_double(model, x).argmax(-1))
    assert len(set(stages.ravel().tolist())) > 1


@needs_core
@pytest.mark.parametrize("precision", native.PRECISIONS)
def test_threads_change_nothing(trained: tuple[Any, Path], precision: native.Precision) -> None:
    model, folder = trained
    x = signals(5, model.config).numpy()
    engine = Engine.load(folder, precision=precision)
    results = []
    for count in (1, 2, 3):
        before = threads.set_threads_here(count)
        results += [engine.network(x), np.concatenate([engine.network(one[None]) for one in x])]
        threads.set_threads_here(before)
    for result in results[1:]:
        assert np.array_equal(result, results[0])


@needs_core
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_value_that_is_not_finite_spoils_its_epoch_only(
    trained: tuple[Any, Path], value: float
) -> None:
    model, folder = trained
    engine, x = Engine.load(folder), signals(4, model.config).numpy()
    clean = engine.network(x)
    x[2, ..., :, 1:3] = value
    result = engine.network(x)
    assert np.isnan(result[2]).all() or np.isfinite(value)
    others = [0, 1, 3]
    assert np.array_equal(result[others], clean[others])


@needs_core
@pytest.mark.parametrize("name", registry.names("networks"))
def test_weights_that_do_not_fit(name: str, tmp_path: Path) -> None:
    model: Any = build_model(name, {})
    save_model(model, tmp_path / "m", facts(model.config))
    read = model_folder.read_config(tmp_path / "m")
    arrays = {k: np.array(v) for k, v in model_folder.read_weights(tmp_path / "m").items()}
    first = next(iter(arrays))
    for index, (change, message) in enumerate(
        [
            ({first: arrays[first][:-1]}, f"{first} is .*; expected "),
            ({"more": arrays[first]}, "unknown more"),
            ({first: arrays[first] * np.nan}, f"{first} holds values that are not finite"),
        ]
    ):
        folder = tmp_path / str(index)
        model_folder.write_model_folder(folder, read, arrays | change)
        with pytest.raises(DataError, match=message):
            Engine.load(folder)


@needs_core
@pytest.mark.parametrize("name", registry.names("networks"))
def test_without_torch(name: str, tmp_path: Path) -> None:
    model: Any = build_model(name, {})
    save_model(model, tmp_path, facts(model.config))
    code = """
import sys, numpy as np
from sleeptools.inference.engine import Engine
engine = Engine.load(sys.argv[1])
density = engine.hypnodensity(np.ones((2, *engine.size), np.float32))
print(engine.backend, density.shape, "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"native (2, {model.config.stages}) False\n"
