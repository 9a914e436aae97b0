"""Digests of bytes, which take milliseconds for large ones: those are worth a thread."""

import hashlib

from gpen_common.threads import off_loop

LONG = 1 << 19
"""Bytes whose digest takes half a millisecond."""


class Picture:
    """Uploaded bytes, and their digest, which is made once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._sha256 = ""

    async def sha256(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        if not self._sha256:
            long = len(self.data) > LONG
            self._sha256 = await off_loop(long, lambda: hashlib.sha256(self.data).hexdigest())
        return self._sha256
