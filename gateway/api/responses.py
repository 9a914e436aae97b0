"""Responses of the picture routes: the picture itself, or JSON with the picture and its report."""

import base64
import re
from collections.abc import Callable

from starlette.responses import Response

from gateway.api.negotiation import Accepted
from gateway.params import EnhanceParams
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.result import Result
from gateway.schemas.answers import ArticleAnswer, EnhanceAnswer, PreprocessAnswer
from gateway.schemas.reports import EnhanceReport, PreprocessReport
from gateway.schemas.schema import Schema
from gateway.timings import server_timing
from gpen_common.threads import off_loop

_MAX_HEADER_TEXT = 100
# Bytes of an image that take about half a millisecond to write as base64 in JSON.
_LARGE_IMAGE = 1 << 17


def respond_not_modified(asked: PictureRequest[EnhanceParams], etag: str) -> Response:
    """Return 304: the client has this result."""
    timing = server_timing(asked.timings.finish())
    return Response(status_code=304, headers={**_cache_headers(etag), "Server-Timing": timing})


async def respond_enhanced(result: Result[EnhanceReport], etag: str, wanted: Accepted) -> Response:
    """Return the enhanced picture, or JSON with it where the client wants that."""
    report = result.report
    headers = {
        **_picture_headers(result, len(report.faces)),
        **_cache_headers(etag),
        "X-GPEN-Engine": _header_text(report.engine),
        "X-GPEN-Model": _header_text(report.model),
    }
    if not wanted.json:
        return Response(result.image, media_type=f"image/{result.output_format}", headers=headers)
    return await _respond_json(result, EnhanceAnswer, headers)


async def respond_preprocessed(result: Result[PreprocessReport], wanted: Accepted) -> Response:
    """Return the portrait, or JSON with it where the client wants that."""
    headers = _picture_headers(result, 0 if result.report.face is None else 1)
    if not wanted.json:
        return Response(result.image, media_type=f"image/{result.output_format}", headers=headers)
    return await _respond_json(result, PreprocessAnswer, headers)


async def respond_article(result: Result[PreprocessReport]) -> Response:
    """Return the portrait as PNG in base64, without a report."""
    return await _write_json(result, lambda image: ArticleAnswer(image_base64=image), {})


async def _respond_json(
    result: Result[PreprocessReport] | Result[EnhanceReport],
    answer: type[EnhanceAnswer] | type[PreprocessAnswer],
    headers: dict[str, str],
) -> Response:
    def fill(image: str) -> Schema:
        return answer(image_base64=image, media_type=f"image/{result.output_format}", report=result.report)

    return await _write_json(result, fill, headers)


async def _write_json(
    result: Result[PreprocessReport] | Result[EnhanceReport],
    fill: Callable[[str], Schema],
    headers: dict[str, str],
) -> Response:
    def write() -> bytes:
        return fill(base64.b64encode(result.image).decode()).model_dump_json().encode()

    body = await off_loop(len(result.image) > _LARGE_IMAGE, write)
    return Response(body, media_type="application/json", headers=headers)


def _picture_headers(result: Result[PreprocessReport] | Result[EnhanceReport], faces: int) -> dict[str, str]:
    return {
        "Vary": "Accept",
        "Server-Timing": server_timing(result.report.timings_ms),
        "X-Cache": result.cache,
        "X-Faces": str(faces),
    }


def _cache_headers(etag: str) -> dict[str, str]:
    return {"Vary": "Accept", "Cache-Control": "private, no-cache", "ETag": etag}


def _header_text(text: str) -> str:
    """Make a backend's text safe for a header."""
    return re.sub(r"[^ -~]", "?", text)[:_MAX_HEADER_TEXT]
