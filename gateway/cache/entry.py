"""One cached value, and its packed form: a JSON head, a body, and a digest that detects damage."""

import hashlib
import json
import struct
from typing import Any, NamedTuple, TypeAlias

_MAGIC = b"GPG2"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32

Body: TypeAlias = bytes | memoryview
"""Bytes that do not change any more."""


class CacheEntry(NamedTuple):
    """A cached value. head: JSON values. Neither head nor body may change afterwards."""

    head: dict[str, Any]
    body: Body


class Corrupt(ValueError):
    """The bytes are not the complete entry of this key."""


def pack(key: str, entry: CacheEntry) -> bytes:
    """Write the `entry` of `key` as bytes."""
    head = json.dumps(entry.head).encode()
    content = (_LENGTH.pack(len(head)), head, entry.body)
    return b"".join((_MAGIC, _digest(key, *content), *content))


def unpack(key: str, packed: bytes) -> CacheEntry:
    """Read the entry that was packed under `key`. Raises Corrupt."""
    start = len(_MAGIC) + _DIGEST_BYTES
    content = memoryview(packed)[start:]
    if packed[: len(_MAGIC)] != _MAGIC or _digest(key, content) != packed[len(_MAGIC) : start]:
        raise Corrupt("the digest does not match the key and the content")
    (length,) = _LENGTH.unpack_from(content)
    body = _LENGTH.size + length
    return CacheEntry(json.loads(bytes(content[_LENGTH.size : body])), bytes(content[body:]))


def _digest(key: str, *content: Body) -> bytes:
    # The key is part of it: a store that mixes entries up cannot answer one request with another's picture.
    digest = hashlib.sha256(key.encode())
    for part in content:
        digest.update(part)
    return digest.digest()
