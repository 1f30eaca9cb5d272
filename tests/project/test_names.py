"""Names are nouns of the field: no function words, one class name for one thing, no aliases."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = sorted([*(ROOT / "sleeptools").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
ALL = sorted(
    [*PACKAGE, *(p for f in ("tests", "benches", "docs") for p in (ROOT / f).rglob("*.py"))]
)

WORDS = """
all any asked at both each few found given here how it kept known left made many mine more most
none now of one other others own part parts place places rest said same seen shown some stuff such
taken that them then there these thing things this those told two wanted what when where which who
whole
"""
FUNCTION_WORDS = frozenset(WORDS.split())
SHARE = 0.01  # of all bound names; in libraries of the field that read well it is 0.000 to 0.007

DRAWERS = ("models", "inference/networks")  # folders whose files are loaded by name
BY_CONTRACT = frozenset({"Config", "Model", "Network"})  # what such a file must define
ALIASES = frozenset(
    {
        ("numpy", "np"),
        ("numpy.typing", "npt"),
        ("polars", "pl"),
        ("matplotlib", "mpl"),
        ("xml.etree.ElementTree", "ET"),
        ("hypothesis.strategies", "st"),
        ("rich.progress.Progress", "Bars"),  # beside our own
        (".list", "list_"),  # the command, which would hide Python's own
    }
)
SKIP = "# fmt: " + "skip"
BEGINS_WITH_OF = re.compile(r"^( *)\*{0,2}\w[\w, *]*(?: : .*)?\n\1    Of ", re.MULTILINE)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def trees(paths: list[Path]) -> Iterator[tuple[str, ast.Module]]:
    for path in paths:
        yield str(path.relative_to(ROOT)), parsed(path)


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Every variable that is bound and every parameter, as often as that happens."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def test_few_names_are_function_words() -> None:
    names = 0
    vague: Counter[tuple[str, str]] = Counter()
    for path, tree in trees(PACKAGE):
        for name in bound_names(tree):
            names += 1
            vague[path, name] += name in FUNCTION_WORDS
    worst = [f"{path}: {name} ({times})" for (path, name), times in vague.most_common(40)]
    assert vague.total() < SHARE * names, "\n".join([f"{vague.total()} of {names}", *worst])


def test_one_class_name_means_one_thing() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            by_contract = Path(path).parent in [Path("sleeptools") / d for d in DRAWERS]
            if isinstance(node, ast.ClassDef) and not (by_contract and node.name in BY_CONTRACT):
                homes[node.name].append(path)
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert not twice


def test_no_parameter_text_begins_with_of() -> None:
    texts = []
    for path, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                lines = BEGINS_WITH_OF.finditer(ast.get_docstring(node) or "")
                texts += [f"{path}: {line[0].strip()}" for line in lines]
    assert not texts, "\n".join(texts)


def test_modules_keep_their_names_where_they_are_imported() -> None:
    aliases = []
    for path, tree in trees(ALL):
        ours = path.startswith(("sleeptools", "cli"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                base = ""
                if isinstance(node, ast.ImportFrom):
                    base = "." * node.level + (node.module or "")
                    base += "." if node.module else ""
                for name in node.names:
                    full = base + name.name
                    foreign = not ours and not full.startswith(("sleeptools", "."))
                    if name.asname and not foreign and (full, name.asname) not in ALIASES:
                        aliases.append(f"{path}: {full} as {name.asname}")
    assert not aliases, "\n".join(aliases)


def test_the_formatter_lays_out_nearly_every_line() -> None:
    assert sum(path.read_text().count(SKIP) for path in ALL) < 20


def test_the_checks_can_fail() -> None:
    tree = ast.parse("def f(found):\n    for part, sample in parts:\n        whole = sample")
    assert [n in FUNCTION_WORDS for n in bound_names(tree)].count(True) == 3
    assert BEGINS_WITH_OF.search("Parameters\n----------\nrate : float\n    Of the signal, Hz.\n")
    assert BEGINS_WITH_OF.search("low, high\n    Of the filter.\n")
    assert not BEGINS_WITH_OF.search("rate\n    Sample rate, Hz.\n")
