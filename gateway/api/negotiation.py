"""Content negotiation: the Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from gateway.imaging.encoder import OutputFormat

_FORMATS = {f"image/{name}": name for name in get_args(OutputFormat)}


@dataclass(frozen=True, slots=True)
class Accepted:
    """json: the client wants JSON. output_format: the encoding of pictures that it prefers, or None for
    any."""

    json: bool
    output_format: OutputFormat | None


def parse_accept(header: str | None) -> Accepted:
    """Return what the Accept `header` prefers among the media types that the gateway has.

    A client that accepts none of them gets the default, as the standard allows.
    """
    for media_range in _by_preference(header or "*/*"):
        if media_range == "application/json":
            return Accepted(json=True, output_format=None)
        if media_range in _FORMATS:
            return Accepted(json=False, output_format=_FORMATS[media_range])
        if media_range in ("*/*", "image/*"):
            break
    return Accepted(json=False, output_format=None)


def choose_media_type(header: str | None, offered: Sequence[str]) -> str:
    """Return the media type in `offered` that the Accept `header` prefers; the first by default."""
    for media_range in _by_preference(header or "*/*"):
        if media_range in offered:
            return media_range
        if media_range in ("*/*", "application/*"):
            break
    return offered[0]


def _by_preference(header: str) -> list[str]:
    ranges = []
    for part in header.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
        if weight > 0:
            ranges.append((weight, media_range))
    return [media_range for _, media_range in sorted(ranges, key=lambda item: -item[0])]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
