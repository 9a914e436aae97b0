"""What every place to keep things in can do."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

V = TypeVar("V")


class Store(Protocol[V]):
    """Where values are kept: entries, or bytes. Never raises for what its medium does."""

    @property
    def name(self) -> str:
        """What the log and the metrics call it."""

    async def first(self, keys: Sequence[str]) -> tuple[str, V] | None:
        """The first of `keys` under which something is kept, and that; None where there is none."""

    async def get(self, key: str) -> V | None:
        """What is kept under `key`, or None."""
        found = await self.first((key,))
        return None if found is None else found[1]

    async def put(self, key: str, entry: V) -> None:
        """Keeps `entry` under `key`."""

    async def drop(self, key: str) -> None:
        """Removes what is kept under `key`."""

    async def close(self) -> None:
        """Lets go of the medium."""
