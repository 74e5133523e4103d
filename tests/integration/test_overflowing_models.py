"""Models with finite weights and predictions that are not finite."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import call
from safetensors.torch import load_file, save_file

from segpipe.data.synthetic.photo import make_image
from segpipe.io.images import encode_png
from segpipe.io.run_files import WEIGHTS


@pytest.fixture
def arguments(bundles: Path, tmp_path: Path) -> list[str]:
    """Arguments of a run with copies of the tiny bundles."""
    shutil.copytree(bundles, tmp_path / "bundles")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encode_png(make_image("mel", np.random.default_rng(0), (50, 60))[0]))
    return [
        *(f"bundle.{kind}={tmp_path / 'bundles' / kind}" for kind in ("segmenter", "classifier")),
        *(f"output={tmp_path / 'out'}", "device=cpu", "workers=0"),
    ]


def spoil(folder: Path, name: str, value: float) -> None:
    state = load_file(folder / WEIGHTS)
    state[name].fill_(value)
    save_file(state, folder / WEIGHTS)


@pytest.mark.parametrize("source", ["folder=images", "image=images/a.png"])
@pytest.mark.parametrize(
    ("kind", "tensor", "value"),
    [
        ("classifier", "linear.weight", 3e38),
        ("classifier", "backbone.bn1.running_var", -1.0),
        ("segmenter", "segmentation_head.0.weight", 3e38),
    ],
)
def test_prediction_that_is_not_finite_is_a_failure_of_the_image(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kind: str, tensor: str, value: float
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / "bundles" / kind, tensor, value)
    ended = call("run_pipeline", *arguments, source)
    assert ended.status == 1
    assert len(ended.err.strip().splitlines()) == 1 and "not finite" in ended.err
    assert "nan" not in ended.out.lower()
    failures = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert len(failures) == 2 and failures[1].startswith("a.png,")
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1
    assert not list((tmp_path / "out").glob("*/*.png"))
