"""Probes: `/healthz` for liveness, `/readyz` for readiness."""

from fastapi import APIRouter, Request

from gateway import __version__
from gateway.api.openapi.operations import error_responses
from gateway.errors import GatewayError, NotReady
from gateway.runtime import Gateway
from gateway.schemas.answers import HealthAnswer, ReadyAnswer

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Liveness probe", operation_id="health")
async def health() -> HealthAnswer:
    """Return 200 while the process runs and its event loop responds. Nothing else is checked."""
    return HealthAnswer(version=__version__)


@router.get("/readyz", summary="Readiness probe", operation_id="ready", responses=error_responses(NotReady))
async def ready(request: Request) -> ReadyAnswer:
    """Return 200 with engine and model if a picture sent now would be enhanced, else 503 with the reason."""
    gateway: Gateway = request.app.state.gateway
    if request.app.state.draining.active:
        raise NotReady
    breaker = gateway.client.breaker_state
    if breaker == "open":
        raise NotReady(
            f"the circuit breaker is open: calls to the backend at {gateway.backend} failed; see its log"
        )
    try:
        model = await gateway.models.default()
    except GatewayError as error:
        raise NotReady(str(error)) from error
    if model is None or not model.ready:
        name = model.name if model else "no model"
        reason = (model and model.reason) or "see its log"
        raise NotReady(f"the backend at {gateway.backend} is not ready: {name}: {reason}")
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
