"""Probes: alive, and able to serve."""

from fastapi import APIRouter, Request

from gateway import __version__
from gateway.api.openapi.operations import error_responses
from gateway.errors import GatewayError, NotReady
from gateway.runtime import Gateway
from gateway.schemas.reports import HealthAnswer, ReadyAnswer

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Alive", operation_id="health")
async def health() -> HealthAnswer:
    """Answers while the process runs and its event loop turns; it asks nothing else."""
    return HealthAnswer(version=__version__)


@router.get("/readyz", summary="Able to serve", operation_id="ready", responses=error_responses(NotReady))
async def ready(request: Request) -> ReadyAnswer:
    """Answers 200 when a picture sent now would be enhanced, and says by what; else 503 with the reason."""
    gateway: Gateway = request.app.state.gateway
    if getattr(request.app.state, "draining", False):
        raise NotReady("this process is stopping; send new requests elsewhere")
    breaker = gateway.client.breaker_state
    if breaker == "open":
        raise NotReady(
            f"the breaker is open: the backend at {gateway.backend} failed every call; its log tells why"
        )
    try:
        model = await gateway.models.default()
    except GatewayError as error:
        raise NotReady(str(error)) from error
    if model is None or not model.ready:
        name = model.name if model else "no model"
        why = (model and model.reason) or "its log tells why"
        raise NotReady(f"the backend at {gateway.backend} has {name} not ready yet: {why}")
    notices = []
    if model.engine == "classical":
        notices.append(
            "no GPEN checkpoint: faces are denoised and sharpened, not restored; see docs/checkpoints.md"
        )
    if gateway.finder.name == "haar":
        notices.append("faces are found by haar cascades, which miss turned heads; see docs/faces.md")
    return ReadyAnswer(
        finder=gateway.finder.name,
        engine=model.engine,
        model=model.name,
        backend=gateway.backend,
        breaker=breaker,
        notices=notices,
    )
