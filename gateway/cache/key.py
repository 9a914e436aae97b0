"""The key of a result: a digest of everything that the result depends on, and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gpen_common.threads import off_loop

PIPELINE_VERSION = 4
"""Increment it with every change that alters pixels or report numbers of the same request."""

LARGE_DIGEST = 1 << 19
"""Bytes whose SHA-256 takes about half a millisecond: longer inputs are hashed off the event loop."""


def cache_key(kind: str, picture_sha256: str, depends_on: Mapping[str, Any]) -> str:
    """Return the key of a result, 64 hex digits.

    kind: type of result. picture_sha256: digest of the uploaded bytes. depends_on: parameters, model,
    engine and everything else that decides the result, as JSON values.
    """
    written = json.dumps(
        [PIPELINE_VERSION, kind, picture_sha256, depends_on], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(written.encode()).hexdigest()


async def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return await off_loop(len(data) > LARGE_DIGEST, lambda: hashlib.sha256(data).hexdigest())
