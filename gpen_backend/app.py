"""The GPEN backend as an ASGI app, to serve or to embed.

uvicorn --factory gpen_backend.app:create_app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpen_backend.http.errors import ProtocolError, on_http_exception, on_protocol_error
from gpen_backend.http.metrics import Gauges, Metrics, expose_metrics
from gpen_backend.http.routes import ROUTES, package_version
from gpen_backend.scheduling.restoration_service import run_service
from gpen_backend.settings import BackendSettings
from gpen_common.request_id import REQUEST_ID, read_request_id
from gpen_common.request_observer import Observer
from gpen_common.tracing import TracingMiddleware, create_tracing


def create_app(settings: BackendSettings | None = None) -> Starlette:
    """Return the backend's app. settings: from the environment if None. Raises ValidationError.

    Its threads run during its lifespan, which a server enters by itself. An app that embeds this one must
    enter `app.router.lifespan_context(app)`.
    """
    settings = settings or BackendSettings()
    metrics, tracing = Metrics(package_version()), create_tracing("gpen-backend")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with run_service(settings) as service:
            app.state.service = service
            gauges = Gauges(service)
            metrics.registry.register(gauges)
            try:
                yield
            finally:
                metrics.registry.unregister(gauges)
                if tracing is not None:
                    await tracing.close()

    app = Starlette(
        routes=[*ROUTES, Route("/metrics", expose_metrics)],
        lifespan=lifespan,
        middleware=[
            Middleware(Observer, report=metrics.count_request, unanswered=500),
            *([Middleware(TracingMiddleware, tracing=tracing)] if tracing else []),
            Middleware(RequestId),
        ],
        exception_handlers={ProtocolError: on_protocol_error, HTTPException: on_http_exception},
    )
    app.state.metrics = metrics
    # A redirect would lack the `error` of the protocol.
    app.router.redirect_slashes = False
    return app


class RequestId:
    """ASGI middleware that copies a valid X-Request-ID of the request to its response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        request_id = read_request_id(scope) if scope["type"] == "http" else None
        if request_id is None:
            await self.app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)
