"""The held-out images of a training: the classifier calibrated on val, both scored on test, by the pipeline that users run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from segpipe.bundle import ClassifierBundle, SegmenterBundle, load_segmenter
from segpipe.errors import BundleError
from segpipe.evaluation.calibration import fit_temperature
from segpipe.evaluation.score import Metrics, Truth, score_mask_pairs, score_run, write_metrics
from segpipe.image_io import DEFAULT_MAX_PIXELS, BoolMask, RgbImage, read_image, read_mask
from segpipe.inference.folder import Outputs, run_images
from segpipe.inference.pipeline import SHIPPED, Locator, Namer, Pipeline, choose_device
from segpipe.inference.source import Source, batched
from segpipe.inference.tta import View
from segpipe.lesion.localizer import Localization
from segpipe.report.masks import draw_masks
from segpipe.training.setup import TrainingData

BATCH_SIZE = 8
PICTURED = 12  # images in predictions.png


def truth_of(table: pd.DataFrame) -> Truth:
    """What a data set knows of its images."""

    def column(name: str) -> Mapping[str, str]:
        known = table.dropna(subset=name)
        return dict(zip(known["image_id"], known[name], strict=True))

    masks = {image_id: Path(path) for image_id, path in column("mask_path").items()}
    return Truth(column("dx"), masks or None, column("lesion_id"))


def score_segmenter(bundle: SegmenterBundle, table: pd.DataFrame, output: Path) -> Metrics:
    """Score a segmenter in the resolution of the images, with the fallbacks where its mask is not believable.

    Args:
        bundle: of the segmenter.
        table: of the test images; each has a mask.
        output: takes `metrics.json` and `predictions.png`, the first images with the true outline and the found one.
    """
    output.mkdir(parents=True, exist_ok=True)
    locator = Locator(bundle, device=choose_device("auto"))
    sources: list[str] = []

    def pairs() -> Iterator[tuple[BoolMask, BoolMask]]:
        for _, place, true in _find_lesions(locator, table):
            sources.append(str(place.source))
            yield place.mask, true

    scores = score_mask_pairs(pairs(), list(table["image_id"]), truth_of(table))
    metrics: Metrics = {"images": len(table), "mask_sources": dict(Counter(sources)), "segmentation": scores}
    write_metrics(output / "metrics.json", metrics)
    images, places, true_masks = zip(*_find_lesions(locator, table.head(PICTURED)), strict=True)
    outlines = list(zip((place.mask for place in places), true_masks, strict=True))
    draw_masks(output / "predictions.png", images, outlines, list(table["image_id"].head(PICTURED)))
    return metrics


def _find_lesions(locator: Locator, table: pd.DataFrame) -> Iterator[tuple[RgbImage, Localization, BoolMask]]:
    """The image of each row, the lesion found in it and its true mask; batch by batch, a test split does not fit into memory."""
    for rows in batched(table.to_dict("records"), BATCH_SIZE):
        images = [read_image(Path(row["image_path"])) for row in rows]
        true_masks = [read_mask(Path(row["mask_path"])) for row in rows]
        yield from zip(images, locator(images), true_masks, strict=True)


def score_classifier(
    locator: Locator, bundle: ClassifierBundle, table: pd.DataFrame, output: Path, *, views: Sequence[View], batch_size: int
) -> Metrics:
    """Score a classifier end to end, on the crops of the segmenter; the masks are scored beside it where the data set has them.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        table: of the test images.
        output: takes what a run over a folder writes.
        views: for test-time augmentation.
        batch_size: cap on images x views.
    """
    output.mkdir(parents=True, exist_ok=True)
    namer = Namer(bundle, device=choose_device("auto"), views=views, explained=None, batch_size=batch_size)
    files = tuple((Path(path), Path(Path(path).name)) for path in table["image_path"])
    run_images(Pipeline(locator, namer), Source(files), Outputs(output), batch_size=BATCH_SIZE, max_pixels=DEFAULT_MAX_PIXELS)
    return score_run(output, truth_of(table))


def calibrate(
    locator: Locator, bundle: ClassifierBundle, table: pd.DataFrame, *, views: Sequence[View], batch_size: int
) -> float:
    """The temperature of a classifier, fitted on images that it was not trained on, end to end like the score.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        table: of the validation images.
        views: for test-time augmentation.
        batch_size: cap on images x views.
    """
    namer = Namer(bundle, device=choose_device("auto"), views=views, explained=None, batch_size=batch_size)
    logits = []
    for paths in batched(table["image_path"], BATCH_SIZE):
        images = [read_image(Path(path)) for path in paths]
        logits.append(namer.view_logits([namer.cut(*pair) for pair in zip(images, locator(images), strict=True)]))
    labels = np.array([bundle.card.classes.index(code) for code in table["dx"]])
    return fit_temperature(np.concatenate(logits, axis=1), labels)


def load_unseen_segmenter(config: DictConfig, data: TrainingData) -> Locator:
    """The segmenter that cuts the test crops, refused where it has seen the test lesions.

    Args:
        config: see `segpipe.config.TrainClsConfig`; `allow_leak` takes it all the same.
        data: of this training.

    Raises:
        BundleError: the segmenter was trained on this data set with another split.
    """
    bundle = load_segmenter(Path(config.bundle.segmenter or SHIPPED / "segmenter"))
    seen = bundle.card.training
    same_data, same_split = seen.dataset_hash == data.dataset_hash, seen.split_hash == data.split_hash
    if same_data and not same_split and not config.allow_leak:
        raise BundleError(
            "bundle.segmenter was trained on another split of this data set, so it has seen test lesions; "
            "train one on this split and give it as bundle.segmenter=, or set allow_leak=true"
        )
    return Locator(bundle, device=choose_device("auto"))
