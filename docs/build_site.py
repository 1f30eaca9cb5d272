"""Build the pages as a web site, build/site: `make docs`.

The pages keep their folders, so that every link between them holds on the site, in a clone and in a
code browser alike. A warning is an error: a link, an anchor or a page that nothing leads to. So is
whatever a page would fetch from elsewhere: it opens offline.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES, SITE = ROOT / "build/pages", ROOT / "build/site"
PATTERNS = ("*.md", "CITATION.cff", "LICENSE", "docs/*.md", "docs/*.svg", "docs/*.ipynb")
PATTERNS += ("reproduce/*", "benches/results/*.md")
FOLDER_LINK = re.compile(r"\]\(((?!https?:)[\w./-]+?)/?\)")
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^"'\s>]+"""
)
IMPORTED = re.compile(r"""(?:url\(|@import\s)["']?(?:https?:)?//[^)"']+""")


def lay_out() -> None:
    """Copy the pages, with an index of the measurements and links to folders led to a page."""
    shutil.rmtree(PAGES, ignore_errors=True)
    files = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern) if path.is_file()})
    for path in files:
        target = PAGES / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    results = sorted((PAGES / "benches/results").glob("*.md"))
    rows = [f"- [{titled(path)}]({path.name})" for path in results]
    heading = "# Measurements\n\nWhat `benches/` measured, each with its machine.\n\n"
    (PAGES / "benches/results/README.md").write_text(heading + "\n".join(rows) + "\n")
    for page in PAGES.rglob("*.md"):
        page.write_text(FOLDER_LINK.sub(functools.partial(lead, page), page.read_text()))


def titled(page: Path) -> str:
    """Take a page's heading, or its name where it has none."""
    heading = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
    return heading[1] if heading else page.stem


def lead(page: Path, link: re.Match[str]) -> str:
    """Lead a link to a folder to the folder's page."""
    folder = page.parent / link[1]
    return f"]({link[1]}/README.md)" if (folder / "README.md").is_file() else link[0]


def fetched() -> list[str]:
    """List what the pages of the site would fetch from elsewhere."""
    outside = []
    for path in SITE.rglob("*"):
        if path.suffix == ".html":
            outside += FETCHED.findall(path.read_text())
        elif path.suffix == ".css":
            outside += IMPORTED.findall(path.read_text())
    return outside


def main() -> None:
    """Build the site, or say what is wrong with it."""
    lay_out()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    done = subprocess.run(
        [*build, "-f", ROOT / "docs/mkdocs.yml"],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        warnings = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        sys.exit("\n".join([*warnings, "error: the site has warnings"]))
    if outside := fetched():
        sys.exit("error: fetched from elsewhere:\n" + "\n".join(sorted(set(outside))))
    sys.stdout.write(f"{SITE / 'index.html'}\n")


if __name__ == "__main__":
    main()
