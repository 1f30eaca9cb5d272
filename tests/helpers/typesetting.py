"""LaTeX: what a table must have, and pdflatex where it is installed."""

import os
import re
import shutil
import subprocess

import pytest

PDFLATEX = shutil.which("pdflatex")
PACKAGES = "booktabs,graphicx,textcomp"
"""What the head of an item's file says that it needs."""
CELL = re.compile(r"(?<!\\)&")
SPANNED = re.compile(r"\\multicolumn\{(\d+)\}")
LETTERS = re.compile(r"[lr]|p\{[^}]*\}")
TABULAR = re.compile(
    r"\\begin\{tabular\}\{((?:[^{}]|\{[^}]*\})*)\}\n(.*?)\\end\{tabular\}", re.DOTALL
)


def need_latex():
    """Return pdflatex's path; skip the test without one, or fail where one is required."""
    if PDFLATEX is None:
        if os.environ.get("SLEEPTOOLS_REQUIRE_LATEX") == "1":
            pytest.fail("SLEEPTOOLS_REQUIRE_LATEX=1 and no pdflatex was found")
        pytest.skip("no pdflatex was found (texlive-latex-recommended): nothing was typeset")
    return PDFLATEX


def typeset(texts, folder):
    """Typeset files of tables one after the other, each on pages of its own; return the log."""
    for number, text in enumerate(texts):
        (folder / f"table-{number}.tex").write_text(text)
    lines = [r"\documentclass{article}", rf"\usepackage{{{PACKAGES}}}", r"\begin{document}"]
    lines += [rf"\input{{table-{number}}}\clearpage" for number in range(len(texts))]
    (folder / "all.tex").write_text("\n".join([*lines, r"\end{document}", ""]))
    done = subprocess.run(
        [need_latex(), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    log = (folder / "all.log").read_text("latin-1")
    assert done.returncode == 0, log[-3000:]
    return log


def check_structure(text):
    """Check that environments nest, braces match, and every row has the columns of its table."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    opened = []
    for line in lines:
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
            if kind == "begin":
                opened.append(name)
            else:
                assert opened.pop() == name, line
    assert opened == []
    body = "\n".join(lines)
    begins, ends = (len(re.findall(rf"(?<!\\)\{brace}", body)) for brace in "{}")
    assert begins == ends
    tables = TABULAR.findall(text)
    assert len(tables) == text.count(r"\begin{tabular}")
    for letters, rows in tables:
        assert LETTERS.sub("", letters) == ""
        for row in rows.splitlines():
            if row.endswith(r"\\"):
                spans = [int(n) for n in SPANNED.findall(row)]
                cells = len(CELL.findall(row)) + 1 + sum(n - 1 for n in spans)
                assert cells == len(LETTERS.findall(letters)), row
            else:
                assert row.startswith("\\"), row
