"""Resources of the process: device, cores, and memory."""

import atexit
import ctypes
import gc
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from segpipe.errors import ConfigError

# Libraries of CUDA's driver by platform.
_CUDA_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
# Images in one pass: on a CPU larger batches are no faster and need more memory; an accelerator needs them to be busy.
_BATCH_SIZES = {"cpu": 8, "cuda": 32, "mps": 16}
# Parameters and values of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1  # bytes


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


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory, for networks on the CPU.

    By default it maps each large block again, so every layer of a network waits for thousands of page faults, which can halve
    its speed at batches of 8. The process then keeps its peak memory. One arena serves all threads, or each would keep its own
    peak.

    Returns:
        True where the settings were accepted; false where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = {_M_MMAP_THRESHOLD: _LARGEST, _M_TRIM_THRESHOLD: _LARGEST, _M_ARENA_MAX: 1}
    accepted = [libc.mallopt(parameter, value) == 1 for parameter, value in settings.items()]
    return all(accepted)


def restart_peak_memory() -> None:
    """Return freed memory and reset the peak, where supported."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size


def peak_memory_mib() -> float | None:
    """Return the peak memory since `restart_peak_memory`, MiB; None if unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector while libraries are imported and models built.

    These create a million lasting objects, which the collector would traverse repeatedly: a quarter of the time. It ignores them
    afterwards, too; unused objects are still freed, unless they refer to themselves.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or some libraries would report leaked objects
        if was_enabled:
            gc.enable()
