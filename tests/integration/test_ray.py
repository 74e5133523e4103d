"""Ray engine with two actors, compared with the local engine."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Ended, Script, results
from PIL import Image

from segpipe.data.synthetic.photo import make_image
from segpipe.runs.journal import Recorder
from segpipe.runs.ray_cluster import connect

ray = pytest.importorskip("ray", reason="engine=ray needs Ray, which segpipe[ray] brings")

pytestmark = pytest.mark.slow
FOLDERS = ("masks", "crops", "heatmaps")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray, started once and used by all runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        assert connect()
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photographs, two of them duplicates, and two bad files."""
    folder = tmp_path_factory.mktemp("many photos")
    rng = np.random.default_rng(7)
    for number, code in enumerate(("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc", "nv")):
        (folder / f"sub {number % 2}").mkdir(exist_ok=True)
        Image.fromarray(make_image(code, rng, (60, 80))[0]).save(folder / f"sub {number % 2}" / f"{number}.png")
    shutil.copy(folder / "sub 0" / "0.png", folder / "z.png")
    shutil.copy(folder / "sub 1" / "1.png", folder / "sub 0" / "twin.png")
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "sub 1" / "cut.png").write_bytes((folder / "sub 0" / "0.png").read_bytes()[:500])
    return folder


def on_ray(pipeline: Script, folder: Path, **values: Any) -> Ended:
    return pipeline(folder=folder, engine="ray", workers=2, batch_size=2, crops=True, heatmaps=True, **values)


@pytest.fixture
def local(pipeline: Script, folder: Path) -> Path:
    """Output of the local engine."""
    ended = pipeline(folder=folder, output="local", batch_size=2, crops=True, heatmaps=True)
    assert ended.status == 1, ended.err
    return Path("local").absolute()


def assert_same_results(found: Path, expected: Path) -> None:
    """Check that all results except times are equal."""
    tables = [results(output).drop(columns="latency_ms") for output in (found, expected)]
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=1e-6, rtol=0)
    assert (found / "failures.csv").read_bytes() == (expected / "failures.csv").read_bytes()
    for name in FOLDERS:
        pictures = sorted(path.relative_to(expected) for path in (expected / name).rglob("*.png"))
        assert sorted(path.relative_to(found) for path in (found / name).rglob("*.png")) == pictures
        assert len(pictures) == 10
        assert [(found / path).read_bytes() for path in pictures] == [(expected / path).read_bytes() for path in pictures]


def lines(output: Path) -> int:
    return len((output / "results.jsonl").read_bytes().splitlines())


def dying(marker: Path) -> Callable[..., bytes]:
    """Return a function, pickled by value, that kills its process once."""

    def draw(_: object, title: str) -> bytes:
        if title == "5" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    return draw


def failing() -> Callable[..., bytes]:
    """Return a drawing function with a bug; pickled by value."""

    def draw(*_: object) -> bytes:
        raise ZeroDivisionError("a bug")

    return draw


def test_two_actors_give_the_results_of_the_local_engine(pipeline: Script, cluster: None, folder: Path, local: Path) -> None:
    ended = on_ray(pipeline, folder)
    assert ended.status == 1, ended.err
    assert ended.error.startswith("2 images failed, see out/failures.csv; the first is bad.jpg: not an image")
    assert_same_results(Path("out"), local)
    assert ray.is_initialized()


def test_killed_actor_loses_and_repeats_no_image(
    pipeline: Script, cluster: None, folder: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = Path("killed").absolute()
    monkeypatch.setattr("segpipe.report.figure.encode_figure", dying(marker))
    ended = on_ray(pipeline, folder, figures=True)
    assert ended.status == 1, ended.err
    assert marker.exists()
    assert_same_results(Path("out"), local)
    assert lines(Path("out")) == 10


def test_interrupted_run_resumes(
    pipeline: Script, cluster: None, folder: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Recorder.record

    def record_and_interrupt(self: Recorder, outcomes: Any) -> None:
        record(self, outcomes)
        if self.written >= 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", record_and_interrupt)
        ended = on_ray(pipeline, folder)
    assert ended.status == 130, ended.err
    assert 3 <= lines(Path("out")) < 10

    ended = on_ray(pipeline, folder, resume=True)
    assert ended.status == 1, ended.err
    assert "images done: 10 (3 of them earlier)" in ended.out or "images done: 10 (4 of them earlier)" in ended.out
    assert_same_results(Path("out"), local)
    assert lines(Path("out")) == 10


def test_bug_on_an_actor_ends_the_run_with_its_traceback(
    pipeline: Script, cluster: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.report.figure.encode_figure", failing())
    ended = on_ray(pipeline, folder, figures=True)
    assert ended.status == 1
    assert "ZeroDivisionError: a bug\non an actor of Ray:\nTraceback" in ended.err
    assert "segpipe/runs/local_engine.py" in ended.err


def test_ray_without_workers_is_refused_first(pipeline: Script, folder: Path) -> None:
    ended = pipeline(folder=folder, engine="ray", workers=0)
    assert (ended.status, Path("out").exists()) == (2, False)
    assert ended.error == "workers must be 1 or more with engine=ray, got 0; engine=local works in the main process"
