"""The GPEN backend as a process of its own."""

from copy import deepcopy
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from gpen_backend.app import create_app
from gpen_backend.http.access_log import AccessLog
from gpen_backend.settings import BackendSettings


def serve(settings: BackendSettings) -> None:
    """Run the backend until it is told to stop. Blocks. Finishes the requests in flight before it returns."""
    uvicorn.run(
        AccessLog(create_app(settings)),
        host=settings.host,
        port=settings.port,
        # httptools, which uvicorn takes where it is installed, bounds no headers.
        http="h11",
        access_log=False,
        log_config=_log_config(),
    )


def _log_config() -> dict[str, Any]:
    """Uvicorn's own, with this package's lines among them."""
    config = deepcopy(LOGGING_CONFIG)
    for name in ("gpen_backend", "gpen_common", "gpen_client"):
        config["loggers"][name] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
