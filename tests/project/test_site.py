"""`make docs`: what the site would fetch is found, and folders lead to their pages."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs/build_site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGES", tmp_path / "pages")
    monkeypatch.setattr(module, "SITE", tmp_path / "site")
    return module


def test_what_a_page_fetches_is_found(site) -> None:
    site.SITE.mkdir()
    page = site.SITE / "page.html"
    page.write_text('<a href="https://doi.org/1">a</a><script src="assets/a.js"></script>')
    assert site.fetched() == []
    page.write_text('<script async src="https://cdn.example/a.js"></script>')
    (site.SITE / "style.css").write_text('@font-face{src:url("//fonts.example/a.woff2")}')
    assert len(site.fetched()) == 2


def test_every_page_is_laid_out_and_led_to(site) -> None:
    site.lay_out()
    readme = (site.PAGES / "README.md").read_text()
    assert "(benches/results/README.md)" in readme
    assert not re.search(r"\]\(benches/results/?\)", readme)
    navigation = (ROOT / "docs/mkdocs.yml").read_text()
    led_to = set(re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE))
    pages = {str(p.relative_to(site.PAGES)) for p in site.PAGES.rglob("*.md")}
    assert led_to == {p for p in pages if not p.startswith("benches/")} | {
        "benches/results/README.md"
    }
