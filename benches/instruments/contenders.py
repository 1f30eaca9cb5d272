"""The contenders of the races: plain PyTorch, its compiler, two inference engines, the native core.

Each function prepares one contender for a network, its input and a number of threads. The threads
of torch and of the native core, which share OpenMP's, are set for a whole case by its bench.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import shutil
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from instruments import material
from instruments.provenance import version
from instruments.timing import AbsentError, Contender, Ready, Values
from sleeptools import native
from sleeptools.models.folder import save_model

# PyTorch's compiler and exporter warn about their own code
warnings.filterwarnings("ignore", module="torch")
warnings.filterwarnings("ignore", category=FutureWarning)
OPENVINO_DIES_OF = "sleepprintnet"
FOLDER = tempfile.TemporaryDirectory(prefix="sleeptools-bench-")


def eager(network: nn.Module, x: Values, threads: int, *, precision: str) -> Ready:
    del threads
    return _through_torch(network, x, "reference", autocast=precision == "bf16")


def compiled(network: nn.Module, x: Values, threads: int) -> Ready:
    """torch.compile with the weights frozen into the program; its first call compiles."""
    del threads
    need_compiler()
    return _through_torch(torch.compile(network, options={"freezing": True}), x, "reference")


def onnx_runtime(network: nn.Module, x: Values, threads: int) -> Ready:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = onnx_file(network, len(x))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Ready(lambda: session.run(None, {"x": x})[0])


def openvino(network: nn.Module, x: Values, threads: int, *, precision: str) -> Ready:
    import openvino as ov

    if type(network).__module__.endswith(OPENVINO_DIES_OF):
        raise AbsentError(f"OpenVINO {version('openvino')} ends the process while it compiles it")
    # float32 must be asked for: the default is bfloat16 where the CPU has AMX
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": hint,
    }
    try:
        compiled_model = ov.Core().compile_model(onnx_file(network, len(x)), "CPU", settings)
    except RuntimeError as error:
        raise AbsentError("it does not convert the model") from error
    request = compiled_model.create_infer_request()
    return Ready(lambda: request.infer({"x": x}, share_inputs=True, share_outputs=True)[0])


def native_torch(network: nn.Module, x: Values, threads: int, *, precision: str) -> Ready:
    """Call the native ops from torch, as `train` does in its validation."""
    del threads
    if precision == "bf16" and not hasattr(network, "precision"):
        raise AbsentError("the model has no bf16 path in torch")
    ready = _through_torch(network, x, best_variant())

    def run() -> Tensor:
        network.precision = precision
        return ready.run()

    return ready._replace(run=run)


def engine(network: nn.Module, x: Values, threads: int, *, precision: str) -> Ready:
    """Run what `score` does: NumPy in, NumPy out."""
    from sleeptools.inference.engine import Engine

    variant = best_variant()
    with native.using_variant(variant):
        loaded = Engine.load(model_folder(network), precision=precision, threads=threads)
    if loaded.backend != "native":
        raise AbsentError("no native engine for this model yet")
    if loaded.precision != precision:
        raise AbsentError(f"computed in {loaded.precision}")

    def run() -> Values:
        with native.using_variant(variant):
            return loaded.network(x)

    return Ready(run, np.log)


FORWARD = [
    Contender("PyTorch eager", "fp32", partial(eager, precision="fp32")),
    Contender("PyTorch eager, autocast", "bf16", partial(eager, precision="bf16")),
    Contender("torch.compile, frozen", "fp32", compiled),
    Contender("ONNX Runtime", "fp32", onnx_runtime),
    Contender("OpenVINO", "fp32", partial(openvino, precision="fp32")),
    Contender("OpenVINO", "bf16", partial(openvino, precision="bf16")),
    Contender("native ops in PyTorch", "fp32", partial(native_torch, precision="fp32")),
    Contender("native ops in PyTorch", "bf16", partial(native_torch, precision="bf16")),
    Contender("native", "fp32", partial(engine, precision="fp32")),
    Contender("native", "bf16", partial(engine, precision="bf16")),
]  # the first is the yardstick of all


def best_variant() -> str:
    """Name the instruction set that a user gets here."""
    variant = native.variants()[-1]
    if variant == "reference":
        raise AbsentError(native.describe())
    return variant


def need_compiler() -> None:
    if not shutil.which("g++"):
        raise AbsentError("torch.compile needs a C++ compiler")


@functools.cache
def onnx_file(network: nn.Module, batch: int) -> Path:
    """Export the network for a fixed batch, which both engines optimise best."""
    import onnxscript  # noqa: F401 - the exporter's; named by timing.prepare if it is missing

    path = Path(FOLDER.name) / f"{id(network)}-{batch}.onnx"
    x = torch.from_numpy(material.epochs(batch, network))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), native.using_variant("reference"):
        torch.onnx.export(
            network,
            (x,),
            path,
            dynamo=True,
            verbose=False,
            input_names=["x"],
            output_names=["logits"],
        )
    return path


@functools.cache
def model_folder(network: nn.Module) -> Path:
    folder = Path(FOLDER.name) / str(id(network))
    folder.mkdir()
    save_model(network, folder, material.facts(network))
    return folder


def _through_torch(network: nn.Module, x: Values, variant: str, *, autocast: bool = False) -> Ready:
    tensor = torch.from_numpy(x)

    def run() -> Tensor:
        with (
            native.using_variant(variant),
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        ):
            logits: Tensor = network(tensor)
        return logits

    return Ready(run, lambda logits: logits.float().numpy())
