"""Reading of annotation files, recognized by their content."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from segpipe.data.annotations.coco import read_coco
from segpipe.data.annotations.cvat import read_cvat
from segpipe.data.annotations.label_studio import read_label_studio
from segpipe.data.annotations.outlines import AnnotatedImage
from segpipe.data.identity import parse_name
from segpipe.errors import DatasetError, require_extra
from segpipe.io.files import one_line

_HEAD_SIZE = 256
_BOM = b"\xef\xbb\xbf"
_READERS: Mapping[bytes, Callable[[bytes], list[AnnotatedImage]]] = {b"{": read_coco, b"[": read_label_studio, b"<": read_cvat}


@dataclass(frozen=True)
class Annotations:
    """Content of an annotation file.

    Attributes:
        images: Its images, each of another name.
        sha256: SHA-256 of the file.
    """

    images: tuple[AnnotatedImage, ...]
    sha256: str

    @property
    def skipped(self) -> dict[str, tuple[str, ...]]:
        """Names of images with annotations that are no outlines, by the reason."""
        kinds = dict.fromkeys(kind for image in self.images for kind in image.skipped)
        return {
            f"annotation without an outline ({kind})": tuple(image.name for image in self.images if kind in image.skipped)
            for kind in kinds
        }


def is_annotation_file(path: Path) -> bool:
    """Return True for a file of JSON or XML."""
    try:
        if not path.is_file():  # a pipe could not be read again
            return False
        with path.open("rb") as file:
            return _sign(file.read(_HEAD_SIZE)) in _READERS
    except (OSError, ValueError):
        return False


def _sign(content: bytes) -> bytes:
    return content.removeprefix(_BOM).lstrip()[:1]


def read_annotations(path: Path) -> Annotations:
    """Read a COCO, Label Studio or CVAT file.

    Args:
        path: JSON or XML, see `is_annotation_file`.

    Raises:
        MissingExtraError: The extra `annotations` is not installed.
        DatasetError: The file cannot be used.
    """
    require_extra("annotations", str(path))
    try:
        status = path.stat()
        return _read(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise DatasetError(f"{path}: {one_line(str(error))}") from error


@lru_cache(maxsize=2)  # labels and masks are often of one file
def _read(path: Path, *_version: int) -> Annotations:
    """Read a file once per version."""
    content = path.read_bytes()
    reader = _READERS.get(_sign(content))
    if reader is None:
        raise ValueError("it must be COCO's JSON, Label Studio's JSON or CVAT's XML, got something else")
    images = reader(content.removeprefix(_BOM))
    _check_names(images)
    return Annotations(tuple(images), hashlib.sha256(content).hexdigest())


def _check_names(images: Sequence[AnnotatedImage]) -> None:
    """Check that images have usable names of their own.

    Raises:
        ValueError: There is no image, a name has no file or holds a zero byte, or two images share one.
    """
    if not images:
        raise ValueError("it must hold at least one image, got none")
    for name, count in Counter(image.name for image in images).items():
        if not parse_name(name).stem or "\0" in name:
            raise ValueError(f"images must have names, got {name!r}")
        if count > 1:
            raise ValueError(f"images must have names of their own, got {name} {count} times; keep one of them")
