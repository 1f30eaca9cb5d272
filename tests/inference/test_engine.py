"""The engine against the model in PyTorch, without torch, and its promises about wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sleeptools import native
from sleeptools.errors import DataError, MissingInputError, UsageError
from sleeptools.inference.engine import CHUNK, Engine
from sleeptools.models.folder import build_model, load_model, save_model
from sleeptools.native import threads
from sleeptools.preprocessing import sequences
from sleeptools.runs import model_folder

CONFIGS: list[dict[str, Any]] = [
    {},
    {"kernels": "authors", "eeg": 6},
    {"tokens": "paper", "se": "paper", "stages": 3},
    {"fusion": "mbfe+te", "modalities": "eeg+eog"},
    {"fusion": "mbfe", "modalities": "eeg", "eeg": 1},
]
needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


@pytest.fixture(params=[v for v in native.variants() if v != "reference"] or ["reference"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using_variant(request.param):
        yield request.param


def signals(epochs: int, channels: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(5)
    return (20 * rng.standard_normal((epochs, channels, 3000))).astype(np.float32)


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def any_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"), **request.param)


def make(folder: Path, **config: Any) -> Path:
    """Save a model with settled BatchNorm statistics and weights that tell epochs apart."""
    torch.manual_seed(3)
    model: Any = build_model("mmasleepnet", config)
    channels = model.config.channels
    with torch.no_grad():
        model.train()(torch.from_numpy(signals(6, channels)))
        model.linear2.weight *= 30
    save_model(model, folder, facts(channels, model.config.stages))
    return folder


def facts(channels: int, stages: int) -> dict[str, Any]:
    return {
        "montage": [f"signal {i}" for i in range(channels)],
        "sample_rate": 100.0,
        "epoch_seconds": 30.0,
        "stages": [f"stage {i}" for i in range(stages)],
        "preprocessing": {},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model"))


def expected(folder: Path, x: Any) -> Any:
    """Hypnodensity by the model in plain PyTorch."""
    with native.using_variant("reference"), torch.inference_mode():
        return load_model(folder)(torch.from_numpy(x)).softmax(1).numpy()


def test_equals_the_model(any_folder: Path, variant: str) -> None:
    engine = Engine.load(any_folder)
    x = signals(5, engine.size[0])
    assert engine.backend == ("torch" if variant == "reference" else "native")
    result = engine.hypnodensity(x)
    assert result.dtype == np.float32
    assert result.shape == (5, len(engine.stages))
    assert np.ptp(result, 0).max() > 1e-3  # the weights do tell epochs apart
    np.testing.assert_allclose(result, expected(any_folder, x), atol=1e-5)
    np.testing.assert_allclose(result.sum(1), 1, atol=1e-6)


def test_bf16(folder: Path, variant: str) -> None:
    x = signals(40)
    exact, rounded = Engine.load(folder), Engine.load(folder, precision="bf16")
    assert rounded.precision == ("bf16" if native.has_bf16() else "fp32")
    result, expected = rounded.hypnodensity(x), exact.hypnodensity(x)
    assert np.array_equal(result, expected) == (rounded.precision == "fp32")
    assert np.abs(result - expected).max() < 0.05
    assert (result.argmax(1) == expected.argmax(1)).mean() >= 0.9


def test_precision_says_what_is_computed(tmp_path: Path) -> None:
    """ULW-SleepNet has float32 kernels only."""
    save_model(build_model("ulw-sleepnet", {}), tmp_path, facts(4, 5))
    assert Engine.load(tmp_path, precision="bf16").precision == "fp32"


SEVERAL: dict[str, dict[str, Any]] = {
    "salientsleepnet": {"filters": 4, "sequence": 11},
    "sleepprintnet": {},
}


@pytest.fixture(scope="module", params=SEVERAL)
def looking_around(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[Any, Path]:
    """A model that looks at several epochs, and its folder."""
    torch.manual_seed(1)
    model: Any = build_model(request.param, SEVERAL[request.param]).eval()
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder, facts(model.config.channels, 5))
    return model, folder


def test_several_epochs_at_once(looking_around: tuple[Any, Path]) -> None:
    """As the windows of training, which test_sequences.py compares with what they should be."""
    model, folder = looking_around
    config = model.config
    sequence, context = config.input_span
    x = signals(28, config.channels)
    onsets = 30.0 * np.r_[0:15, 18:31]
    parts = [np.arange(15), np.arange(15, 28)]
    windows = sequences.arrange_windows(parts, sequence=sequence, context=context)
    with torch.inference_mode():
        logits = model(torch.from_numpy(x[windows.inputs])).flatten(0, -2)
    targets = windows.targets.ravel()
    expected = logits.softmax(1).numpy()[targets != sequences.NONE]
    engine = Engine.load(folder)
    result = engine.hypnodensity(x, onsets)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert np.abs(engine.hypnodensity(x) - result).max() > 1e-5  # without the gap
    x[16, 0, 0] = np.nan
    broken = np.isnan(engine.hypnodensity(x, onsets)).all(1)
    seen_together = (windows.inputs == 16).any(1)
    spoilt = targets.reshape(len(windows), -1)[seen_together].ravel()
    assert np.flatnonzero(broken).tolist() == sorted(spoilt[spoilt >= 0].tolist())
    with pytest.raises(ValueError, match=r"onsets has shape \(27,\); expected \(28,\)"):
        engine.hypnodensity(x, onsets[:-1])


def test_pieces_make_no_difference(folder: Path, tmp_path: Path) -> None:
    x = signals(CHUNK + 3)
    np.save(tmp_path / "x.npy", x)
    engine = Engine.load(folder)
    at_once = engine.hypnodensity(x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(engine.hypnodensity(mapped), at_once)
    alone = np.concatenate([engine.hypnodensity(x[i : i + 1]) for i in range(0, len(x), 11)])
    # PyTorch sums in another order when an epoch is alone, or in a smaller piece
    tolerance, turned = (1e-6, 0) if engine.backend == "native" else (1e-5, 1e-5)
    np.testing.assert_allclose(alone, at_once[::11], atol=tolerance)
    np.testing.assert_allclose(engine.hypnodensity(x[::-1])[::-1], at_once, rtol=0, atol=turned)
    np.testing.assert_array_equal(engine.hypnodensity(x.astype(np.float64)), at_once)
    assert engine.hypnodensity(x[:0]).shape == (0, 5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_value_that_is_not_finite_spoils_its_epoch_only(
    folder: Path, variant: str, precision: Any
) -> None:
    x = signals(12)
    engine = Engine.load(folder, precision=precision)
    clean = engine.hypnodensity(x)
    x[1, 0, 17], x[4, 3, 0], x[7, 2, 2999], x[8, 1, 1500] = np.nan, np.inf, -np.inf, 3e38
    x[8, 1, 1501] = 3e38  # finite, but what is computed from it is not
    result = engine.hypnodensity(x)
    spoilt = [1, 4, 7, 8]
    assert np.isnan(result[spoilt]).all()
    remaining = [i for i in range(12) if i not in spoilt]
    np.testing.assert_allclose(result[remaining], clean[remaining], atol=1e-6)


@pytest.mark.parametrize("name", ["mmasleepnet", "ulw-sleepnet"])
def test_two_threads_may_call_one_engine(folder: Path, tmp_path: Path, name: str) -> None:
    """What is made ready for a size is lent to one at a time, and little of it is kept."""
    if name != "mmasleepnet":
        save_model(build_model(name, {}), tmp_path, facts(4, 5))
        folder = tmp_path
    engine = Engine.load(folder)
    x = signals(40)
    pieces = [x[i : i + 1 + i % 4] for i in range(0, 36, 2)]
    expected = [engine.hypnodensity(piece) for piece in pieces]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            result = list(pool.map(engine.hypnodensity, pieces))
            for ours, theirs in zip(result, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
    if engine.backend == "native":
        assert len(engine.network.pool.idle) <= 4


def test_a_result_is_the_callers_own(folder: Path) -> None:
    engine = Engine.load(folder)
    x = signals(2)
    first = engine.network(x[:1])
    before = first.copy()
    engine.network(x[1:])
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3, 3000), np.float32), r"shape \(2, 3, 3000\); expected \(epochs, 4, 3000\)"),
        (np.zeros((2, 4, 2999), np.float32), r"shape \(2, 4, 2999\)"),
        (np.zeros((4, 3000), np.float32), r"shape \(4, 3000\)"),
        (np.float32(0), r"shape \(\)"),
        (np.zeros((2, 4, 3000), np.complex64), "holds complex64; expected float32"),
        (np.zeros((2, 4, 3000), bool), "holds bool; expected float32"),
    ],
)
def test_wrong_input(folder: Path, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine.load(folder).hypnodensity(x)


def test_wrong_settings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision 'fp16'; there are: fp32, bf16"):
        Engine.load(folder, precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`threads=0`"):
        Engine.load(folder, threads=0)
    with pytest.raises(MissingInputError):
        Engine.load(tmp_path / "none")


@needs_core
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("linear2.bias"), "missing linear2.bias"),
        (lambda a: a.update(more=np.zeros(1, np.float32)), "unknown more"),
        (lambda a: a.update({"linear2.bias": np.zeros(4, np.float32)}), r"\(4,\); expected \(5,\)"),
        (lambda a: a.update({"linear2.bias": np.zeros(5)}), "is float64; expected float32"),
        (lambda a: a["encoder.norm1.weight"].fill(np.nan), "norm1.weight holds values that are"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    arrays = {k: np.array(v) for k, v in model_folder.read_weights(folder).items()}
    change(arrays)
    model_folder.write_model_folder(tmp_path, model_folder.read_config(folder), arrays)
    with pytest.raises(DataError, match=message):
        Engine.load(tmp_path)


def run(code: str, *arguments: object, **environment: str) -> str:
    """Run Python in a fresh process with the threads' environment variables as given."""
    prefixes = ("SLEEPTOOLS_", "OMP_NUM_THREADS", "SLURM_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


SCORE = """
import sys, os, numpy as np
from sleeptools.inference.engine import Engine
x = np.zeros((8, 4, 3000), np.float32)
engine = Engine.load(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
engine.hypnodensity(x)
print(engine.threads, len(os.listdir("/proc/self/task")) - before, "torch" in sys.modules)
"""


@needs_core
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_threads_and_no_torch(folder: Path) -> None:
    assert run(SCORE, folder, OMP_NUM_THREADS="1").split() == ["1", "0", "False"]
    assert run(SCORE, folder, SLURM_CPUS_PER_TASK="3").split() == ["3", "2", "False"]
    output = run(SCORE, folder, OMP_NUM_THREADS="2", SLURM_CPUS_PER_TASK="7")
    assert output.split() == ["2", "1", "False"]
    cpus = len(os.sched_getaffinity(0))
    assert run(SCORE, folder).split() == [str(cpus), str(cpus - 1), "False"]


@needs_core
def test_threads_of_an_engine_are_its_own(folder: Path) -> None:
    engine = Engine.load(folder, threads=1)
    threads.set_threads(2)
    try:
        thread_counts = []
        network = engine.network
        engine.network = lambda x: (
            thread_counts.append(threads.threads_for(100, 10**9)) or network(x)
        )
        engine.hypnodensity(signals(1))
        assert thread_counts == [1]
        assert threads.threads_for(100, 10**9) == 2
    finally:
        threads.set_threads(0)


def test_without_the_core(folder: Path) -> None:
    code = """
import sys, numpy as np
from sleeptools.inference.engine import Engine
engine = Engine.load(sys.argv[1], precision="bf16")
x = 20 * np.random.default_rng(5).standard_normal((2, 4, 3000)).astype(np.float32)
x[1, 0, 0] = np.inf
print(engine.backend, engine.precision, np.isnan(engine.hypnodensity(x)).all(1).tolist())
"""
    assert run(code, folder, SLEEPTOOLS_NATIVE="0") == "torch fp32 [False, True]\n"


# --- models that the kernels are not for ----------------------------------------------------------

UNUSUAL: list[dict[str, Any]] = [
    {"se_reduction": 2},
    {"gate": "element"},
    {"scale": "token"},
    {"projection": False},
    {"gate": "element", "se": "paper", "eeg": 6, "stages": 3},
    {"scale": "token", "tokens": "paper", "fusion": "mbfe+te", "modalities": "eeg+eog"},
    {
        "kernels": "paper",
        "tokens": "paper",
        "se": "paper",
        "se_reduction": 2,
        "gate": "element",
        "scale": "token",
        "projection": False,
    },
]


@needs_core
@pytest.mark.parametrize("config", UNUSUAL, ids=str)
def test_a_network_without_kernels_is_scored_by_torch(
    config: dict[str, Any], tmp_path: Path
) -> None:
    folder = make(tmp_path / "m", **config)
    model: Any = load_model(folder)
    x = signals(70, model.config.channels)
    for precision in ("fp32", "bf16"):
        engine = Engine.load(folder, precision=precision, threads=1)  # type: ignore[arg-type]
        assert (engine.backend, engine.precision) == ("torch", "fp32")
        with torch.no_grad():
            expected = model.double()(torch.from_numpy(x).double()).softmax(1).numpy()
        density = engine.hypnodensity(x)
        assert np.abs(density - expected).max() < 2e-5
        assert np.ptp(density, 0).max() > 0.01


@needs_core
def test_the_kernels_are_for_the_other_networks(any_folder: Path) -> None:
    assert Engine.load(any_folder).backend == "native"


@needs_core
def test_a_folder_from_before_the_settings_has_kernels(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", tokens="paper")
    facts, arrays = model_folder.read_config(folder), model_folder.read_weights(folder)
    for name in ("se_reduction", "gate", "scale", "projection"):
        del facts["config"][name]
    model_folder.write_model_folder(folder, facts, {k: np.array(v) for k, v in arrays.items()})
    engine = Engine.load(folder)
    assert engine.backend == "native"
    model: Any = load_model(folder)
    x = signals(3)
    expected = model.double()(torch.from_numpy(x).double()).softmax(1).detach().numpy()
    assert np.abs(engine.hypnodensity(x) - expected).max() < 2e-5
