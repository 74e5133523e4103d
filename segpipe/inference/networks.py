"""Networks as they run: in the form that is quickest on a device, and on an accelerator one at a time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from segpipe.errors import PredictionError
from segpipe.inference.folding import AnyModel, fold_batch_norm
from segpipe.inference.packing import pack_convolutions

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
