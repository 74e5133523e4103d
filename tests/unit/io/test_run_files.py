"""The names of written files stand in one module."""

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

import segpipe
from segpipe.io import run_files
from segpipe.io.run_files import OUTPUT_SIGNS, WRITTEN_FILES

PACKAGE = Path(segpipe.__file__).parent
NAMES = {value for key, value in vars(run_files).items() if key.isupper() and isinstance(value, str) and "." in value[1:]}
NAMES = {name for name in NAMES if not name.endswith(".png")}
TEMPLATES = {"report/html_report.py": {"report.html"}}  # the page template bears the name of the page


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_other_module_spells_a_file_name(path: Path) -> None:
    if path.name == "run_files.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    spelled = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert "results.csv" in NAMES
    assert not spelled & NAMES - TEMPLATES.get(path.relative_to(PACKAGE).as_posix(), set())


def test_overwrite_may_remove_all_files_that_mark_a_run_training_or_bundle() -> None:
    patterns = {pattern for found in WRITTEN_FILES.values() for pattern in found}
    marks = [sign for sign in OUTPUT_SIGNS if sign <= patterns]
    assert {"results.jsonl"} in marks and {"config.yaml", "split.csv"} in marks
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in WRITTEN_FILES)
