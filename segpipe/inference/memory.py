"""Memory of the process: large blocks are kept for the next layer, and nobody looks for garbage while everything is loaded."""

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
    """Tell glibc to keep freed memory, for a script that runs networks on the CPU.

    By default it maps each large block anew, so every layer of a network waits for thousands of page faults, which can halve its
    speed at batches of 8. The process then holds on to its peak. One arena serves all threads, or each would keep its own peak.

    Returns:
        Whether it was done; false where the C library is not glibc.
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
    """Forget the memory that the process has needed so far, where the system can; what was freed goes back to it first."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size


def peak_memory_mib() -> float | None:
    """The most memory that the process has had since it, or since `restart_peak_memory`, MiB; None where no one tells."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None


@contextmanager
def gc_paused() -> Iterator[None]:
    """Leave Python's garbage where it is, while libraries are imported and models built.

    They make a million objects that stay, and the collector would walk through them again and again: a quarter of the time. Nor
    does it look at them afterwards; what goes out of use is still freed, unless it refers to itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or some libraries would complain about what they lent and did not get back
        if was_enabled:
            gc.enable()
