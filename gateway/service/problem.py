"""Errors as application/problem+json (RFC 9457), those of the framework included."""

import asyncio
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

from gateway.errors import GatewayError, InvalidParameters, MalformedRequest, NotReady
from gateway.schemas.problem import Problem, WrongParameter
from gateway.service.middleware import request_id

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"

# The phrase differs between versions of Python.
_TITLES = {416: "Range Not Satisfiable"}
_KEPT_HEADERS = ("allow", "content-range", "retry-after", "www-authenticate")


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _answer_unexpected)


class OnlyProblems:
    """Middleware that turns unexpected exceptions, and error responses of libraries, into problem documents.

    It is the innermost middleware, so that these responses pass through all others. A request that the server
    cancels at the end of its shutdown is answered 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = replaced = False

        async def send_checked(message: Message) -> None:
            nonlocal started, replaced
            if not started and (problem := _instead_of(message, Request(scope))):
                started = replaced = True
                await problem(scope, receive, send)
            started = True
            if not replaced:
                await send(message)

        try:
            await self.app(scope, receive, send_checked)
        except asyncio.CancelledError:
            if started or not scope["app"].state.draining.active:
                raise
            stopped = NotReady("the server stopped before the answer was ready; send the request again")
            await problem_response(Request(scope), stopped)(scope, receive, send)
        except Exception:
            if started:
                raise
            logger.exception("internal-error: unexpected exception")
            await problem_response(Request(scope), GatewayError())(scope, receive, send)


def problem_response(request: Request, error: GatewayError) -> Response:
    """Return the response to `error`."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return _answer(problem_of(error, request_id(request.scope)), headers)


def problem_of(error: GatewayError, own_id: str) -> Problem:
    """Return the problem document of `error`, for the request with this id."""
    errors = error.errors if isinstance(error, InvalidParameters) else None
    wrong = [WrongParameter(**one) for one in errors] if errors else None
    return Problem(
        type=error.type,
        title=error.title,
        status=error.status,
        detail=str(error),
        request_id=own_id,
        errors=wrong,
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
    """Answer 404 and 405 of the router."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for nothing else
    return _of_status(request, error.status_code, str(error.detail), error.headers or {})


def _instead_of(message: Message, request: Request) -> Response | None:
    """Return the problem that replaces a response beginning with `message`; None where none is needed."""
    if message["type"] != "http.response.start" or message["status"] < http.HTTPStatus.BAD_REQUEST:
        return None
    headers = Headers(raw=message["headers"])
    if headers.get("content-type", "").startswith(PROBLEM_JSON):
        return None
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    return _of_status(request, message["status"], "the request could not be answered; see /docs", kept)


def _of_status(request: Request, status: int, detail: str, headers: Mapping[str, str]) -> Response:
    """Return the problem for an HTTP status."""
    if status == MalformedRequest.status:
        return problem_response(request, MalformedRequest(detail))
    title = _TITLES.get(status) or http.HTTPStatus(status).phrase
    texts = {
        404: f"no such path: {request.url.path}; see /docs",
        405: f"{request.method} is not allowed for {request.url.path}; see /docs",
        416: f"the range is outside {request.url.path}",
    }
    problem = Problem(
        type=title.lower().replace(" ", "-"),
        title=title,
        status=status,
        detail=texts.get(status, detail),
        request_id=request_id(request.scope),
    )
    return _answer(problem, headers)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    """Answer an exception of a middleware; the server logs its traceback."""
    return problem_response(request, GatewayError())
