"""Conversion of masks and labels between PNG, COCO, Label Studio and CVAT."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pycocotools.coco import COCO

from segpipe.config import SAMPLES
from segpipe.config.commands import AnnotationsConfig
from segpipe.data.annotations.files import read_annotations
from segpipe.data.masks import find_masks
from segpipe.diagnosis import CODES
from segpipe.errors import ConfigError, DatasetError, OutputError
from segpipe.io.images import read_image, read_mask, write_png
from segpipe.metrics.segmentation import dice
from segpipe.types import BoolMask
from segpipe.workflows.annotations import convert_annotations

FORMATS = ("coco", "label_studio", "cvat")
TRUE = {code: read_mask(SAMPLES / "masks" / f"synthetic_{code}_segmentation.png") for code in CODES}


def convert(output: Path, **settings: Any) -> str:
    return convert_annotations(AnnotationsConfig(output=str(output), **settings))


def of_samples(output: Path, **settings: Any) -> str:
    given = {"masks": str(SAMPLES / "masks"), "folder": str(SAMPLES), "labels": str(SAMPLES / "labels.csv")}
    return convert(output, **given | settings)


def masks_in(folder: Path) -> dict[str, BoolMask]:
    return {Path(name).stem.removeprefix("synthetic_"): read_mask(path) for name, path in find_masks(folder).items()}


@pytest.mark.parametrize("written", FORMATS)
def test_masks_come_back_equal_to_the_pixel(tmp_path: Path, written: str) -> None:
    assert "7 images, 7 with an outline" in of_samples(tmp_path / "file", format=written)
    report = convert(tmp_path / "back", masks=str(tmp_path / "file"), format="masks")
    assert f"images per label: {', '.join(f'{code} 1' for code in sorted(CODES))}" in report
    back = masks_in(tmp_path / "back" / "masks")
    assert back.keys() == TRUE.keys()
    assert all(np.array_equal(back[code], mask) for code, mask in TRUE.items())
    rows = [line.split(",") for line in (tmp_path / "back" / "labels.csv").read_text().splitlines()]
    assert rows[0] == ["image", "label"]
    assert sorted(rows[1:]) == [[f"synthetic_{code}.jpg", code] for code in sorted(CODES)]


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_each_format_converts_to_each_other(tmp_path: Path, first: str, second: str) -> None:
    of_samples(tmp_path / "first", format=first)
    convert(tmp_path / "second", masks=str(tmp_path / "first"), format=second)
    before, after = (read_annotations(tmp_path / name).images for name in ("first", "second"))
    assert [(Path(image.name).name, image.labels, image.outline) for image in before] == [
        (Path(image.name).name, image.labels, image.outline) for image in after
    ]


@pytest.mark.parametrize("written", FORMATS)
def test_polygons_come_back_nearly(tmp_path: Path, written: str) -> None:
    of_samples(tmp_path / "file", format=written, shape="polygon")
    back = {image.labels[0]: image.outline for image in read_annotations(tmp_path / "file").images}
    assert back.keys() == TRUE.keys()
    assert min(dice(outline.mask(), TRUE[code]) for code, outline in back.items() if outline) > 0.99


def test_file_is_what_pycocotools_reads(tmp_path: Path) -> None:
    of_samples(tmp_path / "coco.json")
    coco = COCO(str(tmp_path / "coco.json"))
    assert sorted(category["name"] for category in coco.loadCats(coco.getCatIds())) == sorted(CODES)
    for entry in coco.loadAnns(coco.getAnnIds()):
        code = coco.cats[entry["category_id"]]["name"]
        assert coco.imgs[entry["image_id"]]["file_name"] == f"synthetic_{code}.jpg"
        assert np.array_equal(coco.annToMask(entry), TRUE[code])
        assert entry["area"] == TRUE[code].sum()
        rows, columns = np.nonzero(TRUE[code])
        assert entry["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_tasks_fit_the_labeling_interface(tmp_path: Path) -> None:
    report = of_samples(tmp_path / "tasks.json", format="label_studio", images_url="https://images.example/")
    interface = ElementTree.fromstring(report[report.index("<View>") :])
    names = {tag.tag: tag.get("name") for tag in interface}
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        (annotation,) = task["annotations"]
        (result,) = annotation["result"]
        assert (result["from_name"], result["to_name"]) == (names["BrushLabels"], names["Image"])
        assert result["type"] == "brushlabels"
        (label,) = result["value"]["brushlabels"]
        assert task["data"]["image"] == f"https://images.example/synthetic_{label}.jpg"
        assert {tag.get("value") for tag in interface.iter("Label")} >= {label}
        assert (result["original_height"], result["original_width"]) == TRUE[label].shape


def run_folder(folder: Path, *, sources: tuple[str, ...] = ("unet", "contour", "whole_image")) -> Path:
    """Write what `convert_annotations` reads of a run."""
    rows = [f"sub/{source}.jpg,mel,0.75,{source},,," for source in sources]
    folder.mkdir()
    header = "path,diagnosis,confidence,mask_source,flagged_for,prediction_set,sha256"
    (folder / "results.csv").write_text("\n".join([header, *rows, ""]))
    for source in sources:
        write_png(folder / "masks" / "sub" / f"{source}.png", TRUE["mel"])
    return folder


@pytest.mark.parametrize("written", FORMATS)
def test_run_becomes_annotations_for_correction(tmp_path: Path, written: str) -> None:
    report = convert(tmp_path / "file", run=str(run_folder(tmp_path / "run")), format=written)
    assert "3 images, 2 with an outline" in report
    text = (tmp_path / "file").read_text()
    assert "sub/unet.jpg" in text and "sub/whole_image.jpg" in text
    assert ('"score":0.75' in text.replace(" ", "")) == (written != "cvat")
    if written == "label_studio":  # predictions are no annotations
        assert all(image.outline is None for image in read_annotations(tmp_path / "file").images)
        return
    outlines = {image.name: image.outline for image in read_annotations(tmp_path / "file").images}
    assert outlines["sub/whole_image.jpg"] is None
    assert np.array_equal(outlines["sub/unet.jpg"].mask(), TRUE["mel"])


def test_labels_and_lesions_of_a_table_replace_those_of_the_file(tmp_path: Path) -> None:
    of_samples(tmp_path / "coco.json", labels=None)
    assert {label for image in read_annotations(tmp_path / "coco.json").images for label in image.labels} == {"lesion"}
    (tmp_path / "t.csv").write_text("image,label,lesion_id\nsynthetic_nv,Spot,L1\nsynthetic_mel,Spot,L1\n")
    convert(tmp_path / "back", masks=str(tmp_path / "coco.json"), labels=str(tmp_path / "t.csv"), format="masks")
    lines = (tmp_path / "back" / "labels.csv").read_text().splitlines()
    assert lines[0] == "image,label,lesion_id"
    assert set(lines[1:]) == {"synthetic_nv.jpg,Spot,L1", "synthetic_mel.jpg,Spot,L1"}


def test_images_of_unknown_size_are_counted(tmp_path: Path) -> None:
    of_samples(tmp_path / "tasks.json", format="label_studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    (tmp_path / "tasks.json").write_text(json.dumps([{"data": tasks[0]["data"]}, *tasks[1:]]))
    report = convert(tmp_path / "coco.json", masks=str(tmp_path / "tasks.json"))
    assert "6 images, 6 with an outline" in report
    assert "left out, because their size is unknown: 1 image" in report
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 6


def test_masks_of_other_images_do_not_stay_among_the_written_ones(tmp_path: Path) -> None:
    of_samples(tmp_path / "coco.json")
    again: dict[str, Any] = {"masks": str(tmp_path / "coco.json"), "format": "masks", "overwrite": True}
    convert(tmp_path / "back", **again)
    convert(tmp_path / "back", **again)
    content = json.loads((tmp_path / "coco.json").read_text())
    (tmp_path / "coco.json").write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    with pytest.raises(OutputError, match=r"no other masks or labels, got 1 .*remove them"):
        convert(tmp_path / "back", **again)


def test_tasks_need_no_size(tmp_path: Path) -> None:
    of_samples(tmp_path / "tasks.json", format="label_studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    (tmp_path / "tasks.json").write_text(json.dumps([{"data": tasks[0]["data"]}, *tasks[1:]]))
    report = convert(tmp_path / "again.json", masks=str(tmp_path / "tasks.json"), format="label_studio")
    assert "7 images, 6 with an outline" in report
    assert json.loads((tmp_path / "again.json").read_text())[0] == {"data": tasks[0]["data"]}


def test_names_that_differ_in_case_alone_keep_their_masks(tmp_path: Path) -> None:
    of_samples(tmp_path / "coco.json")
    content = json.loads((tmp_path / "coco.json").read_text())
    for image, name in zip(content["images"], ("a.jpg", "a.JPG"), strict=False):
        image["file_name"] = name
    (tmp_path / "coco.json").write_text(json.dumps(content))
    convert(tmp_path / "back", masks=str(tmp_path / "coco.json"), format="masks")
    assert len(list((tmp_path / "back" / "masks").iterdir())) == 7
    names = [line.split(",")[0] for line in (tmp_path / "back" / "labels.csv").read_text().splitlines()[1:]]
    assert names[:2] == ["a.jpg", "a.JPG"]


def test_names_stay_below_the_output(tmp_path: Path) -> None:
    of_samples(tmp_path / "coco.json")
    content = json.loads((tmp_path / "coco.json").read_text())
    content["images"][0]["file_name"] = "../../up.jpg"
    content["images"][1]["file_name"] = "/root/of.jpg"
    content["images"][2]["file_name"] = "of.jpg"
    (tmp_path / "coco.json").write_text(json.dumps(content))
    convert(tmp_path / "out" / "back", masks=str(tmp_path / "coco.json"), format="masks")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert len(files) == 7
    assert files >= {f"out/back/masks/{name}.png" for name in ("up", "root/of", "of")}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ConfigError, r"exactly one of run=DIR.* and masks="),
        ({"run": ".", "masks": "."}, ConfigError, r"exactly one of run=DIR.* and masks="),
        ({"run": "."}, ConfigError, r"run must be a folder with results.csv"),
        ({"masks": str(SAMPLES / "masks")}, ConfigError, r"folder must be given"),
        (
            {"masks": str(SAMPLES), "folder": "photos"},
            ConfigError,
            r"masks must be named after images in folder",
        ),
        ({"masks": str(SAMPLES / "labels.csv"), "folder": "photos"}, Exception, r"labels\.csv"),
        ({"masks": "bad.json"}, DatasetError, r"bad\.json: .* missing required field"),
    ],
)
def test_wrong_calls_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    write_png(tmp_path / "photos" / "other.png", read_image(SAMPLES / "synthetic_mel.jpg"))
    with pytest.raises(error, match=message):
        convert(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_existing_output_is_replaced_on_request_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="overwrite=true"):
        of_samples(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    of_samples(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="must be a file with format=coco, got the folder"):
        of_samples(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="must not exist yet"):
        of_samples(tmp_path, format="masks")
