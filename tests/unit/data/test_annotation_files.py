"""Annotation files as labels and masks: COCO, Label Studio, CVAT, and damaged ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpipe.data.annotations.brush import encode_brush
from segpipe.data.annotations.files import is_annotation_file, read_annotations
from segpipe.data.annotations.labels import read_label_file
from segpipe.data.loaders import load_csv, load_folders
from segpipe.data.masks import find_masks
from segpipe.errors import DatasetError
from segpipe.evaluation.truth import check_truth, read_truth
from segpipe.io.images import read_mask, write_png
from segpipe.io.passes import keeping_results
from segpipe.types import BoolMask

HEIGHT, WIDTH = 12, 16


def rectangle(top: int, left: int, bottom: int, right: int) -> BoolMask:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


FIRST, SECOND = rectangle(2, 3, 7, 9), rectangle(8, 10, 11, 15)

COCO: dict[str, Any] = {
    "info": {"year": "2026"},
    "licenses": [],
    "categories": [{"id": 4, "name": "NV", "supercategory": ""}, {"id": 7, "name": "mel", "supercategory": ""}],
    "images": [
        {"id": 10, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "license": 0},
        {"id": 11, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        {"id": 12, "file_name": "c.png", "height": HEIGHT, "width": WIDTH},
        {"id": 13, "file_name": "d.png", "height": HEIGHT, "width": WIDTH},
    ],
    "annotations": [
        {
            **{"id": 1, "image_id": 10, "category_id": 7, "iscrowd": 0, "area": 30.0, "bbox": [3, 2, 6, 5]},
            "segmentation": [[3, 2, 9, 2, 9, 7, 3, 7]],
        },
        {
            **{"id": 2, "image_id": 10, "category_id": 7, "iscrowd": 1, "area": 15.0, "bbox": [10, 8, 5, 3]},
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [128, 3, 9, 3, 9, 3, 9, 3, 9, 3, 13]},
        },
        {
            **{"id": 3, "image_id": 11, "category_id": 4, "iscrowd": 0, "area": 15.0, "bbox": [10, 8, 5, 3]},
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [128, 3, 9, 3, 9, 3, 9, 3, 9, 3, 13]},
        },
        {"id": 4, "image_id": 12, "category_id": 4, "iscrowd": 0, "area": 9.0, "bbox": [1, 1, 3, 3], "segmentation": []},
    ],
}


def region(kind: str, value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **{"id": "Dx_aB3", "type": kind, "from_name": "label", "to_name": "image", "origin": "manual", "image_rotation": 0},
        **{"original_width": WIDTH, "original_height": HEIGHT, "value": value},
        **changes,
    }


def annotation(*results: dict[str, Any], updated: str = "2026-03-01T08:00:00.000000Z", **changes: Any) -> dict[str, Any]:
    return {
        **{"id": 5, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False, "lead_time": 14.7},
        **{"created_at": "2026-02-27T10:31:02.461913Z", "updated_at": updated, "prediction": {}, "task": 1},
        **changes,
    }


def corners(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def task(number: int, image: str, *annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **{"id": number, "annotations": list(annotations), "drafts": [], "predictions": [], "data": {"image": image}, "meta": {}},
        **{"created_at": "2026-02-27T10:30:00.000000Z", "updated_at": "2026-02-27T10:31:02.500000Z", "project": 1},
        **changes,
    }


BRUSH = region("brushlabels", {"format": "rle", "rle": encode_brush(SECOND), "brushlabels": ["mel"]})
POLYGON = region("polygonlabels", {"points": corners(2, 3, 7, 9), "closed": True, "polygonlabels": ["mel"]})
OTHER = region("brushlabels", {"format": "rle", "rle": encode_brush(FIRST), "brushlabels": ["bcc"]})
BOX = region("rectanglelabels", {"x": 5, "y": 5, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["NV"]})
CHOICE = {"id": "q", "type": "choices", "from_name": "dx", "to_name": "image", "value": {"choices": ["NV"]}}
LABEL_STUDIO = [
    task(1, "/data/upload/3/6a0b7c1d-a.png", annotation(BRUSH, POLYGON), file_upload="6a0b7c1d-a.png"),
    task(
        *(2, "/data/local-files/?d=photos/b.png"),
        annotation(OTHER, updated="2026-02-01T00:00:00.000000Z"),
        annotation(region("brushlabels", BRUSH["value"] | {"brushlabels": ["lesion"]}), CHOICE),
        annotation(OTHER, updated="2026-05-01T00:00:00.000000Z", was_cancelled=True),
    ),
    task(3, "s3://bucket/photos/c.png", annotation(BOX, CHOICE)),
    task(4, "https://images.example/photos/d.png?size=full"),
]

CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>21</id>
      <name>lesions</name>
      <labels>
        <label><name>mel</name><color>#fa3253</color><type>any</type><attributes></attributes></label>
        <label><name>NV</name><color>#33ddff</color><type>any</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2026-03-02 09:12:44.116031+00:00</dumped>
  </meta>
  <image id="0" name="a.png" subset="Train" task_id="21" width="{WIDTH}" height="{HEIGHT}">
    <polygon label="mel" source="manual" occluded="0" points="3.00,2.00;9.00,2.00;9.00,7.00;3.00,7.00" z_order="0">
    </polygon>
    <mask label="mel" source="semi-auto" occluded="0" rle="0, 15" left="10" top="8" width="5" height="3" z_order="0">
    </mask>
  </image>
  <image id="1" name="photos/b.png" subset="Train" task_id="21" width="{WIDTH}" height="{HEIGHT}">
    <mask label="lesion" source="manual" occluded="0" rle="8, 5, 2, 5, 2, 5, 1" left="9" top="7" width="7" height="4" z_order="0">
      <attribute name="quality">good</attribute>
    </mask>
    <tag label="NV" source="manual"></tag>
  </image>
  <image id="2" name="c.png" subset="Train" task_id="21" width="{WIDTH}" height="{HEIGHT}">
    <box label="NV" source="manual" occluded="0" xtl="1.0" ytl="1.0" xbr="4.0" ybr="4.0" z_order="0">
    </box>
  </image>
  <image id="3" name="d.png" subset="Train" task_id="21" width="{WIDTH}" height="{HEIGHT}">
  </image>
</annotations>
"""
FILES = {"coco.json": json.dumps(COCO), "label_studio.json": json.dumps(LABEL_STUDIO, indent=1), "cvat.xml": CVAT}
EVERY = pytest.mark.parametrize("name", FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of the four photographs and an annotation file of each tool."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name, image in zip("abcd", pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@EVERY
def test_labels_and_masks_are_those_of_the_file(root: Path, name: str) -> None:
    photographs = {f"{stem}.png": root / "photos" / f"{stem}.png" for stem in "abcd"}
    truth = check_truth(read_truth(labels=root / name, masks=root / name), photographs)
    assert truth.diagnoses == {"a.png": "mel", "b.png": "nv", "c.png": "nv"}
    assert truth.masks is not None
    masks = {image: read_mask(path) for image, path in truth.masks.items()}
    assert masks.keys() == {"a.png", "b.png"}
    assert np.array_equal(masks["a.png"], FIRST | SECOND)
    assert np.array_equal(masks["b.png"], SECOND)
    (remark,) = truth.remarks()
    assert "1 x annotation without an outline" in remark
    assert "c.png" in remark


@EVERY
def test_file_is_table_and_masks_of_a_data_set(root: Path, name: str) -> None:
    dataset = load_csv(str(root / "photos"), table=str(root / name), without_lesion_ids=True)
    assert dataset.classes == ("mel", "nv")
    assert dict(zip(dataset.table["image_id"], dataset.table["dx"], strict=True)) == {"a": "mel", "b": "nv", "c": "nv"}
    masks = dict(zip(dataset.table["image_id"], dataset.table["mask_path"], strict=True))
    assert np.array_equal(read_mask(Path(masks["a"])), FIRST | SECOND)
    assert masks["c"] is None
    problems = {problem.image_ids: problem.defect for problem in dataset.problems}
    assert problems["d",] == "unknown diagnosis"
    assert "1 x missing mask (c): used without a mask" in dataset.report()
    assert "1 x annotation without an outline" in dataset.report()


@EVERY
def test_masks_of_the_file_take_precedence_over_those_of_the_data_set(root: Path, name: str) -> None:
    (root / "photos" / "masks").mkdir()
    for stem in "ac":
        write_png(root / "photos" / "masks" / f"{stem}.png", SECOND)
    (root / "labels.csv").write_text("image,label\na,one\nb,two\nc,one\nd,two\n")
    arguments = {"table": str(root / "labels.csv"), "without_lesion_ids": True}
    dataset = load_csv(str(root / "photos"), masks=str(root / name), **arguments)
    masks = {row["image_id"]: row["mask_path"] for row in dataset.table.to_dict("records")}
    assert np.array_equal(read_mask(Path(masks["a"])), FIRST | SECOND)
    assert np.array_equal(read_mask(Path(masks["c"])), SECOND)
    assert masks["d"] is None


def test_masks_take_precedence_over_the_outlines_of_the_table(root: Path) -> None:
    write_png(root / "corrected" / "a.png", SECOND)
    arguments = {"table": str(root / "coco.json"), "without_lesion_ids": True}
    dataset = load_csv(str(root / "photos"), masks=str(root / "corrected"), **arguments)
    masks = dict(zip(dataset.table["image_id"], dataset.table["mask_path"], strict=True))
    assert masks["a"] == str(root / "corrected" / "a.png")
    assert np.array_equal(read_mask(Path(masks["b"])), SECOND)
    (root / "others").mkdir()
    (root / "photos" / "d.png").rename(root / "others" / "e.png")
    with pytest.raises(DatasetError, match=r"data\.table must name images of data\.root"):
        load_csv(str(root / "others"), **arguments)


def test_masks_may_be_given_as_a_folder(root: Path) -> None:
    write_png(root / "corrected" / "a_segmentation.png", FIRST)
    write_png(root / "corrected" / "x_segmentation.png", FIRST)
    (root / "photos" / "one").mkdir()
    (root / "photos" / "two").mkdir()
    (root / "photos" / "a.png").rename(root / "photos" / "one" / "a.png")
    (root / "photos" / "b.png").rename(root / "photos" / "two" / "b.png")
    dataset = load_folders(str(root / "photos"), masks=str(root / "corrected"), without_lesion_ids=True)
    assert dataset.table.set_index("image_id")["mask_path"].to_dict()["a"] == str(root / "corrected" / "a_segmentation.png")
    assert "1 x mask of no image in data.masks (x): skipped" in dataset.report()
    with pytest.raises(DatasetError, match=r"data.masks must name images of data.root, got none among 1 name, such as y"):
        write_png(root / "others" / "y_mask.png", FIRST)
        load_folders(str(root / "photos"), masks=str(root / "others"), without_lesion_ids=True)


def test_outlines_of_one_label_are_enough_for_a_segmenter(root: Path) -> None:
    content = COCO | {"categories": [{"id": 4, "name": "lesion"}, {"id": 7, "name": "lesion"}]}
    (root / "one.json").write_text(json.dumps(content))
    assert load_csv(str(root / "photos"), table=str(root / "one.json"), without_lesion_ids=True).classes == ("lesion",)
    (root / "one.csv").write_text("image,label\na,lesion\nb,lesion\n")
    with pytest.raises(DatasetError, match="at least two classes, got 1"):
        load_csv(str(root / "photos"), table=str(root / "one.csv"), without_lesion_ids=True)


def test_lesion_ids_are_read(root: Path) -> None:
    images = [image | {"lesion_id": number // 2} for number, image in enumerate(COCO["images"])]
    (root / "lesions.json").write_text(json.dumps(COCO | {"images": images}))
    dataset = load_csv(str(root / "photos"), table=str(root / "lesions.json"))
    assert list(dataset.table["lesion_id"]) == ["0", "0", "1"]
    tasks = [item | {"data": item["data"] | {"lesion_id": f"L{item['id']}"}} for item in LABEL_STUDIO]
    (root / "tasks.json").write_text(json.dumps(tasks))
    assert list(read_label_file(root / "tasks.json")["lesion_id"]) == ["L1", "L2", "L3", "L4"]


def test_two_labels_of_one_image_contradict_each_other(root: Path) -> None:
    (root / "two.json").write_text(json.dumps(changed(COCO, "annotations", 1, category_id=4)))
    with pytest.raises(DatasetError, match="labels must agree in dx, got mel and nv for a"):
        read_truth(labels=root / "two.json", masks=None)
    assert read_truth(labels=None, masks=root / "two.json").masks.keys() == {"a.png", "b.png"}


def test_empty_outline_is_an_empty_mask(root: Path) -> None:
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    (root / "empty.json").write_text(json.dumps(changed(COCO, "annotations", 2, segmentation=empty)))
    photographs = {f"{stem}.png": root / "photos" / f"{stem}.png" for stem in "abcd"}
    truth = check_truth(read_truth(labels=None, masks=root / "empty.json"), photographs)
    assert truth.left_out["empty mask"] == ["b.png"]


def test_outline_of_another_size_than_its_photograph_is_left_out(root: Path) -> None:
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(root / "photos" / "b.png")
    dataset = load_csv(str(root / "photos"), table=str(root / "coco.json"), without_lesion_ids=True)
    assert "1 x mask of another size than its image (b): used without a mask" in dataset.report()


@EVERY
def test_masks_are_decoded_once_beside_kept_results(root: Path, name: str) -> None:
    with keeping_results(str(root / "cache")):
        first = find_masks(root / name)
        times = {path: path.stat().st_mtime_ns for path in first.values()}
        assert find_masks(root / name) == first
    assert all(path.is_relative_to(root / "cache") for path in first.values())
    assert {path: path.stat().st_mtime_ns for path in first.values()} == times
    assert not any(path.is_relative_to(root) for path in find_masks(root / name).values())


def test_files_are_recognized_by_content(tmp_path: Path) -> None:
    for content in ("\ufeff {}", "\n[]", "<annotations/>"):
        (tmp_path / "file").write_text(content, encoding="utf-8")
        assert is_annotation_file(tmp_path / "file")
    (tmp_path / "labels.json").write_text("image,label\na,mel\n")
    assert not is_annotation_file(tmp_path / "labels.json")
    assert not is_annotation_file(tmp_path)
    assert not is_annotation_file(tmp_path / "missing.json")


def changed(content: dict[str, Any], part: str, number: int, **changes: Any) -> dict[str, Any]:
    items = [item | (changes if place == number else {}) for place, item in enumerate(content[part])]
    return content | {part: items}


def coco(part: str, number: int, **changes: Any) -> str:
    return json.dumps(changed(COCO, part, number, **changes))


def without(key: str) -> str:
    return json.dumps({name: value for name, value in COCO.items() if name != key})


def label_studio(result: dict[str, Any], **changes: Any) -> str:
    return json.dumps([task(1, "/data/upload/3/6a0b7c1d-a.png", annotation(result), **changes)])


RUNS = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
BAD = {
    # COCO
    "missing image": (coco("annotations", 2, image_id=99), r"annotations\[2\]\.image_id must be one of the 4 ids, got 99"),
    "unknown category": (coco("annotations", 2, category_id=1), r"annotations\[2\]\.category_id must be one of the 2 ids, got 1"),
    "size": (coco("annotations", 1, segmentation=RUNS | {"size": [WIDTH, HEIGHT]}), r"a\.png: .* 12 x 16 pixels, got 16 x 12"),
    "runs": (coco("annotations", 1, segmentation=RUNS | {"counts": [5, 5]}), r"a\.png: the runs .* got 10 pixels"),
    "compressed runs": (coco("annotations", 1, segmentation=RUNS | {"counts": "~"}), r"compressed counts"),
    "odd polygon": (coco("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "pairs of x and y, got an odd number"),
    "two corners": (coco("annotations", 0, segmentation=[[1, 2, 3, 4]]), "three or more corners"),
    "flat polygon": (
        coco("annotations", 0, segmentation=[1, 2, 3, 4, 5, 6]),
        r"Expected `array`.*annotations\[0\]\.segmentation",
    ),
    "two ids": (coco("images", 1, id=10), "got 4 images and 3 ids"),
    "two names": (coco("images", 1, file_name="a.png"), r"names of their own, got a\.png 2 times"),
    "no name": (coco("images", 1, file_name=" "), "must have names, got ' '"),
    "folder for a name": (coco("images", 1, file_name="../"), r"must have names, got '\.\./'"),
    "zero byte": (coco("images", 1, file_name="a\0b"), r"must have names, got 'a\\x00b'"),
    "no pixels": (coco("images", 0, height=0), "sides of 1 or more"),
    "no categories": (without("categories"), "missing required field `categories`"),
    "text for a number": (coco("images", 0, height="12"), r"Expected `int`, got `str` - at `\$\.images\[0\]\.height`"),
    "no images": (json.dumps(COCO | {"images": [], "annotations": []}), "at least one image, got none"),
    "truncated": (json.dumps(COCO)[:500], "truncated|unexpected end"),
    # Label Studio
    "JSON-MIN": (json.dumps([{"image": "/data/upload/1/a.png", "id": 1, "label": [BRUSH["value"]]}]), "not as JSON-MIN"),
    "no sizes": (
        label_studio(region("brush", BRUSH["value"], original_width=None)),
        r"a\.png: original_height and original_width",
    ),
    "other size": (label_studio(region("brush", BRUSH["value"], original_width=9)), r"must hold 432 values, .* got 768"),
    "turned": (label_studio(region("brush", BRUSH["value"], image_rotation=90)), "image_rotation must be 0, got 90"),
    "no byte": (label_studio(region("brush", {"rle": [1, 300]})), r"Expected `int` <= 255"),
    "no image": (label_studio(POLYGON, data={"text": 7}), "must have an image in their data, got text in task 0"),
    "list of images": (label_studio(POLYGON, data={"image": ["a.png"]}), "must have an image in their data, got image in task 0"),
    "two points": (label_studio(region("polygon", {"points": [[1, 2], [3, 4]]})), "three or more corners"),
    "no task": ("[]", "at least one image, got none"),
    "coordinates": (json.dumps([{"image_id": 1, "category_id": 1, "segmentation": [], "score": 0.5}]), "not as JSON-MIN"),
    # CVAT
    "entities": ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "no document type"),
    "other XML": ("<annotation><folder>x</folder></annotation>", r"got <annotation>; export it as .CVAT for images 1\.1"),
    "video": ('<annotations><track id="0"/></annotations>', "tracks of a video"),
    "broken XML": (CVAT[:900], "must be XML"),
    "no width": (CVAT.replace(f' width="{WIDTH}"', ""), "<image> must have the attribute width"),
    "text width": (CVAT.replace(f'width="{WIDTH}"', 'width="x"'), "width of <image> must be a whole number, got 'x'"),
    "points": (CVAT.replace("9.00,7.00", "9.00"), r"image a\.png: points must be x,y"),
    "infinite": (CVAT.replace("9.00,7.00", "inf,7.00"), "corners of finite x and y"),
    "beyond": (CVAT.replace('left="10"', 'left="12"'), r"a mask must lie in its image of 16 x 12 pixels, got 5 x 3 at 12, 8"),
    "unknown encoding": (CVAT.replace('"utf-8"', '"x"'), "must be XML, got something else .unknown encoding: x"),
    "short runs": (CVAT.replace('rle="0, 15"', 'rle="0, 14"'), "must fill the box of its mask, 15 pixels, got 14"),
    "negative runs": (CVAT.replace('rle="0, 15"', 'rle="-2, 17"'), "must fill the box"),
    "text runs": (CVAT.replace('rle="0, 15"', 'rle="0; 15"'), "rle must hold whole numbers"),
    "huge runs": (CVAT.replace('rle="0, 15"', f'rle="0, {10**30}"'), "must fill the box"),
    "runs beyond 64 bits": (CVAT.replace('rle="0, 15"', f'rle="{2**63 - 1}, {2**63 - 1}, 17"'), "must fill the box"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    content, message = BAD[fault]
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(DatasetError, match=message) as refused:
        read_annotations(tmp_path / "file.json")
    assert str(refused.value).startswith(f"{tmp_path / 'file.json'}: ")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("read", [read_annotations, find_masks, lambda path: read_truth(labels=path, masks=None)])
def test_deep_nesting_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "deep.json").write_text('{"a":' + "[" * 100_000)
    with pytest.raises(DatasetError, match=r"deep\.json"):
        read(tmp_path / "deep.json")


def test_file_without_outlines_has_labels_alone(root: Path) -> None:
    annotations = [entry | {"segmentation": []} for entry in COCO["annotations"]]
    (root / "tags.json").write_text(json.dumps(COCO | {"annotations": annotations}))
    dataset = load_csv(str(root / "photos"), table=str(root / "tags.json"), without_lesion_ids=True)
    assert dataset.table["mask_path"].isna().all()
    with pytest.raises(DatasetError, match="must hold outlines of lesions, got none for its 4 images"):
        find_masks(root / "tags.json")
