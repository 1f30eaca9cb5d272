"""The CUDA kernels' machine code against the stored one; benches/machine_code.py does the work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNKNOWN = 3  # benches/machine_code.py: nothing to compare here
NVCC = shutil.which("nvcc")

PTXAS = """\
ptxas info    : Compiling entry function '_Z3twov' for 'sm_90'
ptxas info    : Function properties for _Z3twov
    208 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 208 bytes cumulative stack size, 1728 bytes smem
ptxas info    : Compiling entry function '_Z3onev' for 'sm_90'
ptxas info    : Function properties for _Z3onev
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 31 registers, 480 bytes cmem[0]
"""
SASS = """\
\t.target\tsm_90
//--------------------- .text._Z3onev --------------------------
\t.section\t.text._Z3onev,"ax",@progbits
.text._Z3onev:
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_0:
        /*0010*/                   LDGSTS.E.BYPASS.128 [R2], [R4.64] ;
.L_x_1:
        /*0018*/              @!PT LDS RZ, [RZ] ;
        /*0020*/                   LDS.U.128 R4, [R0] ;
        /*0030*/                   LDS R8, [R0+0x10] ;
        /*0038*/                   LDSM.16.M88.4 R12, [R0+0x20] ;
        /*0040*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0050*/              @!P0 FFMA R1, R2, R3, R1 ;
        /*0060*/               @P1 BRA `(.L_x_1) ;
        /*0070*/              @UP0 BRA `(.L_x_0) ;
        /*0080*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0090*/                   EXIT ;
.L_x_2:
        /*00a0*/                   BRA `(.L_x_2);
        /*00b0*/                   NOP;
"""


@pytest.fixture
def machine_code(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benches")
    import machine_code

    return machine_code


@pytest.mark.slow
def test_no_kernel_has_become_worse(skip_loudly) -> None:
    command = [sys.executable, "benches/machine_code.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == UNKNOWN:
        skip_loudly(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_where_there_is_a_compiler_its_code_can_be_read(machine_code) -> None:
    command = [machine_code.disassembler(), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CUDA disassembler" in done.stdout


def test_a_missing_disassembler_is_an_error(machine_code, monkeypatch) -> None:
    monkeypatch.setattr(machine_code, "WHEEL", "a-wheel-that-is-not-there")
    monkeypatch.setattr(machine_code.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install a-wheel-that-is-not-there"):
        machine_code.disassembler()
    with pytest.raises(machine_code.CannotTellError, match="nvcc"):
        machine_code.made_by()


def test_what_ptxas_says(machine_code) -> None:
    usage = machine_code.resources(PTXAS)
    assert usage["_Z3onev"] == {"registers": 31, "spills": 0, "stack": 0, "shared": 0}
    assert usage["_Z3twov"] == {"registers": 40, "spills": 32, "stack": 208, "shared": 1728}


def test_what_nvdisasm_says(machine_code) -> None:
    [(symbol, lines)] = machine_code.functions(SASS)
    assert symbol == "_Z3onev"
    assert machine_code.count(lines) == {
        "HMMA": 1,
        "FFMA": 1,
        "LDS 32": 1,
        "LDS 128": 1,
        "LDGSTS 128": 1,
        "LDSM": 1,
        "calls": 1,
        "instructions": 12,
        "loop": 6,
    }


def test_what_is_worse(machine_code) -> None:
    good = {"registers": 100, "spills": 0, "HMMA": 16, "LDS 128": 8, "LDS 32": 4, "loop": 200}
    bad = {"registers": 106, "spills": 4, "HMMA": 15, "LDS 128": 7, "LDS 32": 5, "loop": 211}
    lines = machine_code.compare({"k": bad, "new": {}}, {"k": good, "old": {}})
    assert len(lines) == len(bad) + 2
    assert "k: spills 4, 0 before; if that is right, renew it" in "\n".join(lines)
    better = {"registers": 104, "HMMA": 32, "LDS 128": 9, "loop": 100}
    assert machine_code.compare({"k": better}, {"k": good}) == []


def test_the_stored_kernels_are_those_of_the_sources(machine_code) -> None:
    stored = json.loads(machine_code.RESULT.read_text())["kernels"]
    sources = machine_code.SOURCES.glob("*.cu")
    files = {path.stem for path in sources if "__global__" in path.read_text()}
    pairs = {(architecture, file) for architecture in machine_code.ARCHITECTURES for file in files}
    assert {tuple(kernel.split(" ")[:2]) for kernel in stored} == pairs
