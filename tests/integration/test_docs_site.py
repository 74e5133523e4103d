"""Documentation site: no warnings, no requests to other servers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import ROOT

import segpipe

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
# Addresses that a browser loads without a click.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?\s*(?:https?:)?//|<link\b[^>]*\bhref=[\"']?\s*(?:https?:)?//"
    r"|\bimport\s*\(\s*[\"'](?:https?:)?//|@import\s|url\([\"']?\s*(?:https?:)?//",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    assert not re.findall(r"^WARNING.*", built.stderr, re.MULTILINE)
    return folder


def test_site_has_every_page_and_loads_nothing_from_other_servers(site: Path) -> None:
    pages = {path.stem for path in ROOT.glob("docs/*.md")} | {"example", "readme", "changelog", "contributing", "license", "data"}
    assert {path.stem for path in site.glob("*.html")} - {"404"} == pages
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not LOADED.findall(path.read_text(encoding="utf-8")), path.name


def test_search_finds_pages_and_docstrings(site: Path) -> None:
    found = {entry["location"] for entry in json.loads((site / "search" / "search_index.json").read_text())["docs"]}
    assert {"troubleshooting.html", "data.html", "reference.html#segpipe.load_pipeline"} <= found


def test_search_works_from_disk_without_requests(site: Path, browser: "Browser") -> None:
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.locator("input[name=query]").press_sequentially("BGR", delay=50)
    page.wait_for_selector(".md-search-result__item")
    assert "Troubleshooting" in page.inner_text(".md-search-result__list")
    assert {url.partition(":")[0] for url in requested} <= {"file", "data", "blob", "about"}
    page.close()


def test_reference_documents_each_public_name(site: Path) -> None:
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert {name for name in segpipe.__all__ if f'id="segpipe.{name}"' not in reference} <= {"__version__"}


def test_notebook_was_executed(site: Path) -> None:
    page = (site / "example.html").read_text(encoding="utf-8")
    notebook = json.loads((ROOT / "docs" / "example.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    assert "Traceback" not in page
    assert page.count("data:image/") >= 3
    assert "0 failures" in page
