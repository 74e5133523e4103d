"""Border between the shell and Hydra, with a tiny Hydra application."""

import importlib.util
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

import segpipe
from segpipe.cli.call import output_folder
from segpipe.cli.running import run_main
from segpipe.cli.sweeps import CappedJobs
from segpipe.config.composing import quote_paths

APP = """
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from segpipe.cli.running import run_main
from segpipe.cli.sweeps import CappedJobs
from segpipe.errors import DatasetError, ImagesFailedError


@dataclass
class Schema:
    image: Any = None
    folder: Any = None
    output: Any = None
    labels: Any = None
    masks: Any = None
    seed: int = MISSING
    task: str = "show"


ConfigStore.instance().store(name="tiny_schema", node=Schema)
SEEN = []


def refuse(gamma):
    raise ValueError(f"gamma must be 0 or more, got {gamma}")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="main")
def main(config: DictConfig) -> None:
    seed = config.seed
    if config.task == "images":
        raise ImagesFailedError(f"{config.image} failed\\nsee failures.csv")
    if config.task == "data" and seed != 2:
        raise DatasetError(f"no metadata, got seed {seed}")
    if config.task == "bug":
        raise RuntimeError("a bug")
    if config.task == "interrupt":
        raise KeyboardInterrupt
    if config.task == "absent":
        config.not_in_the_schema
    if config.task == "loss":
        instantiate({"loss": {"_target_": f"{__name__}.refuse", "gamma": -1}})
    SEEN.append(config)
    print(ascii(config.image))


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:], program=["python", sys.argv[0]]))
"""
CONF = {
    "main.yaml": """
defaults: [tiny_schema, _self_, {override hydra/job_logging: disabled}]
hydra: {run: {dir: .}, sweep: {dir: swept}, output_subdir: null}
""",
    "experiment/seven.yaml": "# @package _global_\nseed: 7",
    "experiment/broken.yaml": "a: [",
}


@pytest.fixture(scope="module")
def app_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of the tiny application, beside its conf."""
    folder = tmp_path_factory.mktemp("app")
    for name, text in CONF.items():
        (folder / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / name).write_text(text)
    (folder / "tiny_app.py").write_text(APP)
    return folder / "tiny_app.py"


@pytest.fixture
def app(app_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tiny application, imported; its working directory is empty."""
    spec = importlib.util.spec_from_file_location("tiny_app", app_path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tiny_app", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_process(app_path: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the tiny application in a process of its own."""

    def run(*arguments: str | bytes) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        environment = {**kept, "PYTHONPATH": str(Path(segpipe.__file__).parents[1])}
        command = [sys.executable, str(app_path), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def run_app(main: Callable[[], Any], arguments: list[str]) -> int:
    return run_main(main, arguments, program=["tiny"])


def nasty_strings(count: int) -> list[str]:
    characters = " =,[](){}'\"\\#$%~*@:?+-/|éñ\n\t\r&;<>!^`\udcff"
    pieces = [*characters, "${", "${x}", "${oc.env:HOME}", "\\\\", "\\'", "null", "1", "true"]
    generator = random.Random(0)
    strings = ("".join(generator.choices(pieces, k=generator.randint(1, 9))) for _ in range(count * 2))
    return [text for text in strings if text not in ("null", "???") and (text[0], text[-1]) != ("[", "]")][:count]


def test_any_path_survives_the_grammar_and_the_interpolation() -> None:
    parser = OverridesParser.create()
    for path in nasty_strings(300):
        override = parser.parse_override(*quote_paths([f"bundle.segmenter={path}"]))
        assert OmegaConf.create({"path": override.value()}).path == path


def test_any_path_reaches_the_task(app: ModuleType) -> None:
    keys, paths = ("image", "folder", "output", "labels", "masks"), nasty_strings(40)
    for number in range(0, len(paths), len(keys)):
        given = dict(zip(keys, paths[number : number + len(keys)], strict=True))
        assert run_app(app.main, ["seed=1", *(f"{key}={path}" for key, path in given.items())]) == 0
        assert {key: app.SEEN[-1][key] for key in keys} == given


@pytest.mark.parametrize(
    "override",
    ["image=[a.jpg,b.jpg]", "image=null", "output=", "seed=a=b", "images=a=b", "~image=a b", "data.fold=x y", "-m", "photo.jpg"],
)
def test_other_arguments_are_not_quoted(override: str) -> None:
    assert quote_paths([override]) == [override]


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_every_path_key_is_quoted(prefix: str) -> None:
    plain = ("image", "folder", "output", "labels", "masks", "split", "ckpt_path", "distill.teacher")
    for key in (*plain, "bundle.segmenter", "bundle.classifier", "data.root", "data.cache", "segmenter.init", "classifier.init"):
        assert quote_paths([f"{prefix}{key}=a=b,c"]) == [f"{prefix}{key}='a=b,c'"]


def test_a_list_of_images_is_a_list_and_an_experiment_may_be_added(app: ModuleType) -> None:
    assert run_app(app.main, ["image=[a b.jpg,c.jpg]", "+experiment=seven", "hydra.job.name=mine"]) == 0
    assert (app.SEEN[0].image, app.SEEN[0].seed) == (["a b.jpg", "c.jpg"], 7)


def test_a_sweep_runs_over_paths_with_its_keys_on_both_sides_of_the_flag(app: ModuleType) -> None:
    assert run_app(app.main, ["seed=1,2", "--multirun", "image=a.jpg,b.jpg"]) == 0
    assert [(config.image, config.seed) for config in app.SEEN] == [("a.jpg", 1), ("b.jpg", 1), ("a.jpg", 2), ("b.jpg", 2)]


WRONG_CALLS = {
    "imge=a.jpg": r"unknown key imge=a\.jpg; did you mean image\? --help lists the keys",
    "+imge=a.jpg": r"unknown key \+imge=a\.jpg; did you mean image\? --help lists the keys",
    "++qqq=1": r"unknown key \+\+qqq=1; --help lists the keys",
    "task=${nowhere}": r"task must refer to a value that exists: Interpolation key 'nowhere' not found",
    "task=loss": r"loss: gamma must be 0 or more, got -1",
    "task=data": r"no metadata, got seed 1",
    "+experiment=broken": r"expected the node content.*broken\.yaml",
    "--nope": r"unrecognized arguments: --nope; --hydra-help lists the flags",
    "--config-name=nope": r"Cannot find primary config 'nope'",
}


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The text on stderr, which must be one line that begins with `error: `."""
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n")
    return stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("argument", WRONG_CALLS)
def test_a_wrong_call_is_one_clear_line_and_status_2(app: ModuleType, capsys: pytest.CaptureFixture[str], argument: str) -> None:
    assert run_app(app.main, ["seed=1", argument]) == 2
    assert re.search(WRONG_CALLS[argument], only_line(capsys))
    assert app.SEEN == []


def test_a_missing_key_is_named(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app.main, []) == 2
    assert only_line(capsys) == "seed must be given, got nothing; write seed=..."


def test_work_that_failed_is_one_line_and_status_1(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app.main, ["seed=3", "image=a.jpg", "task=images"]) == 1
    assert only_line(capsys) == r"a.jpg failed\nsee failures.csv"


@pytest.mark.parametrize(
    ("task", "message"), [("bug", "RuntimeError: a bug"), ("absent", "Key 'not_in_the_schema' not in 'Schema'")]
)
def test_a_bug_keeps_its_traceback(app: ModuleType, capsys: pytest.CaptureFixture[str], task: str, message: str) -> None:
    assert run_app(app.main, ["seed=1", f"task={task}"]) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback") and message in stderr and "in main" in stderr


@pytest.mark.parametrize(
    ("flags", "text"),
    [(["--help"], "tiny is powered"), (["--version"], "Hydra 1"), (["-c", "job"], "image: null")],
)
def test_asking_for_help_is_no_error(app: ModuleType, capsys: pytest.CaptureFixture[str], flags: list[str], text: str) -> None:
    assert run_app(app.main, flags) == 0
    shown = capsys.readouterr()
    assert text in shown.out and shown.err == "" and app.SEEN == []


def test_failed_job_is_named_and_the_sweep_continues(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app.main, ["-m", "seed=1,2,3", "task=data"]) == 2
    stderr = capsys.readouterr().err
    assert "error: job 0: no metadata, got seed 1\nerror: job 2: no metadata, got seed 3\n" in stderr
    assert [config.seed for config in app.SEEN] == [2]


def test_a_failure_is_forgotten_by_the_next_run(app: ModuleType) -> None:
    assert [run_app(app.main, ["seed=1", f"task={task}"]) for task in ("images", "show")] == [1, 0]


@pytest.mark.parametrize("argument", ["seed=1", "seed=x", "--help"])
def test_state_of_the_process_is_restored(app: ModuleType, argument: str) -> None:
    kept = (list(sys.argv), Hydra.format_config_groups)
    run_app(app.main, [argument])
    assert (sys.argv, Hydra.format_config_groups) == kept and "HYDRA_FULL_ERROR" not in os.environ


def test_developers_get_the_exception_itself(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(RuntimeError, match="a bug"):
        run_app(app.main, ["seed=1", "task=bug"])
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_a_process_takes_undecodable_bytes_literally(run_process: Callable[..., Any]) -> None:
    done = run_process(b"image=${x}, \xff\\'.jpg", "seed=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ascii("${x}, \udcff\\'.jpg") + "\n"


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (("seed=2", "qqq=1"), 2, "error: unknown key qqq=1; --help lists the keys"),
        ((b"image=\xff\x1b.jpg", "seed=2", "task=images"), 1, r"error: \xff\x1b.jpg failed\nsee failures.csv"),
        (("seed=2", "task=interrupt"), 130, "interrupted"),
    ],
)
def test_a_process_ends_with_one_line_and_the_status(
    run_process: Callable[..., Any], arguments: tuple[str | bytes, ...], status: int, line: str
) -> None:
    done = run_process(*arguments)
    assert (done.returncode, done.stderr, done.stdout) == (status, line + "\n", "")


@pytest.fixture
def _third_job_of_a_sweep() -> Iterator[None]:
    hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": "swept"}, "job": {"num": 2}}
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})
    yield
    HydraConfig.instance().cfg = None


def test_output_is_taken_as_it_is() -> None:
    assert output_folder(OmegaConf.create({"output": "a b/c"})) == Path("a b/c")


def test_output_is_named_after_date_and_time() -> None:
    assert output_folder(OmegaConf.create({"output": None})).match("outputs/????-??-??/??-??-??")


@pytest.mark.usefixtures("_third_job_of_a_sweep")
@pytest.mark.parametrize(("output", "folder"), [(None, "swept/2"), ("mine", "mine/2")])
def test_each_job_of_a_sweep_has_its_own_folder(output: str | None, folder: str) -> None:
    assert output_folder(OmegaConf.create({"output": output})) == Path(folder)


def test_resumed_training_stays_in_its_folder(tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert output_folder(OmegaConf.create({"output": None, "ckpt_path": str(last)})) == tmp_path.resolve() / "run"
    assert output_folder(OmegaConf.create({"output": "other", "ckpt_path": str(last)})) == Path("other")


@pytest.mark.parametrize(
    "arguments", [["train-cls", "--help"], ["predict", "tta=d5"], ["compare"], ["check", "data.root=nowhere"]]
)
def test_nothing_heavy_is_imported_for_help_or_a_wrong_call(arguments: list[str]) -> None:
    heavy = ("torch", "pandas", "cv2", "matplotlib", "lightning")
    code = (
        f"import sys; from segpipe.cli.main import main; main({arguments}); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(segpipe.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("launcher", "jobs"), [({"n_jobs": 4096}, os.cpu_count()), ({"n_jobs": 1}, 1), ({"n_jobs": -1}, -1), ({}, None)]
)
def test_no_more_jobs_run_at_once_than_there_are_cores(launcher: dict[str, int], jobs: int | None) -> None:
    config = OmegaConf.create({"hydra": {"launcher": launcher}})
    OmegaConf.set_readonly(config, True)
    CappedJobs().on_multirun_start(config)
    assert config.hydra.launcher.get("n_jobs") == jobs
