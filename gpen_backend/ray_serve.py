"""The backend as a Ray Serve application: the same wire, from as many replicas as the load needs.

serve run gpen_backend.ray_serve:build, or deploy/ray/serve.yaml and rayservice.yaml. Needs the extra `ray`.

One deployment is all there is, and each replica is the whole server: a picture goes from Ray's proxy to the
replica that restores it and nowhere else. With RAY_SERVE_ENABLE_HA_PROXY=1 that proxy is HAProxy, and no
Python process but the replica sees it; docs/deployment.md has the difference measured.
"""

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp

from gpen_backend.app import create_app
from gpen_backend.settings import BackendSettings

# A full replica answers 429 by itself, at once. Ray must hand it requests beyond its queue for that: what Ray
# refuses gets 503, which the gateway takes for a backend that is away.
_BEYOND_QUEUE = 4


class Scale(BaseModel):
    """What `build` may be told, as `args` of the application.

    num_cpus, num_gpus: of one replica; 0.25 puts four of them on one GPU. queued_requests: how many a replica
    should have on the average; Ray starts and stops replicas for that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(8, ge=1)
    num_cpus: float = Field(1, ge=0)
    num_gpus: float = Field(0, ge=0)
    queued_requests: float = Field(4, gt=0)


def build(args: Scale) -> Application:
    """The application. The backend's own settings are the environment of its replicas."""
    most = BackendSettings().max_queue * _BEYOND_QUEUE
    deployment = serve.deployment(
        serve.ingress(_app)(),
        name="gpen-backend",
        ray_actor_options={"num_cpus": args.num_cpus, "num_gpus": args.num_gpus},
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "max_replicas": args.max_replicas,
            "target_ongoing_requests": args.queued_requests,
            "downscale_delay_s": 600.0,
        },
        max_ongoing_requests=most,
        max_queued_requests=most,
        # What is in flight, which the gateway gives up after 120 s.
        graceful_shutdown_timeout_s=125.0,
        health_check_period_s=10.0,
    )
    return deployment.bind()


def _app() -> ASGIApp:
    """Made on each replica."""
    return create_app()
