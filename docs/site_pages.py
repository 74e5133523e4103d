"""MkDocs hook for pages outside docs/, without external scripts."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Files of the repository, and their pages in the site.
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
    "LICENSE": "license.md",
}
_MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_startup(**_: object) -> None:
    """Hide warnings of other libraries in the executed notebook."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=page_text(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links to files of the repository by links to their pages."""
    del config, files
    return markdown if page.file.src_uri in PAGES.values() else link_pages(markdown, Path("docs"))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Remove the script that loads Mermaid, which no page uses."""
    del page, config
    return _MERMAID.sub("", output)


def page_text(name: str) -> str:
    """Read a file of the repository as a page of the site."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return link_pages(text, Path(name).parent) if name.endswith(".md") else f"# {name.capitalize()}\n\n```text\n{text}```\n"


def link_pages(markdown: str, folder: Path) -> str:
    """Rewrite the links of a file as links within docs/."""

    def rewrite(link: re.Match[str]) -> str:
        path = (ROOT / folder / link[1]).resolve().relative_to(ROOT).as_posix()
        return PAGES.get(path, path.removeprefix("docs/"))

    return _LINK.sub(rewrite, markdown)
