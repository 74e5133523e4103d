"""Calibration and scores of a trained classifier on held-out images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.card import ClassifierCard
from segpipe.data.duplicates import hash_id
from segpipe.errors import ConfigError
from segpipe.evaluation.heatmap_faithfulness import HeatmapTest
from segpipe.evaluation.run import result_path, write_fold
from segpipe.evaluation.score import Metrics, score_run
from segpipe.evaluation.truth import dataset_truth
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.gate import Gate
from segpipe.inference.networks import ClassifierNetwork, batched
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.similar import SimilarIndex
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.tta import View
from segpipe.io.files import display_path
from segpipe.io.images import read_image, write_png
from segpipe.io.passes import follow, working
from segpipe.io.run_files import FOLD, JOURNAL
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.calibration import METHODS, calibration_errors, fit_calibration
from segpipe.metrics.operating_points import MALIGNANT, ValidationProbs, fit_point, target_codes
from segpipe.runs.folder import run_images
from segpipe.runs.local_engine import LocalEngine
from segpipe.runs.options import RunOptions
from segpipe.runs.source import Source

_BATCH_SIZE = 8


def score_classifier(
    localizer: Localizer,
    network: ClassifierNetwork,
    table: pd.DataFrame,
    output: Path,
    *,
    views: Sequence[View],
    batch_size: int,
    dataset: str | None = None,
    heatmaps: int = 0,
    gate: Gate | None = None,
    index: SimilarIndex | None = None,
) -> Metrics:
    """Score a classifier end to end, on the crops of the segmenter.

    The masks are scored, too, where the data set has true ones.

    Args:
        localizer: Localizer of the lesions.
        network: Network of the classifier.
        table: Test images.
        output: Folder of the results, as of a run over a folder.
        views: Views for test-time augmentation.
        batch_size: Largest number of images x views in a batch.
        dataset: Name of the data set.
        heatmaps: Number of images whose heatmaps are tested; 0 for none, and no heatmap is then made.
        gate: Input gate; None for none.
        index: Training cases of the classifier; None for none.

    Raises:
        PredictionError: A model gave a number that is not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    ensemble = ClassifierEnsemble([network], views=views, explained="predicted" if heatmaps else None, batch_size=batch_size)
    files = tuple((Path(row["image_path"]), result_path(row)) for row in table.to_dict("records"))
    pipeline = Pipeline(localizer, ensemble, gate=gate, index=index)
    (output / JOURNAL).unlink(missing_ok=True)  # of earlier weights, where a training resumes
    options = RunOptions(output, title="scoring")
    run_images(pipeline, Source(files), options, LocalEngine(pipeline, workers=None)).require_predictions()
    truth = dataset_truth(table, dataset=dataset).match_images({display_path(relative): path for path, relative in files})
    return score_run(output, truth, files, heatmaps=HeatmapTest(ensemble, sample=heatmaps) if heatmaps else None)


def predict_fold(
    localizer: Localizer,
    network: ClassifierNetwork,
    table: pd.DataFrame,
    output: Path,
    *,
    fold: int,
    views: Sequence[View],
    batch_size: int,
    dataset: str | None = None,
) -> None:
    """Predict the images of the held-out fold, and write `out_of_fold.csv`.

    Args:
        localizer: Localizer of the lesions.
        network: Network of the calibrated classifier.
        table: Images of the fold: `image_id`, `lesion_id`, `dx`, `image_path`, `mask_path`.
        output: Folder of the training, for the table, and for the results of a run over images in `out_of_fold/`.
        fold: Number of the fold.
        views: Views for test-time augmentation.
        batch_size: Largest number of images x views in a batch.
        dataset: Name of the data set.
    """
    folder = output / FOLD
    score_classifier(localizer, network, table, folder, views=views, batch_size=batch_size, dataset=dataset)
    paths = [display_path(result_path(row)) for row in table.to_dict("records")]
    write_fold(output, folder, table[["image_id", "lesion_id", "dx"]].assign(fold=fold, path=paths))


def calibrate(
    localizer: Localizer,
    network: ClassifierNetwork,
    parts: Mapping[str, pd.DataFrame],
    *,
    method: str,
    targets: Mapping[str, float],
    coverage: float,
    views: Sequence[View],
    batch_size: int,
) -> ClassifierCard:
    """Fit calibration, operating points and prediction sets, end to end.

    Args:
        localizer: Localizer of the lesions.
        network: Network of the classifier.
        parts: Images of each part: the fit is to `val`, the class frequencies are those of `train`.
        method: Method of the card, one of `segpipe.metrics.calibration.METHODS`; the errors of all methods are measured.
        targets: Sensitivity of each operating point, in (0, 1], by its target; each target occurs in `val`.
        coverage: Coverage of the prediction sets, in (0, 1).
        views: Views for test-time augmentation.
        batch_size: Largest number of images x views in a batch.

    Returns:
        Card of the network with the calibration, its errors before and after, the operating points, the prediction sets, and the
        probabilities that these were fitted to.
    """
    card, table = network.card, parts["val"]
    counts = parts["train"]["dx"].value_counts().reindex(card.classes, fill_value=0).to_list()
    logits, labels = view_logits(localizer, network, table, views=views, batch_size=batch_size)
    with working("calibration"):
        fits = {name: fit_calibration(name, logits, labels, counts=counts) for name in METHODS}
        chosen = fits[method]
        probs = chosen.probs(logits)
        errors = {name: calibration_errors(fit, logits, labels) for name, fit in fits.items()}
    images, lesions = ([hash_id(name) for name in table[column]] for column in ("image_id", "lesion_id"))
    return replace(
        card,
        temperature=chosen.temperature,
        logit_bias=chosen.logit_bias,
        calibration={"images": len(labels), "chosen": method, "errors": errors},
        operating_points=tuple(
            fit_point(target, sensitivity, probs, labels, classes=card.classes, malignant=card.malignant)
            for target, sensitivity in targets.items()
        ),
        validation=ValidationProbs.pack(images, labels, probs, lesions),
    ).with_prediction_sets(coverage)


def view_logits(
    localizer: Localizer, network: ClassifierNetwork, table: pd.DataFrame, *, views: Sequence[View], batch_size: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Compute the uncalibrated logits of each view, see `score_classifier`.

    Returns:
        Logits, shape (V, N, C), and the class index of each image, shape (N,).
    """
    classifier = Classifier(network, views=views, batch_size=batch_size)
    logits = []
    for paths in batched(follow(table["image_path"], len(table), "calibration, validation images"), _BATCH_SIZE):
        images = [read_image(Path(path)) for path in paths]
        logits.append(classifier.view_logits([classifier.cut(*pair) for pair in zip(images, localizer(images), strict=True)]))
    labels = np.array([network.card.classes.index(code) for code in table["dx"]])
    return np.concatenate(logits, axis=1), labels


def present_targets(
    targets: Mapping[str, float], codes: Collection[str], malignant: Sequence[str], *, required: bool
) -> dict[str, float]:
    """Select the targets of operating points that occur among the validation images.

    Args:
        targets: Smallest sensitivity by target: the code of a class, or `malignant`.
        codes: Diagnoses of the validation images.
        malignant: Codes of the malignant classes.
        required: True to refuse targets that do not occur.

    Raises:
        ConfigError: A required target does not occur.
    """
    present = {target: value for target, value in targets.items() if not set(codes).isdisjoint(target_codes(target, malignant))}
    missing = [target for target in targets if target not in present]
    if missing and required:
        raise ConfigError(
            f"threshold.diagnosis must occur among the validation images, got {missing[0]!r}; name classes that do, or "
            f"{MALIGNANT} where malignant classes are known (data.malignant=)"
        )
    return present


def find_missing_masks(
    localizer: Localizer, parts: Mapping[str, pd.DataFrame], folder: Path
) -> tuple[dict[str, pd.DataFrame], str]:
    """Find the lesions of training and validation images without a mask.

    They are then cropped in the training as in the prediction.

    Args:
        localizer: Localizer of the lesions.
        parts: Images of each part of the training.
        folder: Folder for the masks, `<image id>.png`.

    Returns:
        Parts with these masks, and a line with their number. An image without a lesion stays without a mask and is not cropped.
    """
    masks: dict[str, str] = {}
    seen = {part: parts[part] for part in ("train", "val")}
    missing = [row for rows in seen.values() for row in rows[rows["mask_path"].isna()].to_dict("records")]
    for rows in batched(follow(missing, len(missing), "finding lesions"), _BATCH_SIZE):
        localizations = localizer([read_image(Path(row["image_path"])) for row in rows])
        for row, localization in zip(rows, localizations, strict=True):
            if localization.source is not MaskSource.WHOLE_IMAGE:
                path = folder / f"{row['image_id']}.png"
                write_png(path, localization.mask)
                masks[row["image_id"]] = str(path)
    filled = {part: rows.assign(mask_path=_fill(rows, masks)) for part, rows in seen.items()}
    line = f"training and validation images without a mask: {len(missing)}; the lesion was found in {len(masks)} of them"
    return {**parts, **filled}, line


def _fill(rows: pd.DataFrame, masks: Mapping[str, str]) -> pd.Series:
    paths = [path or masks.get(image_id) for image_id, path in zip(rows["image_id"], rows["mask_path"], strict=True)]
    return pd.Series(paths, index=rows.index, dtype=object)
