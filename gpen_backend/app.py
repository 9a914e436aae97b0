"""The GPEN backend as an ASGI app, to serve by itself or to embed.

uvicorn --factory gpen_backend.app:create_app
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpen_backend.http.metrics import Gauges, Metrics, Traffic, exposition
from gpen_backend.http.problems import Problem, on_http_exception, on_problem
from gpen_backend.http.routes import ROUTES, version_here
from gpen_backend.scheduling.service import running
from gpen_backend.settings import BackendSettings
from gpen_common.tracing import Traced, tracing

_REQUEST_ID = "X-Request-ID"
# What may be repeated in a header and a log without harm.
_SANE_ID = re.compile(r"[\w.:@+/=-]{1,128}", re.ASCII)


def create_app(settings: BackendSettings | None = None) -> Starlette:
    """The backend's app. settings: read from the environment where None. Raises ValidationError there.

    Its threads live in its lifespan: a server enters it by itself; an app that embeds this one enters
    `app.router.lifespan_context(app)`.
    """
    chosen = settings or BackendSettings()
    metrics, traces = Metrics(version_here()), tracing("gpen-backend")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running(chosen) as service:
            app.state.service = service
            gauges = Gauges(service)
            metrics.registry.register(gauges)
            try:
                yield
            finally:
                metrics.registry.unregister(gauges)
                if traces is not None:
                    await traces.close()

    app = Starlette(
        routes=[*ROUTES, Route("/metrics", exposition)],
        lifespan=lifespan,
        middleware=[
            Middleware(Traffic, metrics=metrics),
            *([Middleware(Traced, tracing=traces)] if traces else []),
            Middleware(RequestId),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
    )
    app.state.metrics = metrics
    # A redirect would be an answer without `error`.
    app.router.redirect_slashes = False
    return app


class RequestId:
    """Repeats a sane X-Request-ID on the answer, whatever the answer is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        request_id = Headers(scope=scope).get(_REQUEST_ID, "") if scope["type"] == "http" else ""
        if not _SANE_ID.fullmatch(request_id):
            await self.app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[_REQUEST_ID] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)
