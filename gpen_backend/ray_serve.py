"""The backend as a Ray Serve application: the same wire, from as many replicas as the load needs.

serve run gpen_backend.ray_serve:build, or deploy/ray/serve.yaml and rayservice.yaml. Needs the extra `ray`.

One deployment is all there is, and each replica is the whole server: a picture goes from Ray's proxy to the
replica that restores it and nowhere else. With RAY_SERVE_ENABLE_HA_PROXY=1 that proxy is HAProxy, and no
Python process but the replica sees it; docs/deployment.md has the difference measured.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette
from starlette.types import ASGIApp

from gpen_backend.app import create_app
from gpen_backend.scheduling.service import Service
from gpen_backend.settings import BackendSettings

logger = logging.getLogger(__name__)

# A full replica answers 429 at once and says why. Ray hands it requests beyond its queue for that.
_BEYOND_QUEUE = 4
# What Ray itself refuses beyond those. Its default, 503, is a backend that is away to the gateway's breaker.
_REFUSAL = {"status_code": 429, "retry_after_s": 1.0}

# Seconds from one look at the model to the next.
_LOOK_S = 0.1


class Scale(BaseModel):
    """What `build` may be told, as `args` of the application.

    num_cpus, num_gpus: of one replica; 0.25 puts four of them on one GPU. queued_requests: how many a replica
    should have on the average of half a minute; Ray starts and stops replicas for that, once the average has
    asked for more during upscale_delay_s, or for fewer during downscale_delay_s.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(8, ge=1)
    num_cpus: float = Field(1, ge=0)
    num_gpus: float = Field(0, ge=0)
    queued_requests: float = Field(4, gt=0)
    upscale_delay_s: float = Field(30, ge=0)
    downscale_delay_s: float = Field(600, ge=0)


def build(args: Scale) -> Application:
    """The application. The backend's own settings are the environment of its replicas."""
    most = BackendSettings().max_queue * _BEYOND_QUEUE
    deployment = serve.deployment(
        _Replica,
        name="gpen-backend",
        ray_actor_options={"num_cpus": args.num_cpus, "num_gpus": args.num_gpus},
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "max_replicas": args.max_replicas,
            "target_ongoing_requests": args.queued_requests,
            "upscale_delay_s": args.upscale_delay_s,
            "downscale_delay_s": args.downscale_delay_s,
        },
        max_ongoing_requests=most,
        max_queued_requests=most,
        backpressure_config=_REFUSAL,
        # What is in flight, which the gateway gives up after 120 s.
        graceful_shutdown_timeout_s=125.0,
        health_check_period_s=10.0,
    )
    return deployment.bind()


def _app() -> ASGIApp:
    """Made on each replica, which has started for Ray, and gets requests, once its default model is ready."""
    app = create_app()
    app.state.stopping = asyncio.Event()
    serving = app.router.lifespan_context

    @asynccontextmanager
    async def ready(app: Starlette) -> AsyncIterator[None]:
        async with serving(app):
            await _until_ready(app.state.service, app.state.stopping)
            yield

    app.router.lifespan_context = ready
    return app


class _Replica(serve.ingress(_app)()):  # type: ignore[misc]  # Ray makes the class
    """What Ray runs. It can be stopped while it waits for its model."""

    async def __del__(self) -> None:
        """Ray's end of a replica, which waits for the app's own."""
        self.app.state.stopping.set()
        await super().__del__()


async def _until_ready(service: Service, stopping: asyncio.Event) -> None:
    """A model that cannot be loaded is waited for like Kubernetes' readiness, and told where it changes.

    stopping: ends the wait.
    """
    told = None
    while (reason := service.models.status(service.models.default).reason) is not None:
        if reason != told:
            logger.warning("no requests yet: %s", reason)
            told = reason
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_S)
            return
