"""Plots of six classifiers: files, texts, no overlapping text."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from segpipe.comparison.plots import draw_cost, draw_metrics, draw_roc, macro_roc
from segpipe.comparison.table import METRICS, NO_ESTIMATE, RATE, ComparedClassifier, Comparison
from segpipe.diagnosis import CODES
from segpipe.metrics.classification import LabeledPredictions, score_predictions

DRAWERS = [draw_roc, draw_metrics, draw_cost]
TITLES = (
    *("EfficientNet-B0", "ResNet-18", "ConvNeXt V2 nano, pretrained on ImageNet-22k and fine-tuned", "MobileNetV2"),
    *("EfficientNet-B0, whole image", "$x^2$ | a title that is hard to draw"),
)
GMACS = (0.41, 1.82, 2.45, 0.32, 0.41, 0.412)  # three cost nearly the same


def make_predictions(seed: int, skill: float, images: int = 300) -> LabeledPredictions:
    random = np.random.default_rng(seed)
    labels = random.integers(len(CODES), size=images)
    logits = random.normal(size=(images, len(CODES))) + skill * np.eye(len(CODES))[labels]
    return LabeledPredictions(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels, CODES)


def around(value: float) -> Mapping[str, float | None]:
    return {"value": value, "low": value - 0.03, "high": value + 0.02}


def compared(number: int) -> ComparedClassifier:
    predictions = make_predictions(number, 2.0 - 0.2 * number)
    metrics = {name: around(score_predictions(predictions).get(name) or 0.5) for name in METRICS} | {RATE: around(80)}
    changes = {name: around(-0.1 * number) for name in (*METRICS, RATE)}
    macs = int(GMACS[number] * 1e9)
    return ComparedClassifier(
        TITLES[number], Path("bundle"), predictions, metrics, changes, 4_000_000 * (number + 1), macs, seen=number % 2 or None
    )


@pytest.fixture(scope="module")
def six() -> Comparison:
    classifiers = [compared(number) for number in range(len(TITLES))]
    test_set = {"dataset": "drawn", "part": None, "images": 300, "images_sha256": "1" * 64, "sha256": "2" * 64}
    return Comparison(classifiers, 300, 200, "lesion", 0, 0.2, 40, 0, test_set)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Figure]:
    """Function that draws a plot and returns the figure."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))

    def draw(drawer: Callable[[Comparison, Path], None], comparison: Comparison) -> Figure:
        drawer(comparison, tmp_path / "picture.png")
        figure = figures.pop()
        figure.draw_without_rendering()
        return figure

    return draw


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return the texts that are drawn, with their boxes in pixels; ticks beyond the ends of an axis are not."""
    drawn: list[tuple[str, Bbox]] = []
    with pytest.MonkeyPatch.context() as patch:
        note = lambda text, renderer: drawn.append((text.get_text(), text.get_window_extent(renderer)))  # noqa: E731
        patch.setattr(Text, "draw", note)
        figure.draw_without_rendering()
    return [(text, box) for text, box in drawn if text.strip() and box.width > 1]


def words(figure: Figure) -> str:
    """Return all text without whitespace."""
    return "".join("".join(text.split()) for text, _ in texts(figure)).replace("\\$", "$")


@pytest.mark.parametrize("draw", DRAWERS)
def test_plot_of_a_comparison_is_written_as_png(draw: Callable[..., None], six: Comparison, tmp_path: Path) -> None:
    draw(six, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 900


@pytest.mark.parametrize("draw", DRAWERS)
def test_texts_do_not_overlap_and_lie_inside(draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]) -> None:
    figure = drawn(draw, six)
    written = texts(figure)
    assert len(written) > 12
    for (one, box), (other, other_box) in combinations(written, 2):
        assert not box.overlaps(other_box), (one, other)
    for text, box in written:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize("draw", DRAWERS)
def test_plot_has_all_titles_and_the_disclaimer(draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]) -> None:
    written = words(drawn(draw, six))
    assert "notamedicaldevice" in written
    assert [title for title in TITLES if title.replace(" ", "") not in written] == []


def test_legends_show_the_areas_of_the_curves(six: Comparison, drawn: Callable[..., Figure]) -> None:
    macro, melanoma = drawn(draw_roc, six).axes
    scores = score_predictions(six.classifiers[0].predictions)
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (macro, melanoma)]
    assert labels[0][1] == f"EfficientNet-B0: AUROC {scores['macro_auroc']:.3f}"
    assert labels[1][1] == f"EfficientNet-B0: AUROC {scores['auroc_mel']:.3f}"


def test_without_melanoma_there_is_one_panel(six: Comparison, drawn: Callable[..., Figure]) -> None:
    assert len(drawn(draw_roc, replace(six, melanomas=None)).axes) == 1
    assert len(drawn(draw_roc, replace(six, melanomas=0)).axes) == 1


def test_area_of_the_mean_curve_is_the_macro_auroc() -> None:
    predictions = make_predictions(0, 1.0)
    curve = macro_roc(predictions)
    assert curve.shape == (1001,)
    assert np.trapezoid(curve, dx=1e-3) == pytest.approx(score_predictions(predictions)["macro_auroc"], abs=2e-3)
    assert (np.diff(curve) >= 0).all() and curve[-1] == 1


def test_single_class_has_no_curve() -> None:
    predictions = make_predictions(0, 1.0)
    assert np.isnan(macro_roc(predictions.select(np.flatnonzero(predictions.labels == 0)))).all()


@pytest.mark.parametrize("largest", [2.45, 0.5])
def test_dots_of_similar_cost_lie_side_by_side(six: Comparison, drawn: Callable[..., Figure], largest: float) -> None:
    classifiers = [replace(one, macs=min(one.macs, int(largest * 1e9))) for one in six.classifiers]
    (axes,) = drawn(draw_cost, replace(six, classifiers=classifiers)).axes
    assert axes.get_xscale() == ("log" if largest > 2 else "linear")
    dots = [container.lines[0] for container in axes.containers]
    pixels = sorted(float(dot.get_transform().transform(dot.get_xydata())[0, 0]) for dot in dots)
    assert len(pixels) == 6
    assert all(right - left > 10 for left, right in pairwise(pixels))


@pytest.mark.parametrize("draw", DRAWERS)
def test_undefined_metrics_and_intervals_are_drawn(
    draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]
) -> None:
    first, *others = six.classifiers
    bare = {name: {**metric, "low": None, "high": None} for name, metric in first.metrics.items()}
    empty = dict.fromkeys(first.metrics, NO_ESTIMATE)
    figure = drawn(
        draw, replace(six, classifiers=[replace(first, metrics=bare), *(replace(other, metrics=empty) for other in others)])
    )
    assert figure.axes
