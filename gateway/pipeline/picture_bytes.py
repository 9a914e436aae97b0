"""Uploaded bytes, identified by their digest."""

from weakref import WeakValueDictionary

from gateway.cache import sha256_of


class Picture:
    """The bytes of one uploaded picture and their SHA-256 in hex."""

    __slots__ = ("__weakref__", "data", "sha256")

    def __init__(self, data: bytes, sha256: str) -> None:
        self.data = data
        self.sha256 = sha256


class Pictures:
    """The pictures of all requests in flight, each in memory once: identical uploads share their bytes."""

    def __init__(self) -> None:
        self._by_digest: WeakValueDictionary[str, Picture] = WeakValueDictionary()

    async def add(self, data: bytes) -> Picture:
        """Return the picture of `data`: one that is in flight already, or a new one."""
        digest = await sha256_of(data)
        return self._by_digest.setdefault(digest, Picture(data, digest))
