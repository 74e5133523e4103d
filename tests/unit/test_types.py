"""Boxes cut, scale and check as their coordinates say."""

import numpy as np
import pytest

from segpipe.types import Box


def test_slices_cut_the_box_out_of_an_array() -> None:
    image, box = np.arange(20 * 30).reshape(20, 30), Box(2, 3, 12, 18)
    assert image[box.slices()].shape == (box.height, box.width) == (10, 15)
    np.testing.assert_array_equal(image[box.slices()], image[2:12, 3:18])


def test_scaled_box_has_whole_pixels() -> None:
    assert Box(1, 2, 3, 4).scaled(2, 2.6) == Box(2, 5, 6, 10)
    assert Box(1, 2, 3, 4).scaled(1, 1) == Box(1, 2, 3, 4)


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, -1, 5, 5), Box(0, 0, 21, 5), Box(0, 0, 5, 31), Box(4, 4, 4, 9)])
def test_box_outside_the_image_or_empty_is_refused(box: Box) -> None:
    Box(0, 0, 20, 30).check_inside(20, 30)
    with pytest.raises(ValueError, match="crop_box must lie in the image of 20 x 30 pixels"):
        box.check_inside(20, 30, name="crop_box")


@pytest.mark.parametrize(
    ("height", "width", "square"), [(1, 1, True), (450, 450, True), (450, 448, True), (290, 380, False), (10, 9, False)]
)
def test_box_is_square_up_to_rounding(height: int, width: int, square: bool) -> None:
    assert Box(5, 7, 5 + height, 7 + width).is_square is square
