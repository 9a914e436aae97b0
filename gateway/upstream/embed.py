"""The one place that knows both sides: a GPEN backend in the gateway's own process, or in one of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gpen_backend.app import create_app
from gpen_backend.models.inventory import Entry, inventory, pull, verify
from gpen_backend.server import serve
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import LICENCE
from gpen_backend.weights.store import Store

__all__ = [
    "EMBEDDED_URL",
    "LICENCE",
    "Entry",
    "Store",
    "check_backend_settings",
    "embedded_backend",
    "inventory",
    "open_store",
    "pull",
    "serve_backend",
    "verify",
]

EMBEDDED_URL = "http://embedded"
"""The address of a backend that has none."""


@asynccontextmanager
async def embedded_backend() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """A running backend, configured by its own environment variables, and the way to it.

    It is the same app as the standalone server's, so the wire is the same too, but for the socket.
    """
    app = create_app(BackendSettings())
    async with app.router.lifespan_context(app):
        # As over a socket, an exception of the app is a 500.
        yield httpx.ASGITransport(app, raise_app_exceptions=False)


def open_store(mirror: str | None) -> Store:
    """The folder of the backend's weights. mirror: in place of the environment's. Raises ValidationError."""
    settings = BackendSettings()
    return Store(settings.models_dir, mirror or settings.models_mirror)


def check_backend_settings() -> None:
    """Raises ValidationError where the environment makes no settings of a backend."""
    BackendSettings()


def serve_backend(host: str | None, port: int | None) -> None:
    """Runs a backend alone until it is told to stop. host, port: in place of those of the environment."""
    settings = BackendSettings()
    given = {"host": host or settings.host, "port": settings.port if port is None else port}
    serve(settings.model_copy(update=given))
