"""Pictures of six classifiers: written, with all that they should say, and nothing lies on anything else."""

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
from segpipe.comparison.table import METRICS, NO_FIGURE, RATE, Comparison, Entry
from segpipe.diagnosis import CODES
from segpipe.metrics.classification import Answers, score_answers

DRAWERS = [draw_roc, draw_metrics, draw_cost]
TITLES = (
    *("EfficientNet-B0", "ResNet-18", "ConvNeXt V2 nano, pretrained on ImageNet-22k and fine-tuned", "MobileNetV2"),
    *("EfficientNet-B0, whole image", "$x^2$ | a title that is hard to draw"),
)
GMACS = (0.41, 1.82, 2.45, 0.32, 0.41, 0.412)  # three cost nearly the same


def fake_answers(seed: int, skill: float, images: int = 300) -> Answers:
    random = np.random.default_rng(seed)
    labels = random.integers(len(CODES), size=images)
    logits = random.normal(size=(images, len(CODES))) + skill * np.eye(len(CODES))[labels]
    return Answers(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels, CODES)


def around(value: float) -> Mapping[str, float | None]:
    return {"value": value, "low": value - 0.03, "high": value + 0.02}


def entry_of(number: int) -> Entry:
    answers = fake_answers(number, 2.0 - 0.2 * number)
    figures = {name: around(score_answers(answers).get(name) or 0.5) for name in METRICS} | {RATE: around(80)}
    changes = {name: around(-0.1 * number) for name in (*METRICS, RATE)}
    macs = int(GMACS[number] * 1e9)
    return Entry(
        TITLES[number], Path("bundle"), answers, figures, changes, 4_000_000 * (number + 1), macs, seen=number % 2 or None
    )


@pytest.fixture(scope="module")
def six() -> Comparison:
    entries = [entry_of(number) for number in range(len(TITLES))]
    test_set = {"dataset": "drawn", "part": None, "images": 300, "images_sha256": "1" * 64, "sha256": "2" * 64}
    return Comparison(entries, 300, 200, "lesion", 0, 0.2, 40, 0, test_set)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Figure]:
    """Draws a picture and gives the figure in the place of a file."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))

    def draw(drawer: Callable[[Comparison, Path], None], comparison: Comparison) -> Figure:
        drawer(comparison, tmp_path / "picture.png")
        figure = figures.pop()
        figure.draw_without_rendering()
        return figure

    return draw


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Those that are really drawn, ticks beyond the ends of an axis have texts too, each with its place in pixels."""
    found: list[tuple[str, Bbox]] = []
    with pytest.MonkeyPatch.context() as patch:
        note = lambda text, renderer: found.append((text.get_text(), text.get_window_extent(renderer)))  # noqa: E731
        patch.setattr(Text, "draw", note)
        figure.draw_without_rendering()
    return [(text, box) for text, box in found if text.strip() and box.width > 1]


def words(figure: Figure) -> str:
    """All that is written, without its blanks and breaks."""
    return "".join("".join(text.split()) for text, _ in texts(figure)).replace("\\$", "$")


@pytest.mark.parametrize("draw", DRAWERS)
def test_a_png_is_written_at_the_path(draw: Callable[..., None], six: Comparison, tmp_path: Path) -> None:
    draw(six, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 900


@pytest.mark.parametrize("draw", DRAWERS)
def test_no_text_lies_on_another_or_outside(draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]) -> None:
    figure = drawn(draw, six)
    written = texts(figure)
    assert len(written) > 12
    for (one, box), (other, other_box) in combinations(written, 2):
        assert not box.overlaps(other_box), (one, other)
    for text, box in written:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize("draw", DRAWERS)
def test_each_picture_names_all_and_says_that_it_is_no_medical_device(
    draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]
) -> None:
    written = words(drawn(draw, six))
    assert "notamedicaldevice" in written
    assert [title for title in TITLES if title.replace(" ", "") not in written] == []


def test_legends_carry_the_areas(six: Comparison, drawn: Callable[..., Figure]) -> None:
    macro, melanoma = drawn(draw_roc, six).axes
    scores = score_answers(six.entries[0].answers)
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (macro, melanoma)]
    assert labels[0][1] == f"EfficientNet-B0: AUROC {scores['macro_auroc']:.3f}"
    assert labels[1][1] == f"EfficientNet-B0: AUROC {scores['auroc_mel']:.3f}"


def test_without_melanoma_there_is_one_panel(six: Comparison, drawn: Callable[..., Figure]) -> None:
    assert len(drawn(draw_roc, replace(six, melanomas=None)).axes) == 1
    assert len(drawn(draw_roc, replace(six, melanomas=0)).axes) == 1


def test_area_of_the_mean_curve_is_the_macro_auroc() -> None:
    answers = fake_answers(0, 1.0)
    curve = macro_roc(answers)
    assert curve.shape == (1001,)
    assert np.trapezoid(curve, dx=1e-3) == pytest.approx(score_answers(answers)["macro_auroc"], abs=2e-3)
    assert (np.diff(curve) >= 0).all() and curve[-1] == 1


def test_of_one_class_alone_there_is_no_curve() -> None:
    answers = fake_answers(0, 1.0)
    assert np.isnan(macro_roc(answers.of(np.flatnonzero(answers.labels == 0)))).all()


@pytest.mark.parametrize("dearest", [2.45, 0.5])
def test_dots_of_the_same_cost_stand_side_by_side(six: Comparison, drawn: Callable[..., Figure], dearest: float) -> None:
    entries = [replace(entry, macs=min(entry.macs, int(dearest * 1e9))) for entry in six.entries]
    (axes,) = drawn(draw_cost, replace(six, entries=entries)).axes
    assert axes.get_xscale() == ("log" if dearest > 2 else "linear")
    dots = [container.lines[0] for container in axes.containers]
    pixels = sorted(float(dot.get_transform().transform(dot.get_xydata())[0, 0]) for dot in dots)
    assert len(pixels) == 6
    assert all(right - left > 10 for left, right in pairwise(pixels))


@pytest.mark.parametrize("draw", DRAWERS)
def test_a_figure_without_value_or_interval_is_no_obstacle(
    draw: Callable[..., None], six: Comparison, drawn: Callable[..., Figure]
) -> None:
    first, *others = six.entries
    bare = {name: {**figure, "low": None, "high": None} for name, figure in first.figures.items()}
    empty = dict.fromkeys(first.figures, NO_FIGURE)
    figure = drawn(
        draw, replace(six, entries=[replace(first, figures=bare), *(replace(other, figures=empty) for other in others)])
    )
    assert figure.axes
