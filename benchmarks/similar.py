"""Similar cases: time of a query, and recognized copies of training photographs.

    python benchmarks/similar.py --data data/ham10000
    python benchmarks/similar.py --data data/ham10000 --classifier outputs/mine/bundle --output docs/results/similar.json

Training photographs from the index of a classifier are changed, and recognized by their features alone, without their names. A
second photograph of a lesion is not in the index. How often photographs of other lesions are taken for near copies, and how well
the vote ranks, is among the metrics of a run with labels.

Exit status: 1 if a query takes more than 2 ms, or a photograph is not recognized as it is; else 0.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.references import Reference, read_reference
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.similar import SimilarIndex
from segpipe.io.images import read_image
from segpipe.io.passes import follow
from segpipe.io.run_files import SIMILAR
from segpipe.types import RgbImage

LONGEST_MS = 2.0
QUERIES = 200
UNCHANGED = "unchanged"


def compress(image: RgbImage, quality: int) -> RgbImage:
    """Encode an image as JPEG and decode it."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def crop(image: RgbImage, fraction: float) -> RgbImage:
    """Cut a fraction off each side."""
    rows, columns = (round(side * fraction) for side in image.shape[:2])
    return np.ascontiguousarray(image[rows:-rows, columns:-columns])


CHANGES: Mapping[str, Callable[[RgbImage], RgbImage]] = {
    UNCHANGED: lambda image: image,
    "JPEG, quality 75": lambda image: compress(image, 75),
    "JPEG, quality 30": lambda image: compress(image, 30),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "2.5 % cut off each side": lambda image: crop(image, 0.025),
    "5 % cut off each side": lambda image: crop(image, 0.05),
    "10 % brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=5),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "quarter turn": lambda image: np.ascontiguousarray(np.rot90(image)),
}


def is_known(pipeline: Pipeline, index: SimilarIndex, image: RgbImage) -> bool:
    """Return True where an image without a name is recognized."""
    crops = pipeline.ensemble.cut(image, pipeline.localizer([image])[0])
    return index.find(pipeline.ensemble([crops])[0].features).known


def milliseconds_per_query(index: SimilarIndex, channels: int) -> float:
    """Measure the median time of a query with random features."""
    rng, times = np.random.default_rng(0), []
    for _ in range(QUERIES):
        features = rng.random(channels, np.float32)
        start = time.perf_counter()
        index.find(features)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def recognized(pipeline: Pipeline, index: SimilarIndex, reference: Reference, data: Path, sample: int) -> dict[str, float]:
    """Measure the fraction of changed photographs that are recognized.

    Args:
        pipeline: Pipeline with the classifier of the index.
        index: Index of similar cases.
        reference: Reference data of the index.
        data: Folder of the training images.
        sample: Number of photographs for each change.

    Returns:
        Fraction by change, and that of the second photographs of lesions.
    """
    files = {path.stem: path for path in data.rglob("*.jpg")}
    order = np.random.default_rng(0).permutation(len(reference.values["images"]))
    lesions = [reference.values["images"][row] for row in order]
    photographs = [read_image(files[image_ids[0]]) for image_ids in lesions[:sample]]
    found = {
        name: float(np.mean([is_known(pipeline, index, change(image)) for image in follow(photographs, sample, name)]))
        for name, change in CHANGES.items()
    }
    second_ids = [image_ids[1] for image_ids in lesions if len(image_ids) > 1][:sample]
    others = [is_known(pipeline, index, read_image(files[image_id])) for image_id in second_ids]
    return found | {"another photograph": float(np.mean(others))}


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the training images")
    parser.add_argument("--classifier", type=Path, default=SHIPPED / "classifier", help="bundle with an index")
    parser.add_argument("--sample", type=int, default=100, help="photographs for each change")
    parser.add_argument("--output", type=Path, help="file for the results")
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.classifier, tta="none", explain="none", device="cpu")
    card = pipeline.ensemble.networks[0].card
    reference = read_reference(arguments.classifier, SIMILAR, card)
    if reference is None:
        parser.error(f"--classifier must be a bundle with {SIMILAR}, got {arguments.classifier}")
    index = SimilarIndex(reference, card.classes)
    results = {
        "cases": len(reference.values["lesions"]),
        "bytes": (arguments.classifier / SIMILAR).stat().st_size,
        "milliseconds": milliseconds_per_query(index, len(reference.arrays["mean"])),
        "photographs": arguments.sample,
        "recognized": recognized(pipeline, index, reference, arguments.data, arguments.sample),
    }
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return int(results["milliseconds"] > LONGEST_MS or results["recognized"][UNCHANGED] < 1)


if __name__ == "__main__":
    sys.exit(main())
