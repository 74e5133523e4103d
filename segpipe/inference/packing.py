"""Convolutions for inference on a CPU, whose weights are laid out once and not at each call."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segpipe.models.trial import example_batch, watch


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
