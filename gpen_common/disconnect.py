"""Cancel work whose client has disconnected."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive


class ClientLeft(Exception):
    """The client disconnected before the block ended."""


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when `receive` yields `http.disconnect`, and raise ClientLeft in its place.

    Read the request's body first: other messages are discarded.
    """
    try:
        # No deadline: the watcher sets one that has passed when the client disconnects.
        async with asyncio.timeout(None) as connected:
            watcher = asyncio.create_task(_expire_on_disconnect(receive, connected))
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if connected.expired():
            raise ClientLeft from None
        raise


async def _expire_on_disconnect(receive: Receive, connected: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connected.reschedule(asyncio.get_running_loop().time())
