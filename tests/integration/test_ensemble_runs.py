"""run_pipeline.py with several classifiers: tables, scores, report, resuming, and wrong calls."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ended, call, read_json, results

from segpipe.diagnosis import CODES
from segpipe.io.images import read_image

PROBS = [f"p_{code}" for code in CODES]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(photos: Path, *classifiers: Path, **values: Any) -> Ended:
    return run_with(f"[{','.join(map(str, classifiers))}]", photos, **values)


def run_with(classifier: str, photos: Path, **values: Any) -> Ended:
    given = {"folder": photos / "images", "output": "out", "localize": "contour", "device": "cpu", "figures": False} | values
    return call("run_pipeline", f"bundle.classifier={classifier}", **given)


@pytest.mark.usefixtures("few_resamples")
def test_results_and_scores_are_of_the_mean_of_the_classifiers(photos: Path, ensemble_folders: list[Path]) -> None:
    ended = run(photos, *ensemble_folders, labels=photos / "labels.csv", report="html", crops=True, heatmaps=True)
    assert ended.status == 0, ended.err
    table = results(Path("out"))
    alone = []
    for number, one in enumerate(ensemble_folders):
        assert run(photos, one, output=f"alone{number}", crops=True).status == 0
        alone.append(results(Path(f"alone{number}")))
        assert alone[-1]["path"].tolist() == table["path"].tolist()
    expected = np.mean([of_one[PROBS].to_numpy(dtype=float) for of_one in alone], axis=0)
    np.testing.assert_allclose(table[PROBS].to_numpy(dtype=float), expected, atol=1e-6)
    assert table["diagnosis"].tolist() == [CODES[index] for index in expected.argmax(1)]
    assert (alone[0]["flagged"] != "").all()
    assert (table["flagged"] == "").all()
    assert (table["tta_spread"] != "").all()
    np.testing.assert_array_equal(read_image(Path("out/crops/a.png")), read_image(Path("alone0/crops/a.png")))

    scored = read_json(Path("out/metrics.json"))["classification"]
    labels = dict(line.split(",") for line in (photos / "labels.csv").read_text().splitlines()[1:])
    hits = [labels.get(Path(path).stem) == code for path, code in zip(table["path"], table["diagnosis"], strict=True)]
    assert scored["metrics"]["accuracy"]["value"] == pytest.approx(sum(hits) / 5)
    assert scored["operating_points"] == []

    summary = read_json(Path("out/summary.json"))
    models = summary["models"]["classifier"]
    assert models == [read_json(Path(f"alone{number}/summary.json"))["models"]["classifier"] for number in range(3)]
    assert summary["operating_points"] == []
    page = Path("out/report/pages/a.html").read_text(encoding="utf-8")
    assert all(model in page for model in models)


def test_run_resumes_only_with_the_same_classifiers_in_the_same_order(photos: Path, ensemble_folders: list[Path]) -> None:
    first, second, third = ensemble_folders
    quick = {"tta": "none", "explain": "none", "resume": True}
    assert run(photos, first, second, **quick).status == 0
    for others in ([second, first], [first], [first, second, third]):
        ended = run(photos, *others, **quick)
        assert ended.status == 2
        assert "but bundle.classifier changed" in ended.error
    ended = run(photos, first, second, **quick)
    assert ended.status == 0, ended.err
    assert "images done: 6 (6 of them earlier), failed: 0" in ended.out


def test_list_of_one_classifier_equals_that_classifier(photos: Path, ensemble_folders: list[Path]) -> None:
    quick = {"tta": "none", "explain": "none"}
    assert run(photos, ensemble_folders[0], **quick).status == 0
    again = run_with(str(ensemble_folders[0]), photos, resume=True, **quick)
    assert again.status == 0, again.err
    assert isinstance(read_json(Path("out/summary.json"))["models"]["classifier"], str)


def test_each_list_of_a_sweep_is_a_job(photos: Path, ensemble_folders: list[Path]) -> None:
    first, second, _ = ensemble_folders
    given = {"folder": photos / "images", "output": "swept", "localize": "contour", "tta": "none", "explain": "none"}
    ended = call("run_pipeline", "--multirun", f"bundle.classifier=[{first}],[{first},{second}]", **given)
    assert ended.status == 0, ended.err
    models = [read_json(Path("swept", job, "summary.json"))["models"]["classifier"] for job in ("0", "1")]
    assert models[1][0] == models[0]


def test_classifiers_that_cannot_be_averaged_are_one_line_and_status_2(
    photos: Path, ensemble_folders: list[Path], bundles: Path
) -> None:
    first, second, _ = ensemble_folders
    for classifiers, reason in [
        ([], "bundle.classifier=[...] must hold at least one path, got an empty list"),
        ([first, Path("absent")], "bundle.classifier must be an existing path, got 'absent'"),
        ([first, second, first], f"bundle.classifier must name each model once, got the same one in {first} and in {first}"),
        ([first, bundles / "segmenter"], "must be the bundle of a classifier, got that of a segmenter"),
    ]:
        ended = run(photos, *classifiers)
        assert (ended.status, Path("out").exists()) == (2, False)
        assert reason in ended.error
