"""Each picture is written, whatever the classes, and says in words what it shows."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segpipe.diagnosis import CODES
from segpipe.evaluation import plots
from segpipe.metrics.classification import Answers

DRAWERS = [plots.draw_confusion_matrix, plots.draw_roc_curves, plots.draw_precision_recall_curves, plots.draw_reliability]


def fake_answers(images: int, codes: Sequence[str] = CODES) -> Answers:
    random = np.random.default_rng(0)
    return Answers(random.dirichlet(np.ones(len(codes)), size=images), random.integers(len(codes), size=images), codes)


@pytest.fixture
def saved_texts(monkeypatch, tmp_path):
    """Draws a picture and gives all the words that stand in it."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))

    def draw(drawer, answers) -> str:
        drawer(answers, tmp_path / "picture.png")
        figure = figures.pop()
        figure.draw_without_rendering()
        return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))

    return draw


@pytest.mark.parametrize("draw", DRAWERS)
def test_a_png_is_written_at_the_path(draw, tmp_path) -> None:
    path = tmp_path / "picture.png"
    draw(fake_answers(60), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 1000
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize("draw", DRAWERS)
def test_every_picture_says_that_it_is_no_medical_device(draw, saved_texts) -> None:
    assert "segpipe - not a medical device" in saved_texts(draw, fake_answers(60))


@pytest.mark.parametrize("draw", DRAWERS[:3])
def test_classes_bear_their_full_names(draw, saved_texts) -> None:
    words = saved_texts(draw, fake_answers(60)).split()
    assert {"melanoma", "dermatofibroma", "intraepithelial"} <= set(words)


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class(saved_texts) -> None:
    probs = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2)
    text = saved_texts(plots.draw_confusion_matrix, Answers(probs, np.array([0, 0, 0, 0, 1]), ["mel", "nv"]))
    for cell in ("75%\n3", "25%\n1", "0%\n0", "100%\n1"):
        assert cell in text


def test_legends_carry_the_areas(saved_texts) -> None:
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    answers = Answers(probs, np.array([0, 0, 1, 1, 1]), ["mel", "nv"])
    assert "melanoma\nAUROC 0.83, n = 2" in saved_texts(plots.draw_roc_curves, answers)
    legend = saved_texts(plots.draw_precision_recall_curves, answers)
    assert "melanoma\nAUPRC 0.83 (chance 0.40), n = 2" in legend


@pytest.mark.parametrize("draw", [plots.draw_roc_curves, plots.draw_precision_recall_curves])
def test_a_class_without_images_stands_in_the_legend_as_not_scored(draw, saved_texts) -> None:
    answers = fake_answers(60)
    kept = answers.of(np.flatnonzero(answers.labels != CODES.index("df")))
    assert "dermatofibroma\nnot scored, n = 0" in saved_texts(draw, kept)


@pytest.mark.parametrize("draw", DRAWERS[:3])
@pytest.mark.parametrize("codes", [["a$^$c", "x_y^"], [f"class {index}" for index in range(11)]])
def test_foreign_classes_bear_their_own_names(draw, codes, saved_texts) -> None:
    text = saved_texts(draw, fake_answers(40, codes)).replace("\\$", "$")
    assert [code for code in codes if code not in text] == []
