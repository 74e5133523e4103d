"""The house is walked through in one direction, and each of its rooms can be held in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import segpipe

PACKAGE = Path(segpipe.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
MOST_LINES = 280

# From the ground up; a part may import those on lower floors and itself, not its neighbors on the same floor.
FLOORS = (
    {"types", "diagnosis", "errors"},
    {"io", "config"},
    {"metrics", "lesion"},
    {"data", "losses", "models"},
    {"bundle"},
    {"training", "inference"},
    {"runs"},
    {"report"},
    {"evaluation"},
    {"comparison", "release", "sweep"},
    {"workflows"},
    {"app"},
    {"cli"},
    {"__main__"},
)
# Drawing functions of a public value: imported by the methods that need them, never together with the module.
LATE = {"inference/finding.py": {"report"}}
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}


def part_of(path: Path) -> str:
    """The first name below segpipe: a package or a module; the package itself is `segpipe`."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "segpipe" if name == "__init__" else name


def is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def imported_modules(path: Path) -> Iterator[str]:
    """Every absolute module name that a module imports, wherever in it; what only runs as a script does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        for node in ast.walk(statement) if not is_main_guard(statement) else ():
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports must be absolute"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_parts(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported_modules(path) if name.startswith("segpipe.")}


def allowed(part: str) -> set[str]:
    return {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF[part]} | {part, "__version__"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_part_of_the_house_has_its_floor() -> None:
    assert {part_of(path) for path in MODULES} == {*FLOOR_OF, "segpipe"}


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) != "segpipe"], ids=name_of)
def test_imports_run_downwards(path: Path) -> None:
    late = LATE.get(name_of(path), set())
    assert imported_parts(path) <= allowed(part_of(path)) | late
    at_once = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any(f"segpipe.{part}" in ast.unparse(node) for node in at_once for part in late)


def test_the_rules_would_notice_a_wrong_turn(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "from segpipe.training import fit\n\ndef late():\n    import segpipe.cli\n\n"
        "if __name__ == '__main__':\n    import segpipe.config.schemas\n"
    )
    assert imported_parts(module) == {"training", "cli"}
    assert not {"training", "cli"} & allowed("inference")


@pytest.mark.parametrize("part", ["training", "inference"])
def test_training_and_inference_do_not_know_each_other(part: str) -> None:
    other = {"training": "inference", "inference": "training"}[part]
    imports = {name for path in MODULES if part_of(path) == part for name in imported_modules(path)}
    assert any(name.startswith("segpipe.") for name in imports)
    assert not any(name.startswith(f"segpipe.{other}") for name in imports)


@pytest.mark.parametrize("part", ["types", "diagnosis", "errors", "io", "config", "metrics", "lesion"])
def test_what_works_on_arrays_or_text_needs_no_torch(part: str) -> None:
    heavy = {"torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch", "albumentations"}
    imports = {name.split(".")[0] for path in MODULES if part_of(path) == part for name in imported_modules(path)}
    assert imports
    assert not imports & heavy


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert (ast.get_docstring(ast.parse(text)) or "").strip()
    assert len(text.splitlines()) <= MOST_LINES
