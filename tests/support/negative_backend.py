"""A backend whose restoration is the negative, and a client that asks it."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from gpen_client.client import GpenClient
from gpen_client.resilience import Resilience
from gpen_client.wire.messages import (
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    read_header_length,
)
from gpen_common.types import Restored, RestoreParams
from tests.support.sockets import Answer, Call, http, run_server

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PARAMETERS = {
    "engine": "torch", "model": "gpen-bfr-512", "faces": 2, "batch_size": 3, "align_ms": 1.5, "network_ms": 20
}  # fmt: skip
_ONE_ATTEMPT = Resilience(attempts=1)


def negative(request_headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the answer to a request: 255 - image."""
    request = decode_request(body, read_header_length(request_headers))
    image = request.tensor("image")
    assert image is not None
    answer = InferResponse("gpen", [Tensor("image", 255 - image)], PARAMETERS, request.id)
    return encode_response(answer, request.binary_output)


async def behave(call: Call, writer: asyncio.StreamWriter) -> None:
    """Answer correctly."""
    writer.write(http(200, *negative(call.headers, call.body)))


async def restore(client: GpenClient, **changes: Any) -> Restored:
    given = {"image": IMAGE, "landmarks": None, "params": RestoreParams(), "model": "m", "timeout_s": 10.0}
    return await client.restore(**(given | changes))


async def restore_from(answer: Answer, **changes: Any) -> Restored:
    """Restore once, from a server that answers with `answer`."""
    async with run_server(answer) as url, GpenClient(url, resilience=_ONE_ATTEMPT) as client:
        return await restore(client, **changes)


def mocked(handler: Callable[[httpx.Request], httpx.Response]) -> GpenClient:
    """Return a client that makes one attempt, at `handler`."""
    return GpenClient("http://backend", transport=httpx.MockTransport(handler), resilience=_ONE_ATTEMPT)


def answering(response: InferResponse, binary: bool = True) -> GpenClient:
    """Return a client whose backend always answers `response`."""
    headers, body = encode_response(response, binary)
    return mocked(lambda request: httpx.Response(200, headers=headers, content=body))
