"""What can go wrong between the gateway and a backend.

BackendError
├── BackendUnavailable      no connection, or 502 or 503 from the backend or what stands before it
│   ├── BackendBusy         its queue is full (429)
│   └── BreakerOpen         its last calls failed, so it was not asked
├── BackendTimeout          no answer before the deadline
├── BackendRejected         it refuses this request (any other 4xx)
│   └── ModelNotFound       it has no such model (404)
└── BackendProtocolError    its answer is not one: garbage, another size, a 5xx
    ├── BackendCrashed      a bare 500, without the protocol's own body
    └── WireError           bytes that are not Open Inference Protocol v2
"""


class BackendError(Exception):
    """Base of everything the client raises. `str(error)` is one sentence for an operator."""


class BackendUnavailable(BackendError):
    """No connection, or 503 from the backend, or 502 from a proxy that cannot reach it.

    retry_after: seconds the backend asked to wait, where it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendBusy(BackendUnavailable):
    """The backend's queue is full (429)."""


class BreakerOpen(BackendUnavailable):
    """The backend's last calls failed, so this one was not sent. retry_after: seconds to the next try."""


class BackendTimeout(BackendError):
    """The deadline passed before the backend answered."""


class BackendRejected(BackendError):
    """The backend refuses this request. status: its HTTP status, 4xx."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ModelNotFound(BackendRejected):
    """The backend has no model of that name."""


class BackendProtocolError(BackendError):
    """The backend answered something that is not an answer to this request."""


class BackendCrashed(BackendProtocolError):
    """The backend broke off with a bare 500, as a proxy says of a replica that died: worth another try."""


class WireError(BackendProtocolError):
    """Bytes that are not a message of the Open Inference Protocol v2."""
