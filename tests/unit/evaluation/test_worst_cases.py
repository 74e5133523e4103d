"""Worst cases: selection, order, texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segpipe.evaluation import plots
from segpipe.evaluation.plots import CASES, draw_worst_masks, draw_worst_predictions
from segpipe.evaluation.run import Run
from segpipe.io.images import read_image, write_png
from segpipe.metrics.classification import LabeledPredictions
from segpipe.report.plots import Panel

IMAGES = 30


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run over images with the brightness of their number, each with a mask in the column of that number."""
    names = [f"{number}.png" for number in range(IMAGES)]
    for number, name in enumerate(names):
        write_png(tmp_path / name, np.full((20, 40, 3), number, dtype=np.uint8))
        mask = np.zeros((20, 40), dtype=np.bool_)
        mask[:, number] = True
        write_png(tmp_path / "masks" / name, mask)
    (tmp_path / "plots").mkdir()
    results = pd.DataFrame({"path": names, "image_id": [str(n) for n in range(IMAGES)], "mask_source": "contour"})
    return Run(tmp_path, results, (), None, {name: tmp_path / name for name in names})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Panel]:
    """Panels of the picture, which is not drawn."""
    panels: list[Panel] = []
    monkeypatch.setattr(plots, "draw_panels", lambda path, given, heading: panels.extend(given))
    return panels


def predictions_of(p_true: Sequence[float]) -> LabeledPredictions:
    """Predictions for nevi with these probabilities of nevus; the other class is melanoma."""
    return LabeledPredictions(np.stack([1 - np.array(p_true), p_true], axis=1), np.ones(len(p_true), int), ["mel", "nv"])


def test_worst_predictions_have_the_lowest_probability_of_the_true_diagnosis(run: Run, drawn: list[Panel]) -> None:
    p_true = np.random.default_rng(0).permutation(IMAGES) / IMAGES
    draw_worst_predictions(run, run.results, predictions_of(p_true))
    order = np.argsort(p_true)[:CASES].tolist()
    assert [panel.lines[0] for panel in drawn] == [str(row) for row in order]
    assert [int(panel.image[0, 0, 0]) for panel in drawn] == order
    assert [int(np.flatnonzero(panel.outlines[0][0][0]).item()) for panel in drawn] == order
    assert drawn[3].lines[1:] == ("true: melanocytic nevus (nv) 10.0 %", "predicted: melanoma (mel) 90.0 %")


def test_worst_masks_have_the_lowest_dice(run: Run, drawn: list[Panel]) -> None:
    dices = np.linspace(1, 0, IMAGES)
    true_masks = {str(number): run.folder / "masks" / f"{IMAGES - 1 - number}.png" for number in range(IMAGES)}
    draw_worst_masks(run, run.results, true_masks, dices)
    assert [panel.lines for panel in drawn][:2] == [("29, Dice 0.00, contour",), ("28, Dice 0.03, contour",)]
    assert len(drawn) == CASES
    (true, _), (predicted, _) = drawn[0].outlines
    assert (true[0].argmax(), predicted[0].argmax()) == (0, 29)


@pytest.mark.parametrize("images", [1, IMAGES])
def test_pictures_are_written_for_any_number_of_cases(run: Run, images: int) -> None:
    scored: Any = run.results.head(images)
    draw_worst_predictions(run, scored, predictions_of(np.linspace(0, 1, images)))
    draw_worst_masks(run, scored, {str(n): run.folder / "masks" / f"{n}.png" for n in range(images)}, np.ones(images))
    for name in ("worst.png", "worst_masks.png"):
        height, width = read_image(run.folder / "plots" / name).shape[:2]
        assert width == 1280
        assert (height > 1000) == (images > 1)
