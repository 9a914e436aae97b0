"""The gateway as an ASGI app.

uvicorn --factory gateway.app:create_app
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway import __version__
from gateway.faces import FaceFinder
from gateway.gateway import running
from gateway.routes import enhance, health, models, preprocess
from gateway.service.middleware import BodyLimit, RequestId, SecurityHeaders
from gateway.service.problem import install_problem_handlers
from gateway.settings import Settings

_DESCRIPTION = """
One call makes a blurry portrait sharp: the gateway standardises the photo (upright sRGB, one geometry, even
light), tells GPEN what it did so that nothing is done twice, and returns the enhanced picture.
"""


def create_app(
    settings: Settings | None = None,
    *,
    finder: FaceFinder | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """The gateway's app. settings: read from the environment where None.

    finder, transport: a face finder and a way to the backend in place of those that the settings would make.
    """
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(chosen, finder, transport) as gateway:
            app.state.gateway = gateway
            yield

    app = FastAPI(
        title="gpen-gateway",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # A redirect would be an answer that is neither a success nor a problem document.
        redirect_slashes=False,
    )
    for routes in (enhance, preprocess, models, health):
        app.include_router(routes.router)
    install_problem_handlers(app)
    if chosen.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.server.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["ETag", "Retry-After", "Server-Timing", "X-Cache", "X-Faces", "X-GPEN-Engine",
                            "X-GPEN-Model", "X-Request-ID"],
        )  # fmt: skip
    app.add_middleware(BodyLimit, max_bytes=chosen.limits.max_body_bytes)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestId)
    return app
