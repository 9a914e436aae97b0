"""Bytes as they came over a wire, in pieces: what need not be copied is not."""

import io
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

Piece: TypeAlias = bytes | memoryview
"""Bytes one after the other; a memoryview has items of one byte."""

LARGE = 1 << 22
"""Bytes that are copied in two milliseconds: more of them are not put together on an event loop."""

# A view takes 200 bytes, and 80 while it is joined: what somebody sends in crumbs would take a multiple.
_MOST_VIEWS = 10_000


class Pieces:
    """Pieces of one message, taken from the front."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        if len(pieces) > _MOST_VIEWS:
            whole = io.BytesIO()
            whole.writelines(pieces)
            pieces = [whole.getbuffer()]
        self._pieces = deque(memoryview(piece).toreadonly() for piece in pieces if len(piece))
        self.left = sum(map(len, self._pieces))
        """How many bytes were not taken yet."""

    def take(self, size: int) -> Piece:
        """The next `size` bytes: a read-only view where one piece has them all, else a copy.

        Raises ValueError where fewer are left.
        """
        if not 0 <= size <= self.left:
            raise ValueError(f"{size} bytes are asked for where {self.left} are left")
        self.left -= size
        parts = []
        while size:
            piece = self._pieces.popleft()
            parts.append(piece[:size])
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
            size -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


def sliced(pieces: Sequence[Piece], most: int) -> list[bytes]:
    """All that `pieces` hold, in bytes objects of `most` bytes; the last may have fewer."""
    whole, slices = Pieces(pieces), []
    while whole.left:
        slices.append(bytes(whole.take(min(most, whole.left))))
    return slices
