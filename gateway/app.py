"""The gateway as an ASGI app.

uvicorn --factory gateway.app:create_app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.routing import Route

from gateway import __version__
from gateway.api.openapi.document import INFO, document_app
from gateway.api.openapi.operations import error_responses
from gateway.api.routes import batch, docs, enhance, health, models, page, preprocess
from gateway.api.routes import metrics as metrics_route
from gateway.errors import MissingKey, RateExceeded, RevokedKey
from gateway.faces import FaceFinder
from gateway.runtime import run_gateway
from gateway.service.access import Access
from gateway.service.cors import Cors
from gateway.service.keys import KeyRing
from gateway.service.metrics import Metrics
from gateway.service.middleware import BodyLimit, RequestId, SecurityHeaders
from gateway.service.problem import OnlyProblems, install_problem_handlers
from gateway.service.server import Draining
from gateway.settings import Settings
from gpen_common.request_observer import Observer
from gpen_common.tracing import TracingMiddleware, create_tracing

_DESCRIPTION = """
One call makes a blurry portrait sharp: the gateway standardises the photo (upright sRGB, one geometry, even
light), adjusts GPEN's parameters to what it did, and returns the enhanced picture.
"""


def create_app(
    settings: Settings | None = None,
    *,
    finder: FaceFinder | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the gateway's app. settings: read from the environment where None.

    finder, transport: used instead of those that the settings describe.
    Raises KeysUnusable for a missing or invalid keys file, and TracingUnavailable where traces are configured
    but the extra `otel` is not installed.
    """
    chosen = settings or Settings()
    access = chosen.access
    keyring = KeyRing(access.keys_file) if access.keys_file else None
    metrics, traces = Metrics(), create_tracing("gpen-gateway")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with run_gateway(chosen, finder, transport, metrics, traces) as gateway:
            app.state.gateway = gateway
            yield

    app = FastAPI(
        **INFO,
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # `routes.docs` serves them from local files.
        docs_url=None,
        redoc_url=None,
        # A redirect is neither a success nor a problem document.
        redirect_slashes=False,
    )
    app.state.draining = Draining()
    # Routes are tried in order: the most frequent first.
    for routes in (enhance, preprocess, batch, models, metrics_route):
        app.include_router(routes.router, **(_require_key() if keyring else {}))
    app.include_router(health.router)
    page.mount(app)
    docs.mount(app)
    document_app(app, image_url=chosen.fetch.image_url == "on")
    install_problem_handlers(app)
    app.add_middleware(OnlyProblems)
    if keyring or access.rate or access.concurrency:
        app.add_middleware(Access, settings=access, keyring=keyring)
    if chosen.server.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=chosen.server.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["ETag", "RateLimit", "RateLimit-Policy", "Retry-After", "Server-Timing",
                            "X-Cache", "X-Faces", "X-GPEN-Engine", "X-GPEN-Model", "X-Request-ID"],
        )  # fmt: skip
    app.add_middleware(
        BodyLimit,
        max_bytes=chosen.limits.max_body_bytes,
        by_path={batch.PATH: chosen.batch.batch_max_bytes},
    )
    app.add_middleware(SecurityHeaders)
    count = partial(metrics.count_request, routes=_paths())
    app.add_middleware(Observer, report=count, broken=500)
    if traces is not None:
        app.add_middleware(TracingMiddleware, tracing=traces)
    app.add_middleware(RequestId)
    return app


def _paths() -> frozenset[str]:
    """Return the paths that are labels of metrics: all but the documentation's."""
    routers = (routes.router for routes in (health, enhance, preprocess, batch, models, metrics_route))
    return frozenset(route.path for router in routers for route in router.routes if isinstance(route, Route))


def _require_key() -> dict[str, Any]:
    """Return arguments of `include_router` that document the API key. `Access` checks it."""
    bearer = HTTPBearer(auto_error=False, description="An API key made by `gpen-gateway keys make`.")
    header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key.")
    return {
        "dependencies": [Security(bearer), Security(header)],
        "responses": error_responses(MissingKey, RevokedKey, RateExceeded),
    }
