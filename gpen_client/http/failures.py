"""What goes wrong over HTTP, as the errors of `gpen_client.errors`."""

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

# The first class that fits wins. A connection that could not be made in time was never a request, so that one
# timeout means "away"; so does an address that cannot be one.
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

# A peer that closes in the middle is away, as one that resets is, but httpx tells it as a breach of protocol,
# and tells it from garbage by these words only.
_CLOSED = re.compile("server disconnected|peer closed connection", re.IGNORECASE)

# How much of the backend's own words goes into an error, characters.
_MAX_TEXT = 300
# Nobody waits longer than this on a header's word, seconds.
_MAX_RETRY_AFTER = 86_400.0


@contextmanager
def backend_errors(backend: str) -> Iterator[None]:
    """Turn all that httpx or a deadline raises into a BackendError. backend: its address, for people."""
    try:
        yield
    except _CAUGHT as error:
        kind = next(to for of, to in _ERROR_OF if isinstance(error, of))
        if isinstance(error, httpx.RemoteProtocolError) and _CLOSED.search(str(error)):
            kind = BackendUnavailable
        what = str(error) or "the deadline passed"
        raise kind(f"backend {backend}: {type(error).__name__}: {what}") from error


def refusal(backend: str, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
    """Give the error that stands for an answer other than 2xx.

    body: the answer's, or its beginning; the text of its `{"error": ...}` ends in the message, shortened.
    """
    message = f"backend {backend} answered {status}{_told(body)}"
    match status:
        case 404:
            return ModelNotFound(message, status)
        case 429:
            return BackendBusy(message, _retry_after(headers.get("Retry-After")))
        # 502 is a proxy's word for a backend that it cannot reach.
        case 502 | 503:
            return BackendUnavailable(message, _retry_after(headers.get("Retry-After")))
        # 500 without the protocol's own body is Ray Serve's proxy's, for a replica that died.
        case 500 if not _told(body):
            return BackendCrashed(message)
        case _ if 400 <= status < 500:
            return BackendRejected(message, status)
        case _:
            return BackendProtocolError(message)


class _ErrorJson(BaseModel):
    error: str


def _told(body: bytes) -> str:
    try:
        text = " ".join(_ErrorJson.model_validate_json(body).error.split())
    except ValidationError:
        return ""
    return f": {text[:_MAX_TEXT]}{'…' if len(text) > _MAX_TEXT else ''}"


def _retry_after(value: str | None) -> float | None:
    """Read a Retry-After, whether seconds or a date. Source: RFC 9110, section 10.2.3."""
    if value is None:
        return None
    if re.fullmatch("[0-9]+", value):
        return min(float(value), _MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone is in UTC, by the RFC.
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), _MAX_RETRY_AFTER)
