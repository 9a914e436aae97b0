"""Cancel the processing of a request when its client disconnects."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from gateway.errors import CallerLeft
from gpen_common.disconnect import ClientLeft, while_connected


@asynccontextmanager
async def cancel_on_disconnect(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client of `request` disconnects, and raise CallerLeft in its place.

    The body must have been read.
    """
    try:
        async with while_connected(request.receive):
            yield
    except ClientLeft as error:
        raise CallerLeft("the client disconnected before the answer was ready") from error
