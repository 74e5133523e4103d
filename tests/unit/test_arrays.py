"""Functions refuse arrays that are no images or masks, with advice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.lesion.contour import find_lesion_contour
from segpipe.lesion.crop import CropRule, crop_box, cut_out, full_box, resize_mask, resize_square
from segpipe.lesion.localization import MaskSource, accept_mask, localize
from segpipe.lesion.polygon import outline_polygon
from segpipe.lesion.quality import choose_piece, fill_holes, judge_mask_probs
from segpipe.metrics.segmentation import dice
from segpipe.models.preprocessing import InputSpec, images_to_batch
from segpipe.report.overlays import draw_outline, encode_jpeg
from segpipe.types import MIN_SIDE, Box, mask_box, require_image, require_images, require_mask

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
MASK = IMAGE[..., 0] > 100
CPU = torch.device("cpu")

# Each value with a word of the expected message.
NO_IMAGES: dict[str, tuple[object, str]] = {
    "float in 0..1": (IMAGE / 255, "255"),
    "float32 in 0..255": (IMAGE.astype(np.float32), "float32"),
    "uint16": (IMAGE.astype(np.uint16) * 257, ">> 8"),
    "int64": (IMAGE.astype(np.int64), "astype"),
    "bool": (IMAGE > 100, "mask"),
    "gray": (IMAGE[..., 0], "repeat"),
    "gray with a channel": (IMAGE[..., :1], "repeat"),
    "alpha": (np.dstack([IMAGE, IMAGE[..., 0]]), ":3"),
    "channels first": (IMAGE.transpose(2, 0, 1), "transpose(1, 2, 0)"),
    "batch": (IMAGE[None], "batch"),
    "two channels": (IMAGE[..., :2], "three channels"),
    "empty": (IMAGE[:0], "pixels"),
    "number": (3, "int"),
    "none": (None, "NoneType"),
    "list": (IMAGE.tolist(), "list"),
    "path": (Path("a.jpg"), "read_image"),
    "name": ("a.jpg", "read_image"),
    "PIL": (Image.fromarray(IMAGE), 'convert("RGB")'),
    "tensor": (torch.from_numpy(IMAGE).permute(2, 0, 1), "permute(1, 2, 0)"),
}
NO_MASKS: dict[str, object] = {
    "0 and 255": MASK.astype(np.uint8) * 255,
    "0 and 1": MASK.astype(np.uint8),
    "probabilities": MASK.astype(np.float32),
    "with a channel": MASK[..., None],
    "batch": MASK[None],
    "one row": MASK[0],
    "empty": MASK[:0],
    "tensor": torch.from_numpy(MASK),
    "list": MASK.tolist(),
    "none": None,
}

IMAGE_FUNCTIONS: dict[str, Callable[[object], object]] = {
    "require_image": require_image,
    "require_images": lambda image: require_images([IMAGE, image]),
    "images_to_batch": lambda image: images_to_batch([image], InputSpec(32), CPU),
    "locator": lambda image: Localizer(None, start=MaskSource.CONTOUR)([image]),
    "localize": lambda image: localize(image, None, start=MaskSource.WHOLE_IMAGE),
    "find_lesion_contour": find_lesion_contour,
    "full_box": full_box,
    "crop_box": lambda image: crop_box(image, Box(0, 0, 9, 9), CropRule()),
    "cut_out": lambda image: cut_out(image, MASK, Box(0, 0, 9, 9), keep_background=True),
    "resize_square": lambda image: resize_square(image, 32),
    "outline": lambda image: draw_outline(image, MASK, (0, 0, 0)),
    "encode_jpeg": encode_jpeg,
}
MASK_FUNCTIONS: dict[str, Callable[[object], object]] = {
    "require_mask": require_mask,
    "cut_out": lambda mask: cut_out(IMAGE, mask, Box(0, 0, 9, 9), keep_background=True),
    "mask_box": mask_box,
    "fill_holes": fill_holes,
    "resize_mask": lambda mask: resize_mask(mask, 32),
    "accept_mask": lambda mask: accept_mask(IMAGE, mask),
    "outline_polygon": outline_polygon,
    "outline": lambda mask: draw_outline(IMAGE, mask, (0, 0, 0)),
    "dice": lambda mask: dice(mask, MASK),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
@pytest.mark.parametrize("function", IMAGE_FUNCTIONS)
def test_non_images_are_refused_with_advice(function: str, kind: str) -> None:
    value, hint = NO_IMAGES[kind]
    with pytest.raises(ValueError) as caught:
        IMAGE_FUNCTIONS[function](value)
    message = str(caught.value)
    assert "uint8" in message and "(H, W, 3)" in message and hint in message and "\n" not in message


@pytest.mark.parametrize("function", IMAGE_FUNCTIONS)
def test_images_of_any_memory_layout_are_accepted(function: str) -> None:
    for image in (IMAGE, IMAGE[:, ::-1], np.asfortranarray(IMAGE), np.repeat(IMAGE, 2, axis=1)[:, ::2]):
        IMAGE_FUNCTIONS[function](image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (MIN_SIDE - 1, 500), (500, MIN_SIDE - 1)])
@pytest.mark.parametrize("function", ["require_images", "locator", "localize", "find_lesion_contour", "crop_box", "full_box"])
def test_images_with_few_pixels_are_refused(function: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"at least {MIN_SIDE} pixels"):
        IMAGE_FUNCTIONS[function](np.zeros((*shape, 3), np.uint8))


@pytest.mark.parametrize("images", [IMAGE, IMAGE[None], "a.jpg", None, iter([IMAGE])])
def test_images_must_be_a_list(images: object) -> None:
    with pytest.raises(ValueError, match="list"):
        require_images(images)


def test_list_must_hold_an_image() -> None:
    with pytest.raises(ValueError, match="at least one"):
        require_images([])


@pytest.mark.parametrize("kind", NO_MASKS)
@pytest.mark.parametrize("function", MASK_FUNCTIONS)
def test_non_masks_are_refused(function: str, kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        MASK_FUNCTIONS[function](NO_MASKS[kind])
    assert "bool" in str(caught.value) and "mask" in str(caught.value)


@pytest.mark.parametrize("function", ["cut_out", "outline", "accept_mask"])
def test_mask_of_another_size_is_refused(function: str) -> None:
    with pytest.raises(ValueError, match="60 x 80 pixels, got 80 x 60"):
        MASK_FUNCTIONS[function](MASK.T)


@pytest.mark.parametrize("probs", [MASK, MASK.astype(np.uint8), MASK[None].astype(np.float32), 2.0 * MASK, None, MASK.tolist()])
def test_non_probability_maps_are_refused(probs: object) -> None:
    for function in (judge_mask_probs, choose_piece, lambda probs: localize(IMAGE, probs)):
        with pytest.raises(ValueError, match="mask_probs must"):
            function(probs)


@pytest.mark.parametrize("kind", ["float in 0..1", "uint16", "channels first", "PIL", "gray"])
def test_pipeline_stages_refuse_non_images(segmenter: SegmenterBundle, classifier: ClassifierBundle, kind: str) -> None:
    value, _ = NO_IMAGES[kind]
    with pytest.raises(ValueError, match=r"RGB|numpy array"):
        Localizer(TorchSegmenter(segmenter, "cpu"))([value])  # type: ignore[list-item]
    place = localize(IMAGE, None, start=MaskSource.WHOLE_IMAGE)
    in_one_view = Classifier(TorchClassifier(classifier, "cpu"), views=VIEWS["none"], batch_size=1)
    with pytest.raises(ValueError, match=r"RGB|numpy array"):
        in_one_view.cut(value, place)  # type: ignore[arg-type]
