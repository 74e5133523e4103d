"""Predictions of the teachers for the training images, kept on disk."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segpipe.bundle.folder import load_classifier
from segpipe.config.schemas import TrainClsConfig
from segpipe.data.cache import entry_name
from segpipe.errors import OutputError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.networks import batched
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.files import counted, display_path, write_file
from segpipe.io.images import read_image, read_mask
from segpipe.io.passes import follow
from segpipe.io.run_files import TEACHERS
from segpipe.lesion.localization import Localization, MaskSource, localize
from segpipe.training.preparation import TrainingData
from segpipe.training.starting_weights import KEY, Teachers, hash_teacher, require_classes
from segpipe.types import RgbImage, mask_box

_BATCH_SIZE = 8

Probs = NDArray[np.float32]


@dataclass(frozen=True)
class Teaching:
    """Settings that the predictions of a teacher depend on.

    The `repr` is part of the name of their file.

    Attributes:
        teacher: SHA-256 of the weights and of the card.
        views: Set of views that are averaged.
    """

    teacher: tuple[str | None, str | None]
    views: str


def refuse_unfit(teachers: Teachers, data: TrainingData, *, allowed: bool) -> None:
    """Refuse teachers that do not fit the data of a training.

    Args:
        teachers: Cards by folder.
        data: Data of the training.
        allowed: True to accept teachers that have seen validation or test lesions; the card records that.

    Raises:
        BundleError: A teacher has other classes, or has seen validation or test lesions of this training.
    """
    require_classes(teachers, data.dataset.classes)
    for folder, card in teachers.items():
        data.refuse_seen(card.training, key=f"{KEY}={folder}", allowed=allowed)


def predict_for_training(
    teachers: Teachers, data: TrainingData, config: TrainClsConfig, output: Path
) -> tuple[Probs | None, str | None]:
    """Predict the training images with the teachers.

    Each teacher sees its own crop of the image, without random changes.

    The predictions of each teacher are kept in a file that is named by a hash of its weights, its card, the views and the images,
    so that another training with this teacher and these images reads them.

    The logits are divided by the card's temperature, which puts the teachers on one scale, but not shifted by its logit bias,
    which adjusts the final prediction to the class frequencies: the student learns from unshifted logits, too.

    Args:
        teachers: Cards by folder.
        data: Data of the training, with the masks that were found.
        config: Configuration of the training.
        output: Folder of the training, which keeps the predictions if `data.cache` is null.

    Returns:
        Mean probabilities of the teachers, float32, shape (images, classes), in the order of the images and classes of the
        training; and a line about them for the log. Both are None without teachers.

    Raises:
        AnswerError: A prediction of a teacher is not finite.
        BundleError: The weights of a teacher are damaged.
        OutputError: The predictions cannot be written, or those on disk are damaged.
    """
    if not teachers:
        return None, None
    rows, classes = data.parts["train"], data.dataset.classes
    kept = output / TEACHERS if config.data.cache is None else Path(config.data.cache).resolve()
    paths = {folder: kept / _file_name(folder, rows, views=config.distill.views) for folder in teachers}
    missing = [folder for folder, path in paths.items() if not path.is_file()]
    for folder in missing:
        _store(paths[folder], _predict(folder, rows, views=config.distill.views, batch_size=config.batch_size))
    members = [
        _read(paths[folder], (len(rows), len(classes)))[:, [card.classes.index(code) for code in classes]]
        for folder, card in teachers.items()
    ]
    probs = np.asarray(np.mean(members, axis=0, dtype=np.float64), np.float32)
    correct = np.mean([classes[index] == code for index, code in zip(probs.argmax(1), rows["dx"], strict=True)])
    return probs, (
        f"teachers: {len(teachers)}, together correct for {correct:.1%} of {counted(len(rows), 'training image')}; "
        f"predictions of {len(missing)} computed, of {len(teachers) - len(missing)} read from {display_path(kept)}"
    )


def _file_name(folder: Path, rows: pd.DataFrame, *, views: str) -> str:
    files = list(zip(rows["image_path"], rows["mask_path"], strict=True))
    return f"{entry_name(list(rows['image_id']), files, Teaching(hash_teacher(folder), views))}.npy"


def _predict(folder: Path, rows: pd.DataFrame, *, views: str, batch_size: int) -> Probs:
    """Predict the images of a table with one teacher, in its classes."""
    bundle = load_classifier(folder)
    unshifted = replace(bundle, card=replace(bundle.card, logit_bias=()))
    ensemble = ClassifierEnsemble([TorchClassifier(unshifted)], views=VIEWS[views], explained=None, batch_size=batch_size)
    probs = []
    for some in batched(follow(rows.to_dict("records"), len(rows), "predictions of a teacher"), _BATCH_SIZE):
        images = [read_image(Path(row["image_path"])) for row in some]
        crops = [ensemble.cut(image, _localize(image, row)) for image, row in zip(images, some, strict=True)]
        probs += [prediction.probs for prediction in ensemble(crops)]
    return np.stack(probs).astype(np.float32)


def _localize(image: RgbImage, row: Mapping[Any, Any]) -> Localization:
    """Locate the lesion by its mask; without one, take the whole image."""
    if row["mask_path"] is None:
        return localize(image, None, start=MaskSource.WHOLE_IMAGE)
    mask = read_mask(Path(row["mask_path"]))
    return Localization(mask, mask_box(mask), MaskSource.UNET, ())


def _store(path: Path, probs: Probs) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, probs, allow_pickle=False)
    write_file(path, content.getvalue())


def _read(path: Path, shape: Sequence[int]) -> Probs:
    try:
        with path.open("rb") as file:
            probs: Probs = np.lib.format.read_array(file, allow_pickle=False)
        if probs.shape != tuple(shape) or probs.dtype != np.float32 or not np.allclose(probs.sum(1), 1, atol=1e-3):
            raise ValueError("not probabilities of these images")
    except (OSError, ValueError) as error:
        raise OutputError(f"{display_path(path)} is damaged ({error}); delete that file and start again") from error
    return probs
