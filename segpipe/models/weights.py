"""Weights of a file: loading into a network, and checks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
