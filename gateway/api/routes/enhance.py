"""`/v1/enhance`, the single call."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api import handler
from gateway.api.openapi.operations import BACKEND_ERRORS, UPLOAD_ERRORS, picture_body, picture_responses
from gateway.params import EnhanceParams
from gateway.schemas.answers import EnhanceAnswer

router = APIRouter(tags=["pictures"])


@router.post(
    "/v1/enhance",
    summary="Enhance a portrait",
    operation_id="enhance",
    response_class=Response,
    responses=picture_responses(EnhanceAnswer, *UPLOAD_ERRORS, *BACKEND_ERRORS, etag=True),
    openapi_extra=picture_body(EnhanceParams),
)
async def enhance(request: Request) -> Response:
    """Standardise the picture, restore its faces with GPEN and return the result.

    Returns the picture, or with `Accept: application/json` the picture in base64 and a report of everything
    that was found, done and linked.
    """
    return await handler.enhance(request, request.app.state.gateway)
