"""Counts every request: status, duration, bytes."""

from collections.abc import Collection

from starlette.types import ASGIApp, Scope

from gateway.service.metrics import Metrics
from gpen_common.observer import Observer

_OTHER = "other"


class Traffic(Observer):
    """Counts requests by route. routes: the paths that are labels; all others count as `other`."""

    # A client that disconnected before the response, as nginx logs it.
    unanswered = 499
    broken = 500

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        super().__init__(app)
        self._metrics = metrics
        self._routes = frozenset(routes)

    def report(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one finished request."""
        route = scope["path"] if scope["path"] in self._routes else _OTHER
        self._metrics.request(route, status, seconds, received, sent)
