"""The door to the native core: what it says about itself, and NumPy in, NumPy out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sleeptools import native
from sleeptools.errors import UnavailableError, UsageError
from sleeptools.native import modal_se, threads

WEIGHTS = ("w1", "b1", "w2", "b2", "squeeze", "squeeze_bias", "excite", "excite_bias")

needs_core = pytest.mark.skipif(not native.available(), reason=native.describe())


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process, without this one's choice of variant."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLEEPTOOLS_")}
    return subprocess.run(
        [sys.executable, "-c", f"from sleeptools import native\n{code}"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def arguments(
    batch: int = 2, modalities: int = 4, maps: int = 6, time: int = 7
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(3)
    shapes = [(modalities, modalities), (modalities,)] * 4
    return [
        rng.standard_normal(shape).astype(np.float32)
        for shape in [(batch, modalities, maps, time), *shapes]
    ]


def expected(kind: str, *args: Any) -> Any:
    """Compute the block in float64 NumPy, from the formula and not from the PyTorch reference."""
    x, w1, b1, w2, b2, squeeze, squeeze_bias, excite, excite_bias = (a.astype(float) for a in args)
    hidden = np.maximum(np.einsum("ij,bjht->biht", w1, x) + b1[:, None, None], 0)
    f = np.einsum("ij,bjht->biht", w2, hidden) + b2[:, None, None]
    gate = np.maximum(f.mean((2, 3)) @ squeeze.T + squeeze_bias, 0) @ excite.T + excite_bias
    e = (1 / (1 + np.exp(-gate)))[:, :, None, None]
    return np.maximum(x + f * e, 0) if kind == "authors" else x + x * e


def test_describe() -> None:
    assert native.describe().startswith("native: ")
    assert native.variant() in native.variants()
    assert native.variants()[0] == "reference"
    assert native.available() == (native.variant() != "reference")


def test_turned_off_by_environment() -> None:
    code = "print(native.describe(), native.available(), native.variants(), native.has_cuda())"
    done = run(code, SLEEPTOOLS_NATIVE="0")
    assert done.stdout == "native: off (SLEEPTOOLS_NATIVE=0) False ['reference'] False\n"


def test_does_not_import_torch() -> None:
    done = run("import sys; native.describe(); print('torch' in sys.modules)")
    assert done.stdout == "False\n"


def test_unknown_variant_lists_what_there_is() -> None:
    done = run("native.available()", SLEEPTOOLS_VARIANT="sse9")
    assert "UsageError: SLEEPTOOLS_VARIANT 'sse9': this CPU and this build can do reference" in (
        done.stderr
    )
    with pytest.raises(UsageError, match="reference"):
        native.set_variant("sse9")


@pytest.mark.parametrize("name", native.variants())
def test_variant_by_environment(name: str) -> None:
    done = run("print(native.variant())", SLEEPTOOLS_VARIANT=name)
    assert done.stdout == f"{name}\n"


def test_off_is_an_error_for_callers_without_torch() -> None:
    code = """
import numpy
try:
    native.launch("modal_se", {})
except Exception as error:
    print(type(error).__name__, error.exit_code, error, "-", error.hint)
"""
    done = run(code, SLEEPTOOLS_NATIVE="0")
    assert done.stdout.startswith("UnavailableError 69 modal_se: the native core is off")


@needs_core
@pytest.mark.parametrize("kind", ["authors", "paper"])
@pytest.mark.parametrize("size", [(2, 4, 6, 7), (1, 1, 1, 1), (0, 4, 6, 7), (3, 16, 2, 9)])
def test_modal_se(kind: Any, size: tuple[int, ...]) -> None:
    args = arguments(*size)
    result = modal_se.modal_se(*args, kind)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected(kind, *args), rtol=1e-4, atol=1e-4)


@needs_core
def test_modal_se_takes_any_strides_and_float_type() -> None:
    args = arguments()
    strided = [np.asfortranarray(a).astype(np.float64) for a in args]
    np.testing.assert_array_equal(modal_se.modal_se(*strided), modal_se.modal_se(*args))


@needs_core
def test_modal_se_refuses_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="17 modalities; expected 1 to 16"):
        modal_se.modal_se(*arguments(modalities=17))
    args = arguments()
    args[3] = args[3][:2]
    with pytest.raises(ValueError, match=r"w2 has shape \(2, 4\); expected \(4, 4\)"):
        modal_se.modal_se(*args)
    with pytest.raises(ValueError, match="kind is 'ours'; expected 'authors' or 'paper'"):
        modal_se.modal_se(*arguments(), "ours")  # type: ignore[arg-type]


@needs_core
def test_threads_do_not_change_the_result() -> None:
    args = arguments(batch=64, maps=64, time=24)
    results = []
    for count in (1, 2, 0):
        threads.set_threads(count)
        results.append(modal_se.modal_se(*args))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_negative_threads() -> None:
    with pytest.raises(UsageError, match="-1 threads"):
        threads.set_threads(-1)


@needs_core
def test_cuda_without_a_device_is_unavailable() -> None:
    if "no device" not in native.describe() and native.has_cuda():
        pytest.skip("there is a device")
    with pytest.raises(UnavailableError, match="CUDA") as caught:
        native.launch(
            "modal_se",
            dict.fromkeys(("x", *WEIGHTS, "out"), 0)
            | {"batch": 1, "modalities": 4, "samples": 8, "authors": True}
            | {"device": 0, "stream": 0},
        )
    assert caught.value.exit_code == 69


FAULTS = """
import resource, sys
import numpy as np
from sleeptools import native
native.loaded_core()

def work():
    for _ in range(20):
        np.ones(1 << 24, np.uint8).sum()

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_freed_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of 16 MiB costs no page faults again, unless the environment sets the allocator."""
    if not native.available() or not os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("needs the native core and glibc")
    for name in [n for n in os.environ if n.startswith(native.ALLOCATOR)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NUMPY_MADVISE_HUGEPAGE", "0")  # a huge page is one fault
    command = [sys.executable, "-c", FAULTS]

    def faults() -> int:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults() < 200
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 20))
    assert faults() > 2000
