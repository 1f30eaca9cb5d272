"""CUDA kernels without a GPU: what the emulator finds, and the sweep of every op."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cuda_emulator import building, faults
from cuda_emulator.cases import DRAWN
from cuda_emulator.rewrite import rewrite
from sleeptools import registry

ROOT = Path(__file__).parents[2]
TRIALS = building.HERE / "trials.cu"
INVALID_VALUE, INVALID_CONFIGURATION = 1, 9
INSUFFICIENT_DRIVER, INVALID_FUNCTION, NO_KERNEL_IMAGE, UNSUPPORTED_PTX = 35, 98, 209, 222
ILLEGAL_ADDRESS = 700
TEXTS = {
    INVALID_VALUE: "invalid argument",
    INSUFFICIENT_DRIVER: "CUDA driver version is insufficient for CUDA runtime version",
    INVALID_FUNCTION: "invalid device function",
    NO_KERNEL_IMAGE: "no kernel image is available for execution on the device",
    UNSUPPORTED_PTX: "the provided PTX was compiled with an unsupported toolchain.",
    ILLEGAL_ADDRESS: "an illegal memory access was encountered",
}
KIB = 1024


class Trials:
    """The kernels of trials.cu."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.emulator_synchronize.restype = ctypes.c_char_p
        self.library.emulator_allow.argtypes = [ctypes.c_size_t, ctypes.c_size_t]

    def launch(
        self,
        name: str,
        data: np.ndarray,
        *,
        grid: tuple[int, ...] = (1, 1, 1),
        block: tuple[int, ...] = (64, 1, 1),
        shared: int = 0,
    ) -> int:
        """Enqueue a kernel on float32 data; gives the error of the launch."""
        self.library.emulator_allow(data.ctypes.data, data.nbytes)
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        address = ctypes.c_void_p(data.ctypes.data)
        shared_bytes = ctypes.c_size_t(shared)
        return self.library.trial(name.encode(), address, data.size, *sizes, shared_bytes)

    def wait(self) -> str:
        """Run what was launched; gives the emulator's words, empty if it has none."""
        text = self.library.emulator_synchronize()
        self.library.emulator_forget()
        return text.decode() if text else ""

    def run(self, name: str, data: np.ndarray, **sizes: tuple[int, ...]) -> str:
        assert self.launch(name, data, **sizes) == 0
        return self.wait()

    def order(self, number: int, seed: int = 0) -> None:
        self.library.emulator_configure(number, seed)


@pytest.fixture(scope="module")
def compiler() -> None:
    if building.missing():
        pytest.skip(building.missing())


@pytest.fixture
def emulator(skip_loudly: Callable[[str], None]) -> None:
    if building.missing():
        skip_loudly(f"CUDA kernels not emulated: {building.missing()}")


@pytest.fixture(scope="module")
def library(compiler: None) -> Trials:
    return Trials(building.Build().library(TRIALS))


@pytest.fixture(params=[0, 1, 2], ids=["forwards", "backwards", "random"])
def trials(library: Trials, request: pytest.FixtureRequest) -> Trials:
    library.order(request.param, seed=7)
    return library


def numbers(count: int = 64) -> np.ndarray:
    return np.arange(count, dtype=np.float32)


# --- what is right runs ---------------------------------------------------------------------------


def test_barriers_order_what_threads_do(trials: Trials) -> None:
    data = numbers()
    assert trials.run("reverse", data) == ""
    assert (data == numbers()[::-1]).all()
    assert trials.run("reverse warps", data) == ""
    assert (data == np.concatenate([np.arange(32.0, 64), np.arange(32.0)])).all()
    assert trials.run("rounds", numbers(100)) == ""
    data = numbers(100)
    assert trials.run("sum, then look", data) == ""
    assert (data[:65] == 64).all()


def test_who_has_returned_is_not_waited_for(trials: Trials) -> None:
    data = numbers()
    assert trials.run("early return", data) == ""
    assert (data[:32] == 1).all()


def test_two_halves_of_a_word_are_two(trials: Trials) -> None:
    data = numbers(32)
    assert trials.run("half words", data) == ""
    assert (data.view(np.uint16) == 0x3F80).all()


def test_atomics(trials: Trials) -> None:
    data = numbers(1)
    assert trials.run("sum", data, grid=(3, 2, 1)) == ""
    assert data[0] == 6 * 64
    data[0] = 5
    assert trials.run("largest", data) == ""
    assert data[0] == 63


def test_blocks_with_words_of_their_own(trials: Trials) -> None:
    data = np.zeros(100, np.float32)
    assert trials.run("word each", data, grid=(100, 1, 1), block=(1, 1, 1)) == ""
    assert (data == numbers(100)).all()


def test_launches_wait_and_keep_their_order(trials: Trials) -> None:
    data = numbers()
    trials.launch("twice", data)
    trials.launch("plus one", data)
    assert (data == numbers()).all()
    assert trials.wait() == ""
    assert (data == 2 * numbers() + 1).all()


@pytest.mark.parametrize("width", [32, 16, 8])
def test_shuffles_by_their_definition(trials: Trials, width: int) -> None:
    data = np.zeros(160, np.float32)
    data[:32] = np.random.default_rng(1).standard_normal(32)
    assert trials.run(f"shuffles {width}", data, block=(32, 1, 1)) == ""
    x, results = data[:32], data[32:].reshape(4, 32)
    for lane in range(32):
        first = lane - lane % width
        up, down, across = lane - 3, lane + 3, lane ^ 2
        assert results[0][lane] == x[first + 5]
        assert results[1][lane] == x[up if up >= first else lane]
        assert results[2][lane] == x[down if down < first + width else lane]
        assert results[3][lane] == x[across]


def test_halves_of_a_warp_may_go_different_ways(trials: Trials) -> None:
    data = numbers()
    assert trials.run("half warps", data) == ""
    assert (data == numbers().reshape(32, 2)[:, ::-1].ravel()).all()


def test_bfloat16_rounds_as_pytorch(trials: Trials) -> None:
    words = np.random.default_rng(2).integers(0, 2**32, 4096, dtype=np.uint32)
    words[:8] = [0, 0x80000000, 0x7F800000, 0x7FC00000, 0x3F808000, 0x3F818000, 0x7F7FFFFF, 1]
    data = words.view(np.float32)
    expected = torch.from_numpy(data.copy()).bfloat16().float().numpy()
    assert trials.run("round to bf16", data) == ""
    np.testing.assert_array_equal(data, expected)


def test_high_half_of_a_product(trials: Trials) -> None:
    words = np.random.default_rng(3).integers(0, 2**32, (64, 2), dtype=np.uint32)
    expected = (words.prod(1, dtype=np.uint64) >> 32).astype(np.uint32)
    assert trials.run("high product", words.view(np.float32)) == ""
    assert (words[:, 0] == expected).all()


def test_a_matrix_product_by_its_definition(trials: Trials) -> None:
    values = torch.randn(512, generator=torch.Generator().manual_seed(4)).bfloat16().float()
    values[3] = torch.inf
    data = values.numpy().copy()
    a, b, d = values[:256].view(16, 16), values[256:384].view(16, 8), values[384:].view(16, 8)
    assert trials.run("product", data, block=(32, 1, 1)) == ""
    expected = (a.double() @ b.double() + d).float()
    torch.testing.assert_close(torch.from_numpy(data[384:]).view(16, 8), expected)


@pytest.mark.parametrize("name", ["matrices", "turned matrices"])
def test_matrices_from_shared_memory_by_their_definition(trials: Trials, name: str) -> None:
    data = np.random.default_rng(5).standard_normal(128, np.float32)
    numbers = data.view(np.uint16).reshape(4, 8, 8).copy()  # matrix, row, column
    assert trials.run(name, data, block=(32, 1, 1)) == ""
    numbers = numbers.transpose(0, 2, 1) if "turned" in name else numbers
    got = data.view(np.uint16).reshape(4, 32, 2)
    for matrix in range(4):
        for lane in range(32):
            row, column = lane // 4, lane % 4 * 2
            expected = numbers[matrix, row, column : column + 2]
            np.testing.assert_array_equal(got[matrix, lane], expected)


@pytest.mark.parametrize("name", ["copies", "copies of its own"])
def test_copies_that_are_waited_for(trials: Trials, name: str) -> None:
    data = np.random.default_rng(6).standard_normal((64, 4), np.float32)
    second = data.copy().view(np.uint8).reshape(64, 16)
    for thread in range(64):
        second[thread, thread % 17 :] = 0  # so many bytes are copied, and the rest are zeros
    expected = np.zeros(64, np.float32)
    for row in (*data.T, *second.view(np.float32).T):
        expected += row
    assert trials.run(name, data) == ""
    np.testing.assert_array_equal(data.ravel()[:64], expected)
    data = numbers(100)
    assert trials.run("copy", data) == ""
    assert data[0] == 4
    assert trials.run("copy nothing", data) == ""
    assert data[0] == 0
    assert trials.run("copy again", data) == ""
    assert (data[8:72] == 4).all()


def test_threads_and_blocks_go_in_the_order_asked_for(library: Trials) -> None:
    def order(kernel: str, number: int, seed: int = 0) -> list[int]:
        library.order(number, seed)
        data = np.zeros(65, np.float32)
        sizes = {"block": (64, 1, 1)} if kernel == "queue" else {"grid": (64, 1, 1)}
        sizes = sizes if kernel == "queue" else sizes | {"block": (1, 1, 1)}
        assert library.run(kernel, data, **sizes) == ""
        return [int(n) for n in data[1:]]

    for kernel in ("queue", "queue of blocks"):
        assert order(kernel, 0) == list(range(64))
        assert order(kernel, 1) == list(range(63, -1, -1))
        drawn = [order(kernel, 2, seed) for seed in (1, 2, 1)]
        assert sorted(drawn[0]) == list(range(64))
        assert drawn[0] == drawn[2] != drawn[1]


# --- what is wrong is said ------------------------------------------------------------------------

RACES = {
    "reverse without a barrier": {},
    "reverse warps without a barrier": {},
    "across warps": {},
    "rounds with one barrier": {},
    "one word": {"grid": (2, 1, 1), "block": (1, 1, 1)},
    "plain sum": {},
    "sum and look": {},
    "matrices without a barrier": {"block": (32, 1, 1)},
    "copies without a barrier": {},
    "copy again without a barrier": {},
}


@pytest.mark.parametrize("name", RACES)
def test_accesses_without_order(trials: Trials, name: str) -> None:
    assert "without order" in trials.run(name, numbers(256), **RACES[name])


FAULTS = {
    "touch beyond": "writes 4 bytes at .* that are no memory of the device",
    "touch before": "writes 4 bytes at .* that are no memory of the device",
    "touch beyond shared": "takes element 64 of a shorter array",
    "long index": "takes element 4 of a shorter array at",
    "much shared": "needs more shared memory than it may have, for copy",
    "bound": r"is one of 64; the kernel is bound to 32",
    "forked barrier": "threads wait at different barriers, lines",
    "left out": "is not in the mask of its shuffle",
    "absent source": "shuffles from lane 20, which takes no part",
    "source outside": r"shuffles from lane \d+, which takes no part",
    "forked warp": "threads wait for each other for ever",
    "product of some lanes": "lane 31 takes no part in mma, line",
    "matrices of some lanes": r"lane \d+ takes no part in ldmatrix, line",
    "matrices between rows": "ldmatrix: an address that is no multiple of 16",
    "matrices beyond": "ldmatrix: 16 bytes that are no shared memory",
    "matrices elsewhere": "ldmatrix: 16 bytes that are no shared memory",
    "copies without a group": "to which thread .* copies at .* and has not waited for it",
    "copies without a wait": "to which thread .* copies at .* and has not waited for it",
    "copy beyond": "reads 16 bytes at .* that are no memory of the device",
    "copy beyond shared": "cp.async: 16 bytes that are no shared memory",
    "copy to the middle": "cp.async: an address that is no multiple of 16",
    "copy from the middle": "cp.async: an address that is no multiple of 16",
    "copy much": "cp.async: reads 17 bytes of 16",
    "copy to global": "cp.async: 16 bytes that are no shared memory",
    "copy within shared": "cp.async: copies from shared memory",
    "copy without end": "returns with a copy under way, begun at",
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(trials: Trials, name: str) -> None:
    threads = 32 if name.startswith(("product", "matrices")) else 64
    assert re.search(FAULTS[name], trials.run(name, numbers(516), block=(threads, 1, 1)))
    assert trials.run("touch the last", numbers(100)) == ""  # the next launch is a new one
    assert trials.run("touch shared", numbers(100)) == ""


def test_memory_that_was_not_handed_over(trials: Trials) -> None:
    assert trials.launch("touch the last", numbers()) == 0
    trials.library.emulator_forget()
    assert "no memory of the device" in trials.wait()


def test_what_nobody_wrote_is_not_a_number(trials: Trials) -> None:
    data = numbers()
    assert trials.run("unwritten", data, grid=(1, 1, 1)) == ""
    assert data[0] == 1
    assert np.isnan(data[1:]).all()


def test_shared_memory_on_request(trials: Trials) -> None:
    data = numbers(12 * KIB + 1)  # 48 KiB and a word
    assert trials.launch("dynamic", data[:-1], shared=48 * KIB) == 0
    assert trials.wait() == ""
    assert data[0] == 12 * KIB - 1
    assert trials.launch("dynamic", data, shared=48 * KIB + 4) == INVALID_VALUE
    allow = trials.library.allow_shared
    assert allow(b"dynamic", 163 * KIB + 1) == INVALID_VALUE
    assert allow(b"dynamic", 163 * KIB) == 0
    assert trials.launch("dynamic", data, shared=48 * KIB + 4) == 0
    assert trials.wait() == ""
    assert trials.launch("dynamic", data, shared=48 * KIB) == 0
    assert "no memory of the device" in trials.wait()
    assert allow(b"dynamic", 0) == 0


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((0, 1, 1), (1, 1, 1)),
        ((1, 65536, 1), (1, 1, 1)),
        ((1, 1, 65536), (1, 1, 1)),
        ((2**31, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (1025, 1, 1)),
        ((1, 1, 1), (32, 33, 1)),
        ((1, 1, 1), (1, 1, 65)),
        ((1, 1, 1), (0, 1, 1)),
    ],
)
def test_sizes_that_no_launch_has(library: Trials, grid, block) -> None:
    assert library.launch("sum", numbers(1), grid=grid, block=block) == INVALID_CONFIGURATION
    assert library.wait() == ""


# --- the sources ----------------------------------------------------------------------------------


def test_lines_keep_their_numbers() -> None:
    for source in (ROOT / "csrc" / "cuda").glob("*.cu*"):
        lines = rewrite(source.read_text(), source.name).split("\n")[1:]
        assert len(lines) == len(source.read_text().split("\n"))
        same = [a == b for a, b in zip(lines, source.read_text().split("\n"), strict=True)]
        assert sum(same) >= len(same) - 20


def test_only_one_header_has_assembly() -> None:
    """The emulator has its own version of csrc/cuda/ptx.cuh, a function for each instruction."""
    sources = [p for p in (ROOT / "csrc" / "cuda").glob("*.cu*") if p.name != "ptx.cuh"]
    texts = [re.sub(r"//.*", "", source.read_text()) for source in sources]
    assert not [
        s.name for s, text in zip(sources, texts, strict=True) if re.search(r"\basm\b", text)
    ]


def test_every_op_with_a_kernel_is_swept() -> None:
    with_kernel = {
        name
        for name in registry.names("ops")
        if "<<<" in (ROOT / "csrc" / "cuda" / f"{name.replace('-', '_')}.cu").read_text()
    }
    assert with_kernel == set(DRAWN)


# --- the ops --------------------------------------------------------------------------------------


def run_module(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", f"cuda_emulator.{name}", *options)


def run_python(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(building.HERE.parent)} | variables
    command = [sys.executable, *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("emulator")
def test_every_op_on_the_emulated_device() -> None:
    done = run_module("sweep", "--orders=1", "--random=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0 failed" in done.stdout


PLACES = ("emulator_fail", "emulator_fail_images")
OBSTACLES = [
    ("emulator_fail", INSUFFICIENT_DRIVER),
    ("emulator_fail", NO_KERNEL_IMAGE),
    ("emulator_fail_images", NO_KERNEL_IMAGE),
    ("emulator_fail_images", INVALID_FUNCTION),
    ("emulator_fail_images", UNSUPPORTED_PTX),
]
ON_A_CARD = """
from unittest import mock
import torch
from torch.testing import assert_close
from cuda_emulator.building import Build
from cuda_emulator.cases import DRAWN, Case, examples
from cuda_emulator.core import load_core
from cuda_emulator.device import CUDA, DeviceTensor, EmulatedDevice
from sleeptools import native
from sleeptools.errors import UnavailableError
library = load_core(Build().core())
device = EmulatedDevice(library)

def on_host(reference):  # the emulated device does not index tensors
    def run(*arguments):
        run.calls += 1
        arguments = [a.host if isinstance(a, DeviceTensor) else a for a in arguments]
        return DeviceTensor(reference(*arguments))

    run.calls = 0
    return run

def smallest(op):
    return min(examples(op), key=lambda case: case.arguments[0].numel() or 1_000_000)

def call(case):
    with device.running():
        moved = [a.to(CUDA) if isinstance(a, torch.Tensor) else a for a in case.arguments]
        result = getattr(case.module, case.name)(*moved)
        assert result.device == CUDA
        return result.cpu()
"""


@pytest.mark.usefixtures("emulator")
def test_every_op_runs_its_reference_on_a_card_without_kernels() -> None:
    program = f"""{ON_A_CARD}
for place, error in {OBSTACLES}:
    native.loaded_core().obstacles.clear()  # as in a new process
    getattr(library, place)(error)
    for op in DRAWN:
        case = smallest(op)
        expected = case.module.reference(*case.arguments)
        run = on_host(case.module.reference)
        with mock.patch.object(case.module, "reference", run):
            assert_close(call(case), expected, rtol=0, atol=0, equal_nan=True)
        assert run.calls == 1
        print(op, len(device.launches()))
    getattr(library, place)(0)
    print(native.describe())
"""
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    warned = done.stderr.splitlines()
    for (_, error), warning in zip(OBSTACLES, warned, strict=True):
        assert [next(lines) for _ in DRAWN] == [f"{op} 0" for op in DRAWN]
        assert f"; not on cuda:0: {TEXTS[error]})" in next(lines)
        compiled = "the native kernels are compiled for sm_80 sm_90"
        where = "so PyTorch computes in their place"
        assert warning == f"warning: cuda:0: {TEXTS[error]}; {compiled}, {where}"


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
def test_another_error_of_the_card_stays_an_error() -> None:
    errors = [(place, e) for place in PLACES for e in (INVALID_VALUE, ILLEGAL_ADDRESS)]
    program = f"""{ON_A_CARD}
for place, error in {errors}:
    getattr(library, place)(error)
    for op in (*DRAWN, *DRAWN):
        try:
            call(smallest(op))
        except UnavailableError:
            raise
        except RuntimeError as problem:
            print(problem)
    getattr(library, place)(0)
"""
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    expected = [f"CUDA device: {TEXTS[e]}" for _, e in errors for _ in range(2 * len(DRAWN))]
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("error", "kind"), [(NO_KERNEL_IMAGE, "UnavailableError"), (ILLEGAL_ADDRESS, "RuntimeError")]
)
def test_a_launch_that_fails_after_all_is_told_from_a_bug(error: int, kind: str) -> None:
    program = f"""{ON_A_CARD}
case = next(examples("dropout"))
assert_close(call(case), case.module.reference(*case.arguments))
library.emulator_fail_images({error})
try:
    call(case)
except RuntimeError as problem:
    print(type(problem).__name__, problem)
except UnavailableError as problem:
    print(type(problem).__name__, problem)
"""
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{kind} dropout: {TEXTS[error]}"]


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
def test_every_op_under_the_sanitizers() -> None:
    done = run_module("sweep", "--checked=sanitize", "--orders=1", "--random=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n0 failed" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("touch the last", ""),
        ("touch beyond", "heap-buffer-overflow"),
        ("touch beyond shared", "out of bounds"),
        ("dynamic", "use-after-poison"),  # with none of the shared memory that it needs
    ],
)
def test_what_the_sanitizers_say(name: str, words: str) -> None:
    library = building.Build("sanitize").library(TRIALS)
    program = f"""
import ctypes
import numpy
library, three = ctypes.CDLL({str(library)!r}), ctypes.c_uint * 3
data = numpy.zeros(4096, numpy.float32)
address, none = ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(0)
library.trial({name.encode()!r}, address, data.size, three(1, 1, 1), three(64, 1, 1), none)
library.emulator_synchronize()
"""
    done = run_python("-c", program, **building.sanitizer_environment())
    assert (done.returncode == 0) == (not words), done.stderr
    assert words in done.stderr


# --- planted faults -------------------------------------------------------------------------------


def test_faults_are_found_in_the_sources() -> None:
    planned = faults.faults()
    assert len({fault.name for fault in planned}) == len(planned)
    barriers = [f for f in planned if f.kind == "left out"]
    texts = [p.read_text() for p in faults.SOURCES.glob("*.cu*")]
    assert (
        len(barriers)
        == sum(
            len(re.findall(r"(?:__sync|cp_async_(?:commit|wait))[\w<>]*\(\);", text))
            for text in texts
        )
        > 0
    )
    for fault in planned:
        source = (faults.SOURCES / fault.file).read_text()
        assert " ".join(source[fault.start : fault.end].split()) == fault.code
        assert fault.planted(source) != source


def test_every_survivor_can_still_be_planted() -> None:
    names = {fault.name for fault in faults.faults()}
    assert set(faults.survivors()) <= names
    assert all(len(reason) > 20 for reason in faults.survivors().values())


def test_a_new_survivor_and_one_that_is_none_are_told() -> None:
    first, *others = faults.faults()
    known = next(f for f in [first, *others] if f.name in faults.survivors())
    new = next(f for f in [first, *others] if f.name not in faults.survivors())
    noticed = [faults.Outcome(known, "", 1.0), faults.Outcome(new, "a race", 1.0)]
    assert faults.verdict(noticed) == []
    missed = [faults.Outcome(known, "a race", 1.0), faults.Outcome(new, "", 1.0)]
    lines = faults.verdict(missed)
    assert lines[0].startswith("noticed, though survivors.toml says it is no fault: ")
    assert lines[1] == f"survived: {new.name}"


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
def test_planted_faults_are_noticed() -> None:
    done = run_module("faults", "--sample=16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 16 noticed" in done.stdout
