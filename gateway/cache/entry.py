"""One cached result as bytes: a JSON head, a body, and a digest that shows damage."""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

_MAGIC = b"GPG1"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32


class Corrupt(ValueError):
    """The bytes are not an entry, or not the whole of one."""


def pack(head: Mapping[str, Any], body: bytes) -> bytes:
    """An entry: `head` (what JSON can write) and `body`."""
    written = json.dumps(head).encode()
    content = _LENGTH.pack(len(written)) + written + body
    return _MAGIC + hashlib.sha256(content).digest() + content


def unpack(entry: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and body of an `entry`. Raises Corrupt."""
    start = len(_MAGIC) + _DIGEST_BYTES
    content = entry[start:]
    if entry[: len(_MAGIC)] != _MAGIC or hashlib.sha256(content).digest() != entry[len(_MAGIC) : start]:
        raise Corrupt("the entry's digest does not fit its content")
    (length,) = _LENGTH.unpack_from(content)
    head = json.loads(content[_LENGTH.size : _LENGTH.size + length])
    return head, content[_LENGTH.size + length :]
