"""Make glibc's malloc keep large buffers for reuse.

By default glibc maps each large buffer with mmap and unmaps it when freed, so the kernel clears every page of
every picture and feature map again. That takes about as long as the network's arithmetic, and an eighth of
the time of a portrait without a network (docs/performance.md). Other C libraries are left alone.
"""

import ctypes
import logging
import os
import sys

logger = logging.getLogger(__name__)

# Source: glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
# Larger than the largest feature map of a network of 2048 px, 512 MB.
_KEPT = 2**30
# Free memory at the end of the heap beyond this is returned to the system; mallopt's largest value.
_TRIMMED = 2**31 - 1
_STEP = 64 * 2**20
# torch's own switch for huge pages, read at its first allocation. Source: c10/core/impl/alloc_cpu.cpp.
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def keep_large_buffers() -> bool:
    """Make malloc keep and reuse large buffers of all threads. Returns whether it does.

    Call it before torch and other threads allocate. It changes nothing if the operator has configured malloc
    (MALLOC_*, GLIBC_TUNABLES, LD_PRELOAD) or the C library is not glibc.
    """
    if sys.platform != "linux" or _is_configured():
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - only glibc has it
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault(_HUGE_PAGES, "1")
    # One arena: the others consist of heaps of 64 MB, and larger buffers would still be mapped.
    options = (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, _KEPT),
        (_TRIM_THRESHOLD, _TRIMMED),
        (_TOP_PAD, _STEP),
    )
    accepted = [mallopt(ctypes.c_int(option), ctypes.c_int(value)) for option, value in options]
    kept = all(accepted)
    if not kept:
        logger.warning("glibc's malloc rejected its settings; the network will be slower")
    return kept


def _is_configured() -> bool:
    chosen = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return any(name.startswith("MALLOC_") or (name in chosen and os.environ[name]) for name in os.environ)
