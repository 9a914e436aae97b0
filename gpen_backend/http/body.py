"""A request's body, read no further than it may go, its caller, watched meanwhile, and the answer's body."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gpen_backend.http.problems import Problem
from gpen_common.pieces import Piece

Result = TypeVar("Result")


async def read_body(request: Request, limit: int) -> list[bytes]:
    """The body of a request as it came. Raises Problem 413 past `limit` bytes, before reading on."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return chunks


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """What `work` returns. It is cancelled where the caller leaves: then raises ClientDisconnect.

    request: its body must have been read.
    """
    try:
        # Without end, until the caller's leaving is the end.
        async with asyncio.timeout(None) as staying:
            leaving = asyncio.create_task(_end_with(request, staying))
            try:
                return await work
            finally:
                leaving.cancel()
    except TimeoutError:
        if staying.expired():
            raise ClientDisconnect from None
        raise


async def _end_with(request: Request, staying: asyncio.Timeout) -> None:
    """End `staying` when the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    staying.reschedule(asyncio.get_running_loop().time())


class PiecesResponse(Response):
    """An answer whose body is sent piece by piece, so that a whole photo keeps no other request waiting."""

    def __init__(self, pieces: Sequence[Piece], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "Content-Length": str(sum(map(len, pieces)))})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for left, piece in zip(range(len(self._pieces) - 1, -1, -1), self._pieces, strict=True):
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes, the most this server takes")
