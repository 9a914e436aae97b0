"""The C library's allocator, set to keep the memory that the next picture or face needs again.

By default glibc maps every large buffer anew and gives it back at once: the kernel then clears each page of
each picture, and of each feature map of each face, which takes about as long as the network's arithmetic and
an eighth of the time of a portrait without one. Measured in docs/performance.md. Other C libraries and
allocators are left alone.
"""

import ctypes
import logging
import os
import sys

logger = logging.getLogger(__name__)

# Source: glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
# Above the largest feature map of a network of 2048 px, 512 MB.
_KEPT = 2**30
# Free memory at the heap's end beyond this goes back; the largest that mallopt can be told.
_TRIMMED = 2**31 - 1
_STEP = 64 * 2**20
# torch's own switch for huge pages, read at its first allocation. Source: c10/core/impl/alloc_cpu.cpp.
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def keep_large_buffers() -> bool:
    """Make malloc keep and reuse large buffers in this process, whatever thread asks. Tells whether it does.

    To be called before other threads allocate and before torch does. Does nothing where the operator has
    set malloc up already (MALLOC_*, GLIBC_TUNABLES, LD_PRELOAD), or where the C library is not glibc.
    """
    if sys.platform != "linux" or _is_set_up():
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - only glibc has it
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault(_HUGE_PAGES, "1")
    # Any other arena than the first consists of pieces of 64 MB: what is larger would be mapped all the same.
    wanted = (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, _KEPT),
        (_TRIM_THRESHOLD, _TRIMMED),
        (_TOP_PAD, _STEP),
    )
    taken = [mallopt(ctypes.c_int(option), ctypes.c_int(value)) for option, value in wanted]
    kept = all(taken)
    if not kept:
        logger.warning("glibc's malloc cannot be set up; the network will be slower")
    return kept


def _is_set_up() -> bool:
    chosen = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return any(name.startswith("MALLOC_") or (name in chosen and os.environ[name]) for name in os.environ)
