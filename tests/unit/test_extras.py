"""Calls without the libraries of the extras: one line that names what to install."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import segpipe
from segpipe.config import SAMPLES
from segpipe.errors import EXTRAS, MissingExtraError, SegpipeError, as_missing_extra, require_extra

PHOTO, LABELS, MASKS = SAMPLES / "synthetic_mel.jpg", SAMPLES / "labels.csv", SAMPLES / "masks"
SCRIPT = """
import contextlib, io, json, sys
from segpipe.cli.main import main
from segpipe.errors import EXTRAS

class Refuse:
    names = {name for libraries in EXTRAS.values() for name in libraries} - set(json.loads(sys.argv[1]))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
ends = []
for arguments in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(arguments)
    ends.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(ends))
"""
PREDICT = ["predict", f"image={PHOTO}", "output=out"]
TRAIN = ["train-cls", "data=synthetic", "output=out"]
SWEEP = ["train-cls", "data=synthetic", "output=sweep"]
# Extra that a call misses in the base install, and the library that its message names.
MISSED = {
    ("torch", "torch"): [
        TRAIN,
        ["train-seg", "data=synthetic"],
        ["export", "data=synthetic", "output=out"],
    ],
    ("metrics", "pandas"): [
        [*PREDICT, f"labels={LABELS}"],
        [*PREDICT, f"masks={MASKS}"],
        ["predict", f"folder={SAMPLES}", f"split={LABELS}", "output=out"],
        ["ablations", f"runs=[{SAMPLES},{SAMPLES.parent}]", f"labels={LABELS}"],
        ["compare", f"bundles=[{SAMPLES},{SAMPLES.parent}]", f"folder={SAMPLES}", f"labels={LABELS}"],
        ["check", "data=synthetic"],
        ["leaks", "data=synthetic"],
        ["synthetic", "output=out"],
    ],
    ("app", "streamlit"): [["app"]],
    ("tracking", "tensorboard"): [[*TRAIN, "logger=tensorboard"]],
    ("sweeps", "optuna"): [[*SWEEP, "hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-3)", "-m"]],
    ("ray", "ray"): [[*SWEEP, "hydra/launcher=ray", "seed=1,2", "-m"]],
}


def run_without(calls: list[list[str]], folder: Path, *, kept: tuple[str, ...] = ()) -> list[tuple[int, str, str]]:
    """Run calls in a process without the libraries of the extras.

    Args:
        calls: Arguments of each call.
        folder: Folder of the process.
        kept: Libraries that can be imported nevertheless.

    Returns:
        Exit status, stdout and stderr of each call.
    """
    command = [sys.executable, "-c", SCRIPT, json.dumps(kept), json.dumps(calls)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [tuple(end) for end in json.loads(ended.stdout)]


def test_missing_extras_are_named_on_one_line(tmp_path: Path) -> None:
    expected = [(extra, library) for (extra, library), calls in MISSED.items() for _ in calls]
    calls = [call for calls in MISSED.values() for call in calls]
    for call, (extra, library), (status, _, err) in zip(calls, expected, run_without(calls, tmp_path), strict=True):
        assert status == 2, call
        line = err.rstrip("\n").split("\n")[-1]
        assert line.startswith("error: ") and f" needs {library}, " in line, (call, err)
        assert line.endswith(f'pip install "segpipe[{extra}]"'), (call, err)
        assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_help_needs_no_extra(tmp_path: Path) -> None:
    calls = [["--help"], ["--version"], *([name, "--help"] for name in ("predict", "train-cls", "train-seg", "app", "export"))]
    for status, out, err in run_without(calls, tmp_path):
        assert (status, err) == (0, "")
        assert "segpipe" in out
    (_, page, _) = run_without([["predict", "--help"]], tmp_path)[0]
    assert "segpipe[metrics]" in page


def test_model_card_needs_no_extra(tmp_path: Path) -> None:
    ((status, out, err),) = run_without([["card"]], tmp_path)
    assert (status, err) == (0, "")
    assert out.startswith("# Model card")


def test_data_sets_are_checked_without_torch(tmp_path: Path) -> None:
    calls = [["check", "data=synthetic"], ["leaks", "data=synthetic"], ["synthetic", "output=samples"]]
    for status, out, err in run_without(calls, tmp_path, kept=EXTRAS["metrics"]):
        assert (status, err) == (0, "")
        assert out
    assert (tmp_path / "samples" / "labels.csv").is_file()


def test_python_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as the import system itself says that there is none
    with pytest.raises(MissingExtraError, match=r"^a training needs torch, .*segpipe\[torch\]"):
        segpipe.train_segmenter(["data=synthetic"])


def test_a_part_of_an_extra_is_enough_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    require_extra("metrics", "a table", "pandas")
    with pytest.raises(MissingExtraError, match=r"^labels needs scipy, "):
        require_extra("metrics", "labels")


@pytest.mark.parametrize(
    ("name", "extra"), [("torch.nn", "torch"), ("pandas", "metrics"), ("click", "app"), ("numpy", None), (None, None)]
)
def test_failed_imports_are_explained(name: str | None, extra: str | None) -> None:
    found = as_missing_extra(ModuleNotFoundError("no such module", name=name))
    assert (found is None) == (extra is None)
    assert extra is None or f"segpipe[{extra}]" in str(found)
    assert as_missing_extra(ImportError("broken", name=name)) is None


def test_missing_extra_is_an_import_error_and_a_wrong_call() -> None:
    assert issubclass(MissingExtraError, SegpipeError) and issubclass(MissingExtraError, ImportError)
    assert MissingExtraError.exit_status == 2
