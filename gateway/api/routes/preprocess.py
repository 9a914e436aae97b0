"""Standardising alone: the portrait that GPEN would see."""

import base64

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.api.handler import take_in
from gateway.api.negotiation import accepted
from gateway.api.openapi.operations import UPLOAD_ERRORS, error_responses, picture_body, picture_responses
from gateway.params import PreprocessParams
from gateway.pipeline.result import Preprocessed
from gateway.runtime import Gateway
from gateway.schemas.reports import ArticleAnswer, PreprocessAnswer
from gateway.timings import server_timing

router = APIRouter(tags=["pictures"])

# What the article's recipe does, unless the caller asks otherwise.
_ARTICLE_RECIPE = {"clahe": "always", "exposure": "off"}


@router.post(
    "/v1/preprocess",
    summary="Standardise a portrait",
    operation_id="preprocess",
    response_class=Response,
    responses=picture_responses(PreprocessAnswer, *UPLOAD_ERRORS),
    openapi_extra=picture_body(PreprocessParams),
)
async def preprocess(request: Request) -> Response:
    """Returns the standardised 896x896 portrait, without GPEN.

    With `Accept: application/json` the portrait in base64 and its report.
    """
    gateway: Gateway = request.app.state.gateway
    wanted = accepted(request.headers.get("accept"))

    async def work(picture: bytes, params: PreprocessParams, _deadline: float) -> Preprocessed:
        return await gateway.enhancer.preprocess(picture, params, wanted.output_format)

    portrait = await take_in(request, gateway, PreprocessParams, work)
    headers = {
        "Vary": "Accept",
        "Server-Timing": server_timing(portrait.report.timings_ms),
        "X-Cache": portrait.cache,
        "X-Faces": "0" if portrait.report.face is None else "1",
    }
    if wanted.json:
        answer = await gateway.threads.run(_answer_json, portrait)
        return Response(answer, media_type="application/json", headers=headers)
    return Response(portrait.image, media_type=f"image/{portrait.output_format}", headers=headers)


@router.post(
    "/preprocess",
    summary="Standardise a portrait, in the article's form",
    operation_id="preprocess_article",
    responses=error_responses(*UPLOAD_ERRORS),
    openapi_extra=picture_body(PreprocessParams),
)
async def preprocess_article(request: Request) -> ArticleAnswer:
    """Returns the portrait as PNG in base64.

    By default it is the article's recipe: CLAHE always, exposure as it is.
    """
    gateway: Gateway = request.app.state.gateway

    async def work(picture: bytes, params: PreprocessParams, _deadline: float) -> Preprocessed:
        return await gateway.enhancer.preprocess(picture, params.model_copy(update={"format": "png"}))

    portrait = await take_in(request, gateway, PreprocessParams, work, _ARTICLE_RECIPE)
    return ArticleAnswer(image_base64=base64.b64encode(portrait.image).decode())


def _answer_json(portrait: Preprocessed) -> bytes:
    answer = PreprocessAnswer(
        image_base64=base64.b64encode(portrait.image).decode(),
        media_type=f"image/{portrait.output_format}",
        report=portrait.report,
    )
    return answer.model_dump_json().encode()
