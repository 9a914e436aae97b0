"""What this server answers when it does not answer: `{"error": "..."}`, as the protocol has it."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

# Seconds after which a caller may try again.
_RETRY_AFTER = "1"


class Problem(Exception):
    """An answer that is not 2xx. status: 4xx or 5xx. message: one sentence for whoever sent the request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def problem_response(problem: Problem) -> JSONResponse:
    """`problem` over HTTP. 429 and 503 say when to come back."""
    headers = {"Retry-After": _RETRY_AFTER} if problem.status in (429, 503) else None
    return JSONResponse({"error": problem.message}, problem.status, headers)


async def on_problem(_: Request, problem: Exception) -> Response:
    """Starlette's handler of Problem."""
    if not isinstance(problem, Problem):
        raise problem
    return problem_response(problem)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler of its own HTTPException: no such route, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": message}, error.status_code, error.headers)
