"""Private parts of other libraries: table, code and installed versions agree."""

import ast
import inspect
import io
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for pattern in ("segpipe/**/*.py", "hydra_plugins/*.py") for path in ROOT.glob(pattern))
# Names with an underscore that their libraries document.
PUBLIC = {"_asdict", "_exit", "_fields", "_replace", "_repr_html_", "_target_", "_partial_"}
_PRIVATE = re.compile(r"_[a-zA-Z]\w*")


class Row(NamedTuple):
    library: str
    name: str  # in full, as `torch.nn.Conv2d._reversed_padding_repeated_twice`
    modules: frozenset[str]
    reason: str
    replacement: str


def table() -> list[Row]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Private parts of other libraries")[2]
    rows = []
    for line in text.partition("\n## ")[0].splitlines():
        if line.startswith("| ") and "`" in line:
            library, name, modules, reason, replacement = (cell.strip() for cell in line.strip("|").split("|"))
            rows.append(Row(library, name.strip("`"), frozenset(re.findall(r"`(.+?)`", modules)), reason, replacement))
    return rows


ROWS = table()


def private_part(name: str) -> str:
    """Return a dotted name from its last private part on."""
    parts = name.split(".")
    private = [number for number, part in enumerate(parts) if _PRIVATE.fullmatch(part)]
    return ".".join(parts[private[-1] :]) if private else ""


def own_names(trees: list[ast.Module]) -> set[str]:
    """Return the names that the modules define themselves."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in {"self", "cls"}:
            names.add(node.attr)
    return names


def foreign_uses(tree: ast.Module, own: set[str], listed: set[str]) -> Iterator[str]:
    """Yield the private parts of other libraries that a module uses.

    Args:
        tree: The module.
        own: Private names of segpipe.
        listed: Private names that also count where they stand in a text, as for `getattr`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (private_part(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("segpipe"):
            yield from (private_part(f"{node.module}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Attribute)
            and _PRIVATE.fullmatch(node.attr)
            and (node.attr not in own or "super()" in ast.unparse(node))
        ):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.replace("\\", "")
            yield from [text] if text in listed else (found[1] for found in re.finditer(r"\bhydra\.(_internal(?:\.\w+)*)", text))


def uses() -> set[tuple[str, str]]:
    """Return module and private part of every use in the code."""
    trees = {
        path.relative_to(ROOT).as_posix().removeprefix("segpipe/"): ast.parse(path.read_text(encoding="utf-8"))
        for path in SOURCES
    }
    own, listed = own_names([*trees.values()]), {private_part(row.name) for row in ROWS}
    return {
        (module, use) for module, tree in trees.items() for use in foreign_uses(tree, own, listed) if use and use not in PUBLIC
    }


def test_table_lists_every_use_and_no_other() -> None:
    stated = {(module, private_part(row.name)) for row in ROWS for module in row.modules}
    assert len(stated) >= 10
    used = uses()
    assert not used - stated, f"used, but not in the table of CONTRIBUTING.md: {sorted(used - stated)}"
    assert not stated - used, f"in the table of CONTRIBUTING.md, but no longer used: {sorted(stated - used)}"
    assert all(row.reason and row.replacement for row in ROWS)


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("import torch._dynamo", "_dynamo"),
        ("from hydra._internal.utils import run_hydra", "_internal.utils.run_hydra"),
        ("from PIL.Image import _getdecoder", "_getdecoder"),
        ("def f(run):\n    return run._settings", "_settings"),
        ("class A(Base):\n    def f(self):\n        return self._inherited", "_inherited"),
        ("class A(Base):\n    def _own(self):\n        return super()._own()", "_own"),
        ("getattr(run, '_listed')", "_listed"),
        (r"re.compile('hydra\\._internal\\.core_plugins')", "_internal.core_plugins"),
    ],
)
def test_uses_are_noticed(source: str, use: str) -> None:
    tree = ast.parse(source)
    assert [found for found in foreign_uses(tree, own_names([tree]), {"_listed"}) if found] == [use]


def test_own_private_names_do_not_count() -> None:
    tree = ast.parse(
        "class A:\n    def f(self):\n        self._rate = 1\n        return self._rate\n\ndef _g(a):\n    return a._rate"
    )
    assert [found for found in foreign_uses(tree, own_names([tree]), set()) if found] == []


# One check for each row of the table: it fails where a version moved the name, or uses it in another way than segpipe relies on.
CHECKS: dict[str, Callable[[], None]] = {}


def check_of(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(check: Callable[[], None]) -> Callable[[], None]:
        CHECKS[name] = check
        return check

    return register


def parameters(function: Callable[..., object]) -> list[str]:
    return [*inspect.signature(function).parameters]


@check_of("hydra._internal.hydra")
def _main_takes_its_loader_from_the_module() -> None:
    import hydra._internal.hydra as module
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    assert module.ConfigLoaderImpl is ConfigLoaderImpl
    assert "ConfigLoaderImpl" in module.Hydra.create_main_hydra2.__code__.co_names


@check_of("hydra._internal.hydra.Hydra")
def _hydra_lists_config_groups() -> None:
    from hydra._internal.hydra import Hydra

    assert parameters(Hydra.format_config_groups) == ["self", "predicate", "compact"]


@check_of("hydra._internal.utils.get_args_parser")
def _parser_separates_overrides_from_flags() -> None:
    from hydra._internal.utils import get_args_parser

    parsed = get_args_parser().parse_intermixed_args(["a=1", "--multirun", "b=2"])
    assert parsed.overrides == ["a=1", "b=2"]
    assert {"multirun", "help", "experimental_rerun", "config_path", "config_dir"} <= vars(parsed).keys()


@check_of("hydra._internal.config_loader_impl.ConfigLoaderImpl")
def _loader_loads_a_configuration() -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    expected = ["self", "config_name", "overrides", "run_mode", "from_shell", "validate_sweep_overrides"]
    assert parameters(ConfigLoaderImpl.load_configuration) == expected


@check_of("hydra._internal.config_loader_impl.ConfigLoaderImpl._process_config_searchpath")
def _loader_reads_the_search_path() -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    assert parameters(ConfigLoaderImpl._process_config_searchpath) == ["self", "config_name", "parsed_overrides", "repo"]


@check_of("hydra._internal.core_plugins")
def _plugins_of_hydra_have_their_names() -> None:
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    assert BasicLauncher.__name__, BasicSweeper.__name__


@check_of("hydra.core.utils.JobReturn._return_value")
def _failed_job_keeps_its_exception() -> None:
    from hydra.core.utils import JobReturn, JobStatus

    error = ValueError("x")
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = error
    assert job._return_value is error


@check_of("omegaconf.Container._get_root")
def _error_leads_to_the_whole_configuration() -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigAttributeError

    config = OmegaConf.create({"a": {"b": 1}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(ConfigAttributeError) as missing:
        _ = config.a.c
    assert missing.value.parent_node._get_root() is config


@check_of("omegaconf.basecontainer.BaseContainer._resolvers")
def _resolvers_are_a_dictionary_by_name() -> None:
    from omegaconf import OmegaConf
    from omegaconf.basecontainer import BaseContainer

    assert isinstance(BaseContainer._resolvers, dict)
    assert OmegaConf.has_resolver("oc.select") and "oc.select" in BaseContainer._resolvers


@check_of("torch.ops.mkldnn._reorder_convolution_weight")
@check_of("torch.ops.mkldnn._convolution_pointwise")
def _packed_convolution_equals_the_plain_one() -> None:
    import torch

    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    convolution, x = torch.nn.Conv2d(3, 4, 3, padding=1), torch.rand(1, 3, 8, 8)
    geometry = [[1, 1], [1, 1], [1, 1], 1]  # padding, stride, dilation, groups
    with torch.no_grad():
        weight = torch.ops.mkldnn._reorder_convolution_weight(convolution.weight, *geometry, None)
        packed = torch.ops.mkldnn._convolution_pointwise(x, weight, convolution.bias, *geometry, "none", [], "")
        assert torch.allclose(packed, convolution(x), atol=1e-5)


@check_of("torch.ops.aten._adaptive_avg_pool2d_backward")
def _adaptive_pooling_has_a_gradient_of_its_own() -> None:
    import torch

    features = torch.rand(1, 2, 4, 4, requires_grad=True)
    output = torch.nn.functional.adaptive_avg_pool2d(features, 3)
    (expected,) = torch.autograd.grad(output.sum(), features)
    assert torch.allclose(torch.ops.aten._adaptive_avg_pool2d_backward(torch.ones(1, 2, 3, 3), features), expected)


@check_of("torch.nn.Conv2d._reversed_padding_repeated_twice")
def _convolution_keeps_its_padding_by_side() -> None:
    from torch.nn import Conv2d

    assert [*Conv2d(1, 1, 3, padding=(1, 2), padding_mode="reflect")._reversed_padding_repeated_twice] == [2, 2, 1, 1]


@check_of("PIL.TiffImagePlugin.TiffImageFile._tile_size")
def _tiff_knows_its_size_before_decoding() -> None:
    from PIL import Image
    from PIL.TiffImagePlugin import TiffImageFile

    file = io.BytesIO()
    Image.new("RGB", (5, 3)).save(file, "TIFF")
    file.seek(0)
    assert TiffImageFile(file)._tile_size == (5, 3)
    assert "_tile_size" in TiffImageFile.load_prepare.__code__.co_names


def _wandb_logger() -> "WandbLogger":
    pytest.importorskip("wandb", reason="needs the extra tracking")
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(offline=True)


@check_of("lightning.pytorch.loggers.WandbLogger._wandb_init")
def _wandb_logger_keeps_the_arguments_of_init() -> None:
    assert _wandb_logger()._wandb_init["anonymous"] is None


@check_of("lightning.pytorch.loggers.WandbLogger._experiment")
def _wandb_logger_keeps_its_run() -> None:
    logger = _wandb_logger()
    assert vars(logger)["_experiment"] is None
    assert "_experiment" in type(logger).experiment.fget.__wrapped__.__code__.co_names


@check_of("streamlit.runtime.Runtime._session_mgr")
def _runtime_has_a_session_manager() -> None:
    runtime = pytest.importorskip("streamlit.runtime.runtime", reason="needs the extra app")
    assert "_session_mgr" in runtime.Runtime.__init__.__code__.co_names


@check_of("streamlit.runtime.websocket_session_manager.WebsocketSessionManager._session_storage")
def _session_manager_has_a_storage() -> None:
    manager = pytest.importorskip("streamlit.runtime.websocket_session_manager", reason="needs the extra app")
    assert "_session_storage" in manager.WebsocketSessionManager.__init__.__code__.co_names


@check_of("streamlit.runtime.memory_session_storage.MemorySessionStorage._cache")
def _session_storage_expires() -> None:
    storage = pytest.importorskip("streamlit.runtime.memory_session_storage", reason="needs the extra app")
    assert storage.MemorySessionStorage()._cache.expire() == []


@check_of("streamlit.runtime.app_session.AppSession._fragment_storage")
def _session_has_a_storage_of_fragments() -> None:
    session = pytest.importorskip("streamlit.runtime.app_session", reason="needs the extra app")
    assert "_fragment_storage" in session.AppSession.__init__.__code__.co_names


def test_every_row_has_a_check() -> None:
    assert sorted(row.name for row in ROWS) == sorted(CHECKS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_private_part_is_where_segpipe_expects_it(row: Row) -> None:
    try:
        CHECKS[row.name]()
    except (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError) as error:
        installed = version(row.library)
        pytest.fail(
            f"{row.library} {installed} has moved or changed {row.name}, used in {', '.join(sorted(row.modules))}: {error!r}"
        )
