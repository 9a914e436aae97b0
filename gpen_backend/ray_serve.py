"""The backend as a Ray Serve application that scales its replicas with the load.

serve run gpen_backend.ray_serve:build, or deploy/ray/serve.yaml and rayservice.yaml. Needs the extra `ray`.

There is one deployment, and each replica is a complete server: a picture passes only Ray's proxy and the
replica that restores it. With RAY_SERVE_ENABLE_HA_PROXY=1 that proxy is HAProxy instead of a Python process;
docs/deployment.md has the measured difference.
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
from gpen_backend.scheduling.restoration_service import Service
from gpen_backend.settings import BackendSettings

logger = logging.getLogger(__name__)

# Ray sends a replica up to this many times its queue, so that the replica itself answers 429 with the reason.
_BEYOND_QUEUE = 4
# Ray's response beyond that. Its default, 503, would count as a failure in the gateway's circuit breaker.
_REFUSAL = {"status_code": 429, "retry_after_s": 1.0}

# Interval of checks whether the model is ready, seconds.
_POLL_S = 0.1


class Scale(BaseModel):
    """Arguments of `build`, the `args` of the application.

    num_cpus, num_gpus: of one replica; 0.25 puts four replicas on one GPU. queued_requests: target number of
    requests in a replica, averaged over half a minute. Ray starts replicas when the average has been above it
    for upscale_delay_s, and stops replicas when it has been below it for downscale_delay_s.
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
    """Return the application. The environment of its replicas has the backend's settings."""
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
        # For requests in flight, whose timeout in the gateway is 120 s.
        graceful_shutdown_timeout_s=125.0,
        health_check_period_s=10.0,
    )
    return deployment.bind()


def _app() -> ASGIApp:
    """Return the app of one replica, whose startup ends when its default model is ready."""
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


class _Replica(serve.ingress(_app)()):  # type: ignore[misc]  # Ray creates the class
    """A replica. Ray can stop it while it waits for its model."""

    async def __del__(self) -> None:
        """Called by Ray to stop the replica; waits for the app's shutdown."""
        self.app.state.stopping.set()
        await super().__del__()


async def _until_ready(service: Service, stopping: asyncio.Event) -> None:
    """Wait until the default model is ready or `stopping` is set; log each new reason why it is not."""
    logged = None
    while (reason := service.models.status(service.models.default).reason) is not None:
        if reason != logged:
            logger.warning("the replica is not ready: %s", reason)
            logged = reason
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _POLL_S)
            return
