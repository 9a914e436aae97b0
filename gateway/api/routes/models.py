"""`/v1/models`: the models of the backend."""

from fastapi import APIRouter, Request

from gateway.api.openapi.operations import BACKEND_ERRORS, error_responses
from gateway.runtime import Gateway
from gateway.schemas.answers import ModelReport, ModelsAnswer

router = APIRouter(tags=["models"])


@router.get(
    "/v1/models",
    summary="List the models",
    operation_id="list_models",
    responses=error_responses(*BACKEND_ERRORS),
)
async def list_models(request: Request) -> ModelsAnswer:
    """List the backend's models, and the default for requests that name none."""
    gateway: Gateway = request.app.state.gateway
    models = await gateway.models.available()
    default = gateway.models.pick_default(models)
    name = default.name if default else None
    return ModelsAnswer(
        default=name,
        # The backend's own default may be another.
        models=[ModelReport.model_validate(m).model_copy(update={"default": m.name == name}) for m in models],
    )
