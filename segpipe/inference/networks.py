"""Networks as they run: in the form that is quickest on a device, and on an accelerator one at a time."""

import copy
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segpipe.errors import PredictionError
from segpipe.models.layout import example_batch, lay_out, watch

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in order, the last one of what is left."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


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


class PackedConvolution(nn.Module):
    """A convolution by oneDNN with its weights in oneDNN's own layout; it has no gradient.

    These are the operators that torch.compile puts in the place of `nn.Conv2d` on a CPU; here they need no compiler.
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
        """Args: batch, float32 (N, C, H, W). Returns: float32 (N, C', h, w), as the convolution gives."""
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(batch, self.weight, self.bias, *self.geometry, "none", [], "")
        return answer


@torch.no_grad()
def pack_convolutions(model: nn.Module, run: Callable[[Tensor], object]) -> None:
    """Put packed convolutions in the place of a model's, as far as this build of torch has them; in place.

    Only of those that `run` calls, which is seen on one small example: the others may need a gradient.

    In batches of fewer than 16 images they take two thirds of the time, because torch then does without oneDNN, or lays out the
    weights each time; so small batches, which need little memory, are as quick as large ones.

    Args:
        model: float32, in eval mode, on the CPU.
        run: what the model does without a gradient, with float (N, 3, H, W).
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
    with watch(convolutions.values(), lambda module, *_: called.add(module)):
        run(example_batch())
    for name, convolution in convolutions.items():
        if convolution in called:
            model.set_submodule(name, PackedConvolution(convolution))


_ACCELERATOR = threading.Lock()


def prepare_network(
    model: AnyModel, device: torch.device, precision: torch.dtype, *, run: Callable[..., object] = nn.Module.__call__
) -> AnyModel:
    """A copy of a model in the form that is quickest on a device.

    Args:
        model: float32, in eval mode, on the CPU.
        device: where it will run.
        precision: that its convolutions will be computed in.
        run: its method that runs without a graph; by default the whole model does.
    """
    folded = fold_batch_norm(model)
    if device.type == "cpu" and precision is torch.float32:
        pack_convolutions(folded, partial(run, folded))
    return folded.to(device)


@contextmanager
def take_turn(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Run a network in a precision; on an accelerator one at a time, while the other threads read and cut beside it."""
    lock = nullcontext() if device.type == "cpu" else _ACCELERATOR
    with lock, torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


def require_finite_logits(logits: Tensor, role: str) -> Tensor:
    """Check what a network gave for a batch, and return it.

    Args:
        logits: float, any shape.
        role: of the network, `segmenter` for one.

    Raises:
        AnswerError: one is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise PredictionError(f"the {role} gave a number that is not finite; use precision=float32, or another bundle")
    return logits


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the machine, or an accelerator, has no more memory."""
    # torch has a type for accelerators only.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
