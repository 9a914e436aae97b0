"""Every failure a caller can be told about.

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

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar

from gpen_client import errors as client


class GatewayError(Exception):
    """The gateway failed in a way it has no name for; the log has the trace.

    The base of all others, each a failure with an HTTP answer. `str(error)` is the problem's `detail`: what
    is wrong and what to do. status, type, title: as in RFC 9457. retry_after: seconds, sent as `Retry-After`
    where it is known. headers: others that the answer carries.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside the gateway"
    retry_after: float | None = None
    headers: Mapping[str, str] = MappingProxyType({})


class MalformedRequest(GatewayError):
    """The body is not what its content type says."""

    status, type, title = 400, "malformed-request", "The request cannot be read"


class DamagedPicture(MalformedRequest):
    """The picture's header is fine, its pixels are not."""

    type, title = "damaged-picture", "The picture is damaged"


class MissingKey(GatewayError):
    """The request carries no API key, and needs one."""

    status, type, title = 401, "missing-key", "An API key is needed"
    # Source: RFC 6750, section 3.
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="gpen-gateway"'})


class WrongKey(MissingKey):
    """There is no such API key."""

    type, title = "wrong-key", "There is no such API key"
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="gpen-gateway", error="invalid_token"'})


class RevokedKey(GatewayError):
    """The API key was revoked."""

    status, type, title = 403, "revoked-key", "The API key was revoked"


class CorsRefused(GatewayError):
    """A browser asked whether a page may call, and it may not."""

    status, type, title = 403, "cors-refused", "This page may not call the gateway so"


class TooLarge(GatewayError):
    """The body has more bytes than are allowed."""

    status, type, title = 413, "too-large", "The request is too large"


class TooManyPixels(TooLarge):
    """The picture has more pixels than are allowed."""

    type, title = "too-many-pixels", "The picture has too many pixels"


class UnsupportedPicture(GatewayError):
    """The bytes are no picture that is read here."""

    status, type, title = 415, "unsupported-picture", "Not a picture that can be read"


class InvalidParameters(GatewayError):
    """A parameter is unknown or out of range. errors: each wrong `parameter` with its `message`."""

    status, type, title = 422, "invalid-parameters", "The parameters are not valid"
    errors: list[dict[str, str]] | None = None


class MissingPicture(InvalidParameters):
    """The request has no picture."""

    type, title = "missing-picture", "The request has no picture"


class ImageUrlOff(InvalidParameters):
    """The gateway fetches no pictures."""

    type, title = "image-url-off", "This gateway fetches no pictures"


class ImageUrlRefused(InvalidParameters):
    """`image_url` is no URL that may be fetched."""

    type, title = "image-url-refused", "The URL may not be fetched"


class ImageUrlUnreachable(InvalidParameters):
    """What is at `image_url` could not be fetched."""

    type, title = "image-url-unreachable", "The URL could not be fetched"


class UnknownModel(InvalidParameters):
    """The backend has no such model."""

    type, title = "unknown-model", "There is no such model"


class SlowUpload(GatewayError):
    """The body did not arrive in time."""

    status, type, title = 408, "slow-upload", "The upload took too long"


class NoFace(GatewayError):
    """No face was found and the caller asked to be told."""

    status, type, title = 422, "no-face", "No face was found"


class HeadTurned(GatewayError):
    """The head is turned past the limit and the caller asked to be told."""

    status, type, title = 422, "head-turned", "The head is turned too far"


class CallerLeft(GatewayError):
    """The caller closed the connection; only the log sees this answer."""

    status, type, title = 499, "caller-left", "The caller left"


class BackendBroken(GatewayError):
    """The backend answered nonsense."""

    status, type, title = 502, "backend-broken", "The backend answered nonsense"


class DeadlinePassed(GatewayError):
    """The time for this request is over."""

    status, type, title = 504, "deadline-passed", "The deadline has passed"


class TryLater(GatewayError):
    """A failure that time may mend. retry_after: seconds to wait; one where nobody knows better."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = 1.0 if retry_after is None else retry_after


class RateExceeded(TryLater):
    """The caller has sent as many requests as it may for now."""

    status, type, title = 429, "rate-limited", "Too many requests"


class TooManyAtOnce(TryLater):
    """The caller has as many requests under way as it may."""

    status, type, title = 429, "too-many-at-once", "Too many requests at once"


class QueueFull(TryLater):
    """As many requests are waiting as may."""

    status, type, title = 429, "queue-full", "The queue is full"


class BackendIsBusy(TryLater):
    """The backend's queue is full."""

    status, type, title = 429, "backend-busy", "The backend is busy"


class BackendAway(TryLater):
    """The backend cannot be reached, or says that it cannot serve."""

    status, type, title = 503, "backend-away", "The backend is away"


class NotReady(TryLater):
    """The gateway cannot serve yet, or not any more."""

    status, type, title = 503, "not-ready", "The gateway is not ready"


@contextmanager
def backend_errors() -> Iterator[None]:
    """Turns every failure of the backend's client into the answer it deserves."""
    try:
        yield
    except client.ModelNotFound as error:
        raise UnknownModel(str(error)) from error
    except client.BackendBusy as error:
        raise BackendIsBusy(f"{error}; try again later", error.retry_after) from error
    except client.BackendUnavailable as error:
        raise BackendAway(f"{error}; try again later", error.retry_after) from error
    except client.BackendTimeout as error:
        raise DeadlinePassed(f"{error}; send a smaller picture, or raise GATEWAY_TIMEOUT_S") from error
    except client.BackendError as error:
        raise BackendBroken(f"{error}; the backend's log tells more") from error
