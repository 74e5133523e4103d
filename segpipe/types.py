"""Array types of images and masks with their checks; photographs and boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# RGB uint8, shape (H, W, 3).
RgbImage = NDArray[np.uint8]
# bool, shape (H, W), true on the lesion.
BoolMask = NDArray[np.bool_]
# float64, any shape; each use states it.
FloatArray = NDArray[np.float64]
# Class index of each image, shape (N,).
Labels = NDArray[np.integer]

# Pixels of the shorter side of a photograph; a lesion cannot be judged on fewer.
MIN_SIDE = 8


@dataclass(frozen=True)
class Photograph:
    """A photograph, decoded no larger than its use needs.

    Attributes:
        image: RGB uint8, shape (h, w, 3), contiguous: the original, or it reduced to a half, a quarter or an eighth.
        height: Height of the original as a viewer shows it, pixels.
        width: Width of the original, pixels.
    """

    image: RgbImage
    height: int
    width: int


@dataclass(frozen=True)
class Box:
    """Rectangle in pixels of the original image, end not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def is_square(self) -> bool:
        """True if both sides are equal up to 1 %, for rounding."""
        return abs(self.height - self.width) <= max(self.height, self.width) / 100

    def slices(self) -> tuple[slice, slice]:
        """Return the row and column slices of the box."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def named_sides(self, prefix: str) -> dict[str, int]:
        """Return the four sides by name, such as `box_top`."""
        return {f"{prefix}_{side}": getattr(self, side) for side in ("top", "left", "bottom", "right")}

    def scaled(self, down: float, across: float) -> "Box":
        """Scale the box to another resolution, rounded to whole pixels.

        Args:
            down: Factor on rows.
            across: Factor on columns.
        """
        return Box(round(self.top * down), round(self.left * across), round(self.bottom * down), round(self.right * across))

    def check_inside(self, height: int, width: int, *, name: str = "box") -> None:
        """Check that the box is not empty and lies inside an image.

        Args:
            height: Height of the image, pixels.
            width: Width of the image, pixels.
            name: Name of the box in the message.

        Raises:
            ValueError: The box is empty or reaches beyond the image.
        """
        if not (0 <= self.top < self.bottom <= height and 0 <= self.left < self.right <= width):
            raise ValueError(f"{name} must lie in the image of {height} x {width} pixels, got {self}")


def require_image(image: object, *, name: str = "image", min_side: int = MIN_SIDE) -> RgbImage:
    """Check that a value is an RGB image.

    Color order cannot be seen from pixels: OpenCV reads BGR, which `image[..., ::-1]` turns into RGB.

    Args:
        image: RGB uint8 in [0, 255], shape (H, W, 3).
        name: Name of the image in the message.
        min_side: Minimum of the shorter side, pixels.

    Returns:
        The unchanged `image`.

    Raises:
        ValueError: It is no array, or has another dtype or shape, or too few pixels.
    """
    array = _require_array(image, name, "uint8 (H, W, 3)")
    must = f"{name} must be RGB, uint8 (H, W, 3), got {array.dtype} {array.shape}"
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"{must}; {_shape_hint(array.shape)}")
    if array.dtype != np.uint8:
        raise ValueError(f"{must}; {_uint8_hint(array.dtype)}")
    if min(array.shape[:2]) < min_side:
        raise ValueError(f"{must}; both sides must have at least {min_side} pixels")
    return array


def require_images(images: object, *, name: str = "images") -> list[RgbImage]:
    """Check that a value is a non-empty list of RGB images.

    Raises:
        ValueError: It is no sequence, is empty, or holds anything that `require_image` refuses.
    """
    if isinstance(images, np.ndarray | str | bytes) or not isinstance(images, Sequence):
        hint = "give list(batch) for a batch of shape (N, H, W, 3), [image] for a single image"
        raise ValueError(f"{name} must be a list of RGB images, got {kind_of(images)}; {hint}")
    if not images:
        raise ValueError(f"{name} must hold at least one image, got none")
    return [require_image(image, name=f"{name}[{number}]") for number, image in enumerate(images)]


def require_mask(mask: object, *, size: tuple[int, int] | None = None, name: str = "mask") -> BoolMask:
    """Check that a value is a mask.

    Args:
        mask: Bool, shape (H, W), true on the lesion.
        size: Height and width of its image, pixels.
        name: Name of the mask in the message.

    Returns:
        The unchanged `mask`.

    Raises:
        ValueError: It is no array, has another dtype or shape, or another size than its image.
    """
    array = _require_array(mask, name, "bool (H, W)")
    must = f"{name} must be bool (H, W), got {array.dtype} {array.shape}"
    if array.dtype != np.bool_:
        raise ValueError(f"{must}; compare with a threshold, as in mask > 127 or probs > 0.5")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{must}; give one mask, without batch or channel")
    if size is not None and array.shape != size:
        raise ValueError(
            f"{name} must have the size of its image, {size[0]} x {size[1]} pixels, got {array.shape[0]} x {array.shape[1]}"
        )
    return array


def mask_box(mask: BoolMask) -> Box:
    """Return the smallest box that contains a mask.

    Args:
        mask: Bool, shape (H, W).

    Raises:
        ValueError: `mask` is not a bool array (H, W), see `require_mask`, or it is empty.
    """
    require_mask(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ValueError("mask must have at least one true pixel, got an empty one")
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _require_array(value: object, name: str, expected: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} must be a numpy array, {expected}, got {kind_of(value)}; {conversion_hint(value)}")
    return value


def kind_of(value: object) -> str:
    """Return the type name of a value, with any shape."""
    kind = type(value)
    module = kind.__module__.split(".")[0]
    shape = getattr(value, "shape", None)
    return f"{'' if module == 'builtins' else f'{module}.'}{kind.__name__}" + ("" if shape is None else f" {tuple(shape)}")


def conversion_hint(value: object) -> str:
    """Return advice for converting a value to an image array."""
    module = type(value).__module__.split(".")[0]
    if module == "PIL":
        return 'use numpy.asarray(image.convert("RGB"))'
    if value is None:
        return "check its origin: cv2.imread gives None for a file that it cannot read"
    if module == "torch":
        return "use tensor.permute(1, 2, 0).mul(255).byte().cpu().numpy() for a tensor (3, H, W) in [0, 1]"
    if isinstance(value, str | bytes) or module == "pathlib":
        return "read a file with segpipe.read_image"
    if hasattr(value, "read"):
        return "give the bytes of the file with file.read()"
    return "use numpy.asarray(image, dtype=numpy.uint8) for pixels, list(images) for several images"


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "give list(images) for a batch of images"
    if len(shape) == 2:
        return "repeat a gray image with numpy.repeat(image[..., None], 3, axis=2)"
    if len(shape) == 3 and shape[0] == 3:
        return "put the channels last with image.transpose(1, 2, 0)"
    if len(shape) == 3 and shape[2] == 4:
        return "drop the alpha channel with image[..., :3], or with image[..., 2::-1] where OpenCV read it as BGRA"
    if len(shape) == 3 and shape[2] == 1:
        return "repeat a gray image with numpy.repeat(image, 3, axis=2)"
    return "give one image of three channels"


def _uint8_hint(dtype: np.dtype[Any]) -> str:
    if np.issubdtype(dtype, np.floating):
        return "use (255 * image).round().astype(numpy.uint8) for values in [0, 1], image.round().astype(numpy.uint8) in [0, 255]"
    if dtype == np.uint16:
        return "keep the upper byte of 16 bits with (image >> 8).astype(numpy.uint8)"
    if dtype == np.bool_:
        return "a mask is not an image"
    return "values in [0, 255] become image.astype(numpy.uint8)"
