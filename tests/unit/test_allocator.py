"""Large blocks stay with the process: no page is faulted in twice."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from segpipe.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 2**26
def use():
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc, whose allocator this is about")
def test_freed_memory_is_used_again() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", PROGRAM, way], check=True, capture_output=True, text=True).stdout)
        for way in ("keep", "default")
    }
    assert faults["keep"] < faults["default"] / 10
