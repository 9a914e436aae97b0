"""Errors as the protocol has them: `{"error": "..."}`."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

# Seconds after which a client may retry.
_RETRY_AFTER = "1"


class ProtocolError(Exception):
    """A response other than 2xx. status: 4xx or 5xx. message: one sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def on_protocol_error(_: Request, error: Exception) -> Response:
    """Respond to a ProtocolError; 429 and 503 carry Retry-After."""
    if not isinstance(error, ProtocolError):
        raise error
    headers = {"Retry-After": _RETRY_AFTER} if error.status in (429, 503) else None
    return JSONResponse({"error": error.message}, error.status, headers)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Respond to Starlette's HTTPException: no such route, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": message}, error.status_code, error.headers)
