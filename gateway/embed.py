"""The one place that knows both sides: a GPEN backend in the gateway's own process, or in one of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gpen_backend.app import create_app
from gpen_backend.server import serve
from gpen_backend.settings import BackendSettings

EMBEDDED_URL = "http://embedded"
"""The address of a backend that has none."""


@asynccontextmanager
async def embedded_backend() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """A running backend, configured by its own environment variables, and the way to it.

    It is the same app as the standalone server's, so the wire is the same too, but for the socket.
    """
    app = create_app(BackendSettings())
    async with app.router.lifespan_context(app):
        # A defect of the backend is an answer of its own here too, as it would be over a socket.
        yield httpx.ASGITransport(app, raise_app_exceptions=False)


def serve_backend(host: str | None, port: int | None) -> None:
    """Runs a backend alone until it is told to stop. host, port: in place of those of the environment."""
    settings = BackendSettings()
    given = {"host": host or settings.host, "port": settings.port if port is None else port}
    serve(settings.model_copy(update=given))
