"""Digests of bytes, which take milliseconds for large ones: those are worth a thread."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# Bytes whose digest takes half a millisecond.
_LARGE = 1 << 19

P = ParamSpec("P")
T = TypeVar("T")


async def picture_digest(data: bytes) -> str:
    """The SHA-256 of uploaded bytes, in hex."""
    return await off_loop(len(data), lambda: hashlib.sha256(data).hexdigest())


async def off_loop(size: int, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, on a thread where its digest of `size` bytes takes longer than to get there.

    Not on the pixel threads: what is kept already must not wait for what is not.
    """
    return await asyncio.to_thread(work, *args, **kwargs) if size > _LARGE else work(*args, **kwargs)
