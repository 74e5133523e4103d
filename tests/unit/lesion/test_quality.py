"""Plausibility of U-Net masks: each reason has a map that triggers it alone."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segpipe.io.images import read_image
from segpipe.lesion.quality import is_uniform, judge_mask_probs

Probs = NDArray[np.float32]
SIZES = [64, 192, 224]


def _disc(size: int, radius: float, center: tuple[float, float] = (0.5, 0.5)) -> Probs:
    """Draw a round mask; radius and center as fractions of the side."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    return (np.hypot(rows - center[0], columns - center[1]) < radius).astype(np.float32)


def _nearly_everything(size: int) -> Probs:
    probs = np.ones((size, size), dtype=np.float32)
    # One side stays free, so that the mask does not touch all four borders.
    probs[0] = 0
    return probs


def _vignette(size: int) -> Probs:
    return 1 - _disc(size, 0.45)


TRIGGERS = {
    "too_small": lambda size: _disc(size, 0.03),
    "too_large": _nearly_everything,
    "touches_border": _vignette,
    "unsure": lambda size: 0.6 * _disc(size, 0.3),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reason", TRIGGERS)
def test_each_reason_is_triggered_alone(reason: str, size: int) -> None:
    assert judge_mask_probs(TRIGGERS[reason](size).astype(np.float32)) == (reason,)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [0.06, 0.2, 0.45])
def test_clean_disc_is_plausible(radius: float, size: int) -> None:
    assert judge_mask_probs(_disc(size, radius)) == ()


def test_soft_border_is_plausible() -> None:
    assert judge_mask_probs(cv2.GaussianBlur(_disc(192, 0.2), (0, 0), 4)) == ()


@pytest.mark.parametrize("center", [(0.0, 0.5), (0.5, 1.0), (0.0, 0.0)])
def test_lesion_cut_by_the_image_border_is_plausible(center: tuple[float, float]) -> None:
    assert judge_mask_probs(_disc(192, 0.4, center)) == ()


def test_empty_map_is_only_too_small() -> None:
    assert judge_mask_probs(np.zeros((32, 48), dtype=np.float32)) == ("too_small",)


def test_all_reasons_are_listed() -> None:
    assert judge_mask_probs(np.full((32, 48), 0.6, dtype=np.float32)) == ("too_large", "touches_border", "unsure")


@pytest.mark.parametrize("shape", [(1, 32, 32), (32,), (0, 32)])
def test_batch_or_empty_array_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mask_probs must have shape \(h, w\)"):
        judge_mask_probs(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("value", [-3.0, 5.0, np.nan, np.inf])
def test_logits_and_nan_are_refused(value: float) -> None:
    probs = _disc(32, 0.3)
    probs[3, 4] = value
    with pytest.raises(ValueError, match=r"mask_probs must lie in \[0, 1\]"):
        judge_mask_probs(probs)


@pytest.mark.realdata
def test_true_masks_are_plausible() -> None:
    root = os.environ.get("SEGPIPE_HAM10000")
    if not root:
        pytest.skip("SEGPIPE_HAM10000 does not name a folder with HAM10000")
    files = sorted(Path(root).glob("*segmentations*/*_segmentation.png"))[::34]
    masks = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 127 for file in files]
    refused = [judge_mask_probs(cv2.resize(mask.astype(np.float32), (192, 192), interpolation=cv2.INTER_AREA)) for mask in masks]
    assert len(files) > 200
    assert sum(map(bool, refused)) / len(refused) < 0.015


@pytest.mark.parametrize("shape", [(450, 600), (1, 1), (3, 2000), (64, 64)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_single_color_image_of_any_size_is_uniform(shape: tuple[int, int], value: int) -> None:
    assert is_uniform(np.full((*shape, 3), value, dtype=np.uint8))


def test_noise_and_slight_shading_are_uniform_but_a_lesion_is_not() -> None:
    rng = np.random.default_rng(0)
    wall = np.clip(rng.normal(200, 8, (450, 600, 3)), 0, 255).astype(np.uint8)
    shade = np.broadcast_to(np.linspace(200, 212, 600)[None, :, None], (450, 600, 3)).astype(np.uint8)
    assert is_uniform(wall) and is_uniform(shade)
    lesion = wall.copy()
    cv2.circle(lesion, (300, 225), 60, (150, 110, 90), -1)
    assert not is_uniform(lesion)
    # One channel is enough.
    assert not is_uniform(np.where(np.arange(600)[None, :, None] < 300, (100, 100, 100), (100, 100, 130)).astype(np.uint8))


@pytest.mark.realdata
def test_real_photographs_are_not_uniform(ham10000: Path) -> None:
    files = sorted(ham10000.glob("**/ISIC_*.jpg"))[::500]
    assert files and not any(is_uniform(read_image(file)) for file in files)
