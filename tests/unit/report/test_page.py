"""PDF page of a finding."""

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
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.page import MAX_IMAGE_SIDE, draw_page, encode_page
from segpipe.report.wording import DISCLAIMER, certainty_phrases, finding_sentences, percent, reading_sentences

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


def _text(page: bytes) -> str:
    """Searchable text of the PDF, with lines joined by a blank."""
    with pypdfium2.PdfDocument(page) as document:
        return " ".join(document[0].get_textpage().get_text_range().split())


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.parametrize(("height", "width"), [(60, 80), (1, 1), (1, 5000), (5000, 1), (900, 300)])
def test_pdf_has_one_a4_page(height: int, width: int) -> None:
    page = _encode(height, width, finding=whole_image_finding(height, width))
    with pypdfium2.PdfDocument(page) as document:
        assert [page.get_size() for page in document] == [pytest.approx(A4, abs=0.01)]


def test_texts_of_the_finding_are_searchable() -> None:
    finding = drawn_finding(60, 80, source=MaskSource.CONTOUR, reasons=("unet:unsure",))
    text = _text(_encode(title="holiday.jpg", finding=finding))
    for code, prob in finding.probabilities.items():
        assert f"{full_name(code)} {percent(prob)}" in text
    _, *localization = finding_sentences(finding)
    for sentence in ("holiday.jpg", "melanoma (mel)", *localization, *reading_sentences(finding), *ABOUT, DISCLAIMER):
        assert sentence.strip() in text
    for phrase in certainty_phrases(finding):
        assert phrase.lower() in text.lower()


def test_notes_describe_only_what_is_on_the_page() -> None:
    complete = drawn_finding(60, 80)
    assert len(reading_sentences(complete)) == 5
    for without, word in (({"class_map": None}, "heatmap"), ({"tta_spread": None}, "spread")):
        assert word in " ".join(reading_sentences(complete))
        assert word not in " ".join(reading_sentences(replace(complete, **without)))
    no_outline = drawn_finding(60, 80, source=MaskSource.WHOLE_IMAGE)
    assert reading_sentences(complete)[0] != reading_sentences(no_outline)[0] and "No lesion" in reading_sentences(no_outline)[0]


def test_panels_form_two_rows() -> None:
    figure = _draw()
    image, crop, heatmap, bars = (axes.get_position(original=True) for axes in figure.axes)
    assert _titles(figure) == ["Image", "Crop", "Heatmap: melanoma", "Probabilities"]
    assert image.y1 == pytest.approx(crop.y1) and heatmap.y1 == pytest.approx(bars.y1) and crop.y0 > bars.y1
    assert image.x0 == heatmap.x0 and crop.x0 == bars.x0 > image.x1


def test_probabilities_fill_the_row_without_a_heatmap() -> None:
    figure = _draw(finding=drawn_finding(60, 80, heatmap=False))
    image, crop, bars = (axes.get_position(original=True) for axes in figure.axes)
    assert _titles(figure) == ["Image", "Crop", "Probabilities"]
    assert (bars.x0, bars.x1) == pytest.approx((image.x0, crop.x1))


def test_suspicion_is_bold_on_each_of_its_lines() -> None:
    for threshold, malignant, weight in ((0.0, (), "bold"), (1.0, (CODES[0],), "bold"), (1.0, (CODES[1],), "normal")):
        finding = replace(drawn_finding(60, 80, malignant=malignant), operating_points=(OperatingPoint(CODES[0], threshold),))
        texts = _draw(finding=finding).texts
        weights = {text.get_fontweight() for text in texts if re.search("malignancy|uspicious|^spread", text.get_text())}
        assert weights == {weight}


@pytest.mark.parametrize("codes", [LONG_CODES, TWENTY, ("benign",)], ids=["long", "twenty", "one"])
@pytest.mark.parametrize(
    ("height", "width", "heatmap"), [(60, 80, True), (80, 60, True), (40, 400, True), (400, 40, True), (60, 80, False)]
)
def test_texts_do_not_overlap_or_reach_the_margin(height: int, width: int, heatmap: bool, codes: tuple[str, ...]) -> None:
    finding = drawn_finding(height, width, codes=codes, source=MaskSource.WHOLE_IMAGE, reasons=REASONS, heatmap=heatmap)
    check_texts(_draw(height, width, title="long_" * 100, finding=finding), margin=0.65)


def test_twenty_classes_stay_legible_with_three_reasons() -> None:
    bars = _draw(finding=drawn_finding(60, 80, codes=TWENTY, reasons=REASONS)).axes[-1]
    assert min(text.get_fontsize() for text in bars.texts) > 6


@pytest.mark.parametrize("title", BAD_TITLES)
def test_title_may_have_any_characters(title: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = _encode(title=title)
    assert DISCLAIMER in _text(page)


def test_title_is_on_the_page_and_not_in_the_metadata() -> None:
    page = _encode(title="Jane_Doe.jpg")
    with pypdfium2.PdfDocument(page) as document:
        metadata = document.get_metadata_dict(skip_empty=True)
    assert (metadata.pop("Title"), metadata.pop("Creator")) == ("segpipe finding", "segpipe")
    assert set(metadata) == {"Producer"} and "Jane" not in "".join(metadata.values())
    assert b"Jane" not in page and "Jane_Doe.jpg" in _text(page)


def test_drawing_is_thread_safe_and_outside_pyplot() -> None:
    titles = ["a.jpg", "b.jpg"] * 2
    sequential = [_encode(title=title) for title in titles]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(lambda title: _encode(title=title), titles))
    assert sequential == parallel and sequential[0] != sequential[1]
    assert Gcf.get_all_fig_managers() == []


def test_page_of_noise_stays_below_2_mb() -> None:
    assert len(_encode(450, 600)) < 2_000_000


def test_large_image_is_reduced() -> None:
    shown = _draw(1500, 2000).axes[0].images[0].get_array()
    assert shown is not None and shown.shape == (MAX_IMAGE_SIDE * 3 // 4, MAX_IMAGE_SIDE, 3)


def test_texts_that_leave_no_room_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"about must leave room .*, got 60 lines; shorten it"):
        draw_page(drawn_finding(60, 80), title="a.jpg", about=["one line"] * 60)
