"""Memory layout of networks: channels_last, which is quicker, without the convolutions that oneDNN gets wrong in it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

EXAMPLE_SIDE = 128  # pixels; some networks take none smaller than 75


def example_batch(device: torch.device | None = None) -> Tensor:
    """One image that is no photograph: float (1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE) in [-2, 2]."""
    return torch.linspace(-2, 2, 3 * EXAMPLE_SIDE**2, device=device).reshape(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE)


@contextmanager
def watch(modules: Iterable[nn.Module], note: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Be told of each call of some modules.

    Args:
        modules: to be watched.
        note: takes a module, its inputs and its output.
    """
    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def refuse_failing(rule: str) -> Iterator[None]:
    """For code of another library that a network's name leads to: each network that does not fit in fails in its own way.

    Args:
        rule: what was asked for and what was given, the beginning of the error's text.

    Raises:
        ValueError: in place of any error, with its reason.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{rule} ({reason})") from error


AnyModel = TypeVar("AnyModel", bound=nn.Module)

# Width of oneDNN's widest block of channels; the fault needs fewer input channels than a block has.
_BLOCK = 16


class SubsampledConvolution(nn.Conv2d):
    """A strided 1 x 1 convolution: the pixels it reads are picked first, then convolved without a stride.

    In channels_last layout, with few input channels, oneDNN writes past its workspace in the gradient of the weights
    (https://github.com/uxlfoundation/oneDNN/issues/6035). The parameters have the names of the convolution that it replaces.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "SubsampledConvolution":
        """Make one that shares the parameters of a convolution."""
        with torch.device("meta"):
            made = cls(
                convolution.in_channels,
                convolution.out_channels,
                1,
                groups=convolution.groups,
                bias=convolution.bias is not None,
            )
        made.step = tuple(convolution.stride)
        made.weight, made.bias = convolution.weight, convolution.bias
        return made.train(convolution.training)

    step: tuple[int, ...]

    def forward(self, batch: Tensor) -> Tensor:
        """Args: batch, float (N, C, H, W). Returns: float (N, C', ceil(H / step), ceil(W / step))."""
        rows, columns = self.step
        answer: Tensor = super().forward(batch[..., ::rows, ::columns])
        return answer


def lay_out(model: AnyModel) -> AnyModel:
    """Put a model into channels_last layout, in place; weights of other than four dimensions stay as they are."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Conv2d and _is_risky(module):
            model.set_submodule(name, SubsampledConvolution.of(module))
    for weights in (*model.parameters(), *model.buffers()):
        if weights.ndim == 4:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    return model


def _is_risky(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (1, 1)
        and max(convolution.stride) > 1
        and convolution.padding in ((0, 0), "valid")
        and convolution.in_channels // convolution.groups < _BLOCK
    )
