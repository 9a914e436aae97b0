"""ETags of results, and the If-None-Match header that lists them (RFC 9110, sections 8.8.3 and 13.1.2)."""

import re

from gateway.api.negotiation import Accepted

# Hex digits of the key: 128 bits.
_ETAG_DIGITS = 32
# An ETag without its prefix for weak ones (RFC 9110, section 8.8.3).
_OPAQUE_TAG = re.compile(r'"[^"]*"')


def enhance_etag(key: str, wanted: Accepted) -> str:
    """Return the ETag of the result with this `key`. That of JSON is weak, because timings differ."""
    digits = key[:_ETAG_DIGITS]
    return f'W/"{digits}-json"' if wanted.json else f'"{digits}"'


def lists_etag(if_none_match: str | None, etag: str) -> bool:
    """Return whether the If-None-Match header lists `etag`, compared weakly (RFC 9110, section 13.1.2)."""
    return etag.removeprefix("W/") in _OPAQUE_TAG.findall(if_none_match or "")


def lists_any(if_none_match: str | None) -> bool:
    """Return whether the If-None-Match header is `*`: any result that exists (RFC 9110, section 13.1.2)."""
    return (if_none_match or "").strip() == "*"
