"""Results: the encoded picture and its report."""

from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from gateway.imaging.encoder import OutputFormat
from gateway.schemas.reports import PreprocessReport

CacheState = Literal["hit", "miss", "off"]
"""Whether the cache had the result; `off` where there is no cache."""

Report = TypeVar("Report", bound=PreprocessReport)


@dataclass(frozen=True, slots=True)
class Result(Generic[Report]):
    """An encoded picture. image: a file in `output_format`."""

    image: bytes
    output_format: OutputFormat
    report: Report
    cache: CacheState = "off"

    def with_timings(self, timings_ms: dict[str, float]) -> "Result[Report]":
        """Return the same result with the timings of one request in its report."""
        return replace(self, report=self.report.model_copy(update={"timings_ms": timings_ms}))
