"""Golden outputs of a bundle: generated images and their expected outputs.

`segpipe selftest` compares the outputs of each runtime and device with them. They are written with the bundle, by PyTorch on the
CPU.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segpipe.errors import BundleError
from segpipe.inference.networks import ClassifierNetwork, Float32Array, SegmenterNetwork, Squares, sigmoid
from segpipe.inference.stages import Classifier, Crop, group_crops
from segpipe.inference.tta import VIEWS, mean_probs
from segpipe.io.files import encode_json, one_line, read_json, write_file
from segpipe.io.images import encode_png
from segpipe.io.run_files import GOLDEN
from segpipe.lesion.crop import full_box
from segpipe.types import RgbImage

FORMAT = 1
SIDE = 48  # pixels of a stored image, which is enlarged without interpolation
MASK_SIDE = 16  # cells of the stored probability maps
_DIGITS = 6
_CODES = ("mel", "nv", "bcc", "df")  # of the images
_SEED = 11
_BATCH_SIZE = 8
_VIEWS = ("none", "d4")

Outputs = Mapping[str, Float32Array]


@dataclass(frozen=True)
class Golden:
    """Images with their expected outputs.

    Attributes:
        images: RGB uint8, shape (SIDE, SIDE, 3) each.
        outputs: Expected outputs by name, see `segmenter_outputs` and `classifier_outputs`, by the name of the views.
    """

    images: tuple[RgbImage, ...]
    outputs: Mapping[str, Outputs]


def segmenter_outputs(network: SegmenterNetwork, images: Sequence[RgbImage], *, batch_size: int) -> Outputs:
    """Compute the outputs of a segmenter.

    Args:
        network: Segmenter.
        images: Stored images.
        batch_size: Number of images in one pass.

    Returns:
        `mask`: mean probabilities of lesion, shape (N, MASK_SIDE, MASK_SIDE).
    """
    squares = _enlarge(images, network.card.input.size)
    parts = [squares[start : start + batch_size] for start in range(0, len(squares), batch_size)]
    logits = np.concatenate([network(part).logits for part in parts])
    probs = sigmoid(logits)
    return {"mask": np.stack([cv2.resize(each, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA) for each in probs])}


def classifier_outputs(network: ClassifierNetwork, images: Sequence[RgbImage], *, views: str, batch_size: int) -> Outputs:
    """Compute the outputs of a classifier.

    Args:
        network: Classifier.
        images: Stored images.
        views: Key of `segpipe.inference.tta.VIEWS`.
        batch_size: Number of images x views in one pass.

    Returns:
        `probability`, shape (N, classes), and `heatmap` of the most probable class, shape (N, h, w), in [0, 1].
    """
    classifier = Classifier(network, views=VIEWS[views], batch_size=batch_size)
    crops = [(Crop(full_box(square), square),) for square in _enlarge(images, network.card.input.size)]
    probs, heatmaps = [], []
    for group in group_crops(crops, VIEWS[views], batch_size):
        predictions = classifier(group)
        probs.append(mean_probs(predictions.probs))
        heatmaps.append(predictions.heatmaps(probs[-1].argmax(1)))
    return {"probability": np.concatenate(probs).astype(np.float32), "heatmap": np.concatenate(heatmaps)}


def largest_differences(outputs: Outputs, expected: Outputs) -> dict[str, float]:
    """Return the largest absolute difference of each output."""
    return {name: float(np.abs(outputs[name] - values).max()) for name, values in expected.items()}


def write_segmenter_golden(folder: Path, network: SegmenterNetwork) -> None:
    """Write `golden.json` into the bundle of a segmenter.

    Args:
        folder: Folder of the bundle.
        network: Segmenter of the bundle.

    Raises:
        WriteError: The file cannot be written.
    """
    images = _draw_images()
    _write(folder, Golden(images, {"none": segmenter_outputs(network, images, batch_size=_BATCH_SIZE)}))


def write_classifier_golden(folder: Path, network: ClassifierNetwork) -> None:
    """Write `golden.json` into the bundle of a classifier; see `write_segmenter_golden`."""
    images = _draw_images()
    outputs = {views: classifier_outputs(network, images, views=views, batch_size=_BATCH_SIZE) for views in _VIEWS}
    _write(folder, Golden(images, outputs))


def _draw_images() -> tuple[RgbImage, ...]:
    from segpipe.data.synthetic.photo import make_image  # not needed to read golden outputs

    rng = np.random.default_rng(_SEED)
    images = [make_image(code, rng)[0] for code in _CODES]
    return tuple(np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8) for image in images)


def _write(folder: Path, golden: Golden) -> None:
    content = {
        "format": FORMAT,
        "images": [base64.b64encode(encode_png(image)).decode() for image in golden.images],
        "outputs": {
            views: {name: np.round(values.astype(np.float64), _DIGITS).tolist() for name, values in outputs.items()}
            for views, outputs in golden.outputs.items()
        },
    }
    write_file(folder / GOLDEN, encode_json(content, indent=None))


def read_golden(folder: Path) -> Golden | None:
    """Read the `golden.json` of a bundle; None for bundles of older versions.

    Raises:
        BundleError: The file is damaged.
    """
    try:
        content: Any = read_json(folder / GOLDEN)
        outputs = {
            views: {name: np.asarray(values, np.float32) for name, values in of_views.items()}
            for views, of_views in content["outputs"].items()
        }
        return Golden(tuple(_decode_png(text) for text in content["images"]), outputs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, cv2.error) as error:
        raise BundleError(f"{folder}: {GOLDEN} is damaged ({one_line(str(error))}); copy the bundle again") from error


def _enlarge(images: Sequence[RgbImage], size: int) -> Squares:
    """Enlarge images by repeated pixels, equal in all versions of OpenCV."""
    index = np.arange(size) * SIDE // size
    return np.stack([image[index][:, index] for image in images])


def _decode_png(text: str) -> RgbImage:
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SIDE, SIDE, 3):
        raise ValueError("an image is none, or of another size")
    return np.ascontiguousarray(picture[..., ::-1])
