"""Synthetic data set: reproducible, complete or absent, harmless to other files, learnable."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from segpipe.data.synthetic import dataset as synthetic
from segpipe.data.synthetic.dataset import (
    IMAGES_NAME,
    MASKS_NAME,
    METADATA_COLUMNS,
    METADATA_NAME,
    load_synthetic,
    make_image,
    write_dataset,
    write_samples,
)
from segpipe.data.synthetic.lesion import APPEARANCES, draw_lesion, paint_lesion
from segpipe.data.synthetic.photo import draw_view, render
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError
from segpipe.types import BoolMask, RgbImage

SMALL: dict[str, Any] = {"lesions": 9, "images_per_lesion": 3, "height": 45, "width": 60, "seed": 3}


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "new" / "root"
    write_dataset(root, **SMALL)
    return root


def read_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_metadata(root: Path) -> list[dict[str, str]]:
    with (root / METADATA_NAME).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_depend_on_the_seed_only(small_root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "same", **SMALL)
    write_dataset(tmp_path / "other", **(SMALL | {"seed": 4}))
    assert read_files(tmp_path / "same") == read_files(small_root)
    assert read_files(tmp_path / "other") != read_files(small_root)


def test_smaller_data_set_is_the_start_of_a_larger_one(small_root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "root", **(SMALL | {"lesions": 4}))
    fewer = {
        name: content for name, content in read_files(tmp_path / "root").items() if name.startswith(("HAM10000_i", "HAM10000_s"))
    }
    larger = read_files(small_root)
    assert fewer
    assert all(larger[name] == content for name, content in fewer.items())


def test_each_row_has_an_image_with_a_matching_mask(small_root: Path) -> None:
    rows = read_metadata(small_root)
    for row in rows:
        with Image.open(small_root / IMAGES_NAME / f"{row['image_id']}.jpg") as image:
            assert (image.mode, image.size) == ("RGB", (60, 45))
        with Image.open(small_root / MASKS_NAME / f"{row['image_id']}_segmentation.png") as mask:
            assert (mask.mode, mask.size) == ("L", (60, 45))
            assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert len(list((small_root / IMAGES_NAME).iterdir())) == len(list((small_root / MASKS_NAME).iterdir())) == len(rows)


def test_metadata_has_the_real_columns_and_values(tmp_path: Path) -> None:
    write_dataset(tmp_path / "root", lesions=70, images_per_lesion=1, height=32, width=32, seed=0)
    rows = read_metadata(tmp_path / "root")
    assert tuple(rows[0]) == METADATA_COLUMNS
    assert {row["dx_type"] for row in rows} == {"synthetic"}
    assert {row["sex"] for row in rows} <= {"male", "female", "unknown"}
    ages = [row["age"] for row in rows]
    assert 0 < ages.count("") < len(ages) / 4
    assert all(float(age) % 5 == 0 and 0 < float(age) <= 85 for age in ages if age)


def test_classes_alternate_and_images_of_a_lesion_share_metadata(small_root: Path) -> None:
    rows = read_metadata(small_root)
    by_lesion = {row["lesion_id"]: {key: row[key] for key in ("dx", "age", "sex", "localization")} for row in rows}
    assert [lesion["dx"] for lesion in by_lesion.values()] == [*CODES, *CODES[:2]]
    for row in rows:
        assert by_lesion[row["lesion_id"]].items() <= row.items()
    counts = Counter(row["lesion_id"] for row in rows)
    assert set(counts.values()) <= {1, 2, 3}
    assert max(counts.values()) > 1
    assert len({row["image_id"] for row in rows}) == len(rows)


def test_synthetic_data_set_loads_like_the_real_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    dataset = load_synthetic(str(root), **SMALL)
    rows = read_metadata(root)
    assert dataset.problems == ()
    for column in ("image_id", "lesion_id", "dx"):
        assert list(dataset.table[column]) == [row[column] for row in rows]
    assert [Path(path).name for path in dataset.table["mask_path"]] == [f"{row['image_id']}_segmentation.png" for row in rows]


def test_complete_data_set_is_kept(small_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_root.rglob("*")}
    write_dataset(small_root, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small_root.rglob("*")} == before


def test_other_arguments_replace_the_data_set(tmp_path: Path) -> None:
    write_dataset(tmp_path / "root", **SMALL)
    write_dataset(tmp_path / "root", **(SMALL | {"lesions": 2, "images_per_lesion": 1}))
    assert len(read_metadata(tmp_path / "root")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_data_set_of_a_concurrent_process_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    write_files = synthetic._write_files

    def write_while_another_finishes(folder: Path, recipe: synthetic.Recipe) -> None:
        write_files(folder, recipe)
        write_files(root, recipe)
        (root / "theirs").touch()

    monkeypatch.setattr(synthetic, "_write_files", write_while_another_finishes)
    write_dataset(root, **SMALL)
    assert (root / "theirs").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("existing", [False, True])
def test_failure_leaves_the_folder_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool) -> None:
    root = tmp_path / "root"
    if existing:
        write_dataset(root, **(SMALL | {"lesions": 1}))
    before = read_files(tmp_path)
    calls: list[Path] = []

    def fail_third(path: Path, mask: BoolMask) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise RuntimeError("stopped at the third mask")
        Image.fromarray(mask).save(path)

    monkeypatch.setattr(synthetic, "write_png", fail_third)
    with pytest.raises(RuntimeError, match="third mask"):
        write_dataset(root, **SMALL)
    assert read_files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["root"] if existing else [])


def test_unwritable_folder_is_a_data_set_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DatasetError, match=r"data\.root=.* must be a folder that can be written"):
        write_dataset(tmp_path / "file" / "root", **SMALL)


@pytest.mark.parametrize("recipe", [None, "{}", "not json", json.dumps(SMALL | {"generator": "somebody else"})])
def test_folder_with_other_content_is_refused_and_unchanged(tmp_path: Path, recipe: str | None) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    if recipe is not None:
        (tmp_path / synthetic.RECIPE_NAME).write_text(recipe)
    before = read_files(tmp_path)
    with pytest.raises(
        DatasetError, match=r"absent, empty or a generated data set, got something else in it: .*another data\.root"
    ):
        write_dataset(tmp_path, **SMALL)
    assert read_files(tmp_path) == before


def test_generated_folder_with_added_files_is_not_replaced(tmp_path: Path) -> None:
    write_dataset(tmp_path / "root", **SMALL)
    (tmp_path / "root" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        write_dataset(tmp_path / "root", **(SMALL | {"seed": 9}))
    assert (tmp_path / "root" / "notes.txt").read_text() == "mine"


def test_empty_folder_is_filled_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_dataset(tmp_path / "empty", **SMALL)
    assert read_metadata(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="something else in it: file"):
        write_dataset(tmp_path / "file", **SMALL)


@pytest.mark.parametrize(
    ("name", "value"), [("lesions", 0), ("images_per_lesion", 0), ("height", 31), ("width", 0), ("seed", -1)]
)
def test_too_small_arguments_are_refused(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be \d+ or more, got {value}"):
        write_dataset(tmp_path / "root", **(SMALL | {name: value}))
    assert not (tmp_path / "root").exists()


def test_every_diagnosis_has_an_appearance() -> None:
    assert tuple(APPEARANCES) == CODES
    with pytest.raises(ValueError, match=r"code must be one of mel, nv, .*got 'scc'"):
        make_image("scc", np.random.default_rng(0))


@pytest.mark.parametrize("code", CODES)
def test_lesion_stays_inside_its_canvas(code: str) -> None:
    for seed in range(25):
        factor, depth = paint_lesion(draw_lesion(APPEARANCES[code], np.random.default_rng(seed)), 64)
        edge = np.ones_like(depth, dtype=bool)
        edge[1:-1, 1:-1] = False
        assert depth[edge].max() < 0
        assert np.all(factor[edge] == 1)


@pytest.mark.parametrize("code", CODES)
def test_mask_covers_the_area_where_the_skin_changes(code: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        image, mask = make_image(code, rng, (60, 80))
        kernel = np.ones((5, 5), np.uint8)
        around = cv2.dilate(mask.astype(np.uint8), kernel, iterations=4) - cv2.dilate(mask.astype(np.uint8), kernel, iterations=2)
        skin = np.median(image[around > 0], axis=0)
        change = np.abs(image.astype(np.float64) - skin).sum(axis=2)
        assert 0.02 < mask.mean() < 0.6
        assert np.median(change[mask]) > 2 * np.median(change[around > 0])


def test_larger_image_shows_the_same_content() -> None:
    rng = np.random.default_rng(2)
    lesion, view = draw_lesion(APPEARANCES["nv"], rng), draw_view(rng)
    _, small = render(lesion, view, height=60, width=80)
    _, large = render(lesion, view, height=180, width=240)
    shrunk = cv2.resize(large.astype(np.float32), (80, 60), interpolation=cv2.INTER_AREA) > 0.5
    assert (small & shrunk).sum() / (small | shrunk).sum() > 0.9


def describe(image: RgbImage, mask: BoolMask) -> NDArray[np.float64]:
    """Describe an image by colors of lesion and skin and by texture of the lesion."""
    lesion, skin = image[mask].astype(np.float64), image[~mask].astype(np.float64)
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F))
    quantiles = np.quantile(lesion, [0.05, 0.95], axis=0).ravel()
    return np.concatenate(
        [lesion.mean(0), lesion.std(0), quantiles, np.median(skin, axis=0), [edges[mask].mean(), edges[mask].std()]]
    )


def test_simple_classifier_distinguishes_classes_of_new_lesions() -> None:
    def draw(seeds: range) -> tuple[NDArray[np.float64], list[str]]:
        samples = [
            (describe(*make_image(code, np.random.default_rng([seed, i]), (75, 100))), code)
            for seed in seeds
            for i, code in enumerate(CODES)
        ]
        return np.stack([features for features, _ in samples]), [code for _, code in samples]

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    classifier.fit(*draw(range(16)))
    assert classifier.score(*draw(range(100, 110))) > 0.7


def test_samples_have_one_image_per_class_with_mask_and_label(tmp_path: Path) -> None:
    write_samples(tmp_path)
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as stream:
        labels = {row["image"]: row["label"] for row in csv.DictReader(stream)}
    assert tuple(labels.values()) == CODES
    for name in labels:
        assert (tmp_path / f"{name}.jpg").stat().st_size < 120_000
        with Image.open(tmp_path / f"{name}.jpg") as image, Image.open(tmp_path / "masks" / f"{name}_segmentation.png") as mask:
            assert image.size == mask.size == (600, 450)
