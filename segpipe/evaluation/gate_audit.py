"""Measurement of the input gate on images of many kinds."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from segpipe.bundle.references import read_reference
from segpipe.errors import ImageError, require_extra
from segpipe.evaluation.gate import run_localizer
from segpipe.inference.evidence import GateResult
from segpipe.inference.gate import Gate
from segpipe.inference.runtimes import Runtime
from segpipe.inference.stages import Localizer
from segpipe.io.images import read_image, read_mask
from segpipe.io.passes import follow
from segpipe.io.run_files import GATE
from segpipe.lesion.photo_quality import MIN_SIDE_PX
from segpipe.runs.source import images_of_folder
from segpipe.types import RgbImage, mask_box

BOXED, SKIN = "lesion boxed out", "skin only"
_SHOWN = 2  # reasons in the table
_SEED = 0


@dataclass(frozen=True)
class ImageSet:
    """Images of one kind.

    Attributes:
        name: Name in the table.
        readers: Function for each image that reads or makes it; it returns None where there is no such image.
    """

    name: str
    readers: Sequence[Callable[[], RgbImage | None]]

    def read(self) -> Iterator[RgbImage]:
        """Yield the images, without those that cannot be read."""
        for reader in follow(self.readers, len(self.readers), self.name):
            with suppress(ImageError):
                image = reader()
                if image is not None:
                    yield image


@dataclass(frozen=True)
class GateAudit:
    """Measurement of the gate of a segmenter.

    Attributes:
        segmenter: SHA-256 of its weights.
        gate: SHA-256 of its reference data; None without them.
        runtime: Runtime of the segmenter.
        has_score: True where the gate compares features with the training images.
        sets: Result of `measure_gate`.
    """

    segmenter: str
    gate: str | None
    runtime: str
    has_score: bool
    sets: Mapping[str, Mapping[str, Any]]


def audit_segmenter(runtime: Runtime, folder: Path, sets: Sequence[ImageSet]) -> GateAudit:
    """Measure the gate of a segmenter on disk.

    Args:
        runtime: Runtime of the segmenter.
        folder: Bundle of the segmenter.
        sets: Images of each kind.

    Raises:
        BundleError: The bundle cannot be used.
    """
    network = runtime.load_segmenter(folder)
    reference = read_reference(folder, GATE, network.card)
    found = measure_gate(Localizer(network), Gate(reference), sets)
    record = network.card.references.get(GATE)
    has_score = any(each["scored"] for each in found.values())
    return GateAudit(network.sha256, None if record is None else record.sha256, network.runtime, has_score, found)


def measure_gate(localizer: Localizer, gate: Gate, sets: Sequence[ImageSet]) -> dict[str, dict[str, Any]]:
    """Measure the fraction of images that a gate rejects.

    Args:
        localizer: Localizer with the segmenter of the gate.
        gate: Gate to measure.
        sets: Images of each kind.

    Returns:
        `images`, `scored` (images with a score), `rejected` (fraction) with its 95 % Wilson interval `low` and `high`, all three
        None without images, and `reasons`, the number of images by code, most frequent first; by the name of each set.
    """
    return {each.name: _summarize([gate.judge(*item) for item in run_localizer(localizer, each.read())]) for each in sets}


def _summarize(results: Sequence[GateResult]) -> dict[str, Any]:
    rejected = sum(not result.ok for result in results)
    reasons = Counter(code for result in results for code in result.reasons)
    scores = [result.score for result in results if result.score is not None]
    summary: dict[str, Any] = {"images": len(results), "scored": len(scores), "rejected": None, "low": None, "high": None}
    if results:
        interval = binomtest(rejected, len(results)).proportion_ci(method="wilson")
        summary |= {"rejected": rejected / len(results), "low": float(interval.low), "high": float(interval.high)}
    return summary | {"reasons": dict(reasons.most_common())}


def gate_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the results of `measure_gate` as a Markdown table."""
    lines = ["| images | number | rejected | 95 % interval | most frequent reasons |", "| --- | ---: | ---: | --- | --- |"]
    for name, found in results.items():
        reasons = ", ".join(f"{code} {count}" for code, count in list(found["reasons"].items())[:_SHOWN]) or "none"
        values = ("none", "none")
        if found["rejected"] is not None:
            values = f"{found['rejected']:.1%}".replace("%", " %"), f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %"
        lines.append(f"| {name} | {found['images']} | {values[0]} | {values[1]} | {reasons} |")
    return "\n".join(lines)


def dataset_sets(table: pd.DataFrame, *, images: int) -> list[ImageSet]:
    """Make the sets that come from a data set.

    Args:
        table: Images with `part`, `image_path` and `mask_path`.
        images: Largest number of changed images in a set.

    Returns:
        All validation and test images as they are, then changed test images: the box of the lesion black, the largest strip of
        skin beside that box, and blur, noise, compression, darkness and brightness.

    Raises:
        MissingExtraError: albumentations is not installed.
    """
    val, test = (table[table["part"] == part] for part in ("val", "test"))
    masked, changed = _sample(test[test["mask_path"].notna()], images), _sample(test, images)
    pairs = list(zip(masked["image_path"], masked["mask_path"], strict=True))
    sets = [ImageSet(name, _readers(rows["image_path"])) for name, rows in (("validation", val), ("test", test))]
    sets += [ImageSet(name, [partial(make, *pair) for pair in pairs]) for name, make in ((BOXED, _box_out), (SKIN, _skin_only))]
    return sets + [ImageSet(name, _readers(changed["image_path"], change)) for name, change in _corruptions().items()]


def folder_set(folder: Path, *, images: int) -> ImageSet:
    """Make a set of the images of a folder.

    Args:
        folder: Folder, searched with its subfolders.
        images: Largest number of images.

    Raises:
        ConfigError: The folder is missing, or has no image.
    """
    files = pd.DataFrame({"image_path": [str(file) for file, _ in images_of_folder(folder).files]})
    return ImageSet(folder.resolve().name, _readers(_sample(files, images)["image_path"]))


def _sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    return rows.sample(min(count, len(rows)), random_state=_SEED)


def _readers(paths: "pd.Series[str]", change: Callable[[RgbImage], RgbImage] | None = None) -> list[Callable[[], RgbImage]]:
    return [partial(_read, path, change) for path in paths]


def _read(path: str, change: Callable[[RgbImage], RgbImage] | None) -> RgbImage:
    image = read_image(Path(path))
    return image if change is None else change(image)


def _box_out(image_path: str, mask_path: str) -> RgbImage:
    """Cover the box of the lesion with black."""
    image = np.array(read_image(Path(image_path)))
    image[mask_box(read_mask(Path(mask_path))).slices()] = 0
    return image


def _skin_only(image_path: str, mask_path: str) -> RgbImage | None:
    """Cut the largest strip of skin beside the lesion; None without one."""
    image, box = read_image(Path(image_path)), mask_box(read_mask(Path(mask_path)))
    strips = image[: box.top], image[box.bottom :], image[:, : box.left], image[:, box.right :]
    largest = max(strips, key=lambda strip: min(strip.shape[:2]))
    return np.ascontiguousarray(largest) if min(largest.shape[:2]) >= MIN_SIDE_PX else None


def _corruptions() -> dict[str, Callable[[RgbImage], RgbImage]]:
    """Return changes of an image by name; each is visible at once."""
    require_extra("torch", "segpipe audit gate", "albumentations")
    import albumentations

    def brightness(factor: float) -> Any:
        return albumentations.RandomBrightnessContrast((factor, factor), (0, 0), p=1)

    transforms = {
        "blur, 8 pixels": albumentations.GaussianBlur(blur_limit=(49, 49), sigma_limit=(8, 8), p=1),
        "noise, 20 %": albumentations.GaussNoise(std_range=(0.2, 0.2), p=1),
        "JPEG quality 10": albumentations.ImageCompression(quality_range=(10, 10), p=1),
        "darker by 50 %": brightness(-0.5),
        "brighter by 50 %": brightness(0.5),
    }
    return {name: _apply(albumentations.Compose([transform], seed=_SEED)) for name, transform in transforms.items()}


def _apply(transform: Any) -> Callable[[RgbImage], RgbImage]:
    return lambda image: np.asarray(transform(image=image)["image"], np.uint8)
