"""Read a declared Content-Length."""

# int() rejects more than 4,300 digits; no body's length has more than these.
_MAX_DIGITS = 18


def read_length(declared: str) -> int | None:
    """Return the value of a Content-Length header in bytes; None if it is not a plausible number."""
    return int(declared) if declared.isdecimal() and len(declared) <= _MAX_DIGITS else None


def exceeds(declared: str, limit: int) -> bool:
    """Return whether the value of a Content-Length header is a number over `limit`, bytes."""
    return declared.isdecimal() and (len(declared) > _MAX_DIGITS or int(declared) > limit)
