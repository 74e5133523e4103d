"""Images, bars and outlines on the canvas of pixels."""

import numpy as np
import pytest

from segpipe.report.canvas import Area, Stroke
from segpipe.report.png_canvas import DPI, PngCanvas

SQUARE = np.array([(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)])
RED = (255, 0, 0)


def _darkness(canvas: PngCanvas) -> float:
    """Sum over the pixels of the canvas: 1 for red, 0 for white."""
    return float((255 - canvas.pixels[..., 1].astype(float)).sum() / 255)


def test_new_canvas_is_white() -> None:
    assert PngCanvas(1.5, 0.5).pixels.shape == (50, 150, 3)
    assert (PngCanvas(1, 1).pixels == 255).all()


@pytest.mark.parametrize("size", [(40, 60), (200, 300), (1, 1), (1, 900)])
def test_image_fills_its_area_and_nothing_else(size: tuple[int, int]) -> None:
    canvas = PngCanvas(2, 2)
    canvas.draw_image(Area(0.3, 0.5, 0.6, 0.4), np.full((*size, 3), 90, dtype=np.uint8))
    expected = np.full((200, 200, 3), 255)
    expected[50:90, 30:90] = 90
    np.testing.assert_array_equal(canvas.pixels, expected)


def test_image_keeps_its_orientation() -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[:50, 50:] = RED
    canvas = PngCanvas(1, 1)
    canvas.draw_image(Area(0, 0, 1, 1), image)
    np.testing.assert_array_equal(canvas.pixels, image)


def test_image_thinner_than_a_pixel_is_drawn() -> None:
    canvas = PngCanvas(2, 2)
    canvas.draw_image(Area(0.5, 0.5, 1, 0.001), np.zeros((1, 1000, 3), dtype=np.uint8))
    assert (canvas.pixels == 0).sum() == 3 * DPI


def test_fill_is_as_opaque_as_asked() -> None:
    canvas = PngCanvas(1, 1)
    canvas.fill(Area(0.2, 0.2, 0.5, 0.1), RED, opacity=0.5)
    canvas.fill(Area(0.2, 0.8, 0.0, 0.1), RED)
    changed = canvas.pixels[20:30, 20:70]
    assert np.abs(changed.astype(int) - (255, 127.5, 127.5)).max() <= 1
    assert (canvas.pixels != 255).any(axis=2).sum() == 10 * 50


@pytest.mark.parametrize("width", [1.2, 1.5, 2.8, 5.0])
def test_outline_has_its_width(width: float) -> None:
    canvas = PngCanvas(2, 2)
    canvas.outline(SQUARE, Stroke(RED, width))
    drawn = _darkness(canvas)
    assert drawn == pytest.approx(4 * DPI * width * DPI / 72, rel=0.15)
    assert (canvas.pixels[100, 100] == 255).all() and (canvas.pixels[50, 100] == RED).all()


def test_halo_lies_beneath_the_line() -> None:
    canvas = PngCanvas(2, 2)
    canvas.outline(SQUARE, Stroke(RED, 2.0, halo=6.0))
    assert (canvas.pixels[100, 50] == RED).all()
    assert canvas.pixels[100, 53].max() < 80 and (canvas.pixels[100, 57] == 255).all()


@pytest.mark.parametrize(("dash", "space"), [(6.0, 3.6), (10.0, 10.0)])
def test_dashes_cover_their_fraction_of_the_line(dash: float, space: float) -> None:
    solid, dashed = PngCanvas(2, 2), PngCanvas(2, 2)
    solid.outline(SQUARE, Stroke(RED, 1.2))
    dashed.outline(SQUARE, Stroke(RED, 1.2, dashes=(dash, space)))
    assert _darkness(dashed) / _darkness(solid) == pytest.approx(dash / (dash + space), abs=0.08)
    assert not ((solid.pixels == 255) & (dashed.pixels != 255)).any()


def test_outline_may_leave_the_canvas() -> None:
    canvas = PngCanvas(1, 1)
    canvas.outline(SQUARE - 1, Stroke(RED, 2.0))
    canvas.outline(SQUARE + 5, Stroke(RED, 2.0))
    assert (canvas.pixels[49, 20] == RED).all() and (canvas.pixels[60:] == 255).all()


def test_areas_are_fitted_at_the_upper_left() -> None:
    area = Area(1, 2, 3, 4)
    assert area.fit(0.5) == Area(1, 2, 2, 4)
    assert area.fit(3) == Area(1, 2, 3, 1)
    assert (area.right, area.bottom) == (4, 6)
