"""Access log: one line for each request."""

import logging
from urllib.parse import quote

from starlette.types import Scope

from gpen_common.observer import Observer
from gpen_common.probes import PROBES

logger = logging.getLogger(__name__)


class AccessLog(Observer):
    """Logs each request after its response was sent, except probes that succeed."""

    # nginx's status for a client that left.
    unanswered = 499

    def report(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Write the line."""
        path = scope["path"]
        if status >= 400 or path not in PROBES:
            logger.info("%s %s %d %.1f ms", scope["method"], quote(path), status, seconds * 1000)
