"""Any network in an ONNX file, ours or another's, through ONNX Runtime and by its card.

Its one input is float32 (batch, channels, samples), or (batch, epochs, channels, samples) for a
network that takes several epochs; its one output, or the first, (batch, stages), or (batch, epochs,
stages) for a network that scores all of them. An axis may be left open, and the batch be of any
fixed size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from sleeptools import store
from sleeptools.errors import DataError, UnavailableError
from sleeptools.inference.card import METADATA, check_card, parse_card
from sleeptools.inference.density import finite_density, softmax
from sleeptools.inference.onnx_file import check_sum, read_onnx
from sleeptools.native import Floats
from sleeptools.preprocessing.sequences import InputSpan
from sleeptools.store.libraries import install_line

FATAL: Final = 4  # level of ONNX Runtime's log: its errors come as exceptions
OFF: Final = 1e-3  # by which the probabilities of an epoch may not add up to 1


class OnnxNetwork:
    """A network in an ONNX file.

    Parameters
    ----------
    path
        The file.
    threads
        CPU threads.

    Attributes
    ----------
    facts
        Its card, completed to what a model folder's config.json has.
    files
        The file, the card beside it if there is one, and files with tensors.
    input_span
        Epochs that it takes at once.

    Raises
    ------
    MissingInputError, DataError
        If a file is missing, or the file is damaged, has no card, does not fit it, has another sum,
        tensors outside its folder, or operators that ONNX Runtime does not know.
    UnavailableError
        If ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        content = read_onnx(path)
        beside = path.with_suffix(".json")
        self.files = [path, *(path.parent / name for name in dict.fromkeys(content.locations))]
        if METADATA in content.metadata:
            self.facts = parse_card(content.metadata[METADATA], path)
        elif beside.exists():
            self.facts = check_card(store.read_json(beside), beside)
            self.files.append(beside)
        else:
            raise DataError(
                f"{path}: has no card, neither in it nor beside it as {beside.name}",
                hint="docs/export.md has a card to copy: montage, sample_rate, epoch_seconds, "
                "stages, scaling, licence",
                code="CARD-NONE",
            )
        check_sum(path, content, self.facts.get("sha256"))
        self.input_span = InputSpan(self.facts["sequence"], self.facts["context"])
        self.session = self._session(threads)
        self.shape = self._checked_shape()
        self._try_out()

    def __call__(self, x: Floats) -> Floats:
        """Score epochs (B, channels, samples), or (B, epochs, channels, samples) for several."""
        return finite_density(x, self._density)

    def _session(self, threads: int) -> Any:
        try:
            import onnxruntime
        except ImportError as e:
            raise UnavailableError(
                f"{self.path}: an ONNX file, for which the library onnxruntime is needed",
                hint=install_line("onnxruntime>=1.20"),
                code="ONNX-RUNTIME",
            ) from e
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        with self._naming_faults():
            return onnxruntime.InferenceSession(
                str(self.path),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it would print on stdout, and try the same again
            )

    def _checked_shape(self) -> list[Any]:
        """Compare the input's axes with the card; those left open fit any size."""
        samples = round(self.facts["sample_rate"] * self.facts["epoch_seconds"])
        epochs = max(self.input_span.sequence, 1 + 2 * self.input_span.context)
        expected = [*([epochs] if epochs > 1 else []), len(self.facts["montage"]), samples]
        inputs = self.session.get_inputs()
        shape = [*inputs[0].shape] if inputs else []
        fits = len(shape) == 1 + len(expected) and all(
            not isinstance(size, int) or size == wanted
            for size, wanted in zip(shape[1:], expected, strict=True)
        )
        if len(inputs) != 1 or not fits or inputs[0].type != "tensor(float)":
            listed = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs) or "nothing"
            raise DataError(
                f"{self.path}: takes {listed}; by its card it would take one tensor(float) "
                f"[batch, {', '.join(map(str, expected))}]",
                hint="correct montage, sample_rate, epoch_seconds, sequence or context of the card",
                code="ONNX-SHAPE",
            )
        return [shape[0], *expected]

    def _try_out(self) -> None:
        """Score zeros: the output must have the card's stages, and be what the card calls it."""
        count = self.shape[0] if isinstance(self.shape[0], int) else 1
        density = self._density(np.zeros((count, *self.shape[1:]), np.float32))
        sequence = [self.input_span.sequence] if self.input_span.sequence > 1 else []
        expected = (count, *sequence, len(self.facts["stages"]))
        if density.shape != expected:
            raise DataError(
                f"{self.path}: gives an output of shape {density.shape}; by its card it would "
                f"give {expected}",
                hint="correct stages or sequence of the card",
                code="ONNX-SHAPE",
            )
        if self.facts["output"] == "probabilities" and np.any(abs(density.sum(-1) - 1) > OFF):
            raise DataError(
                f"{self.path}: the output does not add up to 1, so it holds no probabilities",
                hint='if they are logits, write "output": "logits" into the card',
                code="ONNX-OUTPUT",
            )

    def _density(self, x: Floats) -> Floats:
        output = self._output(x)
        return softmax(output) if self.facts["output"] == "logits" else output

    def _output(self, x: Floats) -> Floats:
        """Run the network, in batches of its size if it has one; the last repeats an epoch."""
        name, size = self.session.get_inputs()[0].name, self.shape[0]
        if not isinstance(size, int):
            return self._run(name, x)
        index = np.arange(-(-len(x) // size) * size).clip(max=len(x) - 1).reshape(-1, size)
        return np.concatenate([self._run(name, x[i]) for i in index])[: len(x)]

    def _run(self, name: str, x: Floats) -> Floats:
        with self._naming_faults():
            return np.array(self.session.run(None, {name: x})[0], np.float32)

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        """Turn what ONNX Runtime raises, which has no common class, into a DataError."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as e:
            message = str(e).strip().split("\n", 1)[0]
            raise DataError(
                f"{self.path}: ONNX Runtime cannot run it: {message}",
                hint="export it for operators of ONNX itself, of a version that ONNX Runtime knows",
                code="ONNX-RUN",
            ) from e
