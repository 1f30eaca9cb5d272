"""C: ULW-SleepNet as one C11 source with its header, for microcontrollers; the caller has the RAM.

BatchNorm and the shortcuts are folded as for the native core, and the two linear layers, between
which there is nothing, are one matrix. `ulw_sleepnet.c.in` and `.h.in` are the text around the
weights; names in it begin with the name of the file.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleeptools import store
from sleeptools.errors import DataError, UnavailableError, UsageError
from sleeptools.inference.card import card_text, make_card
from sleeptools.inference.density import finite_density
from sleeptools.inference.engine import Engine
from sleeptools.native import Floats
from sleeptools.native.layer_tables import ulw_sleepnet
from sleeptools.native.separable_stream import fold_separable
from sleeptools.runs import model_folder

SUFFIXES: Final = (".c", ".h")
MODEL: Final = "ulw-sleepnet"
TEMPLATE: Final = Path(__file__).with_name("ulw_sleepnet")
FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-pedantic", "-Wdouble-promotion", "-Werror")
CORTEX_M4: Final = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
ARM: Final = "arm-none-eabi-gcc"
RAM: Final = 256 << 10  # bytes that four signals may take
WIDE: Final = 96  # characters of a line


def export(engine: Engine, folder: Path, out: Path) -> None:
    """Write source and header.

    Raises
    ------
    UsageError
        For another model.
    DataError
        If folding makes a weight infinite.
    """
    model = engine.facts["model"]
    if model != MODEL:
        raise UsageError(
            f"{folder}: {model} cannot be exported as C, which is written for {MODEL}",
            hint="`kind=onnx` is for every model",
            code="USE-VALUE",
        )
    weights = _folded_weights(engine, folder)
    prefix = c_name(out.stem)
    words = {
        "MODEL": MODEL,
        "HEADER": out.with_suffix(".h").name,
        "PREFIX": prefix.upper(),
        "prefix": prefix,
        "SIGNALS": engine.size[0],
        "SAMPLES": engine.size[1],
        "STAGES": len(engine.stages),
        "NAMES": ", ".join(map(c_text, engine.stages)),
        "WORKSPACE": workspace(engine.size[0]),
        "COUNT": len(weights),
        "WEIGHTS": textwrap.indent(
            textwrap.fill(
                " ".join(f"{literal(w)}," for w in weights), WIDE, break_on_hyphens=False
            ),
            "    ",
        ),
        "ABOUT": _about(engine),
    }
    for suffix in SUFFIXES:
        template = store.read_text(TEMPLATE.with_suffix(f"{suffix}.in"))
        text = re.sub(r"@(\w+)@", lambda match: str(words[match[1]]), template)
        store.write_text(out.with_suffix(suffix), text)


def load(path: Path, engine: Engine) -> Engine:
    """Compile the source for this machine, and load it.

    Raises
    ------
    UnavailableError
        If there is no C compiler.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise UnavailableError(
            f"{path.name}: a C compiler is needed, to compare the source with the model",
            hint="apt-get install gcc, or what your system has instead",
            code="EXPORT-COMPILER",
        )
    library = path.with_suffix(".so")
    _run([compiler, *FLAGS, "-shared", "-fPIC", path, "-o", library, "-lm"], path)
    score = ctypes.CDLL(str(library))[f"{c_name(path.stem)}_score"]
    space = np.empty(workspace(engine.size[0]), np.float32)

    def network(x: Floats) -> Floats:
        density = np.empty((len(x), len(engine.stages)), np.float32)
        for epoch, probabilities in zip(np.ascontiguousarray(x), density, strict=True):
            score(*(ctypes.c_void_p(a.ctypes.data) for a in (epoch, space, probabilities)))
        return density

    return Engine(
        engine.facts,
        lambda x: finite_density(x, network),
        precision="fp32",
        threads=1,
        backend="c",
        span=engine.span,
        files=[path],
    )


def about(path: Path, engine: Engine) -> list[str]:
    """Say what it takes: flash, stack and RAM on a Cortex-M4, where there is a compiler for it."""
    signals, samples = engine.size
    floats = np.dtype(np.float32).itemsize
    space, epoch = workspace(signals) * floats, signals * samples * floats
    if not shutil.which(ARM):
        return [
            f"RAM: workspace {kib(space)} and an epoch {kib(epoch)}, both the caller's",
            f"flash and stack were not measured: there is no {ARM}, as in the package "
            "gcc-arm-none-eabi",
        ]
    object_file = path.with_suffix(".o")
    _run([ARM, *CORTEX_M4, *FLAGS, "-fstack-usage", "-c", path, "-o", object_file], path)
    sizes = _run([ARM.replace("gcc", "size"), object_file], path).splitlines()[1].split()
    text, data, bss = map(int, sizes[:3])
    frames = path.with_suffix(".su").read_text().splitlines()
    stack = sum(int(line.split("\t")[1]) for line in frames)  # as if each called the next
    ram = space + epoch + stack + data + bss
    return [
        f"Cortex-M4: flash {kib(text + data)} and expf; stack at most {stack} bytes and expf's; "
        f"static data {data + bss} bytes",
        f"RAM {kib(ram)}: workspace {kib(space)} and an epoch {kib(epoch)}, both the caller's, "
        "static data and stack",
    ]


def workspace(signals: int) -> int:
    """Count the floats of the caller's workspace; see `features` in the template."""
    half = -(-ulw_sleepnet.SAMPLES // 2)
    first = ulw_sleepnet.WIDTHS[0]
    return signals * ulw_sleepnet.WIDTHS[-1] + first * -(-half // 2) + first * half


def kib(count: int) -> str:
    """Write a number of bytes."""
    return f"{count / 1024:.1f} KiB"


def _folded_weights(engine: Engine, folder: Path) -> Floats:
    """Fold in double precision, in the order of the template."""
    arrays: Mapping[str, NDArray[np.float64]] = {
        name: np.asarray(array, np.float64)
        for name, array in model_folder.read_weights(folder).items()
    }
    names = [block.unit1.name.rpartition(".")[0] for block in ulw_sleepnet.blocks()]
    matrix = arrays["linear2.weight"] @ arrays["linear1.weight"]  # (stages, 32 signals)
    bias = arrays["linear2.weight"] @ arrays["linear1.bias"] + arrays["linear2.bias"]
    blocks = fold_separable(arrays, names, ulw_sleepnet.NORM_EPS)
    weights = np.concatenate([*blocks, matrix.reshape(-1), bias]).astype(np.float32)
    if not np.isfinite(weights).all():
        raise DataError(
            f"{engine.files[-1]}: folded weights are not finite in single precision",
            code="MODEL-FINITE",
        )
    return weights


def _about(engine: Engine) -> str:
    """Write the card as the inside of a comment, which JSON without a slash cannot end."""
    words = card_text(make_card(engine.facts, engine.span)).replace("/", "\\u002f")
    lines = textwrap.wrap(words, WIDE - 3, break_on_hyphens=False)
    return "\n".join(f" * {line}" for line in ["The card of the model, as JSON:", *lines])


def literal(value: np.float32) -> str:
    """Write a float so that a C compiler reads the same one."""
    return f"{np.format_float_scientific(value, unique=True, trim='0')}f"


def c_text(text: str) -> str:
    """Write a text as a C string: what is neither letter, digit nor blank as octal numbers."""
    plain = re.sub(rb"[^A-Za-z0-9 ]", lambda match: b"\\%03o" % match[0][0], text.encode())
    return f'"{plain.decode()}"'


def c_name(stem: str) -> str:
    """Make a C name of a file's: what is neither letter nor digit becomes an underscore."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_").lower()
    return name if name and not name[0].isdigit() else f"model_{name}".rstrip("_")


def _run(words: Sequence[Any], path: Path) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise UnavailableError(
            f"{path.name}: {Path(words[0]).name} cannot compile it: {message}",
            hint="a compiler that knows C11, such as gcc 9 or clang 10",
            code="EXPORT-COMPILER",
        )
    return done.stdout
