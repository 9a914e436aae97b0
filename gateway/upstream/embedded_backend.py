"""The only module that imports the backend: run it inside the gateway, or as a separate server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gpen_backend.app import create_app
from gpen_backend.models.inventory import list_model_files, pull, verify
from gpen_backend.server import serve
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import LICENCE
from gpen_backend.weights.store import WeightStore

__all__ = [
    "EMBEDDED_URL",
    "LICENCE",
    "WeightStore",
    "check_backend_settings",
    "list_model_files",
    "open_store",
    "pull",
    "run_embedded_backend",
    "serve_backend",
    "verify",
]

EMBEDDED_URL = "http://embedded"
"""Placeholder address of the embedded backend."""


@asynccontextmanager
async def run_embedded_backend() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Run a backend, configured by its own environment variables, and yield the transport to it.

    It is the app of the standalone server, called over the same protocol without a socket.
    """
    app = create_app(BackendSettings())
    async with app.router.lifespan_context(app):
        # As over a socket, an exception of the app is a 500.
        yield httpx.ASGITransport(app, raise_app_exceptions=False)


def open_store(mirror: str | None) -> WeightStore:
    """Open the folder of the backend's weights. mirror: overrides the environment. Raises ValidationError."""
    settings = BackendSettings()
    return WeightStore(settings.models_dir, mirror or settings.models_mirror)


def check_backend_settings() -> None:
    """Raise ValidationError if the backend's environment variables are invalid."""
    BackendSettings()


def serve_backend(host: str | None, port: int | None) -> None:
    """Run a backend server until it is stopped. host, port: override the environment."""
    settings = BackendSettings()
    given = {"host": host or settings.host, "port": settings.port if port is None else port}
    serve(settings.model_copy(update=given))
