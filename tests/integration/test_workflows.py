"""Workflows called from Python: the same results as the commands."""

import contextlib
import io
from pathlib import Path

import pandas as pd
import pytest
from conftest import CLASSIFIER, SEGMENTER, Script, Trained, call, read_json, results, small
from hydra.core.global_hydra import GlobalHydra

from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.errors import OutputError
from segpipe.workflows.prediction import predict_folder
from segpipe.workflows.training import train_classifier, train_segmenter


def test_predict_folder_returns_the_results_of_the_command(
    pipeline: Script, trained: Trained, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    for path in (photos / "images").glob("*.*"):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    ended = pipeline(folder=tmp_path / "images", labels=photos / "labels.csv", tta="flips")
    assert ended.status == 1
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        result = predict_folder(
            tmp_path / "images",
            tmp_path / "from python",
            segmenter=trained.folder / "seg" / "bundle",
            classifier=[trained.folder / "cls" / "bundle"],
            labels=photos / "labels.csv",
            tta="flips",
            device="cpu",
            figures=False,
        )
    table, failures = result
    assert said.getvalue() == ""
    written = results(Path("out"))
    assert list(table.columns) == list(written.columns)
    assert table["abcd_diameter_mm"].isna().all()  # without a scale; pandas reads such a column as text
    others = table.columns.difference(["latency_ms", "abcd_diameter_mm"])
    pd.testing.assert_frame_equal(table[others], written[others], check_dtype=False, check_like=False)
    assert [failure.path for failure in failures] == ["broken.jpg"]
    assert result.metrics == read_json(Path("out/metrics.json")) == read_json(result.output / "metrics.json")
    assert read_json(result.output / "summary.json")["settings"]["tta"] == {"views": "flips"}
    with pytest.raises(OutputError, match="overwrite"):
        predict_folder(tmp_path / "images", result.output, device="cpu")
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.slow
def test_trainings_return_their_bundles_and_metrics(few_resamples: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = [*small(tmp_path / "data"), "trainer.max_epochs=1"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        segmenter = train_segmenter([*data, *SEGMENTER], output=tmp_path / "seg")
        unet = f"bundle.segmenter={segmenter.bundle}"
        classifier = train_classifier([*data, *CLASSIFIER, unet], output=tmp_path / "cls")
    assert "bundle in" not in said.getvalue()  # a bar shows the progress, the metrics are returned
    for result, load, name in ((segmenter, load_segmenter, "seg"), (classifier, load_classifier, "cls")):
        assert result.bundle == tmp_path / name / "bundle"
        assert load(result.bundle).card.training.epochs == 1
        assert result.metrics == read_json(tmp_path / name / "test" / "metrics.json")
    again = call("train-cls", *data, *CLASSIFIER, unet, output=tmp_path / "command")
    assert again.status == 0, again.err
    weights = [(tmp_path / name / "bundle" / "model.safetensors").read_bytes() for name in ("cls", "command")]
    assert weights[0] == weights[1]
    with pytest.raises(OutputError, match="overwrite"):
        train_classifier([*data, *CLASSIFIER, unet], output=tmp_path / "cls")
