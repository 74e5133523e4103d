"""Ground truth of images: diagnoses, lesions, masks, attributes of patients."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.errors import DatasetError
from segpipe.evaluation.truth import AGE_BANDS, GroundTruth, check_truth, dataset_truth, read_attributes, read_truth
from segpipe.io.images import write_png


def test_attributes_are_read_from_the_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,dx,age,sex,localization\na,mel,30.0,Male, scalp\nb,nv,,female,\nc,nv,85,,unknown\n")
    truth = read_truth(labels=labels, masks=None)
    assert truth.attributes == {
        "sex": {"a": "male", "b": "female"},
        "localization": {"a": "scalp", "c": "unknown"},
        "age_band": {"a": "30-44", "c": "75+"},
    }
    assert truth.attributes_of(["c", "a", "other"]) == {
        "sex": ["unknown", "male", "unknown"],
        "localization": ["unknown", "scalp", "unknown"],
        "age_band": ["75+", "30-44", "unknown"],
    }


def test_labels_without_attributes_give_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\na,mel\n")
    assert read_truth(labels=tmp_path / "labels.csv", masks=None) == GroundTruth({"a": "mel"})
    assert read_attributes(pd.DataFrame({"image_id": ["a"], "age": [np.nan], "sex": [None]})) == {}


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "0-29"), (29.9, "0-29"), (30, "30-44"), (44, "30-44"), (45, "45-59"), (60, "60-74"), (75, "75+"), (104, "75+")],
)
def test_age_bands_include_their_first_year(age: float, band: str) -> None:
    assert read_attributes(pd.DataFrame({"image_id": ["a"], "age": [age]})) == {"age_band": {"a": band}}


@pytest.mark.parametrize("age", [np.nan, "old", -5, ""])
def test_invalid_age_is_unknown(age: object) -> None:
    assert read_attributes(pd.DataFrame({"image_id": ["a", "b"], "age": [age, "50"]})) == {"age_band": {"b": "45-59"}}


def test_age_bands_are_named_by_their_years_without_gaps() -> None:
    names, firsts = list(AGE_BANDS), list(AGE_BANDS.values())
    for name, first, following in zip(names, firsts, firsts[1:], strict=False):
        assert name == f"{first}-{following - 1}"
    assert names[-1] == f"{firsts[-1]}+"
    assert sorted(names) == names


MASK = np.zeros((12, 16), bool)
MASK[3:6, 4:10] = True


def write_images(root: Path, *names: str) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    for name in names:
        write_png(root / name, rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return {name: root / name for name in names}


def test_labels_match_images_by_path(tmp_path: Path) -> None:
    files = write_images(tmp_path / "same", "mel/0.png", "mel/1.png", "nv/0.png", "nv/1.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "image;label;lesion_id\r\nmel\\0.jpg; mel;L1\r\nmel\\1.jpg; mel;L1\r\nnv\\0.jpg; nv;L2\r\nnv\\1.jpg;nv;\r\n"
    )
    truth = check_truth(read_truth(labels=labels, masks=None), files)
    assert truth.diagnoses == {name: name.partition("/")[0] for name in files}
    assert truth.lesions == {"mel/0.png": "L1", "mel/1.png": "L1", "nv/0.png": "L2"}
    labels.write_text("image,label\n0,mel\n1,nv\n")
    with pytest.raises(DatasetError, match=r"labels must .*, got '0', .* mel/0\.png or nv/0\.png"):
        check_truth(read_truth(labels=labels, masks=None), files)


@pytest.mark.parametrize("rows", ["a,mel\na,nv\n", "a,mel\na.png,nv\n", "x/a,mel\ny/a.png,nv\n"])
def test_labels_that_contradict_each_other_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "labels.csv").write_text(f"image,label\n{rows}")
    with pytest.raises(DatasetError, match=r"labels must agree.*, got mel and nv for a"):
        check_truth(read_truth(labels=tmp_path / "labels.csv", masks=None), write_images(tmp_path / "photos", "a.png"))


def test_labels_of_none_of_the_images_are_refused_with_examples(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\nother,mel\n")
    with pytest.raises(DatasetError, match=r"labels must name at least one of the 1 images, such as a\.png, .* such as other"):
        check_truth(read_truth(labels=tmp_path / "labels.csv", masks=None), write_images(tmp_path, "a.png"))


def test_labels_of_other_classes_are_left_out_and_reported() -> None:
    truth = GroundTruth({"a": "mel", "b": "scc", "c": "None", "d": "scc"}).keep_classes(("mel", "nv"))
    assert truth.diagnoses == {"a": "mel"}
    assert truth.left_out == {"label of another class, 'scc'": ["b", "d"], "label of another class, 'None'": ["c"]}
    assert any("2 x" in remark and "'scc'" in remark for remark in truth.remarks())
    with pytest.raises(DatasetError, match=r"labels must name classes among mel, nv, got none: 2 x .*'scc' \(such as b\)"):
        GroundTruth({"b": "scc", "d": "scc"}).keep_classes(("mel", "nv"))


def bad_masks(root: Path) -> dict[str, str]:
    """Write a mask for each of a to e; return the defects of b to e."""
    write_png(root / "a.png", MASK)
    (root / "b.png").write_bytes(b"no picture")
    write_png(root / "c.png", MASK[:, :8])
    write_png(root / "d.png", np.zeros_like(MASK))
    write_png(root / "e.png", np.tile(np.arange(0, 256, 16, dtype=np.uint8), (12, 1)))
    return {
        "b.png": "mask that does not decode",
        "c.png": "mask of another size than its image",
        "d.png": "empty mask",
        "e.png": "mask that does not have two values",
    }


def test_bad_masks_are_left_out_and_reported(tmp_path: Path) -> None:
    files = write_images(tmp_path / "photos", *(f"{name}.png" for name in "abcde"))
    defects = bad_masks(tmp_path / "GT")
    truth = check_truth(read_truth(labels=None, masks=tmp_path / "GT"), files)
    assert truth.masks == {"a.png": tmp_path / "GT" / "a.png"}
    assert {image: reason for reason, images in truth.left_out.items() for image in images} == defects
    (tmp_path / "GT" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"masks must hold at least one .*, got none: .*1 x empty mask \(such as d\.png"):
        check_truth(read_truth(labels=None, masks=tmp_path / "GT"), files)


def test_masks_are_found_among_images_but_not_among_results(tmp_path: Path) -> None:
    files = write_images(tmp_path, "Imgs/x.png", "Imgs/y.png")
    for name in ("GT/x.bmp", "Imgs/y_mask.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(MASK).save(tmp_path / name)
    for name in ("x.png", "y.png"):
        write_png(tmp_path / "results" / "masks" / name, ~MASK)
    (tmp_path / "results" / "results.jsonl").touch()
    truth = check_truth(read_truth(labels=None, masks=tmp_path, images=list(files.values())), files)
    assert truth.masks == {"Imgs/x.png": tmp_path / "GT/x.bmp", "Imgs/y.png": tmp_path / "Imgs/y_mask.tif"}
    with pytest.raises(DatasetError, match="got none"):
        read_truth(labels=None, masks=tmp_path / "results")


def test_ground_truth_of_a_data_set_skips_missing_values(table: pd.DataFrame) -> None:
    partly = table.assign(mask_path=[*table["mask_path"][:1], *[None] * 9])
    truth = dataset_truth(partly)
    assert truth.diagnoses == dict(zip(table["image_id"], table["dx"], strict=True))
    assert truth.masks == {"0": Path(table["mask_path"][0])}
    assert truth.lesions["3"] == "L1"
    assert truth.attributes == {}
    aged = dataset_truth(table.assign(age=[50.0, np.nan] * 5, sex="female"))
    assert aged.attributes == {"sex": dict.fromkeys(table["image_id"], "female"), "age_band": dict.fromkeys("02468", "45-59")}
    assert dataset_truth(table.assign(mask_path=None)).masks is None
