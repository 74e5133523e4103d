"""The test split of a training, scored by the same pipeline that users run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from segpipe.bundle import ClassifierBundle, SegmenterBundle
from segpipe.errors import BundleError
from segpipe.evaluation.calibration import fit_temperature
from segpipe.evaluation.score import Metrics, Truth, score_mask_pairs, score_run, write_metrics
from segpipe.image_io import DEFAULT_MAX_PIXELS, read_image, read_mask
from segpipe.inference.folder import Outputs, run_images
from segpipe.inference.pipeline import Locator, Namer, Pipeline, choose_device, load_locator
from segpipe.inference.source import Source, batched
from segpipe.inference.tta import VIEWS
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
    output.mkdir(exist_ok=True)
    locate = Locator(bundle, device=choose_device("auto"))
    rows = table.to_dict("records")
    pairs, places = [], []
    for batch in batched(rows, BATCH_SIZE):
        found = locate([read_image(Path(row["image_path"])) for row in batch])
        pairs += [(place.mask, read_mask(Path(row["mask_path"]))) for place, row in zip(found, batch, strict=True)]
        places += found
    scores = score_mask_pairs(pairs, [row["image_id"] for row in rows], truth_of(table))
    sources = pd.Series([str(place.source) for place in places]).value_counts().to_dict()
    metrics: Metrics = {"images": len(rows), "mask_sources": sources, "segmentation": scores}
    write_metrics(output / "metrics.json", metrics)
    shown = [read_image(Path(row["image_path"])) for row in rows[:PICTURED]]
    draw_masks(output / "predictions.png", shown, pairs[:PICTURED], [row["image_id"] for row in rows[:PICTURED]])
    return metrics


def score_classifier(
    locator: Locator, bundle: ClassifierBundle, table: pd.DataFrame, output: Path, config: DictConfig
) -> Metrics:
    """Score a classifier end to end: the U-Net's own crops, and the views of the configuration.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        table: of the test images.
        output: takes what a run over a folder writes.
        config: see `segpipe.config.TrainClsConfig`.
    """
    output.mkdir(exist_ok=True)
    namer = _namer(bundle, config)
    files = tuple((Path(path), Path(Path(path).name)) for path in table["image_path"])
    run_images(Pipeline(locator, namer), Source(files), Outputs(output), batch_size=BATCH_SIZE, max_pixels=DEFAULT_MAX_PIXELS)
    return score_run(output, truth_of(table))


def calibrate(locator: Locator, bundle: ClassifierBundle, table: pd.DataFrame, config: DictConfig) -> float:
    """The temperature of a classifier, fitted on images that it was not trained on, end to end like the score.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        table: of the validation images.
        config: see `segpipe.config.TrainClsConfig`.
    """
    namer = _namer(bundle, config)
    logits = []
    for paths in batched(table["image_path"], BATCH_SIZE):
        images = [read_image(Path(path)) for path in paths]
        logits.append(namer.view_logits([namer.cut(*pair) for pair in zip(images, locator(images), strict=True)]))
    labels = np.array([bundle.card.classes.index(code) for code in table["dx"]])
    return fit_temperature(np.concatenate(logits, axis=1), labels)


def _namer(bundle: ClassifierBundle, config: DictConfig) -> Namer:
    views = VIEWS[config.tta.views]
    return Namer(bundle, device=choose_device("auto"), views=views, explained=None, batch_size=config.batch_size)


def load_unseen_segmenter(config: DictConfig, data: TrainingData) -> Locator:
    """The segmenter that cuts the test crops, refused where it has seen the test lesions.

    Args:
        config: see `segpipe.config.TrainClsConfig`; `allow_leak` takes it all the same.
        data: of this training.

    Raises:
        BundleError: the segmenter was trained on this data set with another split.
    """
    locator = load_locator(config.bundle.segmenter, device=choose_device("auto"))
    assert locator.bundle is not None  # it starts at the U-Net
    seen = locator.bundle.card.training
    same_data, same_split = seen.dataset_hash == data.dataset_hash, seen.split_hash == data.split_hash
    if same_data and not same_split and not config.allow_leak:
        raise BundleError(
            "bundle.segmenter was trained on another split of this data set, so it has seen test lesions; "
            "train one on this split and give it as bundle.segmenter=, or set allow_leak=true"
        )
    return locator
