"""PDF page of a finding."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest
from findings import (
    BAD_TITLES,
    LONG_CODES,
    InkCanvas,
    RecordingCanvas,
    add_evidence,
    check_texts,
    drawn_finding,
    whole_image_finding,
)
from matplotlib._pylab_helpers import Gcf

from segpipe.diagnosis import CODES, full_name
from segpipe.inference.evidence import ADVICE
from segpipe.inference.finding import Finding
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.report.evidence import lesion_colors, lesion_numbers
from segpipe.report.page import MAX_IMAGE_SIDE, draw_page, encode_page, page_content
from segpipe.report.plots import PlotCanvas
from segpipe.report.truth import TrueDiagnosis
from segpipe.report.wording import DISCLAIMER, certainty_phrases, finding_sentences, percent, reading_sentences

WIDTH, HEIGHT = 210 / 25.4, 297 / 25.4  # inches
A4 = (WIDTH * 72, HEIGHT * 72)
ABOUT = ("2025-01-31, segpipe 1.2.3", "U-Net " + "a3" * 32, "Measured on 1,503 images: " + "balanced accuracy 0.742, " * 12)
REASONS = ("unet:in_pieces", "unet:unsure", "contour:implausible")
TWENTY = tuple(f"class {number}" for number in range(20))


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(120, 220, (height, width, 3), dtype=np.uint8)


def _draw(height: int = 60, width: int = 80, *, finding: Finding | None = None) -> RecordingCanvas:
    canvas = RecordingCanvas(WIDTH, HEIGHT)
    found = finding or drawn_finding(height, width, image=_image(height, width))
    draw_page(canvas, page_content(found, title="a.jpg", about=ABOUT))
    return canvas


def _encode(height: int = 60, width: int = 80, *, title: str = "a.jpg", finding: Finding | None = None) -> bytes:
    return encode_page(finding or drawn_finding(height, width, image=_image(height, width)), title=title, about=ABOUT)


def _text(page: bytes) -> str:
    """Searchable text of the PDF, with lines joined by a blank."""
    with pypdfium2.PdfDocument(page) as document:
        return " ".join(document[0].get_textpage().get_text_range().split())


@pytest.mark.parametrize(("height", "width"), [(60, 80), (1, 1), (1, 5000), (5000, 1), (900, 300)])
def test_pdf_has_one_a4_page(height: int, width: int) -> None:
    page = _encode(height, width, finding=whole_image_finding(height, width))
    with pypdfium2.PdfDocument(page) as document:
        assert [page.get_size() for page in document] == [pytest.approx(A4, abs=0.01)]


def test_texts_of_the_finding_are_searchable() -> None:
    finding = drawn_finding(60, 80, source=MaskSource.CONTOUR, reasons=("unet:unsure",))
    text = _text(_encode(title="holiday.jpg", finding=finding))
    for code, prob in finding.probabilities.items():
        assert full_name(code) in text and percent(prob) in text
    row = finding.to_dict()
    _, *localization = finding_sentences(row, finding.malignant, finding.operating_points)
    for sentence in ("holiday.jpg", "melanoma (mel)", *localization, *reading_sentences(row), *ABOUT, DISCLAIMER):
        assert sentence.strip() in text
    for phrase in certainty_phrases(row, finding.malignant, finding.operating_points):
        assert phrase.lower() in text.lower()


def _reading(finding: Finding) -> str:
    return " ".join(reading_sentences(finding.to_dict()))


def test_notes_describe_only_what_is_on_the_page() -> None:
    complete = drawn_finding(60, 80)
    assert len(reading_sentences(complete.to_dict())) == 5
    for without, word in (({"class_map": None}, "heatmap"), ({"tta_spread": None}, "spread")):
        assert word in _reading(complete)
        assert word not in _reading(replace(complete, **without))
    assert _reading(drawn_finding(60, 80, source=MaskSource.WHOLE_IMAGE)).startswith("No lesion")
    assert not _reading(complete).startswith("No lesion")


def test_pictures_form_two_rows_beside_the_bars() -> None:
    page = _draw()
    (image, _), (crop, _), (heatmap, _), (shape, _) = page.images
    panels = ["Image", "Crop", "Heatmap: melanoma (mel)", "Shape", "Numbers of the lesion", "Probabilities"]
    assert page.titles == [*panels, "How to read this page"]
    baselines = {text.text: text.baseline for text in page.texts}
    assert image.top == crop.top and heatmap.top == shape.top > crop.bottom
    assert baselines["Image"] == baselines["Probabilities"] and baselines["Numbers of the lesion"] > shape.bottom
    assert image.left == heatmap.left and crop.left == shape.left > image.right
    assert min(bar.left for bar in page.bars if bar.top < crop.bottom) > crop.right


def test_missing_pictures_are_left_out() -> None:
    page = _draw(finding=drawn_finding(60, 80, heatmap=False, source=MaskSource.WHOLE_IMAGE))
    assert page.titles == ["Image", "Crop", "Probabilities", "How to read this page"] and len(page.images) == 2


def test_numbers_of_the_lesion_have_color_patches() -> None:
    finding = drawn_finding(60, 80, image=_image(60, 80))
    row, page = finding.to_dict(), _draw(finding=finding)
    for label, value in lesion_numbers(row):
        texts = {text.baseline: text for text in page.texts if text.text == label}
        assert any(other.text == value and other.baseline in texts for other in page.texts)
    colors = lesion_colors(row)
    assert colors and f"Colors ({len(colors)} of 6)" in page.shown
    patches = [bar for bar in page.bars if bar.width == bar.height]
    assert len(patches) == len(colors)
    assert set(colors) <= {text.text for text in page.texts}


def test_true_diagnosis_and_dice_stand_on_the_page() -> None:
    content = page_content(drawn_finding(60, 80), title="a.jpg", about=ABOUT)
    for code, correct in (("mel", True), ("bcc", False)):
        canvas = RecordingCanvas(WIDTH, HEIGHT)
        true = TrueDiagnosis(code, correct, malignant=True, missed=not correct)
        draw_page(canvas, replace(content, true=true, dice=0.875))
        (line,) = [text for text in canvas.texts if "the true diagnosis is" in text.text]
        assert full_name(code) in line.text and line.bold and ("missed" in line.text) is not correct
        assert "0.88" in canvas.shown or "0.87" in canvas.shown
    assert "true diagnosis is" not in _draw().shown


def test_suspicion_is_bold_on_each_of_its_lines() -> None:
    for threshold, malignant, bold in ((0.0, (), True), (1.0, (CODES[0],), True), (1.0, (CODES[1],), False)):
        finding = replace(drawn_finding(60, 80, malignant=malignant), operating_points=(OperatingPoint(CODES[0], threshold),))
        texts = _draw(finding=finding).texts
        assert {text.bold for text in texts if re.search("malignancy|uspicious|^spread", text.text)} == {bold}


@pytest.mark.parametrize("codes", [LONG_CODES, TWENTY, ("benign",)], ids=["long", "twenty", "one"])
@pytest.mark.parametrize(
    ("height", "width", "heatmap"), [(60, 80, True), (80, 60, True), (40, 400, True), (400, 40, True), (60, 80, False)]
)
def test_texts_do_not_overlap_or_reach_the_margin(height: int, width: int, heatmap: bool, codes: tuple[str, ...]) -> None:
    finding = drawn_finding(height, width, codes=codes, source=MaskSource.WHOLE_IMAGE, reasons=REASONS, heatmap=heatmap)
    plot, picture = PlotCanvas(WIDTH, HEIGHT, dpi=200), InkCanvas(WIDTH, HEIGHT)
    picture.margin = 65
    for canvas in (plot, picture):
        draw_page(canvas, page_content(finding, title="long_" * 100, about=ABOUT))
    check_texts(plot.figure, margin=0.65)


def test_twenty_classes_stay_legible_with_three_reasons() -> None:
    page = _draw(finding=drawn_finding(60, 80, codes=TWENTY, reasons=REASONS))
    classes = [text for text in page.texts if text.text.removeprefix("class ").isdigit()]
    assert len(classes) == 20
    assert min(text.size for text in classes) > 6


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
    assert _draw(1500, 2000).images[0][1].shape == (MAX_IMAGE_SIDE * 3 // 4, MAX_IMAGE_SIDE, 3)


def test_texts_that_leave_no_room_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"about must leave room .*, got 60 lines; shorten it"):
        encode_page(drawn_finding(60, 80), title="a.jpg", about=["one line"] * 60)


def test_trust_and_all_its_reasons_fit_on_the_page() -> None:
    finding = add_evidence(drawn_finding(60, 80), possible=7, gate=tuple(ADVICE))
    text = _text(_encode(finding=finding))
    for shown in ("trust this: red", "seven diagnoses", "3 of 8", "90 %", *ADVICE.values()):
        assert shown.removesuffix(".") in text, shown
    picture = InkCanvas(WIDTH, HEIGHT)
    picture.margin = 65
    draw_page(picture, page_content(finding, title="a.jpg", about=ABOUT))
