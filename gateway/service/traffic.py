"""Every request, measured from outside: how it was answered, how long it took, how much it carried."""

from collections.abc import Collection

from gateway.service.metrics import Metrics
from gpen_common.asgi import App, Scope
from gpen_common.observer import Observer

_OTHER = "other"


class Traffic(Observer):
    """Counts each request. routes: the paths that are told apart; all others are `other`."""

    # What the log writes for a caller who left before anything was answered.
    unanswered = 499
    broken = 500

    def __init__(self, app: App, metrics: Metrics, routes: Collection[str]) -> None:
        super().__init__(app)
        self._metrics = metrics
        self._routes = frozenset(routes)

    def answered(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Counts it by its path."""
        route = scope["path"] if scope["path"] in self._routes else _OTHER
        self._metrics.request(route, status, seconds, received, sent)
