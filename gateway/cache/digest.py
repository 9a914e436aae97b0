"""Digests of bytes, which take milliseconds for large ones: those are worth a thread."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# Bytes whose digest takes half a millisecond.
_LARGE = 1 << 19

P = ParamSpec("P")
T = TypeVar("T")


class Picture:
    """Uploaded bytes, and their digest, which is made once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._sha256 = ""

    async def sha256(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        if not self._sha256:
            self._sha256 = await off_loop(len(self.data), lambda: hashlib.sha256(self.data).hexdigest())
        return self._sha256


async def off_loop(size: int, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, on a thread where its digest of `size` bytes takes longer than to get there.

    Not on the pixel threads: what is kept already must not wait for what is not.
    """
    return await asyncio.to_thread(work, *args, **kwargs) if size > _LARGE else work(*args, **kwargs)
