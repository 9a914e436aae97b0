"""`/v1/preprocess`: standardising alone, the portrait that GPEN would get."""

from contextlib import ExitStack

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.disconnect import cancel_on_disconnect
from gateway.api.negotiation import Accepted, parse_accept
from gateway.api.openapi.operations import UPLOAD_ERRORS, error_responses, picture_body, picture_responses
from gateway.api.request_reader import read_request
from gateway.api.responses import respond_article, respond_preprocessed
from gateway.params import PreprocessParams
from gateway.pipeline.result import Result
from gateway.runtime import Gateway
from gateway.schemas.answers import ArticleAnswer, PreprocessAnswer
from gateway.schemas.reports import PreprocessReport

router = APIRouter(tags=["pictures"])

# The article's recipe, for what the client does not set.
_ARTICLE_DEFAULTS = {"clahe": "always", "exposure": "off"}


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
    wanted = parse_accept(request.headers.get("accept"))
    return await respond_preprocessed(await _preprocess(request, wanted), wanted)


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
    wanted = parse_accept("application/json")
    return await respond_article(await _preprocess(request, wanted, _ARTICLE_DEFAULTS, {"format": "png"}))


async def _preprocess(
    request: Request,
    wanted: Accepted,
    defaults: dict[str, str] | None = None,
    fixed: dict[str, str] | None = None,
) -> Result[PreprocessReport]:
    """Return the portrait of `request`. defaults, fixed: parameters that it may change, or not."""
    gateway: Gateway = request.app.state.gateway
    with ExitStack() as upload:
        upload.enter_context(gateway.admission.upload())
        asked = await read_request(request, gateway, PreprocessParams, wanted, defaults)
        asked.params = asked.params.model_copy(update=fixed)
        async with asked.until_deadline(), cancel_on_disconnect(request):
            gateway.preprocessor.compute_key(asked)
            result = await gateway.preprocessor.look_up(asked)
            if result is None:
                upload.close()  # the work takes a place instead
                result = await gateway.preprocessor.make(asked)
    return result
