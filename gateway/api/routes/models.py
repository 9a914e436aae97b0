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
    default = await gateway.models.default()
    name = default.name if default else None
    models = await gateway.models.available()
    return ModelsAnswer(
        default=name,
        models=[
            ModelReport(
                name=m.name,
                ready=m.ready,
                engine=m.engine,
                task=m.task,
                size=m.size,
                default=m.name == name,
                reason=m.reason,
            )
            for m in models
        ],
    )
