"""Errors between the gateway and a backend.

BackendError
├── BackendUnavailable      no connection, or 502 or 503 from the backend or a proxy before it
│   ├── BackendBusy         its queue is full (429)
│   └── BreakerOpen         the circuit breaker is open; no request was sent
├── BackendTimeout          no answer before the deadline
├── BackendRejected         it rejects this request (any other 4xx)
│   └── ModelNotFound       it has no such model (404)
└── BackendProtocolError    an invalid answer: garbage, another size, another 5xx
    ├── BackendCrashed      a bare 500, without the protocol's body
    └── WireError           bytes that are not Open Inference Protocol v2
"""


class BackendError(Exception):
    """Base of all errors of the client. `str(error)` is one sentence for an operator."""


class BackendUnavailable(BackendError):
    """No connection, or 503 from the backend, or 502 from a proxy that cannot reach it.

    retry_after: seconds that the backend asks to wait, if it does.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendBusy(BackendUnavailable):
    """The backend's queue is full (429)."""


class BreakerOpen(BackendUnavailable):
    """The circuit breaker is open; no request was sent. retry_after: seconds until it lets a call through."""


class BackendTimeout(BackendError):
    """The backend did not answer before the deadline."""


class BackendRejected(BackendError):
    """The backend rejects this request. status: its HTTP status, 4xx."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ModelNotFound(BackendRejected):
    """The backend has no model of that name."""


class BackendProtocolError(BackendError):
    """The backend sent an invalid answer."""


class BackendCrashed(BackendProtocolError):
    """The backend answered a bare 500, as a proxy does for a replica that died; a retry may succeed."""


class WireError(BackendProtocolError):
    """Bytes that are not a message of the Open Inference Protocol v2."""
