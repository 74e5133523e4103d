"""Teachers of a training: bundles of classifiers, whose predictions for the training images its own classifier learns too."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from segpipe.bundle.card import CARD, ClassifierCard
from segpipe.bundle.folder import WEIGHTS, read_card
from segpipe.data.fingerprints import hash_file
from segpipe.errors import BundleError

KEY = "distill.teacher"
Teachers = Mapping[Path, ClassifierCard]


def list_teachers(config: DictConfig) -> list[Path]:
    """List the folders of the teachers of a training, which has none for a segmenter or with `distill.teacher=null`."""
    named = config.distill.teacher if "distill" in config else None
    folders = named if isinstance(named, ListConfig) else [] if named is None else [named]
    return [Path(str(folder)) for folder in folders]


def read_teachers(config: DictConfig) -> dict[Path, ClassifierCard]:
    """Read the cards of the teachers of a training, by folder.

    Raises:
        BundleError: A folder holds no bundle of a classifier, or two hold the same one.
    """
    folders = list_teachers(config)
    cards = {folder: read_card(folder, "classifier", ClassifierCard) for folder in folders}
    for first, second in combinations(folders, 2):
        if hash_teacher(first) == hash_teacher(second):
            raise BundleError(f"{KEY} must name each model once, got the same one in {first} and in {second}; leave one out")
    return cards


def hash_teacher(folder: Path) -> tuple[str | None, str | None]:
    """Compute the SHA-256 of the weights and of the card of a bundle."""
    return hash_file(folder / WEIGHTS), hash_file(folder / CARD)


def require_classes(teachers: Teachers, classes: Sequence[str]) -> None:
    """Refuse teachers of other classes than those of a training; their order may differ.

    Raises:
        BundleError: A teacher lacks a class, or knows a further one.
    """
    for folder, card in teachers.items():
        if set(card.classes) != set(classes):
            raise BundleError(
                f"{KEY} must name classifiers of the classes of this training, {', '.join(sorted(classes))}, got "
                f"{', '.join(sorted(card.classes))} in {folder}; leave it out, or train on the same classes"
            )


def describe_distillation(config: DictConfig) -> dict[str, Any]:
    """Describe the distillation of a training for its card, without paths.

    Returns:
        Settings `distill`, in which `teacher` lists the `title` and the `sha256` of the weights of each; empty without teachers.
    """
    folders = list_teachers(config)
    if not folders:
        return {}
    named = [{"title": _title(folder), "sha256": hash_teacher(folder)[0]} for folder in folders]
    return {"distill": {**config.distill, "teacher": named}}


def _title(folder: Path) -> str:
    """Name of the training that wrote a bundle, whose folder it calls `bundle`."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == "bundle" else folder.name
