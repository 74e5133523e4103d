"""The test of a segmenter: its own masks, and beside them the localizer end to end, from one pass of the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.bundle.folder import SegmenterBundle
from segpipe.evaluation.held_out import BATCH_SIZE, truth_of
from segpipe.evaluation.score import (
    Metrics,
    count_sources,
    describe_masks,
    measure_overlap,
    score_overlaps,
    write_metrics,
)
from segpipe.inference.loading import choose_device
from segpipe.inference.networks import batched
from segpipe.inference.pipeline import Locator
from segpipe.io.images import read_image, read_mask
from segpipe.io.storage import content_hash
from segpipe.lesion.localizer import Localization, MaskSource, threshold_probs
from segpipe.report.masks import draw_masks
from segpipe.types import BoolMask, FloatArray, RgbImage

PICTURED = 12  # images in predictions.png


@dataclass(frozen=True)
class _Segmented:
    """One image of a test of masks, all masks bool of its shape (H, W).

    Attributes:
        image: RGB uint8, shape (H, W, 3).
        alone: the segmenter's own mask, at probability 0.5, without checks or fallback.
        end_to_end: what the localizer makes of it.
        true: true mask.
    """

    image: RgbImage
    alone: BoolMask
    end_to_end: Localization
    true: BoolMask


def score_segmenter(bundle: SegmenterBundle, table: pd.DataFrame, output: Path, *, dataset: str | None = None) -> Metrics:
    """Score a segmenter alone, and beside it the localizer end to end, both in the resolution of the images.

    Args:
        bundle: of the segmenter.
        table: of the test images; each has a mask.
        output: takes `metrics.json` and `predictions.png`, the first images with the true outline and the segmenter's.
        dataset: name of the data set.

    Returns:
        What was written into `metrics.json`: under `segmenter_alone` the metrics of the segmenter's own masks, under
        `segmentation` those of the localizer, whose masks come from the contour or the whole image where the segmenter's is not
        plausible.
    """
    output.mkdir(parents=True, exist_ok=True)
    locator = Locator(bundle, device=choose_device("auto"))
    image_ids, truth = list(table["image_id"]), truth_of(table, dataset=dataset)
    alone, end_to_end, sources = _measure(locator, table)
    hashes = [str(content_hash(Path(path))) for path in table["image_path"]]
    of_test = {"test_set": describe_masks(hashes, list(map(Path, table["mask_path"])), truth)}
    localizer = {"component": "localizer", "mask_sources": count_sources(sources), **of_test}
    metrics: Metrics = {
        "images": len(table),
        "mask_sources": count_sources(sources),
        "segmentation": score_overlaps(end_to_end, image_ids, truth) | localizer,
        "segmenter_alone": score_overlaps(alone, image_ids, truth) | {"component": "segmenter", **of_test},
        "pipeline": {"segmenter": bundle.sha256, "localize": str(locator.start)},
    }
    write_metrics(output / "metrics.json", metrics)
    first = list(_segment(locator, table.head(PICTURED)))
    outlines = [(found.alone, found.true) for found in first]
    draw_masks(output / "predictions.png", [found.image for found in first], outlines, image_ids[:PICTURED])
    return metrics


def _measure(locator: Locator, table: pd.DataFrame) -> tuple[FloatArray, FloatArray, list[MaskSource]]:
    """Dice and Jaccard of each image, shape (N, 2), for the segmenter and for the localizer, and the localizer's mask sources."""
    alone, end_to_end, sources = [], [], []
    for image_id, found in zip(table["image_id"], _segment(locator, table), strict=True):
        alone.append(measure_overlap(found.alone, found.true, image_id))
        end_to_end.append(measure_overlap(found.end_to_end.mask, found.true, image_id))
        sources.append(found.end_to_end.source)
    return np.array(alone), np.array(end_to_end), sources


def _segment(locator: Locator, table: pd.DataFrame) -> Iterator[_Segmented]:
    """The masks of each row, with one pass of the segmenter; batch by batch, a test split does not fit into memory."""
    for rows in batched(table.to_dict("records"), BATCH_SIZE):
        images = [read_image(Path(row["image_path"])) for row in rows]
        maps = locator.mask_probs(images)
        places = locator.localize(images, maps)
        for row, image, mask_probs, place in zip(rows, images, maps, places, strict=True):
            alone = threshold_probs(mask_probs, *image.shape[:2])
            yield _Segmented(image, alone, place, read_mask(Path(row["mask_path"])))
