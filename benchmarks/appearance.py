"""Stability and distribution of the numbers of a lesion, on HAM10000.

    python benchmarks/appearance.py --data data/ham10000
    python benchmarks/appearance.py --data data/ham10000 --output docs/results/appearance.json --pictures outputs/appearance

The images are those of the test part with their true masks, one for each of up to `--lesions` lesions of every diagnosis, the
first in the order of the SHA-256 of their names. Photograph and mask are mirrored, rotated (on a canvas that holds all of it,
with black corners as those of a lens) and resized, the numbers are measured again, and each transform is compared with the
original: rank correlation (Spearman) over the images, and the median change relative to the original value. Diameters of a
resized image are divided by the factor, and the change of the typology angle is given in degrees.

`--pictures` writes the photographs with outline, axes and colors, to compare the numbers with the eye.

Exit status: 1 if a rank correlation under rotation is 0.95 or less for asymmetry, or the median time is 10 ms or more; else 0.
"""

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from segpipe.data.assembly import find_photographs, read_metadata
from segpipe.data.splits import read_split
from segpipe.io.files import encode_json, write_file
from segpipe.io.images import read_image, read_mask, write_png
from segpipe.lesion.appearance import COLORS, REFERENCE_RGB, Appearance, measure_appearance
from segpipe.types import BoolMask, RgbImage

SPLIT = Path(__file__).parents[1] / "segpipe" / "weights" / "split.csv"
ANGLES = range(10, 180, 20)  # degrees
FACTORS = (0.5, 2.0)
LEAST_CORRELATION = 0.95
MOST_MILLISECONDS = 10.0
DEGREES = "skin_ita"  # the only number with a change in degrees

Transform = Callable[[RgbImage, BoolMask], tuple[RgbImage, BoolMask]]


def mirror(axis: int) -> Transform:
    """Return a mirror image along an axis of the arrays."""
    return lambda image, mask: (np.flip(image, axis).copy(), np.flip(mask, axis).copy())


def rotate(degrees: float) -> Transform:
    """Return a rotation on a canvas that holds the whole image."""

    def apply(image: RgbImage, mask: BoolMask) -> tuple[RgbImage, BoolMask]:
        height, width = mask.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
        size = int(np.ceil(width * cosine + height * sine)), int(np.ceil(width * sine + height * cosine))
        matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
        turned = cv2.warpAffine(mask.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
        return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), turned >= 0.5

    return apply


def resize(factor: float) -> Transform:
    """Return a scaling of both sides."""

    def apply(image: RgbImage, mask: BoolMask) -> tuple[RgbImage, BoolMask]:
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        scale = {"dsize": None, "fx": factor, "fy": factor, "interpolation": interpolation}
        return cv2.resize(image, **scale), cv2.resize(mask.astype(np.float32), **scale) >= 0.5

    return apply


TRANSFORMS: dict[str, dict[str, Transform]] = {
    "mirror": {"left and right": mirror(1), "up and down": mirror(0)},
    "rotation": {f"{degrees} degrees": rotate(degrees) for degrees in ANGLES},
    "resizing": {f"{factor} x": resize(factor) for factor in FACTORS},
}


def choose_images(root: Path, lesions: int) -> pd.DataFrame:
    """Choose images of the test part: `image_id`, `dx`, `image_path`, `mask_path`."""
    files, labels = find_photographs(str(root), copies=False), read_metadata(str(root))
    if labels is None:
        raise SystemExit(f"--data must hold the HAM10000 metadata, got none in {root}")
    split = read_split(SPLIT)
    table = labels.merge(split[split["part"] == "test"][["image_id"]], on="image_id")
    table = table.sort_values("image_id", key=lambda names: names.map(lambda name: hashlib.sha256(name.encode()).hexdigest()))
    table = table.drop_duplicates("lesion_id").groupby("dx").head(lesions)
    return table.assign(image_path=table["image_id"].map(files.images), mask_path=table["image_id"].map(files.masks)).dropna(
        subset=["image_path", "mask_path"]
    )


def numbers(appearance: Appearance) -> dict[str, float]:
    """Return columns and color fractions; NaN for missing ones."""
    columns = appearance.to_columns()
    plain = {name: columns[name] for name in columns if name not in {"abcd_color_names", "abcd_diameter_mm"}}
    values = plain | {f"fraction {name}": appearance.color_fractions[name] for name in COLORS}
    return {name: float("nan" if value is None else value) for name, value in values.items()}


def measure_all(image: RgbImage, mask: BoolMask) -> dict[tuple[str, str], dict[str, float]]:
    """Measure an image and its transforms."""
    start = time.perf_counter()
    original = numbers(measure_appearance(image, mask))
    found = {("original", ""): original | {"milliseconds": (time.perf_counter() - start) * 1000}}
    for family, transforms in TRANSFORMS.items():
        for name, transform in transforms.items():
            appearance = measure_appearance(*transform(image, mask))
            if family == "resizing":
                appearance = replace(appearance, diameter_px=appearance.diameter_px / float(name.split()[0]))
            found[family, name] = numbers(appearance)
    return found


def stability(measured: dict[tuple[str, str], pd.DataFrame]) -> dict[str, Any]:
    """Compare each family of transforms with the originals."""
    original = measured["original", ""].drop(columns="milliseconds")
    results: dict[str, Any] = {}
    for family, transforms in TRANSFORMS.items():
        results[family] = {}
        for column in original:
            before = original[column]
            pairs = [(before, measured[family, name][column]) for name in transforms]
            known = [(old[old.notna() & new.notna()], new[old.notna() & new.notna()]) for old, new in pairs]
            correlations = {name: spearmanr(*pair).statistic for name, pair in zip(transforms, known, strict=True)}
            changes = pd.concat([abs(new - old) / (1 if column == DEGREES else abs(old)) for old, new in known])
            results[family][column] = {
                "rank_correlation_lowest": min(correlations.values()),
                "rank_correlation_median": statistics.median(correlations.values()),
                "lowest_at": min(correlations, key=correlations.__getitem__),
                "median_change_degrees" if column == DEGREES else "median_relative_change": float(
                    changes.replace(np.inf, np.nan).median()
                ),
                "unchanged": float(pd.concat([old == new for old, new in known]).mean()),
            }
    return results


def distribution(original: pd.DataFrame, diagnoses: "pd.Series[str]") -> dict[str, Any]:
    """Return the 5th, 50th and 95th percentile of each number by diagnosis."""
    groups = {"all": original} | {str(code): original[diagnoses == code] for code in sorted(diagnoses.unique())}
    return {
        code: {"images": len(group)}
        | {
            column: dict(zip(("p5", "median", "p95"), np.nanpercentile(group[column], (5, 50, 95)).tolist(), strict=True))
            for column in original
            if column != "milliseconds"
        }
        for code, group in groups.items()
    }


def draw(image: RgbImage, mask: BoolMask, appearance: Appearance) -> RgbImage:
    """Draw outline, axes, and a strip of the colors."""
    picture = image.copy()
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (0, 255, 255), 1)
    for line, color in zip(appearance.axes, ((255, 255, 0), (0, 255, 0)), strict=True):
        cv2.line(picture, *((round(column), round(row)) for row, column in line), color, 2)
    strip, left = np.full((40, image.shape[1], 3), 255, np.uint8), 0.0
    for name in appearance.color_names:
        right = left + appearance.color_fractions[name] * image.shape[1]
        strip[:, round(left) : round(right)] = REFERENCE_RGB[name]
        left = right
    columns = appearance.to_columns()
    texts = (f"A {columns['abcd_asymmetry']:.3f} color {columns['abcd_color_asymmetry']:.1f} B {columns['abcd_border']:.2f}",)
    texts += (f"C {columns['abcd_color_names']} D {columns['abcd_diameter_px']:.0f} ITA {appearance.skin_ita}",)
    for number, text in enumerate(texts):
        cv2.putText(picture, text, (5, 18 + 20 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the stability of the numbers of a lesion on HAM10000.")
    parser.add_argument("--data", type=Path, required=True, help="folder of HAM10000 with masks")
    parser.add_argument("--lesions", type=int, default=32, help="most lesions of a diagnosis")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--pictures", type=Path, help="folder for the photographs with axes and colors")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write, and return the exit status."""
    options = parse()
    table = choose_images(options.data, options.lesions)
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for image_id, diagnosis, image_path, mask_path in table[["image_id", "dx", "image_path", "mask_path"]].itertuples(
        index=False
    ):
        image, mask = read_image(image_path), read_mask(mask_path)
        for key, values in measure_all(image, mask).items():
            rows.setdefault(key, []).append(values)
        if options.pictures is not None:
            picture = draw(image, mask, measure_appearance(image, mask))
            write_png(options.pictures / f"{diagnosis}_{image_id}.png", picture)
    measured = {key: pd.DataFrame(values) for key, values in rows.items()}
    original = measured["original", ""]
    results = {
        "images": len(table),
        "milliseconds": float(original["milliseconds"].median()),
        "images_without_skin": int(original[DEGREES].isna().sum()),
        "stability": stability(measured),
        "distribution": distribution(original, table["dx"].reset_index(drop=True)),
    }
    for family, found in results["stability"].items():
        print(f"\n{family:30}{'rank correlation':>18}{'median change':>16}")
        for column, values in found.items():
            change = values.get("median_relative_change", values.get("median_change_degrees"))
            print(f"{column:30}{values['rank_correlation_lowest']:18.4f}{change:16.4f}   {values['lowest_at']}")
    lowest = results["stability"]["rotation"]["abcd_asymmetry"]["rank_correlation_lowest"]
    reached = lowest > LEAST_CORRELATION and results["milliseconds"] < MOST_MILLISECONDS
    print(f"\n{len(table)} images, {results['milliseconds']:.1f} ms each; {'reached' if reached else 'MISSED'}")
    if options.output is not None:
        write_file(options.output, encode_json(results, indent=1))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
