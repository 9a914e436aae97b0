"""Where a request's time goes."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

# A backend names stages of its own: no answer's head may grow by them without bound.
_MAX_STAGES, _MAX_NAME = 32, 40


class Timings:
    """Milliseconds by stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time its block takes to stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - started) * 1000)

    def add(self, name: str, milliseconds: float) -> None:
        """Adds to stage `name`."""
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + milliseconds

    def add_all(self, whose: str, stages_ms: Mapping[str, float]) -> None:
        """Adds stages that somebody else has measured, each named `whose` and its own name."""
        for name, milliseconds in stages_ms.items():
            self.add(f"{whose}_{name}", milliseconds)

    def with_total(self) -> dict[str, float]:
        """The stages and `total`, since this object was made; rounded to microseconds."""
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(value, 3) for name, value in {**self.stages_ms, "total": total}.items()}


def server_timing(stages_ms: dict[str, float]) -> str:
    """`stages_ms` as the value of a Server-Timing header (W3C Server Timing)."""
    return ", ".join(
        f"{_token(name)};dur={value:.1f}" for name, value in islice(stages_ms.items(), _MAX_STAGES)
    )


def _token(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_MAX_NAME]
