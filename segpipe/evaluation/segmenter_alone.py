"""Test of a segmenter: its own masks, and those of the localizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.evaluation.score import Metrics, count_sources, describe_masks, measure_overlap, score_overlaps, write_metrics
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.networks import SegmenterNetwork, batched
from segpipe.inference.stages import Localizer
from segpipe.io.files import write_file
from segpipe.io.images import read_image, read_mask
from segpipe.io.passes import follow, working
from segpipe.io.run_files import MASK_TABLE, METRICS, PREDICTIONS
from segpipe.io.storage import content_hash
from segpipe.lesion.localization import Localization, MaskSource, threshold_probs
from segpipe.report.plots import draw_masks
from segpipe.types import BoolMask, FloatArray, RgbImage

_SHOWN = 12  # images in predictions.png
_BATCH_SIZE = 8


@dataclass(frozen=True)
class _Segmented:
    """Image of the test with its masks, bool, shape (H, W).

    Attributes:
        image: RGB uint8, shape (H, W, 3).
        alone: Mask of the segmenter at probability 0.5, without checks or fallback.
        end_to_end: Result of the localizer.
        true: True mask.
    """

    image: RgbImage
    alone: BoolMask
    end_to_end: Localization
    true: BoolMask


def score_segmenter(network: SegmenterNetwork, table: pd.DataFrame, output: Path, *, dataset: str | None = None) -> Metrics:
    """Score a segmenter alone and the localizer, at image resolution.

    Args:
        network: Network of the segmenter.
        table: Test images, each with a mask.
        output: Folder for `metrics.json`, for `masks.csv`, the overlap of each image, and for `predictions.png`, the first images
            with the true outline and the segmenter's.
        dataset: Name of the data set.

    Returns:
        Content of `metrics.json`: under `segmenter_alone` the metrics of the segmenter's own masks, under `segmentation` those of
        the localizer, whose masks come from the contour or the whole image where the segmenter's mask is not plausible.
    """
    output.mkdir(parents=True, exist_ok=True)
    localizer = Localizer(network)
    image_ids, truth = list(table["image_id"]), dataset_truth(table, dataset=dataset)
    alone, end_to_end, sources = measure_segmenter(localizer, table)
    with working("metrics of the test part"):
        hashes = [str(content_hash(Path(path))) for path in table["image_path"]]
        of_test = {"test_set": describe_masks(hashes, list(map(Path, table["mask_path"])), truth)}
        of_localizer = {"component": "localizer", "mask_sources": count_sources(sources), **of_test}
        metrics: Metrics = {
            "images": len(table),
            "mask_sources": count_sources(sources),
            "segmentation": score_overlaps(end_to_end, image_ids, truth) | of_localizer,
            "segmenter_alone": score_overlaps(alone, image_ids, truth) | {"component": "segmenter", **of_test},
            "pipeline": {"segmenter": network.sha256, "localize": str(localizer.start)},
        }
    write_metrics(output / METRICS, metrics)
    write_overlaps(output / MASK_TABLE, image_ids, alone, end_to_end, sources)
    first = list(_segment(localizer, table.head(_SHOWN)))
    outlines = [(segmented.alone, segmented.true) for segmented in first]
    draw_masks(output / PREDICTIONS, [segmented.image for segmented in first], outlines, image_ids[:_SHOWN])
    return metrics


def write_overlaps(
    path: Path, image_ids: Sequence[str], alone: FloatArray, end_to_end: FloatArray, sources: Sequence[MaskSource]
) -> None:
    """Write the overlap of each image with its true mask.

    Args:
        path: Path of the table.
        image_ids: Ids of the images.
        alone: Dice and Jaccard of the segmenter's own masks, shape (N, 2).
        end_to_end: Dice and Jaccard of the localizer, shape (N, 2).
        sources: Source of each mask of the localizer.
    """
    columns = ["dice", "jaccard", "localizer_dice", "localizer_jaccard"]
    table = pd.DataFrame(np.concatenate([alone, end_to_end], axis=1), columns=columns)
    table.insert(0, "image_id", list(image_ids))
    write_file(path, table.assign(mask_source=[str(source) for source in sources]).to_csv(index=False).encode())


def measure_segmenter(localizer: Localizer, table: pd.DataFrame) -> tuple[FloatArray, FloatArray, list[MaskSource]]:
    """Measure Dice and Jaccard of each image, shape (N, 2).

    Args:
        localizer: Localizer with the segmenter.
        table: Images, each with a mask.

    Returns:
        Overlaps of the segmenter, those of the localizer, and the mask sources of the localizer.
    """
    alone, end_to_end, sources = [], [], []
    followed = follow(_segment(localizer, table), len(table), "scoring the test part")
    for image_id, segmented in zip(table["image_id"], followed, strict=True):
        alone.append(measure_overlap(segmented.alone, segmented.true, image_id))
        end_to_end.append(measure_overlap(segmented.end_to_end.mask, segmented.true, image_id))
        sources.append(segmented.end_to_end.source)
    return np.array(alone), np.array(end_to_end), sources


def _segment(localizer: Localizer, table: pd.DataFrame) -> Iterator[_Segmented]:
    """Segment images with one pass of the network, batch by batch."""
    for rows in batched(table.to_dict("records"), _BATCH_SIZE):
        images = [read_image(Path(row["image_path"])) for row in rows]
        maps, _ = localizer.segment(images)
        localizations = localizer.localize(images, maps)
        for row, image, mask_probs, localization in zip(rows, images, maps, localizations, strict=True):
            alone = threshold_probs(mask_probs, *image.shape[:2])
            yield _Segmented(image, alone, localization, read_mask(Path(row["mask_path"])))
