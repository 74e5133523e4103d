"""Process memory: allocator settings, peak memory and garbage collection."""

import atexit
import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Parameters and values of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1  # bytes


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
