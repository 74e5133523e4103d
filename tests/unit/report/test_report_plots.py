"""Grids of images with true and predicted outlines."""

from pathlib import Path

import numpy as np
import pytest

from segpipe.io.images import read_image
from segpipe.report.overlays import draw_outline
from segpipe.report.plots import COLUMNS, PREDICTED_COLOR, TRUE_COLOR, draw_masks, draw_panels, panel_of_pair

IMAGE = np.full((30, 40, 3), 90, dtype=np.uint8)
MASK = np.zeros((30, 40), dtype=np.bool_)
MASK[10:20, 10:30] = True


def test_outline_is_the_inner_edge_of_the_mask() -> None:
    drawn = draw_outline(IMAGE, MASK, TRUE_COLOR, width=1, halo=False)
    inside = np.zeros_like(MASK)
    inside[11:19, 11:29] = True
    np.testing.assert_array_equal((drawn == TRUE_COLOR).all(axis=2), MASK & ~inside)
    np.testing.assert_array_equal(drawn[~MASK | inside], IMAGE[~MASK | inside])


def test_drawing_leaves_the_image_unchanged() -> None:
    draw_outline(IMAGE, MASK)
    assert (IMAGE == 90).all()
    flipped = np.flip(IMAGE, axis=1)  # a view that is not contiguous
    assert draw_outline(flipped, MASK).shape == IMAGE.shape


def test_empty_mask_has_no_outline() -> None:
    np.testing.assert_array_equal(draw_outline(IMAGE, np.zeros_like(MASK)), IMAGE)


@pytest.mark.parametrize("images", [1, COLUMNS, COLUMNS + 1])
def test_grid_grows_by_rows(tmp_path: Path, images: int) -> None:
    draw_masks(tmp_path / "masks.png", [IMAGE] * images, [(MASK, MASK)] * images, ["$a$ = #1"] * images)
    height, width = read_image(tmp_path / "masks.png").shape[:2]
    rows = -(-images // COLUMNS)
    assert (height, width) == (pytest.approx(100 * (2.7 * rows + 0.7), abs=2), 1280)


def test_large_images_are_reduced_with_their_outlines(tmp_path: Path) -> None:
    mask = np.zeros((2000, 3000), dtype=np.bool_)
    mask[500:1500, 500:2500] = True
    panel = panel_of_pair(np.full((2000, 3000, 3), 90, dtype=np.uint8), mask, mask, "one", "two", "x" * 500)
    draw_panels(tmp_path / "large.png", [panel], heading="one image")
    draw_panels(tmp_path / "small.png", [panel_of_pair(IMAGE, MASK, MASK, "one")], heading="another image")
    large, small = (read_image(tmp_path / f"{name}.png").astype(int) for name in ("large", "small"))
    assert (np.abs(large - PREDICTED_COLOR).sum(axis=2) < 60).sum() > 100
    assert len(large) == len(small) + 40  # two lines more


def test_both_outlines_are_visible(tmp_path: Path) -> None:
    other = np.roll(MASK, 5, axis=0)
    draw_masks(tmp_path / "masks.png", [IMAGE], [(other, MASK)], ["a"])
    picture = read_image(tmp_path / "masks.png").astype(int)
    for color in (TRUE_COLOR, PREDICTED_COLOR):
        assert (np.abs(picture - color).sum(axis=2) < 30).sum() > 20
