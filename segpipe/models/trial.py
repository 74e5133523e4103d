"""Networks of other libraries on trial: run on a small example, they show what they call, and whether they can be used at all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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
