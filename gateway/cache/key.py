"""What a result is known by: everything that it depends on, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PIPELINE_VERSION = 4
"""Counts up with every change that gives other pixels or reports for the same request."""


def cache_key(kind: str, picture_sha256: str, depends_on: Mapping[str, Any]) -> str:
    """The key of a result: 64 hex digits.

    kind: what sort of result it is. picture_sha256: of the bytes that were uploaded. depends_on: parameters,
    model, engine and whatever else decides about the result; values that JSON can write.
    """
    written = json.dumps(
        [PIPELINE_VERSION, kind, picture_sha256, depends_on], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(written.encode()).hexdigest()
