"""Sweep over the drawer of ops: every file there is held to the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from golden_ops import op_path, read_op, reference_in_double
from sleeptools import native, registry

OPS = registry.names("ops")
REASON = f"native core not in use: {native.describe()}"
VARIANTS = [v for v in native.variants() if v != "reference"] or [
    pytest.param("none", marks=pytest.mark.skip(reason=REASON))
]
SMALL = 60  # elements of the first tensor; gradcheck takes a forward pass for each


@pytest.fixture(params=OPS)
def op(request: pytest.FixtureRequest) -> Any:
    return registry.load("ops", request.param)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using_variant(request.param):
        yield request.param


def short(module: Any) -> str:
    return str(module.__name__.rpartition(".")[2])


def function(module: Any) -> Any:
    return getattr(module, short(module))


def operator(module: Any) -> Any:
    return getattr(torch.ops.sleeptools, short(module)).default


def differentiable(example: tuple[Any, ...], dtype: torch.dtype = torch.float32) -> list[Any]:
    return [a.detach().to(dtype).requires_grad_() if is_float(a) else a for a in example]


def is_float(a: Any) -> bool:
    return isinstance(a, torch.Tensor) and a.is_floating_point()


def tensor_positions(example: tuple[Any, ...]) -> list[int]:
    return [i for i, a in enumerate(example) if isinstance(a, torch.Tensor)]


def test_native_equals_reference(op: Any, variant: str) -> None:
    for example in op.examples("cpu"):
        result = function(op)(*example)
        assert_close(result, reference_in_double(op, example).float(), **op.TOLERANCE)
        assert result.is_contiguous()


def test_golden(op: Any, variant: str) -> None:
    cases = read_op(short(op))
    assert cases
    for arguments, expected in cases:
        assert_close(function(op)(*arguments), expected, **op.TOLERANCE)


def test_golden_of_the_reference(op: Any) -> None:
    assert op_path(short(op)).stat().st_size < 100_000
    for arguments, expected in read_op(short(op)):
        assert_close(op.reference(*arguments), expected, **op.TOLERANCE)


def test_strides_do_not_matter(op: Any) -> None:
    for example in op.examples("cpu"):
        strided = [
            a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a
            for a in example
        ]
        assert_close(function(op)(*strided), function(op)(*example), **op.TOLERANCE)


def test_nan_is_not_hidden(op: Any) -> None:
    example = list(op.examples("cpu")[0])
    example[0] = example[0].clone()
    example[0].view(-1)[0] = torch.nan
    expected = op.reference(*example)
    assert expected.isnan().any()
    assert_close(function(op)(*example), expected, **op.TOLERANCE, equal_nan=True)


def test_gradients_equal_the_reference(op: Any) -> None:
    for example in op.examples("cpu"):
        ours, theirs = differentiable(example), differentiable(example)
        weight = torch.randn(
            function(op)(*example).shape, generator=torch.Generator().manual_seed(2)
        )
        (function(op)(*ours) * weight).sum().backward()
        (op.reference(*theirs) * weight).sum().backward()
        for i in tensor_positions(example):
            assert_close(ours[i].grad, theirs[i].grad, rtol=1e-4, atol=1e-4)


def test_gradcheck_in_double(op: Any) -> None:
    small = [e for e in op.examples("cpu") if 0 < e[0].numel() <= SMALL]
    assert small
    for example in small:
        arguments = differentiable(example, torch.float64)
        assert torch.autograd.gradcheck(function(op), arguments)


def test_opcheck(op: Any) -> None:
    for example in op.examples("cpu")[:6]:
        torch.library.opcheck(operator(op), example)
        torch.library.opcheck(operator(op), tuple(differentiable(example)))


def test_compiles_as_one_graph(op: Any) -> None:
    example = op.examples("cpu")[0]
    compiled = torch.compile(function(op), fullgraph=True, backend="aot_eager")
    assert_close(compiled(*example), op.reference(*example), **op.TOLERANCE)


def test_exports(op: Any) -> None:
    example = op.examples("cpu")[0]

    class Wrapped(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> Any:
            remaining = iter(tensors)
            return function(op)(
                *[next(remaining) if isinstance(a, torch.Tensor) else a for a in example]
            )

    tensors = tuple(a for a in example if isinstance(a, torch.Tensor))
    program = torch.export.export(Wrapped(), tensors)
    assert short(op) in str(program.graph)
    assert_close(program.module()(*tensors), op.reference(*example), **op.TOLERANCE)


def test_wrong_shapes_are_named(op: Any) -> None:
    example = op.examples("cpu")[0]
    for i in tensor_positions(example):
        wrong = [a[None] if j == i else a for j, a in enumerate(example)]
        with pytest.raises(ValueError, match=rf"{short(op)}: .* has shape .*; expected \("):
            function(op)(*wrong)


def test_mixed_types_are_named(op: Any) -> None:
    example = op.examples("cpu")[0]
    last = tensor_positions(example)[-1]
    if last == 0:
        pytest.skip("a single tensor has no other to differ from")
    wrong = [a.double() if j == last else a for j, a in enumerate(example)]
    with pytest.raises(ValueError, match=r"torch\.float64 on cpu.*expected torch\.float32 on cpu"):
        function(op)(*wrong)


def test_fallback_without_the_core(op: Any) -> None:
    with native.using_variant("reference"):
        for example in op.examples("cpu"):
            assert torch.equal(function(op)(*example), op.reference(*example))


@pytest.mark.gpu
def test_gpu_equals_reference(op: Any, gpu: torch.device) -> None:
    on_cpu, on_gpu = op.examples("cpu"), op.examples(gpu)
    for example, moved in zip(on_cpu, on_gpu, strict=True):
        expected = reference_in_double(op, example).float()
        assert_close(function(op)(*moved).cpu(), expected, **op.TOLERANCE)


@pytest.mark.gpu
def test_gpu_stream_and_gradients(op: Any, gpu: torch.device) -> None:
    example = op.examples("cpu")[0]
    theirs = differentiable(example)
    op.reference(*theirs).sum().backward()
    with torch.cuda.stream(torch.cuda.Stream(gpu)):
        ours = differentiable(op.examples(gpu)[0])
        function(op)(*ours).sum().backward()
    torch.cuda.synchronize()
    for i in tensor_positions(example):
        assert_close(ours[i].grad.cpu(), theirs[i].grad, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_gpu_opcheck(op: Any, gpu: torch.device) -> None:
    torch.library.opcheck(operator(op), op.examples(gpu)[0])
