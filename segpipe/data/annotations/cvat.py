"""CVAT's XML "CVAT for images 1.1": polygons, masks and tags.

Reference:
    https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from segpipe.data.annotations.outlines import AnnotatedImage, Outline, check_size
from segpipe.types import BoolMask, FloatArray

_OTHER_SHAPES = ("box", "cuboid", "ellipse", "points", "polyline", "skeleton")


def read_cvat(content: bytes) -> list[AnnotatedImage]:
    """Read the images of a CVAT file.

    The labels of an image are its tags, or else those of its outlines.

    Args:
        content: XML of the format "CVAT for images 1.1".

    Raises:
        ValueError: The content is not of that form.
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities may expand to any size
        raise ValueError("the XML must have no document type, got one; export the file from CVAT again")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: of an unknown encoding
        raise ValueError(f"the file must be XML, got something else ({error})") from error
    if root.tag != "annotations" or root.find("track") is not None:
        found = "tracks of a video" if root.tag == "annotations" else f"<{root.tag}>"
        raise ValueError(f'the XML must hold <annotations> of images, got {found}; export it as "CVAT for images 1.1"')
    return [_annotated(image) for image in root.iterfind("image")]


def _annotated(image: Element) -> AnnotatedImage:
    name = _text(image, "name")
    try:
        height, width = _number(image, "height"), _number(image, "width")
        check_size(height, width)
        outlines = list(_outlines(image, height, width))
    except ValueError as error:
        raise ValueError(f"image {name}: {error}") from error
    tags = [_text(tag, "label") for tag in image.iterfind("tag")]
    labels = tags or [_text(shape, "label") for shape in image if shape.tag in ("polygon", "mask", *_OTHER_SHAPES)]
    return AnnotatedImage(
        name,
        height,
        width,
        tuple(dict.fromkeys(labels)),
        Outline.unite(outlines) if outlines else None,
        skipped=tuple(shape for shape in _OTHER_SHAPES if image.find(shape) is not None),
    )


def _outlines(image: Element, height: int, width: int) -> Iterator[Outline]:
    for polygon in image.iterfind("polygon"):
        yield Outline.of_polygons([_corners(polygon)], height, width)
    for mask in image.iterfind("mask"):
        yield Outline.of_mask(_pasted(mask, height, width))


def _corners(polygon: Element) -> FloatArray:
    """Read `x,y;x,y;...`, float (N, 2)."""
    points = _text(polygon, "points")
    try:
        return np.array([[float(number) for number in point.split(",")] for point in points.split(";")])
    except ValueError as error:
        raise ValueError(f"points must be x,y;x,y and so on, got {points[:40]!r}") from error


def _pasted(mask: Element, height: int, width: int) -> BoolMask:
    """Decode a mask, whose runs fill its box row by row."""
    left, top, inner_width, inner_height = (_number(mask, name) for name in ("left", "top", "width", "height"))
    if not (0 <= left < left + inner_width <= width and 0 <= top < top + inner_height <= height):
        raise ValueError(
            f"a mask must lie in its image of {width} x {height} pixels, got {inner_width} x {inner_height} at {left}, {top}"
        )
    runs = _runs(mask)
    if sum(runs) != inner_height * inner_width or min(runs) < 0:
        raise ValueError(f"rle must fill the box of its mask, {inner_height * inner_width} pixels, got {sum(runs)}")
    pasted = np.zeros((height, width), bool)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    pasted[top : top + inner_height, left : left + inner_width] = values.reshape(inner_height, inner_width)
    return pasted


def _runs(mask: Element) -> list[int]:
    text = _text(mask, "rle")
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(f"rle must hold whole numbers, got {text[:40]!r}") from error


def _text(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise ValueError(f"<{element.tag}> must have the attribute {name}, got {', '.join(element.keys()) or 'none'}")
    return value


def _number(element: Element, name: str) -> int:
    text = _text(element, name)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name} of <{element.tag}> must be a whole number, got {text[:40]!r}") from error


def write_cvat(images: Sequence[AnnotatedImage], *, polygons: bool) -> bytes:
    """Write a CVAT file for upload to a task with these images.

    Args:
        images: Images with sizes and names as in the task.
        polygons: True for polygons, see `Outline.polygons`; False for masks, which keep every pixel.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    for number, image in enumerate(images):
        attributes = {"id": str(number), "name": image.name, "width": str(image.width), "height": str(image.height)}
        element = SubElement(root, "image", attributes)
        if image.outline is not None and image.outline.area:
            shape = {"label": image.labels[0], "source": "auto", "occluded": "0", "z_order": "0"}
            for attributes in _polygons(image.outline) if polygons else [_mask(image.outline)]:
                SubElement(element, "polygon" if polygons else "mask", shape | attributes)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _polygons(outline: Outline) -> list[dict[str, str]]:
    return [{"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in polygon)} for polygon in outline.polygons()]


def _mask(outline: Outline) -> dict[str, str]:
    left, top, width, height = (int(side) for side in outline.box)
    values = outline.mask()[top : top + height, left : left + width].ravel()
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [values.size]])).tolist()
    rle = ", ".join(map(str, [0, *runs] if values[0] else runs))
    sides = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": rle, **{name: str(side) for name, side in sides.items()}}
