"""A line in the log for each request to a server."""

import logging
from urllib.parse import quote

from gpen_common.asgi import Scope
from gpen_common.observer import Observer

logger = logging.getLogger(__name__)

# Probes come every few seconds and say nothing while all is well.
_PROBES = ("/v2/health/", "/metrics")


class AccessLog(Observer):
    """Logs each request once it is answered: nobody waits for its line. Probes that succeed are left out."""

    # A caller who left, as nginx writes it.
    unanswered = 499

    def answered(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Writes its line."""
        path = scope["path"]
        if status >= 400 or not path.startswith(_PROBES):
            logger.info("%s %s %d %.1f ms", scope["method"], quote(path), status, seconds * 1000)
