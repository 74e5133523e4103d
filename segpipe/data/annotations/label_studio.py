"""Reading of Label Studio's JSON exports, and writing of tasks.

Reference:
    https://labelstud.io/guide/export.html#Label-Studio-JSON-format-of-annotated-tasks
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
import numpy as np

from segpipe.data.annotations.brush import decode_brush, encode_brush
from segpipe.data.annotations.outlines import AnnotatedImage, Outline, check_size
from segpipe.data.identity import parse_name
from segpipe.io.files import encode_json

# Names of the tags in the labeling interface of written tasks.
CONTROL, IMAGE = "outline", "image"
LOCAL_FILES = "/data/local-files/?d="
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # of uploaded files, before their own name
_OTHER_SHAPES = ("rectangle", "ellipse", "keypoint", "vector")
_PERCENT = 100

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Value(msgspec.Struct):
    rle: list[Byte] | None = None
    points: list[tuple[float, float]] | None = None
    brushlabels: list[str] = []
    polygonlabels: list[str] = []
    labels: list[str] = []
    choices: list[str] = []


class _Result(msgspec.Struct):
    type: str
    value: _Value | None = None
    original_height: int | None = None
    original_width: int | None = None
    image_rotation: float = 0


class _Annotation(msgspec.Struct):
    result: list[_Result]
    was_cancelled: bool = False
    ground_truth: bool = False
    updated_at: str = ""


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[_Annotation] = []
    file_upload: str | None = None


def read_label_studio(content: bytes) -> list[AnnotatedImage]:
    """Read the images of an export in the format JSON.

    Of several annotations of a task, the one that is marked as ground truth counts, or else the latest; skipped ones and
    predictions do not count. The labels of an image are its choices, or else those of its outlines.

    Args:
        content: List of tasks.

    Raises:
        ValueError: The content is not of that form.
    """
    try:
        tasks = msgspec.json.decode(content, type=list[_Task])
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}; export as JSON, not as JSON-MIN") from error
    return [_annotated(number, task) for number, task in enumerate(tasks)]


def _annotated(number: int, task: _Task) -> AnnotatedImage:
    name, lesion = _image_name(number, task), task.data.get("lesion_id")
    lesion_id = None if lesion is None else str(lesion)
    finished = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not finished:
        return AnnotatedImage(name, lesion_id=lesion_id)
    results = max(finished, key=lambda annotation: (annotation.ground_truth, annotation.updated_at)).result
    try:
        outlines = [outline for result in results if (outline := _outline(result)) is not None]
        outline = Outline.unite(outlines) if outlines else None
    except ValueError as error:
        raise ValueError(f"image {name}: {error}") from error
    return AnnotatedImage(
        name,
        None if outline is None else outline.height,
        None if outline is None else outline.width,
        _labels(results),
        outline,
        lesion_id,
        tuple(dict.fromkeys(result.type for result in results if result.type.startswith(_OTHER_SHAPES))),
    )


def _labels(results: Sequence[_Result]) -> tuple[str, ...]:
    values = [result.value for result in results if result.value is not None]
    choices = [label for value in values for label in value.choices]
    others = [label for value in values for label in (*value.brushlabels, *value.polygonlabels, *value.labels)]
    return tuple(dict.fromkeys(choices or others))


def _outline(result: _Result) -> Outline | None:
    """Decode a brush or a polygon; None for other results."""
    value = result.value
    if value is None or (value.rle is None and value.points is None):
        return None
    height, width = result.original_height, result.original_width
    if height is None or width is None:
        raise ValueError("original_height and original_width must be given with an outline, got none")
    if result.image_rotation:
        raise ValueError(f"image_rotation must be 0, got {result.image_rotation:g}; turn the image back and draw it again")
    check_size(height, width)
    if value.rle is not None:
        return Outline.of_mask(decode_brush(value.rle, height, width))
    return Outline.of_polygons([np.array(value.points).reshape(-1, 2) * (width, height) / _PERCENT], height, width)


def _image_name(number: int, task: _Task) -> str:
    """Return the name of a task's image, without the server's prefix.

    Raises:
        ValueError: The task has no image.
    """
    image = task.data.get(IMAGE)
    texts = [value for value in (image, *task.data.values()) if isinstance(value, str)]
    names = [_path_of_url(text) for text in texts]
    name = next((name for name in names if parse_name(name).ending), None) or (
        names[0] if image and isinstance(image, str) else None
    )
    if name is None:
        raise ValueError(f"tasks must have an image in their data, got {', '.join(task.data) or 'nothing'} in task {number}")
    folder, _, file = name.rpartition("/")
    return _UPLOADED.sub("", file) if task.file_upload or folder.startswith("/data/upload") else name


def _path_of_url(text: str) -> str:
    """Return the path in a URL, or that of a local file."""
    url = urlsplit(text)
    local = parse_qs(url.query).get("d")
    return local[0] if local else unquote(url.path)


def write_label_studio(images: Sequence[AnnotatedImage], *, polygons: bool, images_url: str) -> bytes:
    """Write tasks, with predicted outlines as predictions and the others as annotations.

    Args:
        images: Images with sizes.
        polygons: True for polygons, see `Outline.polygons`; False for brushes, which keep every pixel.
        images_url: Text before the name of each image; together they are its URL for the server.

    Returns:
        JSON, a list of tasks for the labeling interface of `labeling_interface`.
    """
    return encode_json([_task(image, polygons, images_url) for image in images], indent=None)


def _task(image: AnnotatedImage, polygons: bool, images_url: str) -> dict[str, Any]:
    lesion = {} if image.lesion_id is None else {"lesion_id": image.lesion_id}
    data = {IMAGE: images_url + quote(image.name), **lesion}
    outline = image.outline
    if outline is None or not outline.area:
        return {"data": data}
    values = _polygons(outline, image.labels[0]) if polygons else [_brush(outline, image.labels[0])]
    kind = "polygonlabels" if polygons else "brushlabels"
    region = {"from_name": CONTROL, "to_name": IMAGE, "type": kind, "image_rotation": 0}
    size = {"original_width": outline.width, "original_height": outline.height}
    results = [{"id": f"segpipe{number}", **region, **size, "value": value} for number, value in enumerate(values)]
    if not image.predicted:
        return {"data": data, "annotations": [{"result": results}]}
    score = {} if image.confidence is None else {"score": image.confidence}
    return {"data": data, "predictions": [{"model_version": "segpipe", **score, "result": results}]}


def _brush(outline: Outline, label: str) -> dict[str, Any]:
    return {"format": "rle", "rle": encode_brush(outline.mask()), "brushlabels": [label]}


def _polygons(outline: Outline, label: str) -> list[dict[str, Any]]:
    scale = np.array([_PERCENT / outline.width, _PERCENT / outline.height])
    corners = [(polygon * scale).round(4).tolist() for polygon in outline.polygons()]
    return [{"points": points, "closed": True, "polygonlabels": [label]} for points in corners]


def labeling_interface(labels: Sequence[str], *, polygons: bool) -> str:
    """Write the labeling interface for tasks of `write_label_studio`, as XML."""
    from xml.sax.saxutils import quoteattr

    control = "PolygonLabels" if polygons else "BrushLabels"
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>',
            f'  <{control} name="{CONTROL}" toName="{IMAGE}">',
            *(f"    <Label value={quoteattr(label)}/>" for label in labels),
            f"  </{control}>",
            "</View>",
        ]
    )
