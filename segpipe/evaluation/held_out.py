"""The held-out images of a training: the classifier calibrated on val, both scored on test, by the pipeline that users run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from tqdm import tqdm

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.folder import SHIPPED, ClassifierBundle, load_segmenter
from segpipe.data.fingerprints import hash_id
from segpipe.data.identity import parse_name
from segpipe.errors import ConfigError
from segpipe.evaluation.heatmap_sample import HeatmapTest
from segpipe.evaluation.score import Metrics, score_run
from segpipe.evaluation.truth import GroundTruth, read_attributes
from segpipe.inference.classifier import Classifier
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.loading import choose_device
from segpipe.inference.networks import batched
from segpipe.inference.pipeline import Locator, Pipeline
from segpipe.inference.tta import View
from segpipe.io.images import display_path, read_image, write_png
from segpipe.lesion.localizer import MaskSource
from segpipe.metrics.calibration import METHODS, calibration_errors, fit_calibration
from segpipe.metrics.operating_points import MALIGNANT, ValidationProbs, fit_point, target_codes
from segpipe.runs.folder import RunOptions, run_images
from segpipe.runs.image_jobs import LocalEngine
from segpipe.runs.journal import JOURNAL
from segpipe.runs.source import Source
from segpipe.training.setup import TrainingData

BATCH_SIZE = 8
_SILENT_SECONDS = 3.0


def truth_of(table: pd.DataFrame, *, dataset: str | None = None) -> GroundTruth:
    """Collect what a data set knows of its images.

    Args:
        table: rows of the data set; where all are of one part of a split, their `part` names it.
        dataset: name of the data set.
    """

    def column(name: str) -> Mapping[str, str]:
        known = table.dropna(subset=name)
        return dict(zip(known["image_id"], known[name], strict=True))

    masks = {image_id: Path(path) for image_id, path in column("mask_path").items()}
    parts = set(table["part"]) if "part" in table else set()
    part = parts.pop() if len(parts) == 1 else None
    return GroundTruth(column("dx"), masks or None, column("lesion_id"), read_attributes(table), dataset, part)


def score_classifier(
    locator: Locator,
    bundle: ClassifierBundle,
    table: pd.DataFrame,
    output: Path,
    *,
    views: Sequence[View],
    batch_size: int,
    dataset: str | None = None,
    heatmaps: int = 0,
) -> Metrics:
    """Score a classifier end to end, on the crops of the segmenter; the masks are scored beside it where the data set has them.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        table: of the test images.
        output: takes what a run over a folder writes.
        views: for test-time augmentation.
        batch_size: cap on images x views.
        dataset: name of the data set.
        heatmaps: number of images whose heatmaps are tested; 0 for none.

    Raises:
        AnswerError: a model gave a number that is not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    ensemble = ClassifierEnsemble([bundle], device=choose_device("auto"), views=views, explained=None, batch_size=batch_size)
    files = tuple(
        (Path(path), result_path(image_id, path)) for image_id, path in zip(table["image_id"], table["image_path"], strict=True)
    )
    pipeline = Pipeline(locator, ensemble)
    (output / JOURNAL).unlink(missing_ok=True)  # of earlier weights, where a training goes on
    run_images(pipeline, Source(files), RunOptions(output), LocalEngine(pipeline, workers=None)).require_answers()
    truth = truth_of(table, dataset=dataset).of_images({display_path(relative): path for path, relative in files})
    return score_run(output, truth, files, heatmaps=HeatmapTest(ensemble, sample=heatmaps) if heatmaps else None)


def result_path(image_id: str, image_path: str) -> Path:
    """The path under which the results of an image of a data set are written: its id with the ending of its file."""
    return Path(image_id if parse_name(image_id).ending else f"{image_id}{Path(image_path).suffix}")


def calibrate(
    locator: Locator,
    bundle: ClassifierBundle,
    parts: Mapping[str, pd.DataFrame],
    *,
    method: str,
    targets: Mapping[str, float],
    views: Sequence[View],
    batch_size: int,
) -> ClassifierCard:
    """Fit a classifier's probabilities and operating points to images that it was not trained on, end to end like the score.

    Args:
        locator: finds the lesions.
        bundle: of the classifier.
        parts: tables of the images; `val` is fitted to, `train` gives the class frequencies.
        method: that is chosen, one of `segpipe.metrics.calibration.METHODS`; all are measured.
        targets: of each operating point, the sensitivity to reach, in (0, 1]; each target occurs in `val`.
        views: for test-time augmentation.
        batch_size: cap on images x views.

    Returns:
        The bundle's card with the calibration, its errors before and after, the operating points, and the probabilities that
        these were fitted to.
    """
    card, table = bundle.card, parts["val"]
    counts = parts["train"]["dx"].value_counts().reindex(card.classes, fill_value=0).to_list()
    logits, labels = view_logits(locator, bundle, table, views=views, batch_size=batch_size)
    fits = {name: fit_calibration(name, logits, labels, counts=counts) for name in METHODS}
    chosen = fits[method]
    probs = chosen.probs(logits)
    errors = {name: calibration_errors(fit, logits, labels) for name, fit in fits.items()}
    return replace(
        card,
        temperature=chosen.temperature,
        logit_bias=chosen.logit_bias,
        calibration={"images": len(labels), "chosen": method, "errors": errors},
        operating_points=tuple(
            fit_point(target, sensitivity, probs, labels, classes=card.classes, malignant=card.malignant)
            for target, sensitivity in targets.items()
        ),
        validation=ValidationProbs.pack([hash_id(image_id) for image_id in table["image_id"]], labels, probs),
    )


def present_targets(targets: Mapping[str, float], data: TrainingData, *, required: bool) -> dict[str, float]:
    """Return the targets of operating points that occur among the validation images.

    Args:
        targets: sensitivity to reach by target: the code of a class, or `malignant`.
        data: of the training.
        required: all of them must occur.

    Raises:
        ConfigError: one that is required does not.
    """
    codes, malignant = set(data.parts["val"]["dx"]), data.dataset.malignant
    present = {target: value for target, value in targets.items() if not codes.isdisjoint(target_codes(target, malignant))}
    missing = [target for target in targets if target not in present]
    if missing and required:
        raise ConfigError(
            f"threshold.diagnosis must occur among the validation images, got {missing[0]!r}; name classes that do, or "
            f"{MALIGNANT} where malignant classes are known (data.malignant=)"
        )
    return present


def view_logits(
    locator: Locator, bundle: ClassifierBundle, table: pd.DataFrame, *, views: Sequence[View], batch_size: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """What a classifier says of each view of each image, before its calibration; the arguments are those of `score_classifier`.

    Returns:
        Logits, shape (V, N, C), and the class index of each image, shape (N,).
    """
    classifier = Classifier(bundle, device=choose_device("auto"), views=views, batch_size=batch_size)
    logits = []
    for paths in batched(table["image_path"], BATCH_SIZE):
        images = [read_image(Path(path)) for path in paths]
        logits.append(classifier.view_logits([classifier.cut(*pair) for pair in zip(images, locator(images), strict=True)]))
    labels = np.array([bundle.card.classes.index(code) for code in table["dx"]])
    return np.concatenate(logits, axis=1), labels


def load_unseen_segmenter(config: DictConfig, data: TrainingData) -> Locator:
    """The segmenter that cuts the test crops, refused where it has seen the test lesions.

    Args:
        config: see `segpipe.config.schemas.TrainClsConfig`; `allow_leak` takes it all the same.
        data: of this training.

    Raises:
        BundleError: the segmenter has seen validation or test lesions of this training.
    """
    bundle = load_segmenter(Path(config.bundle.segmenter or SHIPPED / "segmenter"))
    data.refuse_seen(bundle.card.training, key="bundle.segmenter", allowed=config.allow_leak)
    return Locator(bundle, device=choose_device("auto"))


def find_missing_masks(locator: Locator, data: TrainingData, folder: Path) -> tuple[TrainingData, str]:
    """Find the lesion where a training or validation image has no mask, so that it is cut out as it will be after the training.

    Args:
        locator: finds the lesions.
        data: of the training.
        folder: takes the masks that are found, `<image id>.png`.

    Returns:
        The data with these masks, and a line that says how many there are. An image in which no lesion was found stays without,
        and is not cropped.
    """
    found: dict[str, str] = {}
    seen = {part: data.parts[part] for part in ("train", "val")}
    missing = [row for rows in seen.values() for row in rows[rows["mask_path"].isna()].to_dict("records")]
    for rows in batched(tqdm(missing, "finding lesions", unit="image", delay=_SILENT_SECONDS, leave=False), BATCH_SIZE):
        places = locator([read_image(Path(row["image_path"])) for row in rows])
        for row, place in zip(rows, places, strict=True):
            if place.source is not MaskSource.WHOLE_IMAGE:
                path = folder / f"{row['image_id']}.png"
                write_png(path, place.mask)
                found[row["image_id"]] = str(path)
    filled = {part: rows.assign(mask_path=_filled(rows, found)) for part, rows in seen.items()}
    line = f"training and validation images without a mask: {len(missing)}; the lesion was found in {len(found)} of them"
    return replace(data, parts=data.parts | filled), line


def _filled(rows: pd.DataFrame, found: Mapping[str, str]) -> pd.Series:
    paths = [path or found.get(image_id) for image_id, path in zip(rows["image_id"], rows["mask_path"], strict=True)]
    return pd.Series(paths, index=rows.index, dtype=object)
