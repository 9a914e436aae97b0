"""Apps on sockets in this process, and a backend that holds its requests."""

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

ServeApp = Callable[[ASGIApp], AbstractAsyncContextManager[str]]


@pytest.fixture
def serve_app() -> ServeApp:
    """`serve_app(app)` serves an app on a free port, in this event loop; yields its URL."""
    return _serve_app


@asynccontextmanager
async def _serve_app(app: ASGIApp) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10))
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.005)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving


@dataclass
class HeldBackend:
    """A backend that holds each restoration until `go_on` is set.

    entered: restorations begun. left: those whose caller disconnected before the response.
    running, most: restorations in progress, now and at most.
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
        released = asyncio.create_task(self.go_on.wait())
        disconnected = asyncio.create_task(request.receive())
        try:
            await asyncio.wait({released, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            self.left += not released.done()
        finally:
            self.running -= 1
            released.cancel()
            disconnected.cancel()
        parameters = {"engine": "held", "model": "gpen-bfr-512"}
        answer = InferResponse("", [Tensor("image", asked.tensor("image"))], parameters, asked.id)
        headers, body = encode_response(answer, binary=True)
        return Response(body, headers=headers)


@pytest.fixture
def held_backend() -> type[HeldBackend]:
    """Makes backends for `serve_app`."""
    return HeldBackend
