"""Fit of the input gate to the images of a training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from segpipe.bundle.references import Reference
from segpipe.inference.gate import TrainingFeatures, as_reference
from segpipe.inference.networks import Float32Array, SegmenterNetwork, batched
from segpipe.inference.stages import Localizer
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.lesion.localization import Localization
from segpipe.lesion.photo_quality import judge_photo
from segpipe.types import RgbImage

ACCEPTED = 0.95  # fraction of the validation images
TRAINING_IMAGES = 2000  # with half of them, the rates of docs/trust.md change by less than their intervals
# More directions reject blurred and compressed images more often, and also more images of other clinics.
DIRECTIONS = 24
LEAST_LESIONS = 4  # of the training
_LEAST_VARIANCE = 1e-4  # of a standardized feature
_BATCH_SIZE = 8
_SEED = 0


class Judged(NamedTuple):
    """Image with all that a gate judges.

    Attributes:
        image: RGB uint8, shape (H, W, 3).
        localization: Lesion in the image.
        features: Features of the image, shape (D,); None without them.
    """

    image: RgbImage
    localization: Localization
    features: Float32Array | None


@dataclass(frozen=True)
class FittedGate:
    """Reference data of a gate.

    Attributes:
        reference: Data for `segpipe.inference.gate.Gate`.
        images: Number of training images that they were made from.
    """

    reference: Reference
    images: int


def fit_gate(network: SegmenterNetwork, train: pd.DataFrame, val: pd.DataFrame) -> FittedGate:
    """Fit a gate to the images of a training.

    Its rules and its score together accept `ACCEPTED` of the validation images.

    Args:
        network: Segmenter whose encoder describes the images; it must return features.
        train: Training images with `image_path` and `lesion_id`; at most `TRAINING_IMAGES` of them are used, one of a lesion.
        val: Validation images with `image_path`.

    Raises:
        ValueError: The network returns no features, or there are fewer than four lesions or no validation image.
    """
    lesions = train.drop_duplicates("lesion_id")
    if not has_enough_images(train, val):
        raise ValueError(
            f"a gate must have {LEAST_LESIONS} or more lesions and 1 or more validation images, got {len(lesions)} and {len(val)}"
        )
    chosen = lesions.sample(min(TRAINING_IMAGES, len(lesions)), random_state=_SEED)
    localizer = Localizer(network)
    training = fit_features(np.stack([_features(item) for item in judge_inputs(localizer, chosen, "gate, training images")]))
    judged = list(_distances(training, judge_inputs(localizer, val, "gate, validation images")))
    distances, by_rules = np.array([distance for distance, _ in judged]), np.array([refused for _, refused in judged])
    return FittedGate(as_reference(training, choose_limit(distances, by_rules)), len(chosen))


def has_enough_images(train: pd.DataFrame, val: pd.DataFrame) -> bool:
    """Return True if `fit_gate` can use the images."""
    return train["lesion_id"].nunique() >= LEAST_LESIONS and not val.empty


def fit_features(features: Float32Array) -> TrainingFeatures:
    """Fit the distribution of features by probabilistic principal components.

    Args:
        features: Features of N images, shape (N, D), N of 4 or more.
    """
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > _LEAST_VARIANCE, deviation, 1).astype(np.float32)  # a constant feature has no unit
    count, size = features.shape
    fitted = PCA(max(1, min(DIRECTIONS, count // 2 - 1, size - 1)), svd_solver="full").fit((features - mean) / scale)
    return TrainingFeatures(
        mean=mean.astype(np.float32),
        scale=scale,
        directions=fitted.components_.astype(np.float16),
        variances=np.maximum(fitted.explained_variance_, _LEAST_VARIANCE).astype(np.float32),
        rest_variance=max(float(fitted.noise_variance_), _LEAST_VARIANCE),
    )


def choose_limit(distances: NDArray[np.float64], by_rules: NDArray[np.bool_]) -> float:
    """Choose the largest accepted distance.

    Args:
        distances: Distance of each validation image.
        by_rules: True for those that a rule refuses.

    Returns:
        Smallest limit at which rules and limit accept `ACCEPTED` of the images; where the rules alone accept fewer, the largest
        distance.
    """
    refused_last = np.where(by_rules, np.inf, distances)
    return float(min(np.quantile(refused_last, ACCEPTED, method="inverted_cdf"), distances.max()))


def judge_inputs(localizer: Localizer, table: pd.DataFrame, what: str) -> Iterator[Judged]:
    """Read images and run the segmenter on them, batch by batch.

    Args:
        localizer: Localizer with a U-Net.
        table: Images with `image_path`.
        what: Name of the work, for the progress bar.
    """
    paths = follow(table["image_path"], len(table), what)
    return run_localizer(localizer, (read_image(Path(path)) for path in paths))


def run_localizer(localizer: Localizer, images: Iterator[RgbImage]) -> Iterator[Judged]:
    """Run the segmenter on images, batch by batch."""
    for batch in batched(images, _BATCH_SIZE):
        yield from map(Judged, batch, *localizer.with_features(batch))


def _features(item: Judged) -> Float32Array:
    if item.features is None:
        raise ValueError("the segmenter must return features, got none; export its graph again, or use runtime=torch")
    return item.features


def _distances(training: TrainingFeatures, items: Iterator[Judged]) -> Iterator[tuple[float, bool]]:
    """Yield the distance of each image, and whether a rule refuses it."""
    for item in items:
        yield float(training.distances(_features(item)[None])[0]), bool(judge_photo(item.image, item.localization))
