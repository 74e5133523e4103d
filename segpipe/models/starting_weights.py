"""Where a training starts if not from a bundle: random weights, published ImageNet weights (they need a network), or a file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segpipe.errors import ConfigError
from segpipe.models.weights import require_finite


def load_starting_weights(backbone: nn.Module, *, name: str, init: str, fetch: Callable[[], nn.Module]) -> None:
    """Put starting weights into a backbone, in place.

    Args:
        backbone: the network; a file may hold layers that it lacks (a U-Net drops the last ones), but not the reverse.
        name: of the network, for the errors.
        init: `random`, `imagenet`, or the path of a safetensors file with a state dict of that network.
        fetch: gives the same network with its ImageNet weights, which its library downloads.

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


def _imagenet_weights(name: str, fetch: Callable[[], nn.Module]) -> Mapping[str, Tensor]:
    try:
        return fetch().state_dict()
    except Exception as error:  # the libraries let through whatever a download raises
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"init=imagenet needs published weights of {name!r}, and they could not be had ({type(error).__name__}: {reason}); "
            "check the network, or use init=random or a safetensors file"
        ) from error


def _file_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"init must be random, imagenet or a safetensors file, got {str(path)!r} ({error})") from error
