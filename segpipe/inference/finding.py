"""One image's result: a frozen value that tables, figures and metrics are made from, and that Python users get."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.diagnosis import full_name
from segpipe.errors import PredictionError, one_line
from segpipe.inference.heatmap import ClassMap, heatmap_in_lesion, heatmap_on_image
from segpipe.io.images import Photograph, display_path, write_file
from segpipe.io.strict_json import encode_json
from segpipe.lesion.crop import mask_box
from segpipe.lesion.localizer import Localization, MaskSource
from segpipe.metrics.operating_points import MALIGNANT, OperatingPoint, reached_targets
from segpipe.types import BoolMask, Box, RgbImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_FORMATS = {".png": "png", ".pdf": "pdf", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg"}
_LONGEST_NAME, _LONGEST_WORDS = 28, 80  # characters in a finding's repr, which has at most 120


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """Mask, diagnosis and explanation of one image. Not a medical device.

    A photograph may have been read reduced. `mask`, `box`, `crop_box` and `heatmap` are in pixels of the original photograph as a
    viewer shows it; `localization` and `window` are in pixels of `photograph.image`.

    Attributes:
        photograph: image as it was read, RGB uint8, and the size of the original.
        localization: mask, lesion box, mask source and reasons, in pixels of `photograph.image`.
        window: area that the classifier saw, in pixels of `photograph.image`; that of the first classifier of an ensemble, by the
            margin of its card.
        crop: the same area as the network saw it, RGB uint8, shape (size, size, 3).
        probabilities: calibrated probability of each class by code, in the card's order; they sum to 1.
        malignant: codes of the malignant classes; empty where the card names none.
        operating_points: thresholds of the card, or of the ensemble; empty where none are known.
        tta_spread: largest standard deviation of a class's probability over the views; None with a single view.
        class_map: Grad-CAM on the grid of the network's features; None with `explain=none`.
        path: file or URL as it was given; None for bytes, PIL images and arrays.
        sha256: SHA-256 of the file's content; None for PIL images and arrays.
        latency_ms: milliseconds spent on the image; 0 where they were not measured.
        border: method by which the crop became square, see `segpipe.lesion.crop.CropRule`.

    Raises:
        AnswerError: a probability, the spread or the class map holds a number that is not finite.
        ValueError: `localization` does not fit `photograph.image`.
    """

    photograph: Photograph
    localization: Localization
    window: Box
    crop: RgbImage
    probabilities: Mapping[str, float]
    malignant: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...]
    tta_spread: float | None
    class_map: ClassMap | None
    path: str | None = None
    sha256: str | None = None
    latency_ms: float = 0.0
    border: str = "squeeze"

    def __post_init__(self) -> None:
        heat = () if self.class_map is None else self.class_map.values.ravel()
        if not np.isfinite([*self.probabilities.values(), self.tta_spread or 0.0, *heat]).all():
            raise PredictionError("the answer holds a number that is not finite; use precision=float32, or another bundle")
        size, mask = self.photograph.image.shape[:2], self.localization.mask
        if mask.shape != size:
            raise ValueError(f"localization must fit the image of {size[0]} x {size[1]} pixels, got a mask of shape {mask.shape}")

    @property
    def diagnosis(self) -> str:
        """Code of the most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of the most probable class, in [0, 1]."""
        return self.probabilities[self.diagnosis]

    @property
    def p_malignant(self) -> float | None:
        """Sum of the probabilities of the malignant classes; None where the card names none."""
        return sum(self.probabilities[code] for code in self.malignant) if self.malignant else None

    @property
    def flagged_for(self) -> tuple[str, ...]:
        """Targets whose operating point is reached."""
        return reached_targets(self.operating_points, self.probabilities, self.malignant)

    @property
    def flagged(self) -> bool | None:
        """True where an operating point is reached; None where none is known."""
        return bool(self.flagged_for) if self.operating_points else None

    @property
    def suspicious(self) -> bool:
        """True where an operating point is reached, or the diagnosis itself is malignant."""
        return bool(self.flagged_for) or self.diagnosis in self.malignant

    @cached_property
    def original_localization(self) -> Localization:
        """The localization in pixels of the original photograph."""
        return _enlarge_localization(self.localization, self.photograph.height, self.photograph.width)

    @property
    def mask(self) -> BoolMask:
        """Lesion mask in pixels of the original photograph: bool, shape (H, W), true on the lesion, never empty."""
        return self.original_localization.mask

    @property
    def box(self) -> Box:
        """Smallest box that holds `mask`."""
        return self.original_localization.box

    @property
    def mask_source(self) -> MaskSource:
        """Source of the mask: `unet`, `contour` or `whole_image`; it compares equal to these strings."""
        return self.localization.source

    @property
    def mask_reasons(self) -> tuple[str, ...]:
        """Reasons why earlier mask sources were refused, as `<source>:<code>`; empty where the first one was used."""
        return self.localization.reasons

    @property
    def warnings(self) -> tuple[str, ...]:
        """Codes of reasons not to rely on the diagnosis, such as `uniform_image`; empty for none."""
        return self.localization.warnings

    @property
    def crop_box(self) -> Box:
        """Area that the classifier saw, in pixels of the original photograph."""
        height, width = self.photograph.image.shape[:2]
        return _enlarge_box(self.window, self.photograph.height / height, self.photograph.width / width)

    @cached_property
    def heatmap(self) -> NDArray[np.float32] | None:
        """Grad-CAM heatmap in pixels of the original photograph; None with `explain="none"`.

        Float32 in [0, 1], shape (H, W). It is 0 outside `crop_box`, which the classifier did not see.
        """
        if self.class_map is None:
            return None
        return heatmap_on_image(self.class_map, self.crop_box, self.photograph.height, self.photograph.width)

    @property
    def heatmap_diagnosis(self) -> str | None:
        """Code of the class that the heatmap explains; None with `explain="none"`."""
        return None if self.class_map is None else self.class_map.diagnosis

    def to_dict(self) -> dict[str, Any]:
        """Return the image's line of `results.jsonl`.

        Returns:
            Plain values for JSON by the names of `results.csv`, with `p_<code>` for each class; None where there is no value.
        """
        place, crop_box, class_map = self.original_localization, self.crop_box, self.class_map
        return {
            "path": self.path,
            "sha256": self.sha256,
            "status": "ok",
            "diagnosis": self.diagnosis,
            "confidence": self.confidence,
            **{f"p_{code}": probability for code, probability in self.probabilities.items()},
            "p_malignant": self.p_malignant,
            "flagged": self.flagged,
            "mask_source": str(place.source),
            "mask_reasons": ";".join(place.reasons),
            "mask_area_fraction": place.area_fraction,
            "box_top": place.box.top,
            "box_left": place.box.left,
            "box_bottom": place.box.bottom,
            "box_right": place.box.right,
            "tta_spread": self.tta_spread,
            "heatmap_in_lesion": None if class_map is None else heatmap_in_lesion(class_map, place, crop_box),
            "latency_ms": round(self.latency_ms, 3),
            "flagged_for": ";".join(self.flagged_for),
            "warnings": ";".join(place.warnings),
            "crop_top": crop_box.top,
            "crop_left": crop_box.left,
            "crop_bottom": crop_box.bottom,
            "crop_right": crop_box.right,
            "crop_border": self.border,
        }

    def plot(self) -> "Figure":
        """Draw photograph, crop, heatmap and probabilities, as the figures of a run show them.

        Returns:
            A figure 16 inches wide that pyplot does not know: nothing has to be closed, and no display is needed.
        """
        from segpipe.report.figure import draw_finding

        return draw_finding(self, title=self.name)

    def save(self, path: str | Path) -> None:
        """Write the figure, or the values, to a file; a file that is there is replaced.

        Args:
            path: file with one of the endings .png, .pdf, .jpg, .jpeg and .svg for the figure of `plot`, or .json for `to_dict`;
                missing folders are made.

        Raises:
            ValueError: `path` has another ending.
            WriteError: the file cannot be written.
        """
        ending = Path(path).suffix.lower()
        if ending == ".json":
            write_file(Path(path), encode_json(self.to_dict()))
            return
        if ending not in FIGURE_FORMATS:
            endings = ", ".join([*FIGURE_FORMATS, ".json"])
            raise ValueError(
                f"path must end in one of {endings}, got {str(path)!r}; finding.save('finding.png') writes the figure"
            )
        content = io.BytesIO()
        self.plot().savefig(content, format=FIGURE_FORMATS[ending])
        write_file(Path(path), content.getvalue())

    @property
    def name(self) -> str:
        """Name of the file, without its folders; `image` where there is no file."""
        return "image" if self.path is None else display_path(Path(self.path.rstrip("/\\"))).rpartition("/")[2] or "image"

    def __repr__(self) -> str:
        targets = ["malignancy" if target == MALIGNANT else full_name(target) for target in self.flagged_for]
        words = [f"{self.diagnosis} {self.confidence:.2f}"]
        if self.suspicious:
            words.append(" ".join(["suspicious", *(["for", " and ".join(targets)] if targets else [])]))
        if self.warnings:
            words.append("unsure")
        words.append(f"mask by {self.mask_source}")
        return f"Finding({_brief(self.name, _LONGEST_NAME)}: {_brief(', '.join(words), _LONGEST_WORDS)})"

    def _repr_html_(self) -> str:
        """Return the finding as HTML, with its pictures inside, for a notebook."""
        from segpipe.report.html import finding_html

        return finding_html(self)


def _brief(text: str, longest: int) -> str:
    text = one_line(text)
    return text if len(text) <= longest else f"{text[: longest - 9]}...{text[-6:]}"


def _enlarge_localization(place: Localization, height: int, width: int) -> Localization:
    if place.mask.shape == (height, width):
        return place
    mask = cv2.resize(place.mask.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR) > 127
    return replace(place, mask=mask, box=mask_box(mask))


def _enlarge_box(box: Box, down: float, across: float) -> Box:
    return Box(round(box.top * down), round(box.left * across), round(box.bottom * down), round(box.right * across))
