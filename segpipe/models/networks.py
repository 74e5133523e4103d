"""Operations on any network: memory layout, recorded calls, weights of a file."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

EXAMPLE_SIDE = 128  # pixels; some networks need at least 75


def example_batch(device: torch.device | None = None) -> Tensor:
    """Return an artificial image, float (1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE) in [-2, 2]."""
    return torch.linspace(-2, 2, 3 * EXAMPLE_SIDE**2, device=device).reshape(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE)


@contextmanager
def record_calls(modules: Iterable[nn.Module], record: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Record each forward call of some modules.

    Args:
        modules: Modules to observe.
        record: Function that takes a module, its inputs and its output.
    """
    hooks = [module.register_forward_hook(record) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def as_value_error(rule: str) -> Iterator[None]:
    """Convert any error of a network's library to a ValueError.

    Args:
        rule: Requirement and given value, the beginning of the message.

    Raises:
        ValueError: An error was raised; the message ends with its reason.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{rule} ({reason})") from error


AnyModel = TypeVar("AnyModel", bound=nn.Module)

# Width of oneDNN's widest block of channels; the fault needs fewer input channels than that.
_BLOCK = 16


class SubsampledConvolution(nn.Conv2d):
    """A strided 1 x 1 convolution as subsampling and an unstrided convolution.

    In channels_last layout, with few input channels, oneDNN writes past its workspace in the gradient of the weights
    (https://github.com/uxlfoundation/oneDNN/issues/6035). The parameters have the names of the convolution that it replaces.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "SubsampledConvolution":
        """Create one that shares the parameters of a convolution."""
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
        """Convolve every `step`-th row and column, batch (N, C, H, W)."""
        rows, columns = self.step
        output: Tensor = super().forward(batch[..., ::rows, ::columns])
        return output


def to_channels_last(model: AnyModel) -> AnyModel:
    """Convert the four-dimensional weights of a model to channels_last, in place."""
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


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the tensors of a file into a network, in place.

    Args:
        model: Network, which keeps its own precision.
        state: All tensors of the model by name; floating point in any precision, others of the same type.

    Raises:
        RuntimeError: A tensor is missing, unknown, or of another shape.
        ValueError: A tensor is of another type.
    """
    own = model.state_dict()
    for name in own.keys() & state.keys():
        given, expected = state[name].dtype, own[name].dtype
        if given != expected and not (given.is_floating_point and expected.is_floating_point):
            raise ValueError(f"{name} must be of type {expected}, got {given}")
    model.load_state_dict(state)


def require_finite(state: Mapping[str, Tensor]) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ValueError: A weight is; the message names its tensor.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")
