"""API keys: a file of records with the hashes of the keys, never the keys.

A key has the form `gpen_<id>_<secret>`: the id selects the record and the secret proves ownership. The secret
is 256 random bits, so SHA-256 is sufficient; slow hashes protect passwords that people choose.
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
_EMPTY_SECRET_SHA256 = hashlib.sha256(b"").hexdigest()


class KeysUnusable(Exception):
    """The keys file cannot be read or is not valid."""


class UnknownKey(Exception):
    """No record has the id."""


class KeyRecord(BaseModel):
    """The record of one key. sha256: of its secret, in hex. rate, concurrency, max_body_bytes: its limits."""

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
    """The keys of one file, reloaded when it changes.

    If the file becomes invalid while the gateway runs, the last valid keys stay active; the log has an error.
    """

    def __init__(self, path: Path) -> None:
        """Raises KeysUnusable."""
        self._path = path
        self._seen = _stat(path)
        self._records = _by_id(read_keys(path))
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        """The number of active keys."""
        return sum(record.revoked is None for record in self._records.values())

    async def find(self, key: str) -> KeyRecord | None:
        """Find the record of `key`, revoked or not; None if there is none."""
        await self._refresh()
        match = _KEY.fullmatch(key)
        record = self._records.get(match[1]) if match else None
        digest = hashlib.sha256(match[2].encode() if match else b"").hexdigest()
        # Unknown ids take as long as known ones.
        is_valid = hmac.compare_digest(digest, record.sha256 if record else _EMPTY_SECRET_SHA256)
        return record if is_valid else None

    async def _refresh(self) -> None:
        if _stat(self._path) == self._seen:
            return
        async with self._lock:
            # Taken before the read, to miss no change; stored after it, so that other requests wait.
            state = _stat(self._path)
            if state == self._seen:
                return
            try:
                self._records = _by_id(await asyncio.to_thread(read_keys, self._path))
            except KeysUnusable as error:
                logger.error("%s; the previous keys stay active", error)
            else:
                logger.info("%d active keys, reloaded from %s", len(self), self._path)
            self._seen = state


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Read the records in the file at `path`. Raises KeysUnusable; its text has no hashes."""
    try:
        file = _KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"the keys file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in wrong["loc"]) or "file"
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
    """Add a key to the file at `path`, which is created if missing; returns the key, which is not stored.

    Raises KeysUnusable, and pydantic.ValidationError for invalid values.
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
    """Revoke the key with this id; its record stays. Raises KeysUnusable, UnknownKey."""
    changed: dict[str, KeyRecord] = {}

    def revoke(records: Sequence[KeyRecord]) -> Sequence[KeyRecord]:
        by_id = _by_id(records)
        if key_id not in by_id:
            raise UnknownKey(f"{path} has no key with the id {key_id}; see `gpen-gateway keys list`")
        changed[key_id] = by_id[key_id].model_copy(update={"revoked": by_id[key_id].revoked or _now()})
        return list({**by_id, **changed}.values())

    _change(path, revoke)
    return changed[key_id]


def _change(path: Path, change: Callable[[Sequence[KeyRecord]], Sequence[KeyRecord]]) -> None:
    """Replace the file atomically: readers see either the old keys or the new ones."""
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


def _stat(path: Path) -> tuple[int, int, int] | None:
    """Return values that change with the file; None if it is missing. One system call: microseconds."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
