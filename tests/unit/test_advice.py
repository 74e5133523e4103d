"""Arguments that messages of the package suggest."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

import segpipe
import segpipe.config.schemas

ROOT = Path(segpipe.__file__).parents[1]
SOURCES = [
    *Path(segpipe.__file__).parent.rglob("*.py"),
    *ROOT.glob("train_*.py"),
    *ROOT.glob("run_*.py"),
    *ROOT.glob("hydra_plugins/*.py"),
]
SCRIPTS = (
    ("run_pipeline",),
    ("train_cls", "data=csv", "logger=wandb"),
    ("train_cls", "data=isic2019"),
    ("train_cls", "data=folders"),
    ("train_cls", "loss=focal"),
    ("train_seg",),
    ("app_server",),
    ("compare",),
    ("export",),
    ("heatmaps",),
    ("ablations",),
    ("audit_gate",),
    ("annotations",),
    ("audit_labels",),
)
_ARGUMENT = re.compile(r"(?<![\w.{}/+-])(\+?[a-z_]+(?:\.[a-z_]+)*)=(\[[\w.,]*\]|\w+\([^)]*\)|[\w./-]*\w)")
# Parts of other texts: function calls, shell commands, tables and patterns.
_FOREIGN = {"key", "size", "std", "init", "shipped", "entropy", "reference", "axis", "dtype", "install", "+experiment"}


def messages(path: Path) -> Iterator[str]:
    """Yield the texts of a module except docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


ADVICE = sorted({match[0] for path in SOURCES for text in messages(path) for match in _ARGUMENT.finditer(text)})


def accepts(script: tuple[str, ...], argument: str) -> bool:
    name, *given = script
    (override,) = OverridesParser.create().parse_overrides([argument])
    single = f"{override.key_or_group}=1" if override.is_sweep_override() else argument  # a job of a sweep has single values
    try:
        compose(name, [*given, single])
    except Exception:
        return False
    return True


def test_suggested_arguments_are_found() -> None:
    assert {"allow_leak=true", "data.without_lesion_ids=true", "overwrite=true", "device=auto", "data.cache=null"} <= set(ADVICE)


@pytest.mark.parametrize("argument", [argument for argument in ADVICE if argument.partition("=")[0] not in _FOREIGN])
def test_suggested_argument_is_accepted_by_a_script(argument: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert any(accepts(script, argument) for script in SCRIPTS)
