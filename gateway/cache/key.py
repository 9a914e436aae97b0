"""What a result is known by: everything that it depends on, and nothing else."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

PIPELINE_VERSION = 4
"""Counts up with every change that gives other pixels or reports for the same request."""

# Bytes whose digest takes less time than the way to a thread.
_SMALL = 1 << 19


def cache_key(kind: str, picture_sha256: str, depends_on: Mapping[str, Any]) -> str:
    """The key of a result: 64 hex digits.

    kind: what sort of result it is. picture_sha256: of the bytes that were uploaded. depends_on: parameters,
    model, engine and whatever else decides about the result; values that JSON can write.
    """
    written = json.dumps(
        [PIPELINE_VERSION, kind, picture_sha256, depends_on], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(written.encode()).hexdigest()


async def picture_digest(data: bytes) -> str:
    """The SHA-256 of uploaded bytes, in hex."""
    if len(data) <= _SMALL:
        return hashlib.sha256(data).hexdigest()
    # Not on the pixel threads: what is kept already must not wait for what is not.
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
