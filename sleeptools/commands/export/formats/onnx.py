"""ONNX: one file with the weights, the card in its metadata, and operators of ONNX alone.

The input `signals` is float32 (batch, channels, samples) as the card says, (batch, epochs, ...) for
a model that takes several epochs; the output `probabilities` is (batch, stages).
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Final

import torch

from sleeptools import store
from sleeptools.commands.export.graph import export_graph, quiet
from sleeptools.errors import UnavailableError, quoted
from sleeptools.inference.card import METADATA, card_text, make_card
from sleeptools.inference.engine import Engine
from sleeptools.inference.onnx_file import NO_SUM, SUM, content_sum
from sleeptools.store.libraries import install_line

SUFFIXES: Final = (".onnx",)


def export(engine: Engine, folder: Path, out: Path) -> None:
    """Write the file.

    Raises
    ------
    UnavailableError
        If a library is missing.
    """
    try:
        import onnxscript  # noqa: F401 - torch's exporter writes with it
    except ImportError as e:
        raise UnavailableError(
            f"{out.name}: the libraries onnx and onnxscript are needed to write ONNX",
            hint=install_line("onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.2"),
            code="EXPORT-LIBRARY",
        ) from e
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        program: Any = torch.onnx.export(
            export_graph(engine, folder),
            (),
            dynamo=True,
            verbose=False,
            input_names=["signals"],
            output_names=["probabilities"],
            dynamic_shapes=({0: "batch"},),
        )
    card = make_card(engine.facts, engine.span) | {"sha256": SUM}
    program.model.metadata_props.update({METADATA: card_text(card), SUM: NO_SUM})
    program.save(out, external_data=False)
    content = out.read_bytes()
    assert content.count(NO_SUM.encode()) == 1
    with store.atomic_write(out) as file:
        file.write(content.replace(NO_SUM.encode(), content_sum(content).encode()))


def load(path: Path, engine: Engine) -> Engine:
    """Load the file as `score` does, without a temperature."""
    return Engine.load(path, threads=engine.threads, calibrated=False)


def about(path: Path, engine: Engine) -> list[str]:
    """Say how large it is and how it is used."""
    del engine
    return [
        f"{path.stat().st_size / 1024:.0f} KiB; scores with "
        f"'sleeptools score {quoted(path.name)}', or in any program with ONNX Runtime"
    ]
