"""Calls of the entry scripts in this process, and shared trainings."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from app_server import Server, Visit, visits
from PIL import Image

from segpipe.cli.main import run_subcommand
from segpipe.data.synthetic.photo import make_image
from segpipe.types import RgbImage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]

SEGMENTER = ("segmenter.encoder=tu-test_efficientnet", "segmenter.decoder_channels=[16,16,8,8,8]", "segmenter.input_size=64")
CLASSIFIER = ("classifier.name=test_efficientnet", "classifier.input_size=64")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests with a browser, whose time limits need a core of their own."""
    for item in items:
        if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
            item.add_marker("browser")


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a call."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only line that begins with `error:`, without that word."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


Script = Callable[..., Ended]


SUBCOMMANDS = {"run_pipeline": "predict", "train_seg": "train-seg", "train_cls": "train-cls"}


def call(name: str, *arguments: str, **values: Any) -> Ended:
    """Call a script or a subcommand with `key=value` arguments, followed by `values`."""
    named = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_subcommand(SUBCOMMANDS.get(name, name), [*arguments, *named], ["python", f"{name}.py"])
    return Ended(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Trained:
    """One training of each kind, and the arguments to repeat it."""

    folder: Path
    data: tuple[str, ...]
    segmenter: Ended
    classifier: Ended

    @property
    def bundles(self) -> tuple[str, str]:
        """Arguments that select these models."""
        return (f"bundle.segmenter={self.folder / 'seg' / 'bundle'}", f"bundle.classifier={self.folder / 'cls' / 'bundle'}")


def small(data: Path) -> tuple[str, ...]:
    """Return arguments of a training of a few seconds."""
    return (
        *("data=synthetic", f"data.root={data}", f"data.cache={data.parent / 'cache'}"),
        *("data.lesions=42", "data.images_per_lesion=2"),
        *("data.height=60", "data.width=80", "batch_size=8", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    )


@pytest.fixture(scope="session")
def trained(few_resamples: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A segmenter that finds drawn lesions, and a classifier after two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    data = small(folder / "data")
    segmenter = call(*("train_seg", *data, *SEGMENTER, "trainer.max_epochs=6", "optimizer.lr=0.02"), output=folder / "seg")
    assert segmenter.status == 0, segmenter.err
    unet = f"bundle.segmenter={folder / 'seg' / 'bundle'}"
    classifier = call(*("train_cls", *data, *CLASSIFIER, unet, "trainer.max_epochs=2"), output=folder / "cls")
    assert classifier.status == 0, classifier.err
    return Trained(folder, data, segmenter, classifier)


@pytest.fixture
def photo() -> RgbImage:
    """A drawn photograph."""
    return make_image("mel", np.random.default_rng(4), (60, 80))[0]


@pytest.fixture
def pipeline(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Call run_pipeline.py with the trained bundles and `output=out`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **values: Any) -> Ended:
        values = {"output": "out", "device": "cpu", "figures": False} | values
        return call("run_pipeline", *trained.bundles, *arguments, **values)

    return run


def results(output: Path) -> pd.DataFrame:
    """Read results.csv; ids and empty fields stay text."""
    return pd.read_csv(output / "results.csv", keep_default_na=False)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs with true masks, labels and a split."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    (folder / "images" / "sub").mkdir(parents=True)
    (folder / "masks").mkdir()
    names = ["a.jpg", "b.png", "c.jpg", "sub/d.bmp", "sub/e.tif", "sub/f.webp"]
    for name, code in zip(names, ("mel", "nv", "bcc", "akiec", "bkl", "nv"), strict=True):
        image, mask = make_image(code, rng, (60, 80))
        Image.fromarray(image).save(folder / "images" / name)
        Image.fromarray(mask).save(folder / "masks" / f"{Path(name).stem}_segmentation.png")
    (folder / "images" / "notes.txt").write_text("none of ours")
    (folder / "labels.csv").write_text("image,label\na,mel\nb,nv\nc,bcc\nd,akiec\ne,bkl\n")
    parts = "a,L1,train\nb,L2,train\nc,L3,val\nd,L4,val\ne,L5,test\nf,L5,test\n"
    (folder / "split.csv").write_text("image_id,lesion_id,part\n" + parts)
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """The installed Chromium with a fake camera."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the browser chromium: apt install chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: "Browser", server: Server) -> Iterator[Visit]:
    """Open the page for a new visitor at each call; see `visits`."""
    with visits(browser, server) as visit:
        yield visit


@pytest.fixture
def page(visit: Visit) -> "Page":
    """The page, opened for one visitor."""
    return visit()
