"""Writing and loading of the synthetic data set in HAM10000's layout.

It serves tests, examples and a first run without a download.
"""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segpipe.data.check import CheckedDataset
from segpipe.data.loaders import load_ham10000
from segpipe.data.synthetic.lesion import APPEARANCES, draw_lesion
from segpipe.data.synthetic.photo import draw_view, make_image, render
from segpipe.diagnosis import CODES
from segpipe.errors import DatasetError, OutputError
from segpipe.io.files import display_path, encode_json
from segpipe.io.images import write_png
from segpipe.io.run_files import LABELS

RECIPE_NAME = "synthetic.json"
IMAGES_NAME = "HAM10000_images_part_1"
MASKS_NAME = "HAM10000_segmentations_lesion_tschandl"
METADATA_NAME = "HAM10000_metadata.csv"
METADATA_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")

_ENTRIES = frozenset({RECIPE_NAME, IMAGES_NAME, MASKS_NAME, METADATA_NAME})
# Far above the numbers of HAM10000, so that generated images cannot be mistaken for real ones.
_FIRST_NUMBER = 9_000_000
_MIN_SIDE_PX = 32
_JPEG_QUALITY = 92
_SAMPLE_JPEG_QUALITY = 88
_SAMPLE_SIZE = (450, 600)
# Approximate frequencies in the real metadata.
_SITES = {
    "back": 0.22,
    "lower extremity": 0.21,
    "trunk": 0.14,
    "upper extremity": 0.12,
    "abdomen": 0.11,
    "face": 0.08,
    "unknown": 0.12,
}
_SEXES = {"male": 0.53, "female": 0.45, "unknown": 0.02}
_MISSING_AGES = 0.05


@dataclass(frozen=True)
class Recipe:
    """Parameters of a generated data set, stored in its root.

    Attributes:
        lesions: Number of lesions; classes alternate.
        images_per_lesion: Maximum number of images per lesion.
        height: Height of the images, pixels.
        width: Width of the images, pixels.
        seed: Random seed.
        generator: Name of the generator.
        version: Version of the generator; other versions draw other images.
    """

    lesions: int
    images_per_lesion: int
    height: int
    width: int
    seed: int
    generator: str = "segpipe.data.synthetic.dataset"
    version: int = 1

    def __post_init__(self) -> None:
        least = {"lesions": 1, "images_per_lesion": 1, "height": _MIN_SIDE_PX, "width": _MIN_SIDE_PX, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be {minimum} or more, got {getattr(self, name)}")


def write_dataset(
    root: Path, *, lesions: int = 84, images_per_lesion: int = 3, height: int = 150, width: int = 200, seed: int = 0
) -> None:
    """Write a synthetic data set, unless it already exists.

    It is written beside `root` and moved when complete, so an interrupted call leaves no partial data set. A data set written
    by this function with other arguments is replaced.

    Args:
        root: Folder of the data set, created with its parents.
        lesions: Number of lesions; classes alternate, so they are equally frequent.
        images_per_lesion: Maximum number of images per lesion; each has at least one.
        height: Height of the images, pixels.
        width: Width of the images, pixels.
        seed: Random seed; the same arguments give the same files.

    Raises:
        ValueError: An argument is too small.
        DatasetError: `root` has other content, or cannot be written.
    """
    recipe = Recipe(lesions, images_per_lesion, height, width, seed)
    root = root.resolve()
    if _read_recipe(root) == asdict(recipe):
        return
    _refuse_foreign(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
            fresh = Path(scratch) / "fresh"
            _write_files(fresh, recipe)
            _move_into_place(fresh, root, recipe, old=Path(scratch) / "old")
    except (OSError, OutputError) as error:
        raise DatasetError(
            f"data.root={display_path(root)!r} must be a folder that can be written, got: {error}; name another data.root"
        ) from error


def _move_into_place(fresh: Path, root: Path, recipe: Recipe, *, old: Path) -> None:
    # Another process may have written the same files meanwhile, and they may already be in use.
    if _read_recipe(root) == asdict(recipe):
        return
    if root.exists():
        root.replace(old)
    fresh.replace(root)


def load_synthetic(
    root: str,
    *,
    lesions: int = 84,
    images_per_lesion: int = 3,
    height: int = 150,
    width: int = 200,
    seed: int = 0,
    masks: str | None = None,
    without_lesion_ids: bool = False,
) -> CheckedDataset:
    """Write the synthetic data set if missing, and load it.

    Args:
        root: Folder of the data set.
        lesions: Number of lesions, see `write_dataset`.
        images_per_lesion: Maximum number of images per lesion.
        height: Height of the images, pixels.
        width: Width of the images, pixels.
        seed: Random seed.
        masks: Folder or annotation file of masks that take precedence over the drawn ones; None for none.
        without_lesion_ids: Accepted as in `load_ham10000`; without effect, because lesion ids are known.

    Raises:
        ValueError: An argument is too small.
        DatasetError: `root` has other content, or cannot be written.
    """
    write_dataset(Path(root), lesions=lesions, images_per_lesion=images_per_lesion, height=height, width=width, seed=seed)
    return load_ham10000(root, masks=masks, without_lesion_ids=without_lesion_ids)


def _read_recipe(root: Path) -> object:
    try:
        return json.loads((root / RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_foreign(root: Path) -> None:
    """Raise a DatasetError unless a folder is empty or generated."""
    if not os.path.lexists(root):
        return
    entries = {entry.name for entry in root.iterdir()} if root.is_dir() else {root.name}
    recipe = _read_recipe(root)
    is_generated = isinstance(recipe, dict) and recipe.get("generator") == Recipe.generator and entries <= _ENTRIES
    if entries and not is_generated:
        foreign = sorted(entries - _ENTRIES) or sorted(entries)
        raise DatasetError(
            f"data.root={display_path(root)!r} must be absent, empty or a generated data set, got something else in it: "
            f"{', '.join(foreign[:3])}; name another data.root for the synthetic data"
        )


def _write_files(folder: Path, recipe: Recipe) -> None:
    (folder / IMAGES_NAME).mkdir(parents=True)
    (folder / MASKS_NAME).mkdir()
    rows: list[tuple[str, ...]] = []
    for lesion in range(recipe.lesions):
        rows += _write_lesion(folder, recipe, lesion, first_number=_FIRST_NUMBER + len(rows))
    _write_csv(folder / METADATA_NAME, METADATA_COLUMNS, rows)
    (folder / RECIPE_NAME).write_bytes(encode_json(asdict(recipe)))


def _write_lesion(folder: Path, recipe: Recipe, index: int, *, first_number: int) -> list[tuple[str, ...]]:
    """Write the images and masks of a lesion; return its metadata rows."""
    # Seeded by lesion, so that a larger data set begins with the lesions of a smaller one.
    rng = np.random.default_rng([recipe.seed, index])
    code = CODES[index % len(CODES)]
    patient = _draw_patient(rng)
    lesion = draw_lesion(APPEARANCES[code], rng)
    rows: list[tuple[str, ...]] = []
    for number in range(first_number, first_number + int(rng.integers(1, recipe.images_per_lesion + 1))):
        image, mask = render(lesion, draw_view(rng), height=recipe.height, width=recipe.width)
        image_id = f"ISIC_{number:07d}"
        Image.fromarray(image).save(folder / IMAGES_NAME / f"{image_id}.jpg", quality=_JPEG_QUALITY)
        write_png(folder / MASKS_NAME / f"{image_id}_segmentation.png", mask)
        rows.append((f"HAM_{_FIRST_NUMBER + index:07d}", image_id, code, "synthetic", *patient))
    return rows


def _draw_patient(rng: np.random.Generator) -> tuple[str, str, str]:
    """Draw age (in steps of five years, or empty), sex and site."""
    age = float(np.clip(5 * np.round(rng.normal(52, 17) / 5), 5, 85))
    age_is_missing = rng.random() < _MISSING_AGES
    sex = str(rng.choice(list(_SEXES), p=list(_SEXES.values())))
    site = str(rng.choice(list(_SITES), p=list(_SITES.values())))
    return "" if age_is_missing else str(age), sex, site


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_samples(folder: Path, *, seed: int = 3) -> None:
    """Write one larger image per diagnosis, with masks and labels.

    Args:
        folder: Destination of `synthetic_<code>.jpg`, `masks/synthetic_<code>_segmentation.png` and `labels.csv`
            (image,label).
        seed: Random seed.
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for index, code in enumerate(CODES):
        image, mask = make_image(code, np.random.default_rng([seed, index]), _SAMPLE_SIZE)
        Image.fromarray(image).save(folder / f"synthetic_{code}.jpg", quality=_SAMPLE_JPEG_QUALITY)
        write_png(folder / "masks" / f"synthetic_{code}_segmentation.png", mask)
    _write_csv(folder / LABELS, ("image", "label"), [(f"synthetic_{code}", code) for code in CODES])
