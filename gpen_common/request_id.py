"""The id of a request, which its client may choose."""

import re

from starlette.types import Scope

REQUEST_ID = "X-Request-ID"
"""The HTTP header that carries it."""

# Safe in headers and in logs without quoting.
_VALID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def read_request_id(scope: Scope) -> str | None:
    """Return the request's X-Request-ID; None if it is missing, too long or holds other characters."""
    header = REQUEST_ID.lower().encode()
    value = next((value for name, value in scope["headers"] if name == header), b"").decode("latin-1")
    return value if _VALID.fullmatch(value) else None
