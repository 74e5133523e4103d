"""What an answer of a network costs: weights, multiplications, time."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

FloatArray = NDArray[np.float64]


def count_parameters(model: nn.Module) -> int:
    """The number of weights that were learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int) -> int:
    """The multiply-accumulate operations of one image, in convolutions and products of matrices.

    Args:
        model: as it was built, not prepared for inference, whose operators are not all known to the counter; in eval mode, on
            the CPU.
        size: side of the square input, pixels.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2  # torch counts the multiplication and the addition


def measure_rates(works: Sequence[Callable[[], object]], items: int, *, rounds: int, seconds: float) -> FloatArray:
    """How much each of several workers gets done in a second, side by side.

    They take turns in each round, so that a machine which is busy for a while slows all of them alike. On a CPU each has one
    core, as each batch has in `segpipe.runs.local_engine`.

    Args:
        works: of each worker; a call does `items` items and returns when they are done.
        items: that a call does.
        rounds: each gives one rate; one more goes before, as a warm-up.
        seconds: length of a turn, at the least one call.

    Returns:
        Items per second, shape (workers, rounds).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for work in works:
            work()
        return np.array([[items * _calls_per_second(work, seconds) for work in works] for _ in range(rounds)]).T
    finally:
        torch.set_num_threads(threads)


def _calls_per_second(work: Callable[[], object], seconds: float) -> float:
    begun, calls = time.perf_counter(), 0
    while True:
        work()
        calls += 1
        passed = time.perf_counter() - begun
        if passed >= seconds:
            return calls / passed
