"""Where a request's time goes."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

# A backend names stages of its own: bounds for the length of the header.
_MAX_STAGES, _MAX_NAME = 32, 40


class Timings:
    """The clock of one request: milliseconds by stage, in the order in which the stages began, and in total.

    The clock starts when the object is made. Stages do not nest: they add up to the total. Those of a
    backend have a prefix, because they are parts of another stage.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages_ms: dict[str, float] = {}
        self._total_ms: float | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - started) * 1000)

    @contextmanager
    def remainder(self, name: str) -> Iterator[None]:
        """Add to stage `name` the part of the block's time that belongs to no other stage in it.

        Work on a thread is timed by its own stages; the remainder is the wait for the thread and its result.
        """
        started, before = time.perf_counter(), sum(self._stages_ms.values())
        try:
            yield
        finally:
            inner_ms = sum(self._stages_ms.values()) - before
            self.add(name, (time.perf_counter() - started) * 1000 - inner_ms)

    def add(self, name: str, milliseconds: float) -> None:
        """Add `milliseconds` to stage `name`."""
        self._stages_ms[name] = self._stages_ms.get(name, 0.0) + milliseconds

    def add_all(self, prefix: str, stages_ms: Mapping[str, float]) -> None:
        """Add stages measured elsewhere, each under `prefix`_name."""
        for name, milliseconds in stages_ms.items():
            self.add(f"{prefix}_{name}", milliseconds)

    def finish(self) -> dict[str, float]:
        """Stop the clock, once, and return the stages and `total`, rounded to microseconds."""
        if self._total_ms is None:
            self._total_ms = (time.perf_counter() - self._started) * 1000
        return {name: round(value, 3) for name, value in {**self._stages_ms, "total": self._total_ms}.items()}


def server_timing(stages_ms: Mapping[str, float]) -> str:
    """Return `stages_ms` as the value of a Server-Timing header (W3C Server Timing)."""
    return ", ".join(
        f"{_token(name)};dur={value:.1f}" for name, value in islice(stages_ms.items(), _MAX_STAGES)
    )


def _token(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_MAX_NAME]
