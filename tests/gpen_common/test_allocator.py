"""malloc's settings apply to a whole process, so each test runs another one."""

import os
import subprocess
import sys

import pytest

from gpen_common.allocator import keep_large_buffers

# Allocates, fills and frees 64 MB eight times on another thread; prints the page faults of the last time.
FAULTS = """
import ctypes, resource, threading
from gpen_common.allocator import keep_large_buffers
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def fill():
    size = 64 * 2**20
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        buffer = libc.malloc(size)
        ctypes.memset(buffer, 1, size)
        libc.free(buffer)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=fill)
thread.start()
thread.join()
"""


def last_faults(call, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS.format(call=call)]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_reusing_a_large_buffer_faults_no_pages_in():
    """By default, all 16,384 pages of 64 MB are faulted in each time."""
    if "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"):
        pytest.skip("another C library")
    assert last_faults("assert keep_large_buffers()") < 200 < 10_000 < last_faults("pass")


def test_keeps_the_operators_own_settings():
    assert last_faults("assert not keep_large_buffers()", MALLOC_ARENA_MAX="4") > 10_000


def test_changes_nothing_on_other_systems(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_large_buffers()
