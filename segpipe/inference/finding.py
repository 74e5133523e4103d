"""What the pipeline says of one image: a small frozen value that is handed to tables, figures and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.errors import AnswerError
from segpipe.image_io import RgbImage
from segpipe.lesion.crop import Box, mask_box
from segpipe.lesion.localizer import Localization
from segpipe.operating_points import OperatingPoint, reached_targets


@dataclass(frozen=True)
class Heatmap:
    """Where the classifiers looked (Grad-CAM), averaged over them and over the views.

    Attributes:
        values: float32 in [0, 1], shape of the feature map (h, w); it covers `Finding.crop_box`. The peak of a single classifier
            is 1; that of several is 1 only where all of them have theirs.
        diagnosis: code of the class it explains.
    """

    values: NDArray[np.float32]
    diagnosis: str


@dataclass(frozen=True)
class Finding:
    """The answer for one image. Not a medical device.

    Attributes:
        localization: mask, lesion box, the way they were found, and the reasons.
        crop_box: what the classifier saw, in pixels of the image; the first one where there are several.
        crop: the same as the network saw it, RGB uint8, shape (size, size, 3).
        probs: calibrated probability of each class by code, in the card's order; they sum to 1.
        malignant: codes of the malignant classes; empty where the card names none.
        operating_points: thresholds of the card, or of the ensemble; empty where none are known.
        tta_spread: largest standard deviation of a class's probability over the views; None with a single view.
        heatmap: None with `explain=none`.
        original_size: height and width of the photograph in pixels, where `localization` is in those of a reduced one; None where
            it was not reduced.

    Raises:
        AnswerError: a probability, the spread or the heatmap holds a number that is not finite.
    """

    localization: Localization
    crop_box: Box
    crop: RgbImage
    probs: Mapping[str, float]
    malignant: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...]
    tta_spread: float | None
    heatmap: Heatmap | None
    original_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        heat = () if self.heatmap is None else self.heatmap.values.ravel()
        if not np.isfinite([*self.probs.values(), self.tta_spread or 0.0, *heat]).all():
            raise AnswerError("the answer holds a number that is not finite; use precision=float32, or another bundle")

    @property
    def diagnosis(self) -> str:
        """Code of the most probable class."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of the most probable class."""
        return self.probs[self.diagnosis]

    @property
    def p_malignant(self) -> float | None:
        """Sum of the probabilities of the malignant classes; None where the card names none."""
        return sum(self.probs[code] for code in self.malignant) if self.malignant else None

    @property
    def flagged_for(self) -> tuple[str, ...]:
        """Targets whose operating point is reached."""
        return reached_targets(self.operating_points, self.probs, self.malignant)

    @property
    def flagged(self) -> bool | None:
        """An operating point is reached; None where none is known."""
        return bool(self.flagged_for) if self.operating_points else None

    @property
    def suspicious(self) -> bool:
        """An operating point is reached, or the diagnosis itself is malignant."""
        return bool(self.flagged_for) or self.diagnosis in self.malignant

    @property
    def original_crop_box(self) -> Box:
        """What the classifier saw, in pixels of the original photograph."""
        height, width = self.localization.mask.shape
        down, across = self.original_size or (height, width)
        return _enlarge_box(self.crop_box, down / height, across / width)


def enlarge_finding(finding: Finding, height: int, width: int) -> Finding:
    """What was found on a reduced photograph, in pixels of the original.

    Args:
        finding: of the photograph as it was read.
        height: of the original, pixels; not less than that of the mask.
        width: likewise.

    Returns:
        The same finding with mask and boxes enlarged; itself where the sizes are equal.
    """
    place = finding.localization
    if place.mask.shape == (height, width):
        return finding
    mask = cv2.resize(place.mask.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127
    box = _enlarge_box(finding.crop_box, height / place.mask.shape[0], width / place.mask.shape[1])
    return replace(finding, localization=replace(place, mask=mask, box=mask_box(mask)), crop_box=box, original_size=None)


def _enlarge_box(box: Box, down: float, across: float) -> Box:
    return Box(round(box.top * down), round(box.left * across), round(box.bottom * down), round(box.right * across))
