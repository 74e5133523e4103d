"""The page of a finding, as a figure and as the PDF that others read."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest
from findings import BAD_TITLES, LONG_CODES, check_texts, drawn_finding, whole_image_finding
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure

from segpipe.diagnosis import CODES, full_name
from segpipe.inference.finding import Finding
from segpipe.lesion.localizer import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.page import MAX_IMAGE_SIDE, draw_page, encode_page
from segpipe.report.wording import DISCLAIMER, certainty_words, finding_sentences, percent, reading_sentences

A4 = (210 / 25.4 * 72, 297 / 25.4 * 72)
ABOUT = ("2025-01-31, segpipe 1.2.3", "U-Net " + "a3" * 32, "Measured on 1,503 images: " + "balanced accuracy 0.742, " * 12)
REASONS = ("unet:in_pieces", "unet:unsure", "contour:implausible")
TWENTY = tuple(f"class {number}" for number in range(20))


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(120, 220, (height, width, 3), dtype=np.uint8)


def _draw(height: int = 60, width: int = 80, *, title: str = "a.jpg", finding: Finding | None = None) -> Figure:
    return draw_page(finding or drawn_finding(height, width, image=_image(height, width)), title=title, about=ABOUT)


def _encode(height: int = 60, width: int = 80, *, title: str = "a.jpg", finding: Finding | None = None) -> bytes:
    return encode_page(finding or drawn_finding(height, width, image=_image(height, width)), title=title, about=ABOUT)


def _words(page: bytes) -> str:
    """The text that a reader of the PDF can search, lines joined by a blank."""
    with pypdfium2.PdfDocument(page) as document:
        return " ".join(document[0].get_textpage().get_text_range().split())


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.parametrize(("height", "width"), [(60, 80), (1, 1), (1, 5000), (5000, 1), (900, 300)])
def test_it_is_exactly_one_page_of_a4(height: int, width: int) -> None:
    page = _encode(height, width, finding=whole_image_finding(height, width))
    with pypdfium2.PdfDocument(page) as document:
        assert [page.get_size() for page in document] == [pytest.approx(A4, abs=0.01)]


def test_what_the_finding_says_can_be_searched() -> None:
    finding = drawn_finding(60, 80, source=MaskSource.CONTOUR, reasons=("unet:unsure",))
    shown = _words(_encode(title="holiday.jpg", finding=finding))
    for code, prob in finding.probabilities.items():
        assert f"{full_name(code)} {percent(prob)}" in shown
    _, *place = finding_sentences(finding)
    for sentence in ("holiday.jpg", "melanoma (mel)", *place, *reading_sentences(finding), *ABOUT, DISCLAIMER):
        assert sentence.strip() in shown
    for words in certainty_words(finding):
        assert words.lower() in shown.lower()


def test_notes_speak_of_what_is_on_the_page_and_of_nothing_else() -> None:
    all_of_it = drawn_finding(60, 80)
    assert len(reading_sentences(all_of_it)) == 5
    for without, word in (({"class_map": None}, "heatmap"), ({"tta_spread": None}, "spread")):
        assert word in " ".join(reading_sentences(all_of_it))
        assert word not in " ".join(reading_sentences(replace(all_of_it, **without)))
    no_outline = drawn_finding(60, 80, source=MaskSource.WHOLE_IMAGE)
    assert "The line on" in reading_sentences(all_of_it)[0] and "No border" in reading_sentences(no_outline)[0]


def test_panels_lie_in_two_rows() -> None:
    figure = _draw()
    photograph, crop, heatmap, bars = (axes.get_position(original=True) for axes in figure.axes)
    assert _titles(figure) == ["Photograph", "Crop", "Heatmap: melanoma", "Probabilities"]
    assert photograph.y1 == pytest.approx(crop.y1) and heatmap.y1 == pytest.approx(bars.y1) and crop.y0 > bars.y1
    assert photograph.x0 == heatmap.x0 and crop.x0 == bars.x0 > photograph.x1


def test_without_a_heatmap_the_probabilities_have_its_row() -> None:
    figure = _draw(finding=drawn_finding(60, 80, heatmap=False))
    photograph, crop, bars = (axes.get_position(original=True) for axes in figure.axes)
    assert _titles(figure) == ["Photograph", "Crop", "Probabilities"]
    assert (bars.x0, bars.x1) == pytest.approx((photograph.x0, crop.x1))


def test_the_flag_is_bold_on_each_of_its_lines() -> None:
    for threshold, malignant, weight in ((0.0, (), "bold"), (1.0, (CODES[0],), "bold"), (1.0, (CODES[1],), "normal")):
        finding = replace(drawn_finding(60, 80, malignant=malignant), operating_points=(OperatingPoint(CODES[0], threshold),))
        texts = _draw(finding=finding).texts
        weights = {text.get_fontweight() for text in texts if re.search("malignancy|uspicious|^spread", text.get_text())}
        assert weights == {weight}


@pytest.mark.parametrize("codes", [LONG_CODES, TWENTY, ("benign",)], ids=["long", "twenty", "one"])
@pytest.mark.parametrize(
    ("height", "width", "heatmap"), [(60, 80, True), (80, 60, True), (40, 400, True), (400, 40, True), (60, 80, False)]
)
def test_no_text_overlaps_another_or_lies_in_the_margin(height: int, width: int, heatmap: bool, codes: tuple[str, ...]) -> None:
    finding = drawn_finding(height, width, codes=codes, source=MaskSource.WHOLE_IMAGE, reasons=REASONS, heatmap=heatmap)
    check_texts(_draw(height, width, title="long_" * 100, finding=finding), margin=0.65)


def test_twenty_classes_can_be_read_beside_three_reasons() -> None:
    bars = _draw(finding=drawn_finding(60, 80, codes=TWENTY, reasons=REASONS)).axes[-1]
    assert min(text.get_fontsize() for text in bars.texts) > 6


@pytest.mark.parametrize("title", BAD_TITLES)
def test_any_characters_can_be_a_title(title: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = _encode(title=title)
    assert DISCLAIMER in _words(page)


def test_the_title_stands_on_the_page_and_not_in_the_metadata() -> None:
    page = _encode(title="Jane_Doe.jpg")
    with pypdfium2.PdfDocument(page) as document:
        metadata = document.get_metadata_dict(skip_empty=True)
    assert (metadata.pop("Title"), metadata.pop("Creator")) == ("segpipe finding", "segpipe")
    assert set(metadata) == {"Producer"} and "Jane" not in "".join(metadata.values())
    assert b"Jane" not in page and "Jane_Doe.jpg" in _words(page)


def test_threads_draw_what_one_draws_and_leave_no_figure_in_pyplot() -> None:
    titles = ["a.jpg", "b.jpg"] * 2
    alone = [_encode(title=title) for title in titles]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda title: _encode(title=title), titles))
    assert alone == together and alone[0] != alone[1]
    assert Gcf.get_all_fig_managers() == []


def test_even_noise_stays_small() -> None:
    assert len(_encode(450, 600)) < 2_000_000


def test_a_huge_photograph_is_reduced() -> None:
    shown = _draw(1500, 2000).axes[0].images[0].get_array()
    assert shown is not None and shown.shape == (MAX_IMAGE_SIDE * 3 // 4, MAX_IMAGE_SIDE, 3)


def test_too_much_to_say_is_refused_rather_than_written_over_the_panels() -> None:
    with pytest.raises(ValueError, match="about must leave room on the page for the photograph, got 60 lines; say less there"):
        draw_page(drawn_finding(60, 80), title="a.jpg", about=["one line"] * 60)
