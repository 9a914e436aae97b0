"""Serve the GPEN backend with uvicorn."""

from copy import deepcopy
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from gpen_backend.app import create_app
from gpen_backend.http.access_log import log_request
from gpen_backend.settings import BackendSettings
from gpen_common.request_observer import Observer


def serve(settings: BackendSettings) -> None:
    """Run the backend until SIGTERM or SIGINT, then finish the requests in flight. Blocks."""
    uvicorn.run(
        Observer(create_app(settings), log_request),
        host=settings.host,
        port=settings.port,
        # Not httptools, which uvicorn prefers: it does not limit the size of headers.
        http="h11",
        access_log=False,
        log_config=_log_config(),
    )


def _log_config() -> dict[str, Any]:
    """Return uvicorn's logging configuration with this package's loggers added."""
    config = deepcopy(LOGGING_CONFIG)
    for name in ("gpen_backend", "gpen_common", "gpen_client"):
        config["loggers"][name] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
