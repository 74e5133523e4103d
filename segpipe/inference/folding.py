"""Networks of torch prepared for inference: folded BatchNorm, packed convolutions."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segpipe.models.networks import example_batch, record_calls, to_channels_last

AnyModel = TypeVar("AnyModel", bound=nn.Module)

# Largest difference that folding may make, as a fraction of the largest output; float32 rounding makes a hundredth of it.
_FOLDING_TOLERANCE = 1e-3


def prepare_network(
    model: AnyModel, device: torch.device, precision: torch.dtype, *, run: Callable[..., object] = nn.Module.__call__
) -> AnyModel:
    """Copy a model in the form that is fastest on a device.

    Args:
        model: Network, float32, in eval mode, on the CPU.
        device: Device of the copy.
        precision: Precision of its convolutions.
        run: Method of the model that runs without a graph; by default the whole model does.
    """
    folded = fold_batch_norm(model)
    if device.type == "cpu" and precision is torch.float32:
        pack_convolutions(folded, partial(run, folded))
    return folded.to(device)


@torch.no_grad()
def fold_batch_norm(model: AnyModel) -> AnyModel:
    """Fold each BatchNorm into the convolution that feeds it.

    `gamma * (w * x - mean) / sqrt(var + eps) + beta` is itself a convolution of `x`. Pairs of convolution and BatchNorm are found
    on a small example, whose outputs are compared afterwards; where a network uses a convolution's output elsewhere too, nothing
    is folded.

    Args:
        model: Network from float (N, 3, H, W) to a tensor, in eval mode; it is not changed.

    Returns:
        A copy in channels_last layout.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    example = example_batch(device)
    folded = copy.deepcopy(model)
    expected = _fold_in_place(folded, example)
    output = folded(example)
    largest = float(expected.abs().max())
    same = math.isfinite(largest) and torch.allclose(output, expected, rtol=0, atol=_FOLDING_TOLERANCE * largest)
    return to_channels_last(folded if same else copy.deepcopy(model))


def _fold_in_place(model: nn.Module, example: Tensor) -> Tensor:
    """Fold a model in place and return its output from before."""
    names = {module: name for name, module in model.named_modules()}
    made_by: dict[int, tuple[Tensor, nn.Conv2d]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = (output, module)  # keeping the tensor prevents another one from getting its id
        elif id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])][1], module))  # type: ignore[arg-type]

    with record_calls((module for module in names if isinstance(module, nn.Conv2d | nn.BatchNorm2d)), record):
        output: Tensor = model(example)
    for convolution, norm in pairs:
        model.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
        model.set_submodule(names[norm], _activation_of(norm))
    return output


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return the activation that timm's BatchNorm includes; the identity for torch's."""
    if not isinstance(norm, BatchNormAct2d):
        return nn.Identity()
    return norm.act if isinstance(norm.drop, nn.Identity) else nn.Sequential(norm.drop, norm.act)


class PackedConvolution(nn.Module):
    """A oneDNN convolution with packed weights and no gradient.

    torch.compile replaces `nn.Conv2d` by these operators on a CPU; here they need no compiler.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = (
            [int(side) for side in convolution.padding],
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(convolution.weight.detach(), *self.geometry, None)
        self.bias = None if convolution.bias is None else convolution.bias.detach()

    def forward(self, batch: Tensor) -> Tensor:
        """Convolve a batch, float32 (N, C, H, W)."""
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(batch, self.weight, self.bias, *self.geometry, "none", [], "")
        return output


@torch.no_grad()
def pack_convolutions(model: nn.Module, run: Callable[[Tensor], object]) -> None:
    """Replace convolutions by packed ones, in place, where torch supports them.

    Only those that `run` calls on a small example are replaced: the others may need a gradient.

    In batches of fewer than 16 images they take two thirds of the time, because torch then does without oneDNN, or lays out the
    weights each time; so small batches, which need little memory, are as fast as large ones.

    Args:
        model: Network, float32, in eval mode, on the CPU.
        run: Function that runs the model without a gradient on float (N, 3, H, W).
    """
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return
    convolutions = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    }
    called: set[nn.Module] = set()
    with record_calls(convolutions.values(), lambda module, *_: called.add(module)):
        run(example_batch())
    for name, convolution in convolutions.items():
        if convolution in called:
            model.set_submodule(name, PackedConvolution(convolution))
