"""Images as Python callers hand them over: paths, URLs, bytes, PIL images, arrays; read one by one, answered in batches."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from segpipe.errors import ImageError, PredictionError, one_line
from segpipe.inference.finding import Finding
from segpipe.inference.networks import is_out_of_memory
from segpipe.io.arrays import kind_of, require_image, way_from
from segpipe.io.image_decoding import convert_picture
from segpipe.io.images import MIN_SIDE, Photograph, decode_photograph, display_path, reduce_photograph
from segpipe.io.storage import is_url, open_source
from segpipe.types import RgbImage

ImageSource: TypeAlias = str | Path | bytes | Image.Image | RgbImage


@dataclass(frozen=True)
class ReadImage:
    """An image that was read.

    Attributes:
        photograph: pixels, maybe reduced, and the size of the original.
        path: file or URL, on one line; None where there is none.
        sha256: SHA-256 of the content of the file; None where there is none.
    """

    photograph: Photograph
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Unanswered:
    """The reason why a sound image has no finding.

    Attributes:
        reason: text without the name of the image.
        by_model: whether a model gave a number that is not finite.
    """

    reason: str
    by_model: bool = False


def read_source(source: object, *, least_side: int, max_pixels: int) -> ReadImage:
    """Read one image, reduced as far as both sides stay at least `least_side`.

    Args:
        source: image of any kind, see `Pipeline.predict`.
        least_side: smallest length of a side, pixels.
        max_pixels: most pixels (height x width) that are accepted.

    Raises:
        ImageError: the file or the picture cannot be used; the message starts with the path where there is one.
        ValueError: `source` is none of these, or an array that is no RGB image.
    """
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
    must = "a path, a URL, the bytes of a file, a PIL image or an RGB array, uint8 (H, W, 3)"
    raise ValueError(f"an image must be {must}, got {kind_of(source)}; {way_from(source)}")


def _read_file(source: str | Path, least_side: int, max_pixels: int) -> ReadImage:
    if source == "":
        raise ValueError("an image must be named by a path or a URL, got an empty text; check where it comes from")
    place: str | Path = source if isinstance(source, str) and is_url(source) else Path(source)
    shown = one_line(place, len(place)) if isinstance(place, str) else display_path(place)
    if isinstance(place, Path):
        _refuse_no_file(place, shown)
    with open_source(place) as file:
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
    """Refuse a folder and a path where nothing is, with the way out."""
    if os.path.isdir(path):
        raise ImageError(f"{shown}: is a folder; segpipe.predict_folder works through all images in it")
    if not os.path.lexists(path):
        way = "a * is not expanded, give Path(folder).glob(pattern) for many images" if "*" in path.name else "check the path"
        raise ImageError(f"{shown}: no such file; {way}")


def find_each(
    find: Callable[[Sequence[RgbImage]], list[Finding]], photographs: Sequence[Photograph]
) -> list[Finding | Unanswered]:
    """Find what can be found on a batch: one image without an answer does not take it from the others.

    Args:
        find: function that gives a finding for each image, or raises for all of them.
        photographs: batch of images.

    Returns:
        The finding of each image with its photograph, or the reason why it has none even alone.
    """
    if not photographs:
        return []
    try:
        findings = find([photograph.image for photograph in photographs])
        return [replace(finding, photograph=photograph) for finding, photograph in zip(findings, photographs, strict=True)]
    except PredictionError as error:
        unanswered = Unanswered(str(error), by_model=True)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        unanswered = Unanswered("needs more memory than there is; lower batch_size or max_pixels")
    if len(photographs) == 1:
        return [unanswered]
    return [finding for photograph in photographs for finding in find_each(find, [photograph])]


def find_all(
    find: Callable[[Sequence[RgbImage]], list[Finding]],
    read: Callable[[object], ReadImage],
    sources: Iterable[object],
    *,
    batch_size: int,
    numbered: bool,
) -> Iterator[Finding]:
    """Find what there is on images of any kind, batch by batch.

    Args:
        find: function as for `find_each`.
        read: function that reads one image.
        sources: images, read as they are needed.
        batch_size: images that are read and answered together.
        numbered: whether errors name the index of their image.

    Yields:
        One finding each, in the order of the images; all that come before one that fails.

    Raises:
        AnswerError, ImageError, ValueError: an image fails; no later one is looked at.
    """
    images = _read_all(read, sources, numbered=numbered)
    while True:
        begun = time.perf_counter()
        batch = list(islice(images, batch_size))
        good = [(label, image) for label, image in batch if isinstance(image, ReadImage)]
        findings = find_each(find, [image.photograph for _, image in good])
        latency_ms = 1000 * (time.perf_counter() - begun) / max(len(good), 1)
        for (label, image), finding in zip(good, findings, strict=True):
            if isinstance(finding, Unanswered):
                named = label if image.path is None else f"{label}{image.path}: "
                raise (PredictionError if finding.by_model else ImageError)(f"{named}{finding.reason}")
            yield replace(finding, path=image.path, sha256=image.sha256, latency_ms=latency_ms)
        for _, error in batch[len(good) :]:
            if isinstance(error, Exception):
                raise error
        if not batch:
            return


def _read_all(
    read: Callable[[object], ReadImage], sources: Iterable[object], *, numbered: bool
) -> Iterator[tuple[str, ReadImage | Exception]]:
    """Yield each image with the beginning of its messages; after the first error, which is yielded as well, nothing."""
    try:
        for index, source in enumerate(sources):
            label = f"item {index}: " if numbered else ""
            try:
                image = read(source)
            except (ImageError, ValueError) as error:
                kind = next(kind for kind in (ImageError, ValueError) if isinstance(error, kind))
                yield label, kind(f"{label}{error}")
                return
            yield label, image
    except Exception as error:  # of the caller's iterator: what was read before it shall have its findings
        yield "", error
