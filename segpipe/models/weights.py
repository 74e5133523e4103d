"""Weights from a file into a network: the same tensors, of the same kind, each number finite; and what the file says of them."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the tensors of a file into a network, in place.

    Args:
        model: takes them in its own precision.
        state: all tensors of the model by name; floating point in any precision, others of the same type.

    Raises:
        RuntimeError: a tensor is missing, unknown, or of another shape.
        ValueError: a tensor is of another type.
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
        ValueError: one is; its tensor is named.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


def read_metadata(content: bytes) -> dict[str, str]:
    """Metadata of a safetensors file that has been read before; `content` is all of it."""
    metadata: dict[str, str] = json.loads(content[8 : _header_end(content)]).get("__metadata__", {})
    return metadata


def hash_tensors(content: bytes) -> str:
    """SHA-256 of the values of all tensors in a safetensors file, whatever its metadata; `content` is all of it."""
    return hashlib.sha256(memoryview(content)[_header_end(content) :]).hexdigest()


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")
