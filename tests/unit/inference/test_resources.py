"""Process memory: freed blocks are reused, and garbage collection pauses."""

import gc
import os
import subprocess
import sys

import pytest

from segpipe.inference.resources import gc_paused

PROGRAM = """
import ctypes, resource, sys
from segpipe.inference.resources import keep_freed_memory
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
def test_freed_memory_is_reused() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    faults = {
        way: int(subprocess.check_output([sys.executable, "-c", PROGRAM, way], text=True, env=environment))
        for way in ("keep", "default")
    }
    assert faults["keep"] < faults["default"] / 10


def test_garbage_collection_resumes_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="mine"), gc_paused():
        assert not gc.isenabled()
        raise RuntimeError("mine")
    assert gc.isenabled()
