"""Plots of a classifier: files, texts, unusual classes."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segpipe.diagnosis import CODES
from segpipe.evaluation import plots
from segpipe.metrics.classification import LabeledPredictions

DRAWERS = [plots.draw_confusion_matrix, plots.draw_roc_curves, plots.draw_precision_recall_curves, plots.draw_reliability]


def make_predictions(images: int, codes: Sequence[str] = CODES) -> LabeledPredictions:
    random = np.random.default_rng(0)
    return LabeledPredictions(random.dirichlet(np.ones(len(codes)), size=images), random.integers(len(codes), size=images), codes)


@pytest.fixture
def saved_texts(monkeypatch, tmp_path):
    """Function that draws a plot and returns all of its text."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))

    def draw(drawer, predictions) -> str:
        drawer(predictions, tmp_path / "picture.png")
        figure = figures.pop()
        figure.draw_without_rendering()
        return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))

    return draw


@pytest.mark.parametrize("draw", DRAWERS)
def test_plot_is_written_as_png(draw, tmp_path) -> None:
    path = tmp_path / "picture.png"
    draw(make_predictions(60), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 1000
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize("draw", DRAWERS)
def test_plot_has_the_disclaimer(draw, saved_texts) -> None:
    assert "segpipe - not a medical device" in saved_texts(draw, make_predictions(60))


@pytest.mark.parametrize("draw", DRAWERS[:3])
def test_classes_have_their_full_names(draw, saved_texts) -> None:
    words = saved_texts(draw, make_predictions(60)).split()
    assert {"melanoma", "dermatofibroma", "intraepithelial"} <= set(words)


def test_confusion_matrix_shows_counts_and_fractions_of_the_true_class(saved_texts) -> None:
    probs = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2)
    text = saved_texts(plots.draw_confusion_matrix, LabeledPredictions(probs, np.array([0, 0, 0, 0, 1]), ["mel", "nv"]))
    for cell in ("75%\n3", "25%\n1", "0%\n0", "100%\n1"):
        assert cell in text


def test_legends_show_the_areas(saved_texts) -> None:
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    predictions = LabeledPredictions(probs, np.array([0, 0, 1, 1, 1]), ["mel", "nv"])
    assert "melanoma\nAUROC 0.83, n = 2" in saved_texts(plots.draw_roc_curves, predictions)
    legend = saved_texts(plots.draw_precision_recall_curves, predictions)
    assert "melanoma\nAUPRC 0.83 (chance 0.40), n = 2" in legend


@pytest.mark.parametrize("draw", [plots.draw_roc_curves, plots.draw_precision_recall_curves])
def test_class_without_images_is_listed_as_not_scored(draw, saved_texts) -> None:
    predictions = make_predictions(60)
    kept = predictions.select(np.flatnonzero(predictions.labels != CODES.index("df")))
    assert "dermatofibroma\nnot scored, n = 0" in saved_texts(draw, kept)


@pytest.mark.parametrize("draw", DRAWERS[:3])
@pytest.mark.parametrize("codes", [["a$^$c", "x_y^"], [f"class {index}" for index in range(11)]])
def test_unknown_classes_have_their_own_names(draw, codes, saved_texts) -> None:
    text = saved_texts(draw, make_predictions(40, codes)).replace("\\$", "$")
    assert [code for code in codes if code not in text] == []
