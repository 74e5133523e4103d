"""Ablations: paired differences between runs over the same images, and their table."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.cli.main import main
from segpipe.comparison.ablations import ablation_table
from segpipe.config.arguments import as_override
from segpipe.errors import DatasetError
from segpipe.evaluation.truth import GroundTruth
from segpipe.io.images import write_png
from segpipe.metrics.bootstrap import WeightedMetric, Weights, paired_differences, with_intervals

IMAGES = [f"image{number}" for number in range(8)]
LABELS = ["mel", "nv"] * 4
LESIONS = [f"lesion{number // 2}" for number in range(8)]


def mean_of(scores: Sequence[float]) -> WeightedMetric:
    return partial(_mean, np.array(scores))


def _mean(scores: np.ndarray, weights: Weights) -> dict[str, float | None]:
    return {"score": float(np.average(scores, weights=weights))}


def write_run(folder: Path, p_mel: Sequence[float], images: Sequence[str] = IMAGES, area: int = 5, content: str = "") -> Path:
    rows = {
        "path": [f"{name}.jpg" for name in images],
        "p_mel": p_mel,
        "p_nv": [1 - prob for prob in p_mel],
        "p_malignant": p_mel,
        "sha256": [f"{content} {name}" for name in images],
    }
    (folder / "masks").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    for name in images:
        write_png(folder / "masks" / f"{name}.png", columns(area))
    return folder


def columns(area: int) -> np.ndarray:
    mask = np.zeros((4, 10), bool)
    mask[:, :area] = True
    return mask


@pytest.fixture
def truth() -> GroundTruth:
    return GroundTruth(dict(zip(IMAGES, LABELS, strict=True)), None, dict(zip(IMAGES, LESIONS, strict=True)))


def test_difference_is_zero_for_the_reference() -> None:
    metrics = {"reference": mean_of([0, 1, 0, 1]), "other": mean_of([1, 1, 0, 1])}
    reference, other = paired_differences(metrics, ["score"], ["a", "a", "b", "b"])
    assert (reference[0].value, reference[0].change, reference[0].low, reference[0].high) == (0.5, 0, 0, 0)
    assert (other[0].value, other[0].change) == (0.75, 0.25)
    # Lesions are drawn, not images: a resample has lesion a (gain 1/2) never, once or twice.
    assert (other[0].low, other[0].high) == (0, 0.5)


def test_interval_of_a_difference_is_paired() -> None:
    hard = np.random.default_rng(0).random(60)
    lesions = [str(number) for number in range(60)]
    metrics = {"reference": mean_of(hard), "other": mean_of(hard + 0.01)}
    difference = paired_differences(metrics, ["score"], lesions)[1][0]
    assert difference.low == pytest.approx(0.01) and difference.high == pytest.approx(0.01)
    alone = with_intervals(metrics["other"], lesions)["score"]
    assert alone["high"] - alone["low"] > 0.1


def test_table_of_two_runs(tmp_path: Path, truth: GroundTruth) -> None:
    right = write_run(tmp_path / "right", [0.9, 0.1] * 4)
    wrong = write_run(tmp_path / "wrong", [0.1, 0.9] * 4)
    lines = ablation_table({"right": right, "wrong": wrong}, truth).splitlines()
    assert lines[0] == "| | macro AUROC | balanced accuracy | ECE |"
    assert lines[2] == "| right | 1.000 | 1.000 | 0.100 |"
    assert lines[3].startswith("| wrong | 0.000, -1.000 (-1.000 to -1.000) | 0.000, -1.000 (-1.000 to -1.000) | 0.900, +0.800")
    assert lines[-1].startswith("8 images of 4 lesions (hash ")


def test_masks_are_compared_where_true_masks_are_known(tmp_path: Path) -> None:
    (tmp_path / "true").mkdir()
    for name in IMAGES:
        write_png(tmp_path / "true" / f"{name}.png", columns(5))
    truth = GroundTruth(masks={name: tmp_path / "true" / f"{name}.png" for name in IMAGES})
    folders = {"same": write_run(tmp_path / "a", [0.5] * 8), "half": write_run(tmp_path / "b", [0.5] * 8, area=10)}
    lines = ablation_table(folders, truth).splitlines()
    assert lines[0] == "| | localizer mean Dice | localizer thresholded Jaccard |"
    assert lines[2] == "| same | 1.000 | 1.000 |"
    # Twice the area: Dice 2/3, Jaccard 1/2, which counts 0.
    assert lines[3] == "| half | 0.667, -0.333 (-0.333 to -0.333) | 0.000, -1.000 (-1.000 to -1.000) |"


def test_runs_over_other_images_are_refused(tmp_path: Path, truth: GroundTruth) -> None:
    folders = {"all": write_run(tmp_path / "a", [0.5] * 8), "seven": write_run(tmp_path / "b", [0.5] * 7, IMAGES[:7])}
    with pytest.raises(DatasetError, match=r"all runs must be over the same images .*, got others in 'seven'"):
        ablation_table(folders, truth)


def test_runs_over_other_files_of_the_same_names_are_refused(tmp_path: Path, truth: GroundTruth) -> None:
    folders = {"one": write_run(tmp_path / "a", [0.5] * 8), "other": write_run(tmp_path / "b", [0.5] * 8, content="other")}
    with pytest.raises(DatasetError, match="got others in 'other'"):
        ablation_table(folders, truth)


def test_labels_and_masks_are_scored_on_the_images_that_have_both(tmp_path: Path, truth: GroundTruth) -> None:
    write_png(tmp_path / "true.png", columns(5))
    both = replace(truth, masks=dict.fromkeys([*IMAGES[:6], "other"], tmp_path / "true.png"))
    lines = ablation_table({"one": write_run(tmp_path / "a", [0.9, 0.1] * 4)}, both).splitlines()
    assert lines[2] == "| one | 1.000 | 1.000 | 0.100 | 1.000 | 1.000 |"
    assert lines[-1].startswith("6 images of 3 lesions")


def test_command_prints_the_table_of_ablations(tmp_path: Path, truth: GroundTruth, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a=b", [0.9, 0.1] * 4)
    pd.DataFrame({"image_id": IMAGES, "dx": LABELS, "lesion_id": LESIONS}).to_csv(tmp_path / "labels.csv", index=False)
    call = ["ablations", as_override("runs", [tmp_path / "a=b"])]
    assert main([*call, "titles=[one]", f"labels={tmp_path / 'labels.csv'}"]) == 0
    assert capsys.readouterr().out == ablation_table({"one": tmp_path / "a=b"}, truth) + "\n"
    assert main([*call, f"labels={tmp_path / 'missing.csv'}"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
