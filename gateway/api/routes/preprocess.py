"""`/v1/preprocess`: standardising alone, the portrait that GPEN would get."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api import handler
from gateway.api.openapi.operations import UPLOAD_ERRORS, error_responses, picture_body, picture_responses
from gateway.params import PreprocessParams
from gateway.schemas.answers import ArticleAnswer, PreprocessAnswer

router = APIRouter(tags=["pictures"])


@router.post(
    "/v1/preprocess",
    summary="Standardise a portrait",
    operation_id="preprocess",
    response_class=Response,
    responses=picture_responses(PreprocessAnswer, *UPLOAD_ERRORS),
    openapi_extra=picture_body(PreprocessParams),
)
async def preprocess(request: Request) -> Response:
    """Return the standardised 896x896 portrait, without GPEN.

    With `Accept: application/json`, the portrait in base64 and its report.
    """
    return await handler.preprocess(request, request.app.state.gateway)


@router.post(
    "/preprocess",
    summary="Standardise a portrait, in the article's form",
    operation_id="preprocess_article",
    response_model=ArticleAnswer,
    responses=error_responses(*UPLOAD_ERRORS),
    openapi_extra=picture_body(PreprocessParams),
)
async def preprocess_article(request: Request) -> Response:
    """Return the portrait as PNG in base64.

    The defaults are the article's recipe: CLAHE always, exposure unchanged.
    """
    return await handler.preprocess_article(request, request.app.state.gateway)
