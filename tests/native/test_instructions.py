"""Instruction counts against the stored ones; see benches/instructions.py, which does the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sleeptools import registry

ROOT = Path(__file__).parents[2]
UNKNOWN = 3  # benches/instructions.py: nothing to compare here


@pytest.fixture
def instructions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benches")
    import instructions

    return instructions


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ops", "start-up"])
def test_no_count_has_risen(part: str, skip_loudly) -> None:
    command = [sys.executable, "benches/instructions.py", "--check", "--only", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == UNKNOWN:
        skip_loudly(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_risen_count_is_named_with_the_way_to_renew_it(instructions) -> None:
    lines = instructions.compare({"a": 106, "b": 105, "c": 1}, {"a": 100, "b": 100, "d": 1}, 1.05)
    assert [line.split(":")[0] for line in lines] == ["a", "c", "d"]
    assert "106 instructions, +6.0% on 100" in lines[0]
    assert all(line.endswith("python benches/instructions.py") for line in lines)


def test_other_tools_are_not_compared(instructions, monkeypatch, capsys, tmp_path) -> None:
    machine = dict.fromkeys(("python", "compiler"), "1")
    result = tmp_path / "instructions.json"
    result.write_text(json.dumps({"made_by": machine | {"compiler": "2"}, "counts": {}}))
    monkeypatch.setattr(instructions, "RESULT", result)
    monkeypatch.setattr(instructions, "made_by", lambda: machine)
    monkeypatch.setattr(sys, "argv", ["instructions.py", "--check"])
    with pytest.raises(SystemExit, match="3"):
        instructions.main()
    assert "compiler '2' then, '1' now" in capsys.readouterr().out


def test_counts_belong_to_the_object_that_executes_them(instructions) -> None:
    text = "ob=/a/_core.so\nfn=f\n1 10\n3 20\ncfn=g\ncob=/b/libm.so\ncalls=1 0\n5 400\n3 1\n"
    text += "\nob=/b/libm.so\nfn=g\n1 400\nob=/usr/bin/python3\nfn=h\n1 7\ntotals: 438\n"
    result = instructions.by_object(text)
    assert result == {"/a/_core.so": 31, "/b/libm.so": 400, "/usr/bin/python3": 7}
    assert instructions.own(result) == 431


def test_every_op_is_counted(instructions) -> None:
    from instruments import counted

    names = {name.replace("-", "_") for name in registry.names("ops")}
    assert names == set(counted.OPS) | set(counted.TRAINING)
