"""Images from Python callers: paths, URLs, bytes, PIL images and arrays."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from PIL import Image

from segpipe.errors import ImageError, PredictionError
from segpipe.inference.finding import Finding
from segpipe.inference.given_masks import read_given_mask, reduce_mask
from segpipe.inference.networks import is_out_of_memory
from segpipe.io.files import display_path, one_line
from segpipe.io.image_decoding import convert_picture
from segpipe.io.images import decode_photograph, reduce_photograph
from segpipe.io.storage import is_url, open_source
from segpipe.types import MIN_SIDE, BoolMask, Photograph, RgbImage, conversion_hint, kind_of, require_image

ImageSource: TypeAlias = str | Path | bytes | Image.Image | RgbImage


@dataclass(frozen=True)
class ReadImage:
    """A decoded image with its origin.

    Attributes:
        photograph: Pixels, possibly reduced, and the size of the original.
        path: File or URL on one line; None where there is none.
        sha256: SHA-256 of the content of the file; None where there is none.
        mask: Given mask, bool, in pixels of the original; None to find it.
    """

    photograph: Photograph
    path: str | None = None
    sha256: str | None = None
    mask: BoolMask | None = None


@dataclass(frozen=True)
class FailedPrediction:
    """Reason why a readable image has no finding.

    Attributes:
        reason: Text without the name of the image.
        by_model: True where a model returned a number that is not finite, false where memory ran out.
    """

    reason: str
    by_model: bool = False


def read_source(source: object, mask: object = None, *, least_side: int, max_pixels: int) -> ReadImage:
    """Read one image, reduced while both sides keep `least_side` pixels.

    Args:
        source: Image of any kind, see `Pipeline.predict`.
        mask: Given mask, an array or a path; None to find it.
        least_side: Smallest length of a side, pixels.
        max_pixels: Largest accepted number of pixels (height x width).

    Raises:
        ImageError: The file, the picture or the mask file cannot be used; the message starts with the path where there is one.
        ValueError: `source` is of another type, an array that is not an RGB image, or `mask` does not fit it.
    """
    image = _read_any(source, least_side, max_pixels)
    return image if mask is None else replace(image, mask=read_given_mask(mask, image.photograph, max_pixels=max_pixels))


def _read_any(source: object, least_side: int, max_pixels: int) -> ReadImage:
    try:
        match source:
            case str() | Path():
                return _read_file(source, least_side, max_pixels)
            case bytes():
                return _read_bytes(source, least_side, max_pixels)
            case Image.Image():
                return _read_picture(source, least_side, max_pixels)
            case np.ndarray():
                picture = Image.fromarray(np.ascontiguousarray(require_image(source)))
                return _read_picture(picture, least_side, max_pixels)
    except MemoryError as error:
        raise ImageError("needs more memory than there is; lower max_pixels to refuse it") from error
    expected = "a path, a URL, the bytes of a file, a PIL image or an RGB array, uint8 (H, W, 3)"
    raise ValueError(f"an image must be {expected}, got {kind_of(source)}; {conversion_hint(source)}")


def _read_file(source: str | Path, least_side: int, max_pixels: int) -> ReadImage:
    if source == "":
        raise ValueError("an image must be named by a path or a URL, got an empty text; check where it comes from")
    location: str | Path = source if isinstance(source, str) and is_url(source) else Path(source)
    shown = one_line(location, len(location)) if isinstance(location, str) else display_path(location)
    if isinstance(location, Path):
        _refuse_no_file(location, shown)
    with open_source(location) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return ReadImage(decode_photograph(file, least_side=least_side, max_pixels=max_pixels), shown, sha256)


def _read_bytes(content: bytes, least_side: int, max_pixels: int) -> ReadImage:
    if not content:
        raise ImageError("not an image: 0 bytes; check where they come from")
    photograph = decode_photograph(BytesIO(content), least_side=least_side, max_pixels=max_pixels)
    return ReadImage(photograph, sha256=hashlib.sha256(content).hexdigest())


def _read_picture(picture: Image.Image, least_side: int, max_pixels: int) -> ReadImage:
    picture = convert_picture(picture, max_pixels=max_pixels, backdrop="white")
    if min(picture.size) < MIN_SIDE:
        raise ImageError(f"has {picture.width} x {picture.height} pixels; both sides must have at least {MIN_SIDE}")
    return ReadImage(reduce_photograph(picture, least_side=least_side))


def _refuse_no_file(path: Path, shown: str) -> None:
    if os.path.isdir(path):
        raise ImageError(f"{shown}: is a folder; segpipe.predict_folder works through all images in it")
    if not os.path.lexists(path):
        is_pattern = "*" in path.name
        hint = "a * is not expanded, give Path(folder).glob(pattern) for many images" if is_pattern else "check the path"
        raise ImageError(f"{shown}: no such file; {hint}")


class PredictImages(Protocol):
    """Function from images to findings, see `Pipeline.__call__`."""

    def __call__(self, images: Sequence[RgbImage], *, masks: Sequence[BoolMask | None]) -> list[Finding]:
        """Return one finding per image, or raise for the whole batch."""


def predict_batch(
    predict: PredictImages, photographs: Sequence[Photograph], masks: Sequence[BoolMask | None]
) -> list[Finding | FailedPrediction]:
    """Predict a batch; if that fails, predict each image alone.

    Args:
        predict: Pipeline.
        photographs: Batch of images.
        masks: Given mask of each image, bool, in pixels of the original; None to find it.

    Returns:
        The finding of each image with its photograph, or the reason why it has none even alone.
    """
    if not photographs:
        return []
    try:
        reduced = list(map(reduce_mask, masks, photographs))
        findings = predict([photograph.image for photograph in photographs], masks=reduced)
        return [
            FailedPrediction(finding.refusal) if finding.refusal else replace(finding, photograph=photograph, given_mask=mask)
            for finding, photograph, mask in zip(findings, photographs, masks, strict=True)
        ]
    except PredictionError as error:
        failed = FailedPrediction(str(error), by_model=True)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        failed = FailedPrediction("needs more memory than there is; lower batch_size or max_pixels")
    if len(photographs) == 1:
        return [failed]
    pairs = zip(photographs, masks, strict=True)
    return [finding for photograph, mask in pairs for finding in predict_batch(predict, [photograph], [mask])]


def predict_all(
    predict: PredictImages,
    read: Callable[[object, object], ReadImage],
    sources: Iterable[tuple[object, object]],
    *,
    batch_size: int,
    numbered: bool,
) -> Iterator[Finding]:
    """Read and predict images of any kind, batch by batch.

    Args:
        predict: Pipeline.
        read: Function that reads one image with its mask.
        sources: Images with their given masks or None, read as they are needed.
        batch_size: Number of images that are read and predicted together.
        numbered: True to put the index of the image into errors.

    Yields:
        One finding per image, in order, up to the first image that fails.

    Raises:
        PredictionError, ImageError, ValueError: An image fails; later ones are not read.
    """
    images = _read_all(read, sources, numbered=numbered)
    while True:
        start = time.perf_counter()
        batch = list(islice(images, batch_size))
        readable = [(label, image) for label, image in batch if isinstance(image, ReadImage)]
        findings = predict_batch(predict, [image.photograph for _, image in readable], [image.mask for _, image in readable])
        latency_ms = 1000 * (time.perf_counter() - start) / max(len(readable), 1)
        for (label, image), finding in zip(readable, findings, strict=True):
            if isinstance(finding, FailedPrediction):
                prefix = label if image.path is None else f"{label}{image.path}: "
                raise (PredictionError if finding.by_model else ImageError)(f"{prefix}{finding.reason}")
            yield replace(finding, path=image.path, sha256=image.sha256, latency_ms=latency_ms)
        for _, error in batch[len(readable) :]:
            if isinstance(error, Exception):
                raise error
        if not batch:
            return


def _read_all(
    read: Callable[[object, object], ReadImage], sources: Iterable[tuple[object, object]], *, numbered: bool
) -> Iterator[tuple[str, ReadImage | Exception]]:
    """Yield images with their message prefix, up to the first error."""
    try:
        for index, source in enumerate(sources):
            label = f"item {index}: " if numbered else ""
            try:
                image = read(*source)
            except (ImageError, ValueError) as error:
                kind = next(kind for kind in (ImageError, ValueError) if isinstance(error, kind))
                yield label, kind(f"{label}{error}")
                return
            yield label, image
    except Exception as error:  # of the caller's iterator; images read before it keep their findings
        yield "", error
