"""Layers that train by the CUDA kernels, on the emulated device: which kernels, and what they give.

The device has no autograd of its own; the gradients are in the sweep of test_cuda_emulator.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from cuda_emulator import building
from cuda_emulator.cases import PRECISION
from sleeptools import registry
from sleeptools.models.layers import native_training
from sleeptools.models.layers.native_training import trains_on_tensor_cores

PROGRAM = """
import copy
from unittest import mock
import torch
from torch import nn
from cuda_emulator.building import Build
from cuda_emulator.core import load_core
from cuda_emulator.device import CUDA, EmulatedDevice
library = load_core(Build().core())
from sleeptools import native
from sleeptools.models.layers.conv_streams import Nonlinearity, TwoStreams
from sleeptools.models.layers.encoder import encode
from sleeptools.native.conv_streams import ConvLayer

def moved(module):
    module = copy.deepcopy(module)
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    held = tensor.detach().to(CUDA)
                    is_weight = tensors is part._parameters
                    tensors[name] = nn.Parameter(held, requires_grad=False) if is_weight else held
    return module

def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())

def statistics(module):
    return [b.cpu() for b in module.buffers() if b.is_floating_point()]

device = EmulatedDevice(library)
torch.manual_seed(1)
layer = nn.TransformerEncoderLayer(16, 2, 24, 0.1, batch_first=True)
chain = ConvLayer(8, 5, 2, 1, (2, 2, 1)), ConvLayer(8, 3, 1, 1)
streams = TwoStreams(2, (chain, chain), Nonlinearity("leaky_relu"), 0.5)
layers = {
    encode: (layer, torch.randn(2, 5, 16)), TwoStreams.__call__: (streams, torch.randn(3, 2, 60))
}
half = mock.patch.multiple(
    torch,
    is_autocast_enabled=lambda device: device == "cuda",
    get_autocast_dtype=lambda device: torch.bfloat16,
)
one_stream = mock.patch.object(torch.cuda, "is_current_stream_capturing", return_value=False)
for run, (module, x) in layers.items():
    with torch.no_grad(), half, one_stream, device.running():
        on_device = moved(module)
        torch.manual_seed(3)
        results = [run(on_device, x.to(CUDA)).cpu(), *statistics(on_device)]
    print(*[launch.kernel for launch in device.launches()])
    with torch.no_grad(), native.using_variant("reference"):
        torch.manual_seed(3)
        expected = [run(module, x), *statistics(module)]
    print(max(map(relative, results, expected)))
"""


@pytest.fixture
def emulator(skip_loudly: Callable[[str], None]) -> None:
    if building.missing():
        skip_loudly(f"CUDA kernels not emulated: {building.missing()}")


@pytest.mark.usefixtures("emulator")
def test_layers_train_by_the_kernels_in_bfloat16() -> None:
    paths = [str(building.HERE.parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=building.ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    encoder, first, streams, second = done.stdout.splitlines()
    assert "tensor::tensor_kernel" in encoder.split()
    assert streams.split() == ["kernel", "moments", "join_moments", "finish"] * 4
    # the same dropout as on a CPU, and products of rounded numbers
    assert all(0 < float(error) < 2e-2 for error in (first, second))


def on_cuda(dtype: torch.dtype = torch.float32) -> SimpleNamespace:
    return SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device("cuda", 0))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Let PyTorch say what a training in bfloat16 on a GPU has it say; to be changed by a test."""
    says = {"half": torch.bfloat16, "enabled": True, "capturing": False, "runs": True}
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: says["half"])
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: says["enabled"])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: says["capturing"])
    monkeypatch.setattr(native_training, "runs_kernels", lambda _: says["runs"])
    return says


def test_only_bfloat16_on_a_card_that_runs_them(card: dict[str, object]) -> None:
    assert trains_on_tensor_cores(on_cuda())
    assert trains_on_tensor_cores(on_cuda(torch.bfloat16))
    assert not trains_on_tensor_cores(on_cuda(torch.float64))
    assert not trains_on_tensor_cores(torch.zeros(1))


@pytest.mark.parametrize(
    ("what", "value"),
    [("half", torch.float16), ("enabled", False), ("capturing", True), ("runs", False)],
)
def test_what_keeps_them_from_training(card: dict[str, object], what: str, value: object) -> None:
    card[what] = value
    assert not trains_on_tensor_cores(on_cuda())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["conv-block", "feed-forward"])
def test_gradients_in_bfloat16_on_a_card(name: str, gpu: torch.device) -> None:
    module = registry.load("ops", name)
    example = list(module.examples(gpu)[0])
    example[PRECISION[name]] = "bf16"

    def gradients(run: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        moved = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in example]
        tensors = [a for a in moved if isinstance(a, torch.Tensor)]
        out = run(*moved)
        weight = torch.linspace(-1, 1, out.numel(), device=gpu).view(out.shape)
        return torch.autograd.grad((out * weight).sum(), tensors)

    ours, again = (gradients(getattr(module, name.replace("-", "_"))) for _ in range(2))
    for own, second, theirs in zip(ours, again, gradients(module.reference), strict=True):
        torch.testing.assert_close(own, second, rtol=0, atol=0)
        assert float((own - theirs).abs().max()) < 2e-2 * float(theirs.abs().max())
