"""Tensors of a CUDA device that is emulated: the host's memory, under the name "cuda:0".

While an `EmulatedDevice` is entered, PyTorch makes tensors for "cuda:0" without CUDA: each is a
`DeviceTensor`, whose operations run on a tensor of the host that it keeps. PyTorch sees its real
device, so that tensors of two devices cannot be mixed, and the ops take their CUDA path.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from sleeptools import registry

CUDA = torch.device("cuda", 0)
STREAM = 0x5EEB  # address of the current stream
NAN = 0xFF  # bytes of memory that nobody has written


class FaultError(Exception):
    """A kernel did what it must not, in the emulator's words."""


class DeviceTensor(Tensor):
    """A tensor of "cuda:0" whose numbers lie in the tensor `host`."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> DeviceTensor:
        """Wrap a tensor of the host."""
        tensor: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=CUDA,
        )
        tensor.host = host
        return tensor

    def data_ptr(self) -> int:
        """Give the address for a kernel, which may then use the tensor's memory."""
        active_device().allow(self.host)
        return self.host.data_ptr()

    def contiguous(self, *, memory_format: Any = torch.contiguous_format) -> Tensor:
        """Copy, unless it is contiguous; PyTorch's own method asks for a real device first."""
        if self.is_contiguous(memory_format=memory_format):
            return self
        return self.clone(memory_format=memory_format)

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{function} outside of an EmulatedDevice")

    __torch_function__ = torch._C._disabled_torch_function_impl


_ACTIVE: list[EmulatedDevice] = []


def active_device() -> EmulatedDevice:
    """Get the device that is entered."""
    return _ACTIVE[-1]


@dataclass
class Started:
    """A launch: its kernel, as the source names it, how large it was, and on which stream."""

    kernel: str
    grid: str
    block: str
    stream: int


@dataclass
class EmulatedDevice(TorchDispatchMode):
    """Runs PyTorch on the device; `library` is the loaded core with the emulator in it."""

    library: ctypes.CDLL
    held: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Declare the emulator's functions."""
        super().__init__()
        address = ctypes.c_size_t
        self.library.emulator_allow.argtypes = [address, address]
        self.library.emulator_synchronize.restype = ctypes.c_char_p
        self.library.emulator_launches.restype = ctypes.c_char_p

    def order(self, order: str, seed: int = 0) -> None:
        """Choose which threads and blocks go first: "forwards", "backwards" or "random"."""
        number = ("forwards", "backwards", "random").index(order)
        self.library.emulator_configure(number, seed)

    def allow(self, tensor: Tensor) -> None:
        """Let kernels use the memory of a tensor until the next `synchronize`."""
        storage = tensor.untyped_storage()
        if storage.nbytes() and all(t.data_ptr() != storage.data_ptr() for t in self.held):
            self.library.emulator_allow(storage.data_ptr(), storage.nbytes())
            self.held.append(torch.empty(0, dtype=tensor.dtype).set_(storage))

    def synchronize(self) -> None:
        """Run all launches.

        Raises
        ------
        FaultError
            If a kernel did something wrong.
        """
        text = self.library.emulator_synchronize()
        self.library.emulator_forget()
        self.held.clear()
        if text:
            raise FaultError(text.decode().strip())

    def launches(self) -> list[Started]:
        """List the launches since the last call."""
        lines = self.library.emulator_launches().decode().splitlines()
        fields = [line.split("\t") for line in lines]
        return [Started(kernel, grid, block, int(s)) for kernel, grid, block, s in fields]

    @contextlib.contextmanager
    def running(self) -> Iterator[EmulatedDevice]:
        """Enter the device, with a current stream as PyTorch tells the ops."""
        stream = SimpleNamespace(cuda_stream=STREAM)
        _ACTIVE.append(self)
        try:
            with (
                mock.patch.object(torch.cuda, "_lazy_init"),
                mock.patch.object(torch.cuda, "device", contextlib.nullcontext),
                mock.patch.object(torch.cuda, "current_stream", return_value=stream),
                self,
            ):
                yield self
        finally:
            _ACTIVE.pop()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one of PyTorch's operations, or one of ours by its CUDA implementation."""
        kwargs = kwargs or {}
        if function.namespace == "sleeptools":
            with self:
                return _implementation(function)(*args, **kwargs)
        inputs = [
            t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)
        ]
        on_device = any(isinstance(t, DeviceTensor) for t in inputs)
        target = kwargs.get("device")
        if on_device:
            self.synchronize()
        moves = target is not None and torch.device(target).type == "cuda"
        if moves:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        results = function(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
        if function.overloadpacket.__name__ in {
            "empty",
            "new_empty",
            "empty_like",
            "empty_strided",
        }:
            _spoil(results)
        if moves or (on_device and target is None):
            return tree_map(_on_device, results)
        return results


def _implementation(function: Any) -> Callable[..., Any]:
    name = function.overloadpacket.__name__
    op = name.removesuffix("_backward")
    module = registry.load("ops", op.replace("_", "-"))
    run: Callable[..., Any] = module._forward if op == name else module._launch_gradients
    return run


def _on_host(value: Any) -> Any:
    return value.host if isinstance(value, DeviceTensor) else value


def _on_device(value: Any) -> Any:
    return DeviceTensor(value) if isinstance(value, Tensor) else value


def _spoil(tensor: Tensor) -> None:
    """Fill new memory, so that nobody counts on zeros."""
    if tensor.numel():
        ctypes.memset(tensor.data_ptr(), NAN, tensor.untyped_storage().nbytes())
