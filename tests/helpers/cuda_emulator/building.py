"""Compiles csrc/cuda as plain C++ into a core whose only device is emulated.

Objects are kept under the hash of all that they come from, so that a change of one kernel compiles
one file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cuda_emulator.rewrite import rewrite

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "emulator"
COMPILER = "g++"  # clang calls the sanitizer alike, but was not tried
INCLUDE = re.compile(r'^#include "(.*?)"', re.MULTILINE)
EMULATOR = ("emulator.cpp", "instructions.cpp", "memory.cpp")
ASSEMBLY = "ptx.cuh"  # of which the emulator has its own version

COMMON = ("-std=c++17", "-fPIC", "-g1", "-fvisibility=hidden", "-ffp-contract=off")
# nvcc, too, includes the runtime by itself
KERNELS = ("-march=native", "-include", "cuda_runtime.h", '-DSLEEPTOOLS_CUDA_ARCHITECTURES="80 90"')
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
CHECKED: dict[str, tuple[str, ...]] = {
    # every access, and every wrong index, is announced to memory.cpp; -g1 says where that is
    "access": ("-O2", "-fno-tree-vectorize", "-fsanitize=thread", "-fsanitize=bounds"),
    "sanitize": ("-O1", "-fno-omit-frame-pointer", *SANITIZE),
}
"""What checks the kernels' memory: the emulator, or the compiler's sanitizers."""


class BuildError(Exception):
    """A source does not compile; the text is the compiler's."""


def missing() -> str:
    """Say what the emulator lacks here; empty if nothing."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return "the emulator's fibers are written for x86-64"
    if not shutil.which(COMPILER):
        return "no C++ compiler (g++)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"no Python.h in {sysconfig.get_path('include')}"
    return ""


def sanitizer_environment() -> dict[str, str]:
    """Give the variables that put the sanitizers' libraries in front of all others."""
    names = [[COMPILER, f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
    paths = [subprocess.check_output(command, text=True).strip() for command in names]
    return {"LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": "detect_leaks=0"}


@dataclass(frozen=True)
class Build:
    """A core in the making: `csrc` may be a changed copy."""

    checked: str = "access"
    csrc: Path = ROOT / "csrc"
    folder: Path = FOLDER

    @cached_property
    def sources(self) -> Path:
        """Where the rewritten sources lie, beside what they include."""
        target = self.folder / "csrc" / hashlib.sha256(str(self.csrc).encode()).hexdigest()[:8]
        for source in self.csrc.rglob("*.[ch]*"):
            _write(target / source.relative_to(self.csrc), source.read_text())
        for source in sorted((self.csrc / "cuda").glob("*.cu*")):
            name = (
                source.name.removesuffix(".cu") + ".cpp" if source.suffix == ".cu" else source.name
            )
            shown = Path("csrc", source.relative_to(self.csrc))
            own = HERE / "include" / ASSEMBLY
            text = own.read_text() if name == ASSEMBLY else rewrite(source.read_text(), str(shown))
            _write(target / "cuda" / name, text)
        return target

    def core(self) -> Path:
        """Build the module `sleeptools._core`; gives its path."""
        kernels = sorted((self.sources / "cuda").glob("*.cpp"))
        kernels = [path for path in kernels if path.name != "absent.cpp"]
        checked = CHECKED[self.checked]
        tasks = [(path, (*KERNELS, *checked)) for path in kernels]
        tasks += [(self.sources / "bindings.cpp", ("-O0",)), (HERE / "no_cpu.cpp", ("-O0",))]
        return self._link("_core.so", [*tasks, *self._emulator()])

    def library(self, source: Path) -> Path:
        """Build a file of kernels alone, with the emulator, to be loaded by ctypes."""
        rewritten = self.folder / "csrc" / f"{source.stem}.cpp"
        _write(rewritten, rewrite(source.read_text(), source.name))
        tasks = [(rewritten, (*KERNELS, *CHECKED[self.checked])), *self._emulator()]
        return self._link(f"{source.stem}.so", tasks)

    def _emulator(self) -> list[tuple[Path, tuple[str, ...]]]:
        announced = {"-fsanitize=thread", "-fsanitize=bounds"}  # to these files themselves
        flags = [flag for flag in CHECKED[self.checked] if flag not in announced]
        return [(HERE / name, (*flags, "-O2")) for name in EMULATOR]

    def _link(self, name: str, tasks: list[tuple[Path, tuple[str, ...]]]) -> Path:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda task: self._compile(*task), tasks))
        flags = SANITIZE if self.checked == "sanitize" else ()
        command = [COMPILER, "-shared", *flags, *map(str, objects), "-ldl"]
        return self._made(name, " ".join(command), lambda out: [*command, "-o", str(out)])

    def _compile(self, source: Path, flags: tuple[str, ...]) -> Path:
        command = [COMPILER, *COMMON, *flags, *_includes(self.sources)]
        recipe = shlex.join(command).replace(str(self.sources), "") + "".join(
            _texts(source, self.sources)
        )
        return self._made(
            f"{source.stem}.o", recipe, lambda out: [*command, "-c", str(source), "-o", str(out)]
        )

    def _made(self, name: str, recipe: str, command: Callable[[Path], list[str]]) -> Path:
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        path = self.folder / "objects" / digest / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{os.getpid()}-{name}")
        done = subprocess.run(command(unfinished), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(done.stderr)
        unfinished.replace(path)
        return path


def _includes(sources: Path) -> list[str]:
    import pybind11

    folders = [sources, HERE / "include", HERE, pybind11.get_include()]
    return [f"-I{f}" for f in [*folders, sysconfig.get_path("include")]]


def _texts(source: Path, sources: Path) -> Iterator[str]:
    """Give the text of a file and of all that it includes."""
    waiting, known = [source], {source}
    while waiting:
        path = waiting.pop()
        text = path.read_text()
        yield text
        headers = [path.parent, sources, HERE / "include", HERE]
        names = [*INCLUDE.findall(text), *re.findall(r"^#include <(cuda_\w+\.h)>", text, re.M)]
        for name in names:
            header = next((f / name for f in headers if (f / name).exists()), None)
            if header and header.resolve() not in known:
                known.add(header.resolve())
                waiting.append(header.resolve())


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
