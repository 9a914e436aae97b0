"""Map HTTP failures to the errors of `gpen_client.errors`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import BaseModel, ValidationError

from gpen_client.errors import (
    BackendBusy,
    BackendCrashed,
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ModelNotFound,
)

# The first matching class wins. ConnectTimeout means "away": no request was sent. So does an invalid address.
_ERROR_OF: tuple[
    tuple[type[Exception], type[BackendUnavailable | BackendTimeout | BackendProtocolError]], ...
] = (
    (httpx.ConnectTimeout, BackendUnavailable),
    (httpx.TimeoutException, BackendTimeout),
    (TimeoutError, BackendTimeout),
    (httpx.NetworkError, BackendUnavailable),
    (httpx.ProxyError, BackendUnavailable),
    (httpx.UnsupportedProtocol, BackendUnavailable),
    (httpx.InvalidURL, BackendUnavailable),
    (httpx.HTTPError, BackendProtocolError),
    (httpx.StreamError, BackendProtocolError),
    (httpx.CookieConflict, BackendProtocolError),
    (UnicodeEncodeError, BackendProtocolError),  # a header that is not ASCII
)
_CAUGHT = tuple(kind for kind, _ in _ERROR_OF)

# A peer that closes in the middle is away, like one that resets. httpx raises RemoteProtocolError for it, and
# only these words distinguish it from garbage.
_CLOSED = re.compile("server disconnected|peer closed connection", re.IGNORECASE)

# Longest part of the backend's text that an error quotes, characters.
_MAX_TEXT = 300
# Longest Retry-After that is passed on, seconds.
_MAX_RETRY_AFTER = 86_400.0


@contextmanager
def raise_backend_errors(backend: str) -> Iterator[None]:
    """Raise BackendError in place of errors of httpx and deadlines. backend: its address, for the message."""
    try:
        yield
    except _CAUGHT as error:
        kind = next(to for of, to in _ERROR_OF if isinstance(error, of))
        if isinstance(error, httpx.RemoteProtocolError) and _CLOSED.search(str(error)):
            kind = BackendUnavailable
        what = str(error) or "no answer before the deadline"
        raise kind(f"backend {backend}: {type(error).__name__}: {what}") from error


def refusal(backend: str, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
    """Return the error for an answer other than 2xx.

    body: the answer's body or its beginning; the message quotes its `{"error": ...}`, shortened.
    """
    reason = _reason(body)
    message = f"backend {backend} answered {status}{reason}"
    match status:
        case 404:
            return ModelNotFound(message, status)
        case 429:
            return BackendBusy(message, _retry_after(headers.get("Retry-After")))
        # A proxy answers 502 if it cannot reach the backend.
        case 502 | 503:
            return BackendUnavailable(message, _retry_after(headers.get("Retry-After")))
        # Ray Serve's proxy answers a bare 500 for a replica that died.
        case 500 if not reason:
            return BackendCrashed(message)
        case _ if 400 <= status < 500:
            return BackendRejected(message, status)
        case _:
            return BackendProtocolError(message)


class _ErrorJson(BaseModel):
    error: str


def _reason(body: bytes) -> str:
    try:
        text = " ".join(_ErrorJson.model_validate_json(body).error.split())
    except ValidationError:
        return ""
    return f": {text[:_MAX_TEXT]}{'…' if len(text) > _MAX_TEXT else ''}"


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After, which may be a date. Source: RFC 9110, section 10.2.3."""
    if value is None:
        return None
    if re.fullmatch("[0-9]+", value):
        return min(float(value), _MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # The RFC reads a date without a zone as UTC.
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), _MAX_RETRY_AFTER)
