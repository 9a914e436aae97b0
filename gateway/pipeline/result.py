"""What comes of a picture: encoded, and told of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from gateway.imaging.photo import OutputFormat
from gateway.schemas.reports import EnhanceReport, PreprocessReport

CacheState = Literal["hit", "miss", "off"]
"""Whether something was kept from before; `off` where nothing is kept."""


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """An encoded portrait.

    output_format: what `image` is encoded as. cache: whether it was kept from before.
    """

    image: bytes
    output_format: OutputFormat
    report: PreprocessReport
    cache: CacheState = "off"


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An encoded result.

    output_format: what `image` is encoded as. faces, left_alone: how many. tell: makes the report, which few
    callers ask for. cache: whether it was kept from before. etag: the same for the same result; empty where
    nobody made one.
    """

    image: bytes
    output_format: OutputFormat
    engine: str
    model: str
    faces: int
    left_alone: int
    timings_ms: dict[str, float]
    tell: Callable[[], EnhanceReport]
    cache: CacheState = "off"
    etag: str = ""

    @classmethod
    def told(
        cls, image: bytes, output_format: OutputFormat, report: EnhanceReport, cache: CacheState = "off"
    ) -> Self:
        """A result that `report` tells of."""
        return cls(
            image=image,
            output_format=output_format,
            engine=report.engine,
            model=report.model,
            faces=len(report.faces),
            left_alone=len(report.left_alone),
            timings_ms=report.timings_ms,
            tell=lambda: report,
            cache=cache,
        )
