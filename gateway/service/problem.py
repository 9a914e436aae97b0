"""One shape for every error: application/problem+json (RFC 9457), framework errors included."""

import http
import logging
from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import GatewayError, InvalidParameters, MalformedRequest
from gateway.schemas.reports import Problem, WrongParameter
from gateway.service.middleware import request_id

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"

# Versions of Python differ in their phrase for it.
_TITLES = {416: "Range Not Satisfiable"}
_KEPT_HEADERS = ("allow", "content-range", "retry-after", "www-authenticate")


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


class OnlyProblems:
    """Answers what nobody expected, and makes problem documents of what libraries answer in their own form.

    It stands within all else that wraps a request, so that these answers have that too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = replaced = False

        async def checked_send(message: Message) -> None:
            nonlocal started, replaced
            if not started and (problem := _instead_of(message, Request(scope))):
                started = replaced = True
                await problem(scope, receive, send)
            started = True
            if not replaced:
                await send(message)

        try:
            await self.app(scope, receive, checked_send)
        except Exception:
            if started:
                raise
            logger.exception("internal-error: a defect of the gateway")
            await problem_response(Request(scope), defect())(scope, receive, send)


def problem_response(request: Request, error: GatewayError) -> Response:
    """The answer to `error`."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return _answer(problem_of(error, request_id(request.scope)), headers)


def problem_of(error: GatewayError, own_id: str) -> Problem:
    """The document that tells `error`, for the request with this id."""
    told = error.errors if isinstance(error, InvalidParameters) else None
    wrong = [WrongParameter(**one) for one in told] if told else None
    return Problem(
        type=error.type,
        title=error.title,
        status=error.status,
        detail=str(error),
        request_id=own_id,
        errors=wrong,
    )


def defect() -> GatewayError:
    """What a caller is told of a defect of ours."""
    return GatewayError(
        "this is a defect of the gateway, not of your picture; report the request id to whoever runs it"
    )


def _answer(problem: Problem, headers: Mapping[str, str]) -> Response:
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        headers={**headers, "X-Request-ID": problem.request_id, "Cache-Control": "no-store"},
        media_type=PROBLEM_JSON,
    )


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 - the handler is registered for nothing else
    if error.status >= 500:
        logger.warning("%s: %s", error.type, error)
    return problem_response(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    return problem_response(request, InvalidParameters(str(error)))


async def _http_error(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for nothing else
    return _of_status(request, error.status_code, str(error.detail), error.headers or {})


def _instead_of(message: Message, request: Request) -> Response | None:
    """The problem in place of an answer that begins with `message`; None where it is right as it is."""
    if message["type"] != "http.response.start" or message["status"] < http.HTTPStatus.BAD_REQUEST:
        return None
    headers = Headers(raw=message["headers"])
    if headers.get("content-type", "").startswith(PROBLEM_JSON):
        return None
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    return _of_status(request, message["status"], "the request cannot be answered; see /docs", kept)


def _of_status(request: Request, status: int, detail: str, headers: Mapping[str, str]) -> Response:
    """The problem that a status of HTTP is."""
    if status == MalformedRequest.status:
        return problem_response(request, MalformedRequest(detail))
    title = _TITLES.get(status) or http.HTTPStatus(status).phrase
    told = {
        404: f"there is nothing at {request.url.path}; see /docs",
        405: f"{request.method} is not for {request.url.path}; see /docs",
        416: f"the range does not lie within {request.url.path}",
    }.get(status, detail)
    problem = Problem(
        type=title.lower().replace(" ", "-"),
        title=title,
        status=status,
        detail=told,
        request_id=request_id(request.scope),
    )
    return _answer(problem, headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A defect of what wraps requests: the log has the trace, the caller the request's id."""
    return problem_response(request, defect())
