"""Contours of lesions under hair and vignettes, and refusals without a lesion."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from segpipe.lesion.contour import (
    CENTRALITY_WIDTH,
    MIN_PLAUSIBILITY,
    OTSU_BINS,
    find_lesion_contour,
    judge_contour,
    most_central_piece,
    otsu_level,
)
from segpipe.lesion.quality import REASONS, fill_holes
from segpipe.types import BoolMask, RgbImage

SKIN = (224, 172, 150)
LESION = (128, 84, 70)


def _dice(first: BoolMask, second: BoolMask) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def _photograph(height: int, width: int, rng: np.random.Generator) -> tuple[RgbImage, BoolMask]:
    """Draw skin with a soft dark disc, camera noise, and light fading to one side."""
    rows, columns = np.indices((height, width))
    side = min(height, width)
    center_row, center_column = rng.uniform(0.4, 0.6, size=2) * (height, width)
    distance = np.hypot(rows - center_row, columns - center_column)
    radius = rng.uniform(0.15, 0.28) * side
    weight = np.clip((radius - distance) / (0.03 * side) + 0.5, 0, 1)[..., None]
    light = 1 - 0.15 * columns[..., None] / width
    pixels = (weight * LESION + (1 - weight) * np.array(SKIN)) * light + rng.normal(0, 4, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8), distance < radius


def _with_hair(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    hairy = image.copy()
    height, width = image.shape[:2]
    for _ in range(15):
        start, end = rng.integers(0, (width, height), size=(2, 2)).tolist()
        cv2.line(hairy, start, end, (40, 30, 28), max(1, min(height, width) // 120), cv2.LINE_AA)
    return hairy


def _with_dark_corners(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width))
    outside = np.hypot(rows - height / 2, columns - width / 2) > 0.52 * max(height, width)
    framed = image.copy()
    framed[outside] = (8, 6, 7)
    return framed


@pytest.mark.parametrize(("height", "width"), [(336, 448), (450, 600), (301, 301), (97, 140), (600, 401)])
@pytest.mark.parametrize("seed", range(3))
def test_dark_disc_is_found_despite_hair_and_dark_corners(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image, truth = _photograph(height, width, rng)
    contour = find_lesion_contour(_with_dark_corners(_with_hair(image, rng)))
    assert contour is not None
    assert contour.mask.shape == truth.shape
    assert contour.mask.dtype == np.bool_
    assert judge_contour(contour) == ()
    assert _dice(contour.mask, truth) > 0.85


def test_contour_tolerates_changes_of_brightness() -> None:
    image, truth = _photograph(336, 448, np.random.default_rng(3))
    for gain in (0.6, 0.8, 1.1):
        contour = find_lesion_contour((image * gain).clip(0, 255).astype(np.uint8))
        assert contour is not None
        assert _dice(contour.mask, truth) > 0.9


def test_contour_does_not_depend_on_resolution() -> None:
    image, _ = _photograph(1200, 1600, np.random.default_rng(4))
    large = find_lesion_contour(image)
    small = find_lesion_contour(cv2.resize(image, (400, 300), interpolation=cv2.INTER_AREA))
    assert large is not None
    assert small is not None
    shrunk = cv2.resize(large.mask.astype(np.uint8), (400, 300), interpolation=cv2.INTER_NEAREST) > 0
    assert _dice(shrunk, small.mask) > 0.97


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 128, 128), SKIN])
@pytest.mark.parametrize("shape", [(16, 16), (16, 500), (500, 16), (17, 25), (240, 320)])
def test_blank_image_has_no_contour(shape: tuple[int, int], color: tuple[int, int, int]) -> None:
    contour = find_lesion_contour(np.full((*shape, 3), color, dtype=np.uint8))
    assert contour is None
    assert judge_contour(contour) == ("nothing_found",)


@pytest.mark.parametrize("spread", [2, 10, 60, 200])
@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_plausible_contour(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    noise = (np.array(SKIN) + rng.normal(0, spread, (240, 320, 3))).clip(0, 255).astype(np.uint8)
    assert judge_contour(find_lesion_contour(noise)) in {("nothing_found",), ("implausible",)}


def test_vignette_has_no_plausible_contour() -> None:
    assert judge_contour(find_lesion_contour(_with_dark_corners(np.full((336, 448, 3), SKIN, dtype=np.uint8)))) != ()


@pytest.mark.parametrize("seed", range(20))
def test_contour_of_any_small_image_is_valid_or_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, size=(*rng.integers(16, 60, size=2), 3), dtype=np.uint8)
    contour = find_lesion_contour(image)
    assert set(judge_contour(contour)) <= set(REASONS)
    if contour is not None:
        assert contour.mask.shape == image.shape[:2]
        assert contour.mask.any()
        assert 0 <= contour.plausibility <= 1


def test_photograph_is_not_modified() -> None:
    image, _ = _photograph(120, 160, np.random.default_rng(5))
    before = image.copy()
    find_lesion_contour(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.realdata
def test_dice_on_real_photographs() -> None:
    root = os.environ.get("SEGPIPE_HAM10000")
    if not root:
        pytest.skip("SEGPIPE_HAM10000 does not name a folder with HAM10000")
    scores, plausible = [], []
    for file in sorted(Path(root).glob("*segmentations*/*_segmentation.png"))[::101]:
        truth = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 127
        (photograph,) = Path(root).glob(f"*images*/{file.stem.removesuffix('_segmentation')}.jpg")
        contour = find_lesion_contour(cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB))
        scores.append(0.0 if contour is None else _dice(contour.mask, truth))
        plausible.append(contour is not None and contour.plausibility >= MIN_PLAUSIBILITY)
    accepted = np.array(scores)[np.array(plausible)]
    assert np.mean(plausible) > 0.85
    assert accepted.mean() > 0.85
    assert len(scores) == len(accepted) or np.array(scores)[~np.array(plausible)].mean() < 0.7


@pytest.mark.parametrize("seed", range(20))
def test_level_is_that_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lesion, skin = rng.normal(rng.uniform(5, 40), 4, 300), rng.normal(0, 2, 2000)
    values = np.concatenate([lesion, skin]).astype(np.float32)
    assert otsu_level(values) == threshold_otsu(values, nbins=OTSU_BINS)


@pytest.mark.parametrize("seed", range(20))
def test_piece_is_that_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(192, 256)), (0, 0), rng.uniform(1, 9))
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.95))
    labels = label(mask)
    pieces = regionprops(labels)
    off_center = [np.linalg.norm(np.array(piece.centroid) / mask.shape - 0.5) for piece in pieces]
    scores = [p.area * np.exp(-((off / CENTRALITY_WIDTH) ** 2)) for p, off in zip(pieces, off_center, strict=True)]
    expected = fill_holes(labels == pieces[int(np.argmax(scores))].label)
    found = most_central_piece(mask)
    assert found is not None
    assert np.array_equal(found, expected)


def test_first_of_equal_pieces_is_chosen() -> None:
    mask = np.zeros((192, 256), np.bool_)
    mask[90:103, 20:40] = mask[90:103, 217:237] = True
    for image in (mask, mask.T):
        found = most_central_piece(image)
        assert found is not None
        assert np.array_equal(found, label(image) == 1)
    assert most_central_piece(np.zeros((192, 256), np.bool_)) is None
