"""Choice of a device, and the cores of this process."""

import ctypes
import os
import platform
import re
import sys
from functools import cache
from importlib.util import find_spec

from segpipe.errors import ConfigError

# Libraries of CUDA's driver by platform.
_CUDA_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
# Images in one pass: on a CPU larger batches are no faster and need more memory; an accelerator needs them to be busy.
_BATCH_SIZES = {"cpu": 8, "cuda": 32, "mps": 16}


def choose_device(name: str) -> str:
    """Choose a device by its name.

    Args:
        name: `auto` (CUDA, then Apple's MPS, then the CPU), `cpu`, `cuda`, `cuda:N`, or `mps`.

    Returns:
        Name without `auto`.

    Raises:
        ConfigError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return _best_device()
    if not isinstance(name, str) or not _DEVICE.fullmatch(name):
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}; auto takes what is there")
    if name != "cpu" and not _is_present(name):
        raise ConfigError(f"device={name} is not there on this machine; device=auto takes what is")
    return name


def kind_of_device(device: str) -> str:
    """Return the kind of a device: `cpu`, `cuda` or `mps`."""
    return device.partition(":")[0]


def default_batch_size(device: str) -> int:
    """Return the default batch size of a device, such as `cuda:1`."""
    return _BATCH_SIZES[kind_of_device(device)]


@cache
def _best_device() -> str:
    """Choose the fastest device, without torch where none can be there."""
    if not _may_have_accelerator() or find_spec("torch") is None:
        return "cpu"

    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _may_have_accelerator() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if os.path.exists("/dev/kfd"):  # AMD's driver
        return True
    try:
        ctypes.CDLL(_CUDA_DRIVERS[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def _is_present(name: str) -> bool:
    """Return True for an accelerator that torch can use."""
    if find_spec("torch") is None:
        return False

    import torch

    kind, _, number = name.partition(":")
    if kind == "mps":
        return torch.backends.mps.is_available()
    return torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
