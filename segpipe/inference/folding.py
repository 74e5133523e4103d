"""BatchNorm folded into the convolutions before it: the same answers in half the time, for inference only."""

import copy
import math
from typing import TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segpipe.models.layout import lay_out
from segpipe.models.trial import example_batch, watch

AnyModel = TypeVar("AnyModel", bound=nn.Module)

# Largest difference that folding may make, as a fraction of the largest output; float32 rounding makes a hundredth of it.
_TOLERANCE = 1e-3


@torch.no_grad()
def fold_batch_norm(model: AnyModel) -> AnyModel:
    """Fold each BatchNorm into the convolution that feeds it.

    `gamma * (w * x - mean) / sqrt(var + eps) + beta` is itself a convolution of `x`. Which convolution feeds which BatchNorm is
    seen on one small example, and afterwards the answers to it are compared; where a network does more with a convolution's
    output than to normalise it, nothing is folded.

    Args:
        model: takes float (N, 3, H, W) and gives a tensor; in eval mode.

    Returns:
        A copy in channels_last layout; `model` stays as it is.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    example = example_batch(device)
    folded = copy.deepcopy(model)
    expected = _fold(folded, example)
    answer = folded(example)
    largest = float(expected.abs().max())
    same = math.isfinite(largest) and torch.allclose(answer, expected, rtol=0, atol=_TOLERANCE * largest)
    return lay_out(folded if same else copy.deepcopy(model))


def _fold(model: nn.Module, example: Tensor) -> Tensor:
    """Fold in place; returns what the model answered before."""
    names = {module: name for name, module in model.named_modules()}
    made_by: dict[int, tuple[Tensor, nn.Conv2d]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = (output, module)  # the tensor is kept, so that no other one gets its id
        elif id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])][1], module))  # type: ignore[arg-type]

    with watch((module for module in names if isinstance(module, nn.Conv2d | nn.BatchNorm2d)), note):
        answer: Tensor = model(example)
    for convolution, norm in pairs:
        model.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
        model.set_submodule(names[norm], _behind(norm))
    return answer


def _behind(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a BatchNorm: timm's does the activation too."""
    if not isinstance(norm, BatchNormAct2d):
        return nn.Identity()
    return norm.act if isinstance(norm.drop, nn.Identity) else nn.Sequential(norm.drop, norm.act)
