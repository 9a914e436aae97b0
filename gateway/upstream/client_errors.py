"""Errors of the backend's client as errors of the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import BackendAway, BackendBroken, BackendIsBusy, DeadlinePassed, UnknownModel
from gpen_client import errors as client


@contextmanager
def map_client_errors() -> Iterator[None]:
    """Map the errors of the backend's client to those of the gateway."""
    try:
        yield
    except client.ModelNotFound as error:
        raise UnknownModel(str(error)) from error
    except client.BackendBusy as error:
        raise BackendIsBusy(f"{error}; try again later", error.retry_after) from error
    except client.BackendUnavailable as error:
        raise BackendAway(f"{error}; try again later", error.retry_after) from error
    except client.BackendTimeout as error:
        raise DeadlinePassed(f"{error}; send a smaller picture, or allow more with `timeout_s`") from error
    except client.BackendError as error:
        raise BackendBroken(f"{error}; see the backend's log") from error
