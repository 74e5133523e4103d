"""Figure of a finding, and heatmaps in the coordinates of the image."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from findings import (
    BAD_TITLES,
    LONG_CODES,
    InkCanvas,
    RecordingCanvas,
    add_evidence,
    check_texts,
    drawn_finding,
    drawn_mask,
    plain_photograph,
    texts_of,
    whole_image_finding,
)
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from segpipe import errors
from segpipe.diagnosis import CODES, MALIGNANT_CODES, full_name
from segpipe.errors import MissingExtraError
from segpipe.inference.evidence import ADVICE
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import ClassMap, heatmap_in_lesion, heatmap_on_image
from segpipe.io.images import read_image
from segpipe.lesion.localization import MaskSource
from segpipe.lesion.quality import WARNINGS
from segpipe.report.canvas import GRAY, INK
from segpipe.report.figure import MAX_IMAGE_SIDE, draw_finding, encode_figure, plot_finding, write_figure
from segpipe.report.wording import DISCLAIMER
from segpipe.types import Box

TESTS = Path(__file__).parents[2]
# Draws a figure, then lists what was imported for it.
SCRIPT = """
import sys
from findings import drawn_finding
finding = drawn_finding(60, 80)
for ending in ("png", "jpg"):
    finding.save(f"a.{ending}")
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def _draw(height: int = 60, width: int = 80, title: str = "a.jpg", finding: Finding | None = None) -> RecordingCanvas:
    return draw_finding(finding or drawn_finding(height, width), title=title, canvas=RecordingCanvas)


def _encode(height: int = 60, width: int = 80, title: str = "a.jpg", finding: Finding | None = None) -> bytes:
    return encode_figure(finding or drawn_finding(height, width), title)


def test_figure_is_1600_pixels_wide(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "a.png"
    write_figure(path, drawn_finding(60, 80), title="a.jpg")
    with Image.open(path) as figure:
        assert (figure.format, figure.width) == ("PNG", 1600)


def test_picture_and_plot_have_the_same_size() -> None:
    finding = drawn_finding(60, 80, codes=tuple(f"class {number}" for number in range(30)))
    plot = FigureCanvasAgg(plot_finding(finding, title="a.jpg"))
    height, width = read_image(_encode(finding=finding)).shape[:2]
    assert plot.get_width_height() == (width, pytest.approx(height, abs=1))


def test_picture_shows_what_the_plot_shows() -> None:
    finding = drawn_finding(60, 80, image=np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    plot = FigureCanvasAgg(plot_finding(finding, title="a.jpg"))
    plot.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(plot.buffer_rgba())[..., :3].astype(float)  # type: ignore[no-untyped-call]
    picture = read_image(_encode(finding=finding))[: len(drawn)].astype(float)
    blocks = [array[:480].reshape(24, 20, 80, 20, 3).mean(axis=(1, 3)) for array in (drawn, picture)]
    assert np.ptp(blocks[0]) > 150
    assert np.abs(blocks[0] - blocks[1]).mean() < 3


def test_drawing_imports_no_matplotlib(tmp_path: Path) -> None:
    call = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{SCRIPT}"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.jpg"}
    assert "'PIL'" in done.stdout and "'cv2'" in done.stdout
    assert not [name for name in ("matplotlib", "fontTools", "torch", "pandas") if f"'{name}'" in done.stdout]


def test_plot_without_its_extra_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_is_installed", lambda library: library != "matplotlib")
    finding = drawn_finding(60, 80)
    for call in (finding.plot, lambda: finding.save(tmp_path / "a.pdf"), lambda: finding.save(tmp_path / "a.svg")):
        with pytest.raises(MissingExtraError, match=r"needs matplotlib.*segpipe\[plots\]"):
            call()
    assert list(tmp_path.iterdir()) == []
    finding.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_figure_has_a_panel_for_each_part_of_the_finding() -> None:
    figure = _draw()
    assert figure.titles == ["Image", "Crop", "Heatmap: melanoma", "Probabilities"]
    assert len(figure.images) == 3


def test_panel_of_a_missing_heatmap_is_left_out() -> None:
    figure = _draw(finding=drawn_finding(60, 80, heatmap=False))
    assert figure.titles == ["Image", "Crop", "Probabilities"]
    assert len(figure.images) == 2


def test_classes_have_full_names_and_malignant_ones_a_sign() -> None:
    names = [text.text for text in _draw().classes]
    for code in CODES:
        assert ("\N{BLACK UP-POINTING TRIANGLE} " * (code in MALIGNANT_CODES) + full_name(code)) in names


def test_nothing_is_marked_without_malignant_classes() -> None:
    assert "\N{BLACK UP-POINTING TRIANGLE}" not in _draw(finding=drawn_finding(60, 80, malignant=())).shown


def test_only_the_predicted_class_is_bold() -> None:
    bold = [text.text for text in _draw().classes if text.bold]
    assert bold[0].endswith(full_name(CODES[0])) and len(bold) == 2


def test_bars_are_as_long_as_the_probabilities() -> None:
    figure, probabilities = _draw(), sorted(drawn_finding(60, 80).probabilities.values(), reverse=True)
    tracks, bars = figure.bars[::2], figure.bars[1::2]
    assert [bar.width / track.width for track, bar in zip(tracks, bars, strict=True)] == pytest.approx(probabilities)
    assert {(bar.left, bar.top, bar.height) for bar in bars} == {(track.left, track.top, track.height) for track in tracks}


def test_header_and_footer_contain_suspicion_source_and_disclaimer() -> None:
    finding = drawn_finding(60, 80, source=MaskSource.CONTOUR, reasons=("unet:unsure",))
    shown = _draw(finding=finding, title="holiday.jpg").shown
    for text in (
        "holiday.jpg",
        "melanoma (mel)",
        "suspicious for melanoma",
        "3.4 %",
        "adaptive-threshold contour",
        "U-Net rejected",
        DISCLAIMER,
    ):
        assert text in shown


@pytest.mark.parametrize("codes", [LONG_CODES, tuple(f"class {number}" for number in range(30))])
@pytest.mark.parametrize(
    ("height", "width", "heatmap"), [(60, 80, True), (80, 60, True), (40, 400, True), (400, 40, True), (60, 80, False)]
)
def test_texts_do_not_overlap_or_leave_the_figure(height: int, width: int, heatmap: bool, codes: tuple[str, ...]) -> None:
    reasons = ("unet:in_pieces", "unet:unsure", "contour:implausible")
    finding = drawn_finding(height, width, codes=codes, source=MaskSource.WHOLE_IMAGE, reasons=reasons, heatmap=heatmap)
    check_texts(plot_finding(finding, title="long_" * 100))
    draw_finding(finding, title="long_" * 100, canvas=InkCanvas)


@pytest.mark.parametrize("title", BAD_TITLES)
def test_title_may_have_any_characters(title: str) -> None:
    finding = drawn_finding(60, 80)
    draw_finding(finding, title=title, canvas=InkCanvas)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot_finding(finding, title=title)
        figure.draw_without_rendering()
    assert not any(text.get_parse_math() for text in texts_of(figure))


def test_dollar_signs_are_not_math() -> None:
    assert _draw(title="$x_1$.jpg").texts[0].text == "$x_1$.jpg"


def test_large_image_is_reduced_with_outline_and_crop_box() -> None:
    figure = _draw(3600, 4800)
    area, shown = figure.images[0]
    assert shown.shape == (900, MAX_IMAGE_SIDE, 3)
    in_pixels = [
        (points - (area.left, area.top)) / (area.width, area.height) * (MAX_IMAGE_SIDE, 900) for points, _ in figure.outlines
    ]
    outline, frame = in_pixels[:2]
    assert frame.min(axis=0) == pytest.approx((MAX_IMAGE_SIDE / 8, round(900 / 8)))
    assert np.ptp(frame, axis=0)[0] == pytest.approx(MAX_IMAGE_SIDE / 2)
    assert np.abs(np.ptp(outline, axis=0) - [MAX_IMAGE_SIDE / 4, 900 / 4]).max() <= 2
    assert np.abs(outline.min(axis=0) - [MAX_IMAGE_SIDE / 4, 900 / 4]).max() <= 2
    assert [stroke.dashes is None for _, stroke in figure.outlines] == [True, False, True]


def test_small_image_is_not_enlarged() -> None:
    assert _draw(60, 80).images[0][1].shape == (60, 80, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (8, 8)])
def test_images_of_extreme_shapes_are_drawn(height: int, width: int) -> None:
    finding = whole_image_finding(height, width)
    assert read_image(_encode(finding=finding)).shape[1] == 1600
    draw_finding(finding, title="a.jpg", canvas=InkCanvas)
    plot_finding(finding, title="a.jpg").draw_without_rendering()


def test_drawing_is_thread_safe_and_outside_pyplot() -> None:
    titles = ["a.jpg", "b.jpg"] * 4
    sequential = [_encode(title=title) for title in titles]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda title: _encode(title=title), titles))
        plots = list(pool.map(lambda title: len(texts_of(plot_finding(drawn_finding(60, 80), title=title))), titles))
    assert sequential == parallel and sequential[0] != sequential[1]
    assert len(set(plots)) == 1
    assert Gcf.get_all_fig_managers() == []


def test_localization_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="localization must fit the image of 60 x 80 pixels"):
        replace(drawn_finding(61, 80), photograph=plain_photograph(60, 80))


def _heatmap(values: np.ndarray) -> ClassMap:
    return ClassMap(values.astype(np.float32), "mel")


@pytest.mark.parametrize("box", [Box(0, 0, 40, 50), Box(3, 5, 4, 6), Box(10, 20, 40, 47)])
def test_heatmap_of_ones_covers_exactly_the_crop_box(box: Box) -> None:
    heatmap = heatmap_on_image(_heatmap(np.ones((7, 7))), box, 40, 50)
    expected = np.zeros((40, 50), dtype=np.float32)
    expected[box.top : box.bottom, box.left : box.right] = 1
    assert heatmap.dtype == np.float32
    np.testing.assert_allclose(heatmap, expected, atol=1e-6)
    assert np.array_equal(heatmap > 0, expected > 0)


def test_heatmap_on_image_is_between_0_and_1() -> None:
    values = np.random.default_rng(0).integers(0, 2, (7, 7))
    heatmap = heatmap_on_image(_heatmap(values), Box(2, 3, 90, 95), 100, 100)
    assert heatmap.min() == 0 and 0.9 < heatmap.max() <= 1


def test_heatmap_keeps_its_position_and_orientation() -> None:
    values = np.zeros((7, 7))
    values[1, 5] = 1
    heatmap = heatmap_on_image(_heatmap(values), Box(10, 100, 80, 240), 200, 300)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert abs(row - (10 + 1.5 * 10)) <= 1 and abs(column - (100 + 5.5 * 20)) <= 1


def test_heatmap_inside_the_mask_has_a_fraction_of_1() -> None:
    values = np.zeros((8, 8))
    values[2, 2] = 1
    mask = np.zeros((100, 100), dtype=np.bool_)
    # The box has cells of 10 pixels; interpolation carries a cell two cells far.
    mask[10:60, 10:60] = True
    box = Box(10, 10, 90, 90)
    assert heatmap_in_lesion(_heatmap(values), mask, box) == 1
    assert heatmap_in_lesion(_heatmap(values), ~mask, box) == 0


def test_fractions_of_lesion_and_skin_add_up_to_1() -> None:
    rng = np.random.default_rng(0)
    heatmap, mask = _heatmap(rng.random((7, 7))), rng.random((60, 70)) > 0.4
    fractions = [heatmap_in_lesion(heatmap, part, Box(5, 6, 50, 60)) for part in (mask, ~mask)]
    assert sum(fraction for fraction in fractions if fraction is not None) == pytest.approx(1)


def test_fraction_of_a_constant_map_is_that_of_the_mask_in_the_crop() -> None:
    fraction = heatmap_in_lesion(_heatmap(np.full((7, 7), 0.3)), drawn_mask(80, 80), Box(20, 20, 40, 60))
    assert fraction == pytest.approx(0.5)


def test_heatmap_of_zeros_has_no_fraction() -> None:
    assert heatmap_in_lesion(_heatmap(np.zeros((7, 7))), drawn_mask(80, 80), Box(0, 0, 80, 80)) is None


@pytest.mark.parametrize("box", [Box(0, 0, 41, 50), Box(-1, 0, 40, 50), Box(5, 5, 5, 9)])
def test_crop_box_outside_the_image_is_an_error(box: Box) -> None:
    with pytest.raises(ValueError, match="crop_box must lie in the image of 40 x 50 pixels"):
        heatmap_on_image(_heatmap(np.ones((7, 7))), box, 40, 50)
    with pytest.raises(ValueError, match="crop_box must lie in the image of 40 x 50 pixels"):
        heatmap_in_lesion(_heatmap(np.ones((7, 7))), np.ones((40, 50), dtype=np.bool_), box)


@pytest.mark.parametrize(
    ("uniform", "reasons", "warned"), [(True, (), 1), (False, ("unet:unsure",), 1), (True, ("unet:unsure",), 2), (False, (), 0)]
)
def test_headline_is_unsure_with_warnings(uniform: bool, reasons: tuple[str, ...], warned: int) -> None:
    finding = drawn_finding(60, 80, source=MaskSource.WHOLE_IMAGE, reasons=reasons)
    finding = replace(finding, localization=replace(finding.localization, uniform=uniform))
    shown = _draw(finding=finding).texts
    assert any(text.text.startswith("unsure: ") for text in shown) == bool(warned)
    bold = {text.text for text in shown if text.bold}
    assert len(bold & set(WARNINGS.values())) == warned


def test_crop_caption_has_the_original_size_and_the_scaling() -> None:
    square, wide = (
        replace(drawn_finding(60, 80), window=Box(0, 0, 60, 60)),
        replace(drawn_finding(60, 80), window=Box(0, 0, 60, 80)),
    )
    assert _crop_caption(square).startswith("crop 60 x 60 px") and "scaled to a square" not in _crop_caption(square)
    assert _crop_caption(wide) == "crop 80 x 60 px, scaled to a square"
    assert (
        _crop_caption(replace(wide, photograph=replace(wide.photograph, height=3000, width=4000)))
        == "crop 4,000 x 3,000 px, scaled to a square"
    )


def _crop_caption(finding: Finding) -> str:
    return _draw(finding=finding).caption(1)


@pytest.mark.parametrize(("gate", "color"), [((), "amber"), (tuple(ADVICE), "red")])
def test_trust_is_a_colored_line_with_its_word_and_reasons(gate: tuple[str, ...], color: str) -> None:
    finding = add_evidence(drawn_finding(60, 80), gate=gate)
    texts = _draw(finding=finding).texts
    (heading,) = [text for text in texts if f"trust this: {color}" in text.text]
    assert heading.bold and heading.color not in {INK, GRAY}
    shown = " ".join(text.text for text in texts)
    assert all(words in shown for words in ("3 of 8", "wo diagnoses", "90 %", *(ADVICE[code] for code in gate)))
    draw_finding(finding, title="a.jpg", canvas=InkCanvas)
    check_texts(plot_finding(finding, title="a.jpg"))
