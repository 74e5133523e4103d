"""Teachers: classifier bundles whose predictions another classifier learns."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from segpipe.bundle.card import ClassifierCard
from segpipe.bundle.card_file import read_card
from segpipe.config.fields import to_dict
from segpipe.config.schemas import TrainClsConfig, TrainConfig
from segpipe.data.fingerprints import hash_file
from segpipe.errors import BundleError
from segpipe.io.run_files import BUNDLE, CARD, WEIGHTS

KEY = "distill.teacher"
Teachers = Mapping[Path, ClassifierCard]


def list_teachers(config: TrainConfig) -> list[Path]:
    """List the folders of the teachers; a segmenter has none."""
    named = config.distill.teacher if isinstance(config, TrainClsConfig) else None
    folders = named if isinstance(named, list) else [] if named is None else [named]
    return [Path(str(folder)) for folder in folders]


def read_teachers(config: TrainConfig) -> dict[Path, ClassifierCard]:
    """Read the cards of the teachers, by folder.

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
    """Compute the SHA-256 of the weights and card of a bundle."""
    return hash_file(folder / WEIGHTS), hash_file(folder / CARD)


def require_classes(teachers: Teachers, classes: Sequence[str]) -> None:
    """Refuse teachers of other classes; their order may differ.

    Raises:
        BundleError: A teacher lacks a class, or has an additional one.
    """
    for folder, card in teachers.items():
        if set(card.classes) != set(classes):
            raise BundleError(
                f"{KEY} must name classifiers of the classes of this training, {', '.join(sorted(classes))}, got "
                f"{', '.join(sorted(card.classes))} in {folder}; leave it out, or train on the same classes"
            )


def describe_distillation(config: TrainConfig) -> dict[str, Any]:
    """Describe the distillation of a training for its card, without paths.

    Returns:
        Settings `distill`, in which `teacher` lists the `title` and the `sha256` of the weights of each; empty without teachers.
    """
    folders = list_teachers(config)
    if not folders or not isinstance(config, TrainClsConfig):
        return {}
    named = [{"title": _title(folder), "sha256": hash_teacher(folder)[0]} for folder in folders]
    return {"distill": {**to_dict(config.distill), "teacher": named}}


def _title(folder: Path) -> str:
    """Return the name of the training that wrote a bundle."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == BUNDLE else folder.name
