"""A request's body, read no further than it may go, and its caller, watched until the answer is ready."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from gpen_backend.problems import Problem

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


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes, the most this server takes")
