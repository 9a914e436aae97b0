"""Access log: one line for each request."""

import logging
from urllib.parse import quote

from gpen_common.probes import PROBES
from gpen_common.request_observer import FinishedRequest

logger = logging.getLogger(__name__)


def log_request(request: FinishedRequest) -> None:
    """Log one request, unless it is a probe that succeeded."""
    path: str = request.scope["path"]
    if request.status >= 400 or path not in PROBES:
        method, milliseconds = request.scope["method"], request.seconds * 1000
        logger.info("%s %s %d %.1f ms", method, quote(path), request.status, milliseconds)
