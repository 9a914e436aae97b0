"""Gateways for tests: inside this process, and as a server process."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path

import httpx

from gateway.app import create_app
from gateway.faces import FaceFinder
from gateway.settings import Settings
from tests.support.echo_backend import EchoBackend
from tests.support.faces import FixedFinder

Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def run_gateway(
    backend: EchoBackend | None = None, finder: FaceFinder | None = None, settings: Settings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway in this process and yield a client. Without `backend` it embeds the real one."""
    transport = httpx.MockTransport(backend) if backend else None
    app = create_app(settings or Settings(), finder=finder or FixedFinder(), transport=transport)
    # Like a server, do not re-raise what the app raises after its response.
    to_app = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=to_app, base_url="http://gateway", timeout=60) as client,
    ):
        yield client


def run_gateway_process(
    server_process: Callable[..., AbstractContextManager[str]], folder: Path
) -> AbstractContextManager[str]:
    """Run `gpen-gateway serve` with an embedded backend on a socket, and yield its URL."""
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(folder),
        "GATEWAY_MAX_BODY_BYTES": "3000000",
        "PYTHONWARNINGS": "error",
    }
    return server_process([sys.executable, "-m", "gateway", "serve", "--port", "0"], environment, folder)
