"""Rules for imports, size and number of modules."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import segpipe

PACKAGE = Path(segpipe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 260
MOST_MODULES = 221  # without the __init__.py
LONGEST_CHAIN = 12  # modules

# From the bottom up. A part may import itself and parts of lower floors, not those of its own floor.
FLOORS = (
    {"types", "diagnosis", "errors", "language"},
    {"io"},
    {"config"},
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
# Imports that methods of a module make when they are called, never the module itself.
LATE = {"inference/finding.py": {"report"}}
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the first name below `segpipe`, or `segpipe` for the package itself."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "segpipe" if name == "__init__" else name


def is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield the imported names of a module, except below a main guard."""
    for statement in tree.body:
        for node in ast.walk(statement) if not is_main_guard(statement) else ():
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports must be absolute"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports_of(path: Path) -> frozenset[str]:
    return frozenset(imported_names(ast.parse(path.read_text(encoding="utf-8"))))


def imported_parts(names: frozenset[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("segpipe.")}


def allowed(part: str) -> set[str]:
    return {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF[part]} | {part, "__version__"}


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in MODULES} == {*FLOOR_OF, "segpipe"}


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) != "segpipe"], ids=name_of)
def test_imports_run_downwards(path: Path) -> None:
    late = LATE.get(name_of(path), set())
    assert imported_parts(imports_of(path)) - allowed(part_of(path)) - late == set()
    at_once = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any(f"segpipe.{part}" in ast.unparse(node) for node in at_once for part in late)


def test_upward_imports_are_noticed() -> None:
    source = (
        "from segpipe.training import fit\n\ndef late():\n    import segpipe.cli\n\n"
        "if __name__ == '__main__':\n    import segpipe.config.schemas\n"
    )
    parts = imported_parts(frozenset(imported_names(ast.parse(source))))
    assert parts == {"training", "cli"}
    assert not parts & allowed("inference")


@pytest.mark.parametrize(("part", "other"), [("training", "inference"), ("inference", "training")])
def test_training_and_inference_do_not_import_each_other(part: str, other: str) -> None:
    imports = {name for path in MODULES if part_of(path) == part for name in imports_of(path)}
    assert any(name.startswith("segpipe.") for name in imports)
    assert not any(name.startswith(f"segpipe.{other}") for name in imports)


@pytest.mark.parametrize("part", ["types", "diagnosis", "errors", "io", "config", "metrics", "lesion"])
def test_parts_for_arrays_and_text_import_no_torch(part: str) -> None:
    heavy = {"torch", "torchvision", "torchmetrics", "lightning", "timm", "segmentation_models_pytorch", "albumentations"}
    imports = {name.split(".")[0] for path in MODULES if part_of(path) == part for name in imports_of(path)}
    assert imports
    assert not imports & heavy


Graph = Mapping[str, frozenset[str]]


def module_graph() -> Graph:
    """Return the imports of each module within the package."""
    modules = {
        ".".join(("segpipe", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in MODULES
    }
    graph = {}
    for module, path in modules.items():
        named = {name if name in modules else name.rpartition(".")[0] for name in imports_of(path) if name.startswith("segpipe.")}
        late = {f"segpipe.{part}" for part in LATE.get(name_of(path), ())}
        graph[module] = frozenset(
            name
            for name in named - {module, "segpipe"}
            if name in modules and not any(f"{name}.".startswith(f"{part}.") for part in late)
        )
    return graph


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest chain of imports.

    Raises:
        AssertionError: If the imports form a cycle; the message is the cycle.
    """
    chains: dict[str, list[str]] = {}

    def visit(module: str, above: tuple[str, ...]) -> list[str]:
        assert module not in above, "cycle: " + " -> ".join((*above[above.index(module) :], module))
        if module not in chains:
            below = [visit(other, (*above, module)) for other in sorted(graph[module])]
            chains[module] = [module, *max(below, key=len, default=[])]
        return chains[module]

    return max((visit(module, ()) for module in sorted(graph)), key=len)


def test_chains_of_imports_are_short() -> None:
    chain = longest_chain(module_graph())
    assert len(chain) <= LONGEST_CHAIN, f"{len(chain)} modules, at most {LONGEST_CHAIN}:\n" + "\n-> ".join(chain)


def test_chains_and_cycles_are_noticed() -> None:
    none: frozenset[str] = frozenset()
    assert longest_chain({"a": frozenset("bc"), "b": frozenset("c"), "c": none, "d": frozenset("c")}) == ["a", "b", "c"]
    with pytest.raises(AssertionError, match="cycle: b -> c -> b"):
        longest_chain({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")})


def test_number_of_modules_stays_small() -> None:
    modules = [name_of(path) for path in MODULES if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, (
        f"{len(modules)} modules, at most {MOST_MODULES}; merge those that always change together"
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_described_and_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert (ast.get_docstring(ast.parse(text)) or "").strip()
    lines = len(text.splitlines())
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines, at most {MOST_LINES}"


def test_composed_configurations_stay_in_cli_and_config() -> None:
    """Below them settings are typed dataclasses, so that mypy sees every key."""
    found = [
        f"{name_of(path)}:{number}"
        for path in MODULES
        if part_of(path) not in {"cli", "config"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "DictConfig" in line
    ]
    assert not found, "\n".join(["DictConfig outside cli/ and config/:", *found])
