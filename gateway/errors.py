"""Every error that the gateway answers with.

GatewayError                     status  type
├── MalformedRequest             400     malformed-request
│   └── DamagedPicture           400     damaged-picture
├── MissingKey                   401     missing-key
│   └── WrongKey                 401     wrong-key
├── RevokedKey                   403     revoked-key
├── CorsRefused                  403     cors-refused
├── TooLarge                     413     too-large
│   └── TooManyPixels            413     too-many-pixels
├── UnsupportedPicture           415     unsupported-picture
├── InvalidParameters            422     invalid-parameters
│   ├── MissingPicture           422     missing-picture
│   ├── ImageUrlOff              422     image-url-off
│   ├── ImageUrlRefused          422     image-url-refused
│   ├── ImageUrlUnreachable      422     image-url-unreachable
│   └── UnknownModel             422     unknown-model
├── SlowUpload                   408     slow-upload
├── NoFace                       422     no-face
├── HeadTurned                   422     head-turned
├── CallerLeft                   499     caller-left
├── BackendBroken                502     backend-broken
├── DeadlinePassed               504     deadline-passed
└── TryLater                             (each with Retry-After)
    ├── RateExceeded             429     rate-limited
    ├── TooManyAtOnce            429     too-many-at-once
    ├── QueueFull                429     queue-full
    ├── BackendIsBusy            429     backend-busy
    ├── BackendAway              503     backend-away
    └── NotReady                 503     not-ready
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class GatewayError(Exception):
    """Unexpected error in the gateway; see the log.

    The base of all errors that have an HTTP response. `str(error)` is the problem's `detail`: what is wrong
    and what to do. status, type, title: as in RFC 9457. retry_after: seconds, sent as `Retry-After` where it
    is known. headers: further response headers. text: the detail where no other is given.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Unexpected error in the gateway"
    text: ClassVar[str] = (
        "an unexpected error in the gateway, not in your picture; report the request id to its operator"
    )
    retry_after: float | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.text)


class MalformedRequest(GatewayError):
    """The body does not match its content type."""

    status, type, title = 400, "malformed-request", "Malformed request"


class DamagedPicture(MalformedRequest):
    """The picture has a valid header, but its pixels cannot be decoded."""

    type, title = "damaged-picture", "The picture is damaged"


class MissingKey(GatewayError):
    """The request has no API key, and this gateway requires one."""

    status, type, title = 401, "missing-key", "API key required"
    text = "send your API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
    # Source: RFC 6750, section 3.
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="gpen-gateway"'})


class WrongKey(MissingKey):
    """The API key does not exist."""

    type, title = "wrong-key", "Unknown API key"
    text = "this API key does not exist; ask the operator of the gateway for one"
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="gpen-gateway", error="invalid_token"'})


class RevokedKey(GatewayError):
    """The API key was revoked."""

    status, type, title = 403, "revoked-key", "The API key was revoked"
    text = "this API key was revoked; ask the operator of the gateway for another"


class CorsRefused(GatewayError):
    """A browser's preflight request comes from an origin that may not call the gateway."""

    status, type, title = 403, "cors-refused", "Cross-origin request not allowed"


class TooLarge(GatewayError):
    """The body is larger than the limit."""

    status, type, title = 413, "too-large", "The request is too large"


class TooManyPixels(TooLarge):
    """The picture has more pixels than the limit."""

    type, title = "too-many-pixels", "The picture has too many pixels"


class UnsupportedPicture(GatewayError):
    """The file is not a picture in a supported format."""

    status, type, title = 415, "unsupported-picture", "Unsupported picture format"


class InvalidParameters(GatewayError):
    """A parameter is unknown or out of range. errors: each invalid `parameter` with its `message`."""

    status, type, title = 422, "invalid-parameters", "Invalid parameters"
    errors: list[dict[str, str]] | None = None


class MissingPicture(InvalidParameters):
    """The request has no picture."""

    type, title = "missing-picture", "The request has no picture"
    text = "send a picture: a multipart file named `image`, an image body, or JSON with base64 in `image`"


class ImageUrlOff(InvalidParameters):
    """`image_url` is switched off."""

    type, title = "image-url-off", "Fetching by URL is off"
    text = "this gateway does not fetch pictures; send the picture itself as `image`"


class ImageUrlRefused(InvalidParameters):
    """`image_url` is not a URL that this gateway fetches."""

    type, title = "image-url-refused", "URL not allowed"


class ImageUrlUnreachable(InvalidParameters):
    """The picture at `image_url` could not be fetched."""

    type, title = "image-url-unreachable", "URL could not be fetched"


class UnknownModel(InvalidParameters):
    """The backend does not have this model."""

    type, title = "unknown-model", "Unknown model"


class SlowUpload(GatewayError):
    """The body did not arrive within the upload timeout."""

    status, type, title = 408, "slow-upload", "Upload timeout"


class NoFace(GatewayError):
    """No face was found, and the request has `no_face=reject`."""

    status, type, title = 422, "no-face", "No face was found"


class HeadTurned(GatewayError):
    """The head is turned past the limit, and the request has `yaw=reject`."""

    status, type, title = 422, "head-turned", "The head is turned too far"


class CallerLeft(GatewayError):
    """The client closed the connection; only the log shows this response."""

    status, type, title = 499, "caller-left", "Client disconnected"


class BackendBroken(GatewayError):
    """The backend sent an invalid response."""

    status, type, title = 502, "backend-broken", "Invalid response from the backend"


class DeadlinePassed(GatewayError):
    """The request's deadline passed."""

    status, type, title = 504, "deadline-passed", "Deadline exceeded"


class TryLater(GatewayError):
    """A temporary failure. retry_after: seconds to wait; 1 by default."""

    def __init__(self, detail: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = 1.0 if retry_after is None else retry_after


class RateExceeded(TryLater):
    """The client has used up its rate."""

    status, type, title = 429, "rate-limited", "Too many requests"


class TooManyAtOnce(TryLater):
    """The client has too many requests in progress."""

    status, type, title = 429, "too-many-at-once", "Too many concurrent requests"


class QueueFull(TryLater):
    """The request queue is full."""

    status, type, title = 429, "queue-full", "The queue is full"


class BackendIsBusy(TryLater):
    """The backend's queue is full."""

    status, type, title = 429, "backend-busy", "The backend is busy"


class BackendAway(TryLater):
    """The backend cannot be reached, or is not ready."""

    status, type, title = 503, "backend-away", "Backend unavailable"


class NotReady(TryLater):
    """The gateway is starting, shutting down, or has no ready model."""

    status, type, title = 503, "not-ready", "The gateway is not ready"
    text = "the server is shutting down; send new requests to another one"
