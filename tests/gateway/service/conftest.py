"""Apps on real sockets in this process, and a backend there that can be held."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gpen_client.wire.messages import (
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    read_header_length,
)

Listening = Callable[[ASGIApp], AbstractAsyncContextManager[str]]


@pytest.fixture
def listening() -> Listening:
    """Serves an app on a port of its own, in this event loop, and gives its URL."""
    return _listening


@asynccontextmanager
async def _listening(app: ASGIApp) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10))
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.005)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving


@dataclass
class HeldBackend:
    """A backend that keeps each restoration until `go_on`, and counts those under way.

    entered, left: how many restorations came, and how many of their callers left before they were answered.
    """

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    entered: int = 0
    left: int = 0
    running: int = 0
    most: int = 0
    timeouts_ms: list[int] = field(default_factory=list)

    @property
    def app(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/v2/models/{name}/infer", self._infer, methods=["POST"]),
                Route("/v2/models/gpen-bfr-512", self._about),
                Route("/v2/models/gpen-bfr-512/ready", self._about),
            ]
        )

    async def _about(self, _: Request) -> Response:
        return JSONResponse(
            {"name": "gpen-bfr-512", "platform": "held", "parameters": {"size": 512, "default": True}}
        )

    async def _infer(self, request: Request) -> Response:
        asked = decode_request(await request.body(), read_header_length(request.headers))
        self.timeouts_ms.append(asked.parameters["timeout_ms"])
        self.entered += 1
        self.running += 1
        self.most = max(self.most, self.running)
        going = asyncio.create_task(self.go_on.wait())
        leaving = asyncio.create_task(request.receive())
        try:
            await asyncio.wait({going, leaving}, return_when=asyncio.FIRST_COMPLETED)
            self.left += not going.done()
        finally:
            self.running -= 1
            going.cancel()
            leaving.cancel()
        told = {"engine": "held", "model": "gpen-bfr-512"}
        answer = InferResponse("", [Tensor("image", asked.tensor("image"))], told, asked.id)
        headers, body = encode_response(answer, binary=True)
        return Response(body, headers=headers)


@pytest.fixture
def held_backend() -> type[HeldBackend]:
    """Makes backends for `listening`."""
    return HeldBackend
