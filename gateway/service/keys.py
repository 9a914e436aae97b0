"""API keys: a file of records that holds their hashes, never the keys.

A key reads `gpen_<id>_<secret>`: the id finds the record, the secret proves the right to it. The secret is
256 random bits, which nobody can guess from its SHA-256; a slow hash is for what people choose themselves.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.service.rates import RateText

logger = logging.getLogger(__name__)

_KEY = re.compile(r"gpen_([0-9a-f]{12})_([0-9a-f]{64})")
_NOBODY = hashlib.sha256(b"").hexdigest()


class KeysUnusable(Exception):
    """The keys file cannot be read, or holds no keys file."""


class UnknownKey(Exception):
    """No record has this id."""


class KeyRecord(BaseModel):
    """One key. sha256: of its secret, in hexadecimal. rate, concurrency, max_body_bytes: its own limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(min_length=1, max_length=200)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    created: AwareDatetime
    revoked: AwareDatetime | None = None
    rate: RateText | None = None
    concurrency: int | None = Field(None, ge=1)
    max_body_bytes: int | None = Field(None, ge=1)


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyRecord, ...] = ()


class KeyRing:
    """The keys of one file, read anew when it changes.

    A file that breaks while the gateway runs leaves the last good keys in force and an error in the log.
    """

    def __init__(self, path: Path) -> None:
        """Raises KeysUnusable."""
        self._path = path
        self._seen = _state(path)
        self._records = _by_id(read_keys(path))
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        """How many keys are in force."""
        return sum(record.revoked is None for record in self._records.values())

    async def find(self, key: str) -> KeyRecord | None:
        """The record that `key` belongs to, revoked or not; None where it belongs to none."""
        await self._refresh()
        match = _KEY.fullmatch(key)
        record = self._records.get(match[1]) if match else None
        digest = hashlib.sha256(match[2].encode() if match else b"").hexdigest()
        # Ids that exist take as long as those that do not.
        proven = hmac.compare_digest(digest, record.sha256 if record else _NOBODY)
        return record if proven else None

    async def _refresh(self) -> None:
        if _state(self._path) == self._seen:
            return
        async with self._lock:
            # Taken before reading, so that no change is missed; kept after it, so that others wait for it.
            state = _state(self._path)
            if state == self._seen:
                return
            try:
                self._records = _by_id(await asyncio.to_thread(read_keys, self._path))
            except KeysUnusable as error:
                logger.error("%s; the keys that were good before stay in force", error)
            else:
                logger.info("%d keys in force, read anew from %s", len(self), self._path)
            self._seen = state


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """The records in the file at `path`. Raises KeysUnusable, whose text names no hash."""
    try:
        file = _KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"the keys file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in wrong["loc"]) or "it"
        raise KeysUnusable(f"the keys file {path} is not valid: {place}: {wrong['msg']}") from None
    if len(_by_id(file.keys)) != len(file.keys):
        raise KeysUnusable(f"the keys file {path} is not valid: two keys have the same id")
    return file.keys


def make_key(
    path: Path,
    name: str,
    *,
    rate: str | None = None,
    concurrency: int | None = None,
    max_body_bytes: int | None = None,
) -> str:
    """Adds a key to the file at `path`, which is made where there is none; the key itself.

    It is kept nowhere. Raises KeysUnusable, and pydantic.ValidationError for what a record cannot hold.
    """
    secret = secrets.token_hex(32)
    record = KeyRecord(
        id=secrets.token_hex(6),
        name=name,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        created=_now(),
        rate=rate,
        concurrency=concurrency,
        max_body_bytes=max_body_bytes,
    )
    _change(path, lambda records: (*records, record))
    return f"gpen_{record.id}_{secret}"


def revoke_key(path: Path, key_id: str) -> KeyRecord:
    """Takes the key with this id out of force; its record stays. Raises KeysUnusable and UnknownKey."""
    gone: dict[str, KeyRecord] = {}

    def revoked(records: Sequence[KeyRecord]) -> Sequence[KeyRecord]:
        by_id = _by_id(records)
        if key_id not in by_id:
            raise UnknownKey(f"no key in {path} has the id {key_id}; `gpen-gateway keys list` shows them")
        gone[key_id] = by_id[key_id].model_copy(update={"revoked": by_id[key_id].revoked or _now()})
        return list({**by_id, **gone}.values())

    _change(path, revoked)
    return gone[key_id]


def _change(path: Path, change: Callable[[Sequence[KeyRecord]], Sequence[KeyRecord]]) -> None:
    """Replaces the file at once, so that a reader sees the old keys or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        records = read_keys(path) if path.exists() else ()
        changed = _KeysFile(keys=tuple(change(records)))
        # mkstemp's mode is 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(changed.model_dump_json(indent=2, exclude_none=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _by_id(records: Sequence[KeyRecord]) -> dict[str, KeyRecord]:
    return {record.id: record for record in records}


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None where there is no file. One system call: microseconds."""
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_ino, told.st_size
