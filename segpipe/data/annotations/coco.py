"""Reading and writing of COCO's JSON for instances.

Reference:
    https://cocodataset.org/#format-data
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from segpipe.data.annotations.outlines import AnnotatedImage, Outline
from segpipe.io.files import encode_json

Key = int | str


class _Image(msgspec.Struct):
    id: Key
    file_name: str
    height: int
    width: int
    lesion_id: Key | None = None


class _Category(msgspec.Struct):
    id: Key
    name: str


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(msgspec.Struct):
    image_id: Key
    category_id: Key
    segmentation: list[list[float]] | _Runs | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(content: bytes) -> list[AnnotatedImage]:
    """Read the images of a COCO file.

    `iscrowd` makes no difference, because some tools set it for every outline that is stored as runs. Images may have a
    `lesion_id`, which COCO does not define.

    Args:
        content: JSON with `images`, `annotations` and `categories`.

    Raises:
        ValueError: The content is not of that form, or an annotation names an unknown image or category.
    """
    read = msgspec.json.decode(content, type=_Content)
    categories = {category.id: category.name for category in read.categories}
    images = {image.id: image for image in read.images}
    if len(images) < len(read.images):
        raise ValueError(f"images must have ids of their own, got {len(read.images)} images and {len(images)} ids")
    of_image: dict[Key, list[_Annotation]] = defaultdict(list)
    for number, annotation in enumerate(read.annotations):
        for name, key, known in (("image", annotation.image_id, images), ("category", annotation.category_id, categories)):
            if key not in known:
                raise ValueError(f"annotations[{number}].{name}_id must be one of the {len(known)} ids, got {key!r}")
        of_image[annotation.image_id].append(annotation)
    return [_annotated(image, of_image[image.id], categories) for image in read.images]


def _annotated(image: _Image, annotations: Sequence[_Annotation], categories: dict[Key, str]) -> AnnotatedImage:
    try:
        outlines = [outline for entry in annotations if (outline := _outline(entry.segmentation, image)) is not None]
    except ValueError as error:
        raise ValueError(f"image {image.file_name}: {error}") from error
    return AnnotatedImage(
        image.file_name,
        image.height,
        image.width,
        tuple(dict.fromkeys(categories[entry.category_id] for entry in annotations)),
        Outline.unite(outlines) if outlines else None,
        None if image.lesion_id is None else str(image.lesion_id),
        ("no segmentation",) if len(outlines) < len(annotations) else (),
    )


def _outline(segmentation: list[list[float]] | _Runs | None, image: _Image) -> Outline | None:
    """Decode a segmentation; None for an empty one."""
    if isinstance(segmentation, _Runs):
        if segmentation.size != (image.height, image.width):
            size = " x ".join(map(str, segmentation.size))
            raise ValueError(f"an outline must have the size of its image, {image.height} x {image.width} pixels, got {size}")
        return Outline.of_counts(segmentation.counts, image.height, image.width)
    polygons = [np.array(numbers) for numbers in segmentation or () if numbers]
    if not polygons:
        return None
    if any(polygon.size % 2 for polygon in polygons):
        raise ValueError("a polygon must have pairs of x and y, got an odd number of numbers")
    return Outline.of_polygons([polygon.reshape(-1, 2) for polygon in polygons], image.height, image.width)


def write_coco(images: Sequence[AnnotatedImage], *, polygons: bool) -> bytes:
    """Write a COCO file.

    Args:
        images: Images with sizes; those without an outline are listed without an annotation.
        polygons: True for polygons, see `Outline.polygons`; False for compressed runs, which keep every pixel.

    Returns:
        JSON; annotations of predicted labels have a `score`.
    """
    labels = list(dict.fromkeys(label for image in images for label in image.labels))
    annotations = [
        {"id": number, "image_id": image_id, "category_id": labels.index(image.labels[0]) + 1, **_geometry(image, polygons)}
        for number, (image_id, image) in enumerate(
            ((image_id, image) for image_id, image in enumerate(images, 1) if image.outline is not None), 1
        )
    ]
    content = {
        "info": {"description": "Outlines of skin lesions, written by segpipe"},
        "licenses": [],
        "images": [_describe(image, image_id) for image_id, image in enumerate(images, 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": label, "supercategory": "lesion"} for number, label in enumerate(labels, 1)],
    }
    return encode_json(content, indent=None)


def _describe(image: AnnotatedImage, image_id: int) -> dict[str, Any]:
    lesion = {} if image.lesion_id is None else {"lesion_id": image.lesion_id}
    return {"id": image_id, "file_name": image.name, "height": image.height, "width": image.width, **lesion}


def _geometry(image: AnnotatedImage, polygons: bool) -> dict[str, Any]:
    outline = image.outline
    if outline is None:
        raise ValueError(f"{image.name} must have an outline, got none")
    runs = {"size": [outline.height, outline.width], "counts": outline.counts.decode()}
    corners = [polygon.ravel().tolist() for polygon in outline.polygons()] if polygons else []
    score = {} if image.confidence is None else {"score": image.confidence}
    return {
        "segmentation": corners if polygons else runs,
        "area": outline.area,
        "bbox": list(outline.box),
        "iscrowd": 0,
        **score,
    }
