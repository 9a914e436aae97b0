"""The interface of one tier of the cache."""

from typing import Protocol, TypeVar

V = TypeVar("V")


class Store(Protocol[V]):
    """Keeps values by key. A failure of the medium is logged and counts as a miss; nothing is raised for
    it."""

    @property
    def name(self) -> str:
        """Name of the tier in logs and metrics."""

    async def get(self, key: str) -> V | None:
        """Return the value of `key`, or None. Raises Corrupt where a stored entry is damaged."""

    async def put(self, key: str, entry: V) -> None:
        """Store `entry` under `key`."""

    async def drop(self, key: str) -> None:
        """Remove the value of `key`, if there is one."""

    async def close(self) -> None:
        """Release the medium."""
