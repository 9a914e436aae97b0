"""The single call."""

import base64
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway.api.handler import take_in
from gateway.api.negotiation import accepted, is_known
from gateway.api.openapi.operations import BACKEND_ERRORS, UPLOAD_ERRORS, picture_body, picture_responses
from gateway.params import EnhanceParams
from gateway.pipeline.result import Enhanced
from gateway.runtime import Gateway
from gateway.schemas.reports import EnhanceAnswer
from gateway.service.middleware import request_id
from gateway.timings import server_timing


class _Plain(APIRoute):
    """A route of what takes the request and gives the response: FastAPI has nothing to resolve for it.

    `Access` checks the keys that the documentation asks for.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        return self.endpoint


router = APIRouter(tags=["pictures"], route_class=_Plain)

_MAX_HEADER_TEXT = 100


@router.post(
    "/v1/enhance",
    summary="Enhance a portrait",
    operation_id="enhance",
    response_class=Response,
    responses=picture_responses(EnhanceAnswer, *UPLOAD_ERRORS, *BACKEND_ERRORS, etag=True),
    openapi_extra=picture_body(EnhanceParams),
)
async def enhance(request: Request) -> Response:
    """Standardises the picture, restores its faces with GPEN and returns the result.

    Returns the picture itself, or with `Accept: application/json` the picture in base64 and a report of
    everything that was found, done and linked.
    """
    gateway: Gateway = request.app.state.gateway
    wanted = accepted(request.headers.get("accept"))

    async def work(picture: bytes, params: EnhanceParams, deadline: float) -> Enhanced:
        own_id = request_id(request.scope)
        return await gateway.enhancer.enhance(picture, params, own_id, deadline, wanted.output_format)

    enhanced = await take_in(request, gateway, EnhanceParams, work)
    etag = _json_etag(enhanced) if wanted.json else f'"{enhanced.etag}"'
    if is_known(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=_headers(enhanced, etag))
    return await _as_json(enhanced, gateway) if wanted.json else _as_picture(enhanced)


def _as_picture(enhanced: Enhanced) -> Response:
    return Response(
        enhanced.image,
        media_type=f"image/{enhanced.output_format}",
        headers=_headers(enhanced, f'"{enhanced.etag}"'),
    )


async def _as_json(enhanced: Enhanced, gateway: Gateway) -> Response:
    answer = await gateway.threads.run(_answer_json, enhanced)
    return Response(answer, media_type="application/json", headers=_headers(enhanced, _json_etag(enhanced)))


def _answer_json(enhanced: Enhanced) -> bytes:
    answer = EnhanceAnswer(
        image_base64=base64.b64encode(enhanced.image).decode(),
        media_type=f"image/{enhanced.output_format}",
        report=enhanced.tell(),
    )
    return answer.model_dump_json().encode()


def _json_etag(enhanced: Enhanced) -> str:
    # Weak: two answers of the same picture differ in their timings.
    return f'W/"{enhanced.etag}-json"'


def _headers(enhanced: Enhanced, etag: str) -> dict[str, str]:
    return {
        "Vary": "Accept",
        "Server-Timing": server_timing(enhanced.timings_ms),
        "Cache-Control": "private, no-cache",
        "ETag": etag,
        "X-Cache": enhanced.cache,
        "X-GPEN-Engine": _header_text(enhanced.engine),
        "X-GPEN-Model": _header_text(enhanced.model),
        "X-Faces": str(enhanced.faces),
    }


def _header_text(words: str) -> str:
    """A backend's own words, as a header can carry them."""
    return re.sub(r"[^ -~]", "?", words)[:_MAX_HEADER_TEXT]
