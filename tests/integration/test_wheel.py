"""The wheel, installed without the repository."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import CLASSIFIER, ROOT, call, small

import segpipe
from segpipe.config import SAMPLES

pytestmark = pytest.mark.slow
pytest.importorskip("build", reason="needs the build frontend, which segpipe[dev] brings")

# What a wheel is built from.
FOLDERS = ("conf", "data/samples", "hydra_plugins", "segpipe")
FILES = ("LICENSE", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml", "setup.cfg")
MAX_BYTES = 25e6  # of the wheel, 18 MB of which are weights
_START_S = 60
# Columns that differ between two runs on the same image.
_MEASURED = {"path", "latency_ms"}


@dataclass(frozen=True)
class Built:
    """Sources and output of `python -m build`."""

    source: Path
    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and an empty working directory.

    Attributes:
        folder: Folder of the environment.
        home: Working directory of all commands.
    """

    folder: Path
    home: Path

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a program of the environment without the repository."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SEGPIPE_"))}
        return subprocess.Popen(
            [self.folder / "bin" / program, *arguments],
            cwd=self.home,
            env={**kept, "STREAMLIT_SERVER_HEADLESS": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def call(self, program: str, *arguments: str) -> str:
        """Run a program of the environment and return its output."""
        process = self.start(program, *arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An sdist and its wheel, built from a copy of the sources."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, source)
    arguments = ("--no-isolation", "--outdir", str(output), str(source))
    done = subprocess.run([sys.executable, "-m", "build", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return Built(source, sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder, home = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("home")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # .pth files in folders that a .pth file names are not read, so an editable segpipe is not found.
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries), encoding="utf-8")
    it = Installed(folder, home)
    it.call("python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(built.wheel))
    shutil.copy(SAMPLES / "synthetic_mel.jpg", home / "photo.jpg")
    return it


def files_below(folder: Path, prefix: str) -> set[str]:
    return {f"{prefix}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*") if path.is_file()}


def test_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with ZipFile(built.wheel) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    expected = [
        files_below(built.source / folder, prefix)
        for folder, prefix in (
            ("segpipe", "segpipe"),
            ("conf", "segpipe/conf"),
            ("data/samples", "segpipe/samples"),
            ("hydra_plugins", "hydra_plugins"),
        )
    ]
    assert len(names) == len(set(names))
    assert set(names) == set().union(*expected)
    assert built.wheel.stat().st_size < MAX_BYTES


def test_container_is_built_from_the_same_files() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == {*FOLDERS, *FILES}
    last_stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2].splitlines()
    assert [line for line in last_stage if line.startswith(("USER", "ENTRYPOINT"))] == ["USER 1000", 'ENTRYPOINT ["segpipe"]']


def test_metadata_of_the_wheel(built: Built) -> None:
    with ZipFile(built.wheel) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(path).decode("utf-8"))
        licenses = {f"{Path(path).parent}/licenses/{name}" for name in ("LICENSE", "segpipe/report/fonts/LICENSE_DEJAVU")}
        assert licenses <= set(wheel.namelist())
    assert (metadata["Name"], metadata["Version"]) == ("segpipe", segpipe.__version__)
    assert metadata["License-Expression"] == "MIT AND CC-BY-NC-4.0 AND Bitstream-Vera"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Not a medical device" in metadata["Summary"]
    with tarfile.open(built.sdist) as sdist:
        assert f"segpipe-{segpipe.__version__}/constraints.txt" in sdist.getnames()


def test_twine_accepts_sdist_and_wheel(built: Built) -> None:
    pytest.importorskip("twine", reason="needs twine, which segpipe[dev] brings")
    checked = [sys.executable, "-m", "twine", "check", "--strict", str(built.sdist), str(built.wheel)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_package_is_imported_from_the_environment(installed: Installed) -> None:
    code = "import segpipe, segpipe.config as r; print(segpipe.__version__, r.__file__, r.CONF, r.SAMPLES, sep='\\n')"
    version, *paths = installed.call("python", "-c", code).splitlines()
    assert version == segpipe.__version__
    assert all(Path(path).is_relative_to(installed.folder) for path in paths)
    assert installed.call("segpipe", "--version").split() == ["segpipe", version]


def test_prediction_equals_that_of_the_checkout(installed: Installed, tmp_path: Path) -> None:
    arguments = ("tta=none", "device=cpu", "figures=false")
    installed.call("segpipe", "predict", "image=photo.jpg", "output=found", *arguments)
    here = call("run_pipeline", *arguments, image=installed.home / "photo.jpg", output=tmp_path / "found")
    assert here.status == 0, here.err
    assert read_row(installed.home / "found") == pytest.approx(read_row(tmp_path / "found"), abs=1e-6)


def read_row(output: Path) -> dict[str, float | str]:
    """Read the only row of results.csv, numbers as float, without measured columns."""
    with (output / "results.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)

    def value(text: str) -> float | str:
        with suppress(ValueError):
            return float(text)
        return text

    return {column: value(text) for column, text in row.items() if column not in _MEASURED}


def test_training_of_a_classifier(installed: Installed) -> None:
    values = (*small(installed.home / "drawn"), "data.images_per_lesion=1", *CLASSIFIER, "trainer.max_epochs=1", "tta=none")
    out = installed.call("segpipe", "train-cls", *values, "output=trained")
    assert str(Path("trained", "bundle")) in out.splitlines()[-1]
    assert (installed.home / "trained" / "bundle" / "card.json").is_file()


def test_generated_samples_are_the_shipped_ones(installed: Installed) -> None:
    installed.call("segpipe", "synthetic", "output=samples")
    drawn = {path.relative_to(installed.home / "samples") for path in (installed.home / "samples").rglob("*.*")}
    shipped = {path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.*") if not path.match("*.py*")}
    assert drawn == shipped
    assert (installed.home / "samples" / "labels.csv").read_bytes() == (SAMPLES / "labels.csv").read_bytes()


def test_web_page_answers_and_stops(installed: Installed) -> None:
    pytest.importorskip("streamlit", reason="needs streamlit, which segpipe[app] brings")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with stopped_at_the_end(installed.start("segpipe", "app", f"port={port}")) as process:
        end = time.monotonic() + _START_S
        while not answers(port):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end, "the page does not answer"
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        complaints = process.communicate(timeout=20)[1]
    assert process.returncode in (0, 130)
    assert "Traceback" not in complaints


@contextmanager
def stopped_at_the_end(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def answers(port: int) -> bool:
    """Return True if the page answers."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
