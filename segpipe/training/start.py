"""A training that goes on from a trained bundle, the shipped one or one's own: its network, with all of its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.bundle.folder import SHIPPED, read_card
from segpipe.config.arguments import as_argument
from segpipe.errors import ConfigError
from segpipe.training.teachers import read_teachers

_CARDS: dict[str, type[Card]] = {"segmenter": SegmenterCard, "classifier": ClassifierCard}


def start_bundle(config: DictConfig) -> Path | None:
    """The folder of the bundle that a training starts from; None where `init` names something else."""
    kind = _kind(config)
    init = config[kind].init
    if init == "shipped":
        return SHIPPED / kind
    return Path(init) if Path(init).is_dir() else None


def start_card(config: DictConfig) -> Card | None:
    """What the bundle that a training starts from says of itself; None where it starts from none.

    Raises:
        BundleError: the folder holds no bundle of this kind.
    """
    folder, kind = start_bundle(config), _kind(config)
    return None if folder is None else read_card(folder, kind, _CARDS[kind])


def origin_cards(config: DictConfig) -> list[Card]:
    """Read the cards of all bundles that a training learns from: the one that it starts from, and its teachers.

    Raises:
        BundleError: A folder holds no bundle of the right kind.
    """
    start = start_card(config)
    return [*([] if start is None else [start]), *read_teachers(config).values()]


def refuse_other_network(config: DictConfig, card: Card, arguments: Mapping[str, Any]) -> None:
    """Stop where a bundle cannot give its weights to the network of this training.

    Args:
        config: of the training.
        card: of the bundle.
        arguments: of the builder, those that the shape of the weights depends on.

    Raises:
        ConfigError: one of them differs; the text names the keys to set.
    """
    kind = _kind(config)
    needed = {f"{kind}.{name}": card.arguments.get(name) for name in arguments}
    wrong = [key for key, value in zip(needed, arguments.values(), strict=True) if needed[key] != value]
    if wrong:
        settings = " ".join(as_argument(key, needed[key]) for key in wrong)
        raise ConfigError(
            f"{kind}.init={config[kind].init} must be a bundle of the network that is trained, "
            f"but differs in {', '.join(wrong)}; set {settings}"
        )


def _kind(config: DictConfig) -> str:
    return "classifier" if "classifier" in config else "segmenter"
