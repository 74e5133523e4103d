"""Plain calls of `segpipe predict`: the same as with Hydra, and without importing it."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from segpipe.cli import data
from segpipe.cli.main import main
from segpipe.config import CONF
from segpipe.errors import ImageError

# Libraries that a result without figure does not need; those after the first line take longer than they look.
UNNEEDED = {
    *("torch", "torchvision", "timm", "pandas", "matplotlib", "scipy", "sklearn", "skimage", "fsspec", "jinja2", "ray"),
    *("hydra", "omegaconf", "antlr4", "attr", "pydantic", "tqdm", "asyncio", "importlib.metadata", "email", "logging.config"),
}
# Stops before the networks, then imports what follows beside them.
SCRIPT = """
import json, sys
from importlib import import_module
from segpipe.cli.main import main
from segpipe.errors import ImageError
from segpipe.workflows import prediction

def stop():
    raise ImageError("stopped")

prediction.keep_freed_memory = stop
status = main(["predict", f"image={sys.argv[1]}", "figures=false", "output=out"])
for name in ("io.images", "io.passes", "lesion.localization", "lesion.crop", "inference.finding", "runs.journal",
             "runs.options", "runs.results", "report.terminal"):
    import_module(f"segpipe.{name}")
print(json.dumps([status, sorted(sys.modules)]))
"""
Outcome = tuple[int, str, str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plain_call_imports_only_what_it_needs(folder: Path) -> None:
    call = subprocess.run(
        [sys.executable, "-c", SCRIPT, "a.jpg"], cwd=folder, env=os.environ, capture_output=True, text=True, check=True
    )
    status, modules = json.loads(call.stdout)
    assert status == ImageError.exit_status and call.stderr == "error: stopped\n"
    assert {"segpipe.workflows.prediction", "segpipe.inference.finding", "numpy", "cv2"} <= set(modules)
    assert UNNEEDED & set(modules) == set()


@pytest.fixture
def both_ways(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Outcome, Outcome]]:
    """Function that runs a call as it is, and with Hydra alone."""

    def run(arguments: list[str]) -> Outcome:
        status = main(["predict", *arguments])
        return (status, *capsys.readouterr())

    def run_twice(*arguments: str) -> tuple[Outcome, Outcome]:
        as_it_is = run([*arguments])
        with monkeypatch.context() as changed:
            changed.setattr(data, "compose_plain", lambda *_: None)
            return as_it_is, run([*arguments])

    return run_twice


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["image=absent.jpg"],
        ["image=."],
        ["image=a.jpg", "folder=."],
        ["image=a.jpg", "part=test"],
        ["folder=a.jpg"],
        ["image=a.jpg", "output=a.jpg"],
        ["image=a.jpg", "labels=absent.csv"],
        ["image=a.jpg", "bundle.classifier=absent"],
        ["image=a.jpg", "resume=true", "overwrite=true"],
        ["image=a.jpg", "tta=d5"],
        ["image=a.jpg", "figures=maybe"],
        ["image=a.jpg", "workers=-1"],
        ["image=a.jpg", "workers=many"],
        ["image=a.jpg", "imag=b.jpg"],
        ["image=a.jpg", "image=b.jpg", "tta=none", "tta=d4"],
        ["a.jpg"],
        ["image=a.jpg", "--flag"],
        ["image=a.jpg", "tta=none,d4"],
    ],
    ids=" ".join,
)
def test_wrong_call_is_refused_as_with_hydra(arguments: list[str], both_ways: Callable[..., tuple[Outcome, Outcome]]) -> None:
    as_it_is, with_hydra = both_ways(*arguments)
    assert as_it_is == with_hydra
    status, stdout, stderr = as_it_is
    assert status in (1, 2) and not stdout and stderr.startswith("error: ") and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt("3 of 5 images done"), 130, "interrupted: 3 of 5 images done\n"),
        (ImageError("a.jpg: damaged"), ImageError.exit_status, "error: a.jpg: damaged\n"),
        (BrokenPipeError(), 1, ""),
        (ZeroDivisionError("a bug"), 1, "Traceback"),
    ],
    ids=repr,
)
def test_failing_call_ends_as_with_hydra(
    error: BaseException,
    status: int,
    message: str,
    both_ways: Callable[..., tuple[Outcome, Outcome]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(data, "process", fail)
    monkeypatch.setattr("segpipe.cli.call._close_stdout", lambda: None)
    for found, stdout, stderr in both_ways("image=a.jpg"):
        assert (found, stdout) == (status, "")
        assert stderr.startswith(message) if message else not stderr


def test_configuration_of_both_ways_is_equal(
    both_ways: Callable[..., tuple[Outcome, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    monkeypatch.setattr(data, "process", lambda config, output: given.append((config, output)))
    assert {status for status, *_ in both_ways("image=a.jpg", "output=out", "figures=false", "tta=none")} == {0}
    plainly, with_hydra = given
    assert plainly == with_hydra


def test_full_errors_are_left_to_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ImageError, match="no such file"):
        main(["predict", "image=absent.jpg"])


def test_warnings_look_as_in_the_yaml_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(data, "process", lambda *_: None)
    assert main(["predict", "image=a.jpg"]) == 0
    (handler,) = logging.getLogger().handlers
    chosen = yaml.safe_load((CONF / "hydra/job_logging/quiet.yaml").read_text())
    assert handler.formatter is not None and handler.formatter._fmt == chosen["formatters"]["plain"]["format"]
    assert isinstance(handler, logging.StreamHandler) and logging.getLogger().level == logging.WARNING


def run_process(code: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run the command with a changed `main` in a process of its own."""
    lines = ["import atexit, sys", "from segpipe.cli import main as cli", code, "sys.exit(cli.run_process())"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=buffered)


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_process_ends_with_its_status_after_all_handlers(status: int) -> None:
    code = f"cli.main = lambda **_: (atexit.register(print, 'handled'), print('worked', end=' '))[1] or {status}"
    ended = run_process(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "worked handled\n", "")


def test_process_does_not_take_its_libraries_apart() -> None:
    code = "class Slow:\n    def __del__(self): print('taken apart')\ncli.kept = Slow()\ncli.main = lambda **_: 0"
    assert run_process(code).stdout == ""


def test_bug_and_unwritten_output_are_left_to_python() -> None:
    failed = run_process("cli.main = lambda **_: 1 / 0")
    assert failed.returncode == 1 and failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    reader, writer = os.pipe()
    os.close(reader)
    unread = run_process("cli.main = lambda **_: print('text') or 0", stdout=writer)
    os.close(writer)
    assert unread.returncode == 120 and "BrokenPipeError" in unread.stderr
