"""Rules for photographs that a diagnosis should not rest on.

The rules see a reduced copy of the image, as the networks do. docs/trust.md states how often each rule fires on the validation
images of HAM10000.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segpipe.lesion.localization import Localization, MaskSource
from segpipe.lesion.working_copy import rgb_to_lab
from segpipe.types import BoolMask, RgbImage, require_image

SIDE = 256  # pixels, longer side of the reduced copy

# Shorter side in pixels.
MIN_SIDE_PX = 128
# Standard deviation of the Laplacian of the gray levels.
MIN_SHARPNESS = 3.5
# Gray level that a tenth of the image exceeds.
MIN_LIGHT = 120.0
# Fraction of the image whose colors are all `WHITE` or more.
MAX_WHITE_FRACTION = 0.05
WHITE = 250
# Fraction of the lesion whose colors are all `GLARE` or more.
MAX_GLARE_FRACTION = 0.005
GLARE = 240
# Fraction of the image that has a color of skin, `is_skin`, without parts as dark as a vignette.
MIN_SKIN_FRACTION = 0.05
# Fraction of the image border that the lesion covers.
MAX_BORDER_FRACTION = 0.4

# Color of skin and lesions in CIELAB: from purple over red to yellow, never gray, green or blue.
_LEAST_LIGHTNESS = 15.0  # of 100; darker colors have no certain hue
_LEAST_RED = 3.0  # a*
_LEAST_YELLOW, _MOST_YELLOW = -1.0, 5.67  # b* as a multiple of a*: hues from -45 to 80 degrees


@dataclass(frozen=True)
class PhotoMeasures:
    """Measures of a photograph that the rules compare with their limits.

    Attributes:
        side_px: Shorter side of the image in pixels.
        sharpness: Standard deviation of the Laplacian, in gray levels.
        light: Gray level that a tenth of the image exceeds, in [0, 255].
        white_fraction: Fraction of the image burnt out to white.
        glare_fraction: Fraction of the lesion that reflects light.
        skin_fraction: Fraction of the image, without dark parts, that has a color of skin.
        border_fraction: Fraction of the image border that the lesion covers.
    """

    side_px: int
    sharpness: float
    light: float
    white_fraction: float
    glare_fraction: float
    skin_fraction: float
    border_fraction: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Codes of `segpipe.inference.evidence.ADVICE`, empty for a usable photograph."""
        checks = {
            "too_small": self.side_px < MIN_SIDE_PX,
            "out_of_focus": self.sharpness < MIN_SHARPNESS,
            "too_dark": self.light < MIN_LIGHT,
            "burnt_out": self.white_fraction > MAX_WHITE_FRACTION,
            "glare": self.glare_fraction > MAX_GLARE_FRACTION,
            "little_skin": self.skin_fraction < MIN_SKIN_FRACTION,
            "out_of_frame": self.border_fraction > MAX_BORDER_FRACTION,
        }
        return tuple(code for code, fires in checks.items() if fires)


def judge_photo(image: RgbImage, localization: Localization) -> tuple[str, ...]:
    """List the reasons against a photograph.

    Args:
        image: RGB uint8, shape (H, W, 3).
        localization: Lesion in the image.

    Returns:
        Codes of `segpipe.inference.evidence.ADVICE`, in the order of the rules; empty for a usable photograph.

    Raises:
        ValueError: `image` is not an RGB image.
    """
    found = localization.source is not MaskSource.WHOLE_IMAGE
    reasons = measure_photo(image, localization.mask if found else None).reasons
    return reasons + (("nothing_found",) if "no_lesion_found" in localization.warnings else ())


def measure_photo(image: RgbImage, mask: BoolMask | None) -> PhotoMeasures:
    """Measure a photograph on a reduced copy.

    Args:
        image: RGB uint8, shape (H, W, 3).
        mask: Mask of the lesion, bool, shape (H, W); None leaves out its measures, which are then 0.

    Raises:
        ValueError: `image` is not an RGB image.
    """
    require_image(image)
    reduced = _reduce(image)
    gray = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY)
    red, green, blue = cv2.split(reduced)
    darkest = cv2.min(cv2.min(red, green), blue)  # NumPy takes a millisecond for it
    lesion = None if mask is None else _reduce(mask.astype(np.uint8), cv2.INTER_NEAREST).astype(np.bool_)
    return PhotoMeasures(
        side_px=min(image.shape[:2]),
        sharpness=float(cv2.Laplacian(gray, cv2.CV_32F).std()),
        light=float(np.quantile(gray, 0.9)),
        white_fraction=float(np.mean(darkest >= WHITE)),
        glare_fraction=0.0 if lesion is None or not lesion.any() else float(np.mean(darkest[lesion] >= GLARE)),
        skin_fraction=_skin_fraction(reduced),
        border_fraction=0.0 if lesion is None else _border_fraction(lesion),
    )


def is_skin(image: RgbImage) -> tuple[BoolMask, BoolMask]:
    """Find pixels with a color of skin.

    Args:
        image: RGB uint8, shape (H, W, 3).

    Returns:
        Two masks, bool, shape (H, W): pixels with the color of skin, and pixels that are not too dark to have one.
    """
    lightness, red, yellow = cv2.split(rgb_to_lab(image))
    light = lightness >= _LEAST_LIGHTNESS
    hue = (yellow > _LEAST_YELLOW * red) & (yellow < _MOST_YELLOW * red)
    return np.asarray(light & (red > _LEAST_RED) & hue, np.bool_), np.asarray(light, np.bool_)


def _skin_fraction(image: RgbImage) -> float:
    skin, light = is_skin(image)
    return float(skin.sum() / light.sum()) if light.any() else 0.0


def _border_fraction(mask: BoolMask) -> float:
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def _reduce(image: NDArray[np.uint8], interpolation: int = cv2.INTER_AREA) -> NDArray[np.uint8]:
    """Reduce an image or a mask to at most `SIDE` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    halvings = int(-np.log2(scale))  # which OpenCV computes much faster than other reductions
    for factor in (0.5**halvings, scale):
        size = max(1, round(width * factor)), max(1, round(height * factor))
        image = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    return image
