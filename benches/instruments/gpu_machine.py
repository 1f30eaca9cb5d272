"""Whether `make gpu` can begin here: ends with 1 and every reason why not.

It uses nothing but what the active Python has, before anything is installed or built.
"""

from __future__ import annotations

import shutil
import sys

OLDEST = (3, 11)


def obstacles() -> list[str]:
    """List what is missing, a line each."""
    found = []
    if sys.version_info < OLDEST:
        found.append(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    try:
        import torch
    except ImportError as error:
        found.append(f"the active Python, {sys.executable}, cannot import torch: {error}")
    else:
        found += devices_missing(torch)
    if not shutil.which("nvcc"):
        found.append("no nvcc on the PATH: it compiles the CUDA kernels")
    if not shutil.which("c++") and not shutil.which("g++"):
        found.append("no C++ compiler on the PATH")
    return found


def devices_missing(torch: object) -> list[str]:
    """Say that PyTorch sees no GPU, and which PyTorch that is."""
    if torch.cuda.is_available():
        return []
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU alone"
    driver = "nvidia-smi is there" if shutil.which("nvidia-smi") else "there is no nvidia-smi"
    return [f"PyTorch {torch.__version__}, {build}, sees no GPU; {driver}"]


def main() -> None:
    found = obstacles()
    if found:
        sys.exit("\n".join(f"error: make gpu: {line}" for line in found))


if __name__ == "__main__":
    main()
