"""The picture and the page of the architecture, the contracts of the layers and the files agree."""

import ast
import re
import runpy
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sleeptools"
DRAWING = runpy.run_path(str(ROOT / "docs/draw_architecture.py"))
LAYERS = next(
    contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    if contract["type"] == "layers"
)
ROOMS = [room for row in LAYERS["layers"] for room in row.split(" | ")]
SCRIPTS = sorted(
    path
    for folder in ("sleeptools", "cli", "tests", "benches", "docs")
    for path in (ROOT / folder).rglob("*.py")
)


def dotted(path: Path) -> str:
    """Name under which a file of sleeptools/ or cli/ is imported."""
    file = path.relative_to(ROOT)
    names = ["sleeptools", *file.parts] if file.parts[0] == "cli" else list(file.parts)
    names[-1] = names[-1].removesuffix(".py")
    return ".".join(names).removesuffix(".__init__")


FILES = {dotted(p): p for p in [*PACKAGE.rglob("*.py"), *(ROOT / "cli").rglob("*.py")]}


def test_the_drawing_is_that_of_the_contracts() -> None:
    assert DRAWING["SVG"].read_text() == DRAWING["draw"](), "run docs/draw_architecture.py"


def test_the_table_of_imports_is_that_of_the_code() -> None:
    page = DRAWING["PAGE"].read_text()
    assert page == DRAWING["with_imports"](page), "run docs/draw_architecture.py"


def test_the_linter_sees_every_file() -> None:
    # An editable install makes the whole checkout importable below `sleeptools` as well (as
    # `sleeptools.tests` and `sleeptools.sleeptools`), so modules outside the rooms are left aside.
    modules = {
        name
        for name in grimp.build_graph("sleeptools", cache_dir=None).modules
        if name == "sleeptools" or name.startswith(tuple(f"sleeptools.{room}" for room in ROOMS))
    }
    assert modules == set(FILES)
    folders = [p for p in PACKAGE.rglob("*/") if list(p.glob("*.py"))]
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_contract_holds_every_room_and_leaves_none_optional() -> None:
    on_disk = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.parent.name for p in PACKAGE.glob("*/*.py")
    }
    assert sorted(ROOMS) == sorted(on_disk - {"__init__"} | {"cli"})
    assert LAYERS["exhaustive"]
    assert not re.search(r"[()]", " ".join(ROOMS)), "a layer in brackets is optional"
    assert len(LAYERS["layers"]) == 9 + 1, "nine rows, and cli above them"


def test_the_first_look_at_the_library_fits_in_one_line() -> None:
    entries = [p for p in PACKAGE.iterdir() if p.suffix != ".so" and p.name != "__pycache__"]
    assert len(entries) <= 18
    assert {p.name for p in entries if p.is_file()} == {
        "__init__.py",
        "__init__.pyi",
        "errors.py",
        "registry.py",
    }


TORCH = re.compile(
    r"models/.*|training/.*|commands/(train\.py|export/.*)|inference/torch_network\.py"
)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_torch_is_imported_where_tensors_are_trained(path: Path) -> None:
    if any(name.split(".")[0] == "torch" for name in imported(path)):
        assert TORCH.fullmatch(str(path.relative_to(PACKAGE)))


def private_modules() -> set[str]:
    """Modules whose file, or a folder above it, has a name that begins with an underscore."""
    inside = {m for m in FILES if any(n.startswith("_") and n != "__main__" for n in m.split("."))}
    return inside | {"sleeptools._core"}


def room_of(module: str) -> str:
    """First name below `sleeptools`; the core belongs to the room that is its door."""
    return "native" if module == "sleeptools._core" else module.split(".")[1]


def imported(path: Path) -> set[str]:
    """Everything a file imports, with its full name, modules and the names taken from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = dotted(path).split(".")
                package = package if path.name == "__init__.py" else package[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([base] if base else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_imports_a_private_file_of_another_room(path: Path) -> None:
    file = path.relative_to(ROOT)
    room = {"sleeptools": file.parts[1].removesuffix(".py"), "cli": "cli"}.get(file.parts[0])
    others = {m for m in imported(path) & private_modules() if room_of(m) != room}
    assert not others


def test_the_check_of_private_files_can_fail(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from sleeptools.cli import _options\nimport sleeptools._core\n")
    assert imported(script) & private_modules() == {"sleeptools.cli._options", "sleeptools._core"}
