"""Who may import whom, who may write, and who may import by name."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "sleeptools").rglob("*.py"), *(ROOT / "cli").glob("*.py")])
WRITERS = {"write_text", "write_bytes", "write_parquet", "write_csv", "tofile", "savetxt", "dump"}
BY_NAME = {
    ROOT / "sleeptools/__init__.py",
    ROOT / "sleeptools/registry.py",
    ROOT / "cli/__init__.py",
}  # drawers, and commands
IMPORTERS = {"import_module", "__import__", "exec", "eval", "spec_from_file_location"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            yield (name or getattr(node.func, "id", "")), node


def opens_for_writing(name: str, call: ast.Call) -> bool:
    if name not in ("open", "fdopen"):
        return False
    modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
    modes += [k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)]
    return any(isinstance(m, str) and set(m) & set("wax+") and len(m) <= 3 for m in modes)


def test_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_store_writes_and_only_the_registry_imports_by_name(path: Path) -> None:
    for name, call in calls(path):
        if path.parent.name != "store":
            assert not opens_for_writing(name, call), f"line {call.lineno} opens for writing"
            module = call.func.value if isinstance(call.func, ast.Attribute) else None
            ours = isinstance(module, ast.Name) and module.id in ("store", "epochs", "rec", "edf")
            returns_text = name == "write_csv" and not call.args
            assert name not in WRITERS or ours or returns_text, f"line {call.lineno}: {name}"
        evaluates_a_model = name == "eval" and isinstance(call.func, ast.Attribute)
        if path not in BY_NAME and not evaluates_a_model:
            assert name not in IMPORTERS, f"line {call.lineno}: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_native_opens_the_core(path: Path) -> None:
    names = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert path == ROOT / "sleeptools/native/__init__.py" or not names & {
        "_core",
        "sleeptools._core",
    }


def test_the_checks_can_fail() -> None:
    found = ast.parse("open('x', 'w')").body[0]
    assert isinstance(found, ast.Expr)
    assert isinstance(found.value, ast.Call)
    assert opens_for_writing("open", found.value)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_cli_names_options(path: Path) -> None:
    """The library names settings; `cli/_options.py` turns them into options."""
    if path.is_relative_to(ROOT / "cli"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.findall(r"(?<![\w(,-])--[a-z][a-z-]+", node.value)
            assert not named, f"line {node.lineno}: {named}"
