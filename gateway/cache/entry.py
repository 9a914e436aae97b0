"""One cached result; and as bytes: a JSON head, a body, and a digest that shows damage."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

_MAGIC = b"GPG2"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32

Body: TypeAlias = bytes | memoryview
"""Bytes, which are not to change any more."""


class Entry(NamedTuple):
    """What is kept. head: what JSON can write. Neither is to change any more."""

    head: Mapping[str, Any]
    body: Body


class Later(Mapping[str, Any]):
    """A head that is made when somebody looks into it, and forgets then what it was made of."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make: Callable[[], Mapping[str, Any]] | None = make
        self._made: Mapping[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - what JSON can write
        return self._head()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._head())

    def __len__(self) -> int:
        return len(self._head())

    def _head(self) -> Mapping[str, Any]:
        # Threads that look at once make the same.
        if (make := self._make) is not None:
            self._made = make()
            self._make = None
        return self._made


class Corrupt(ValueError):
    """The bytes are not the entry of this key, or not the whole of it."""


def pack(key: str, entry: Entry) -> bytes:
    """The `entry` of `key` as bytes."""
    written = json.dumps(dict(entry.head)).encode()
    content = (_LENGTH.pack(len(written)), written, entry.body)
    return b"".join((_MAGIC, _digest(key, *content), *content))


def unpack(key: str, packed: bytes) -> Entry:
    """The entry that was `packed` under `key`. Raises Corrupt."""
    start = len(_MAGIC) + _DIGEST_BYTES
    content = memoryview(packed)[start:]
    if packed[: len(_MAGIC)] != _MAGIC or _digest(key, content) != packed[len(_MAGIC) : start]:
        raise Corrupt("the entry's digest does not fit its key and content")
    (length,) = _LENGTH.unpack_from(content)
    body = _LENGTH.size + length
    return Entry(json.loads(bytes(content[_LENGTH.size : body])), bytes(content[body:]))


def _digest(key: str, *content: Body) -> bytes:
    # With the key in it, no medium that mixes entries up can answer one request with another's picture.
    digest = hashlib.sha256(key.encode())
    for part in content:
        digest.update(part)
    return digest.digest()
