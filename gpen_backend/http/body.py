"""Read a request's body up to a limit."""

from starlette.requests import Request

from gpen_backend.http.errors import ProtocolError
from gpen_common.content_length import exceeds
from gpen_common.threads import LARGE, off_loop


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body. Raises ProtocolError 413 as soon as it declares or has more than `limit` bytes."""
    too_large = ProtocolError(413, f"the body is larger than the limit of {limit} bytes")
    if exceeds(request.headers.get("content-length", ""), limit):
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return await off_loop(size > LARGE, b"".join, chunks)
