"""Keys: making, finding, revoking and reloading them; invalid files."""

import json
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.service.keys import KeyRing, KeysUnusable, UnknownKey, make_key, read_keys, revoke_key

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def cli(path: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `gpen-gateway keys`; returns its exit status, output and errors."""
    outcome = CliRunner(env={"GATEWAY_KEYS_FILE": str(path)}).invoke(main, ["keys", *arguments])
    return outcome.exit_code, outcome.stdout, outcome.stderr


async def test_finds_a_key_only_by_its_whole_text(path):
    key, other = make_key(path, "one"), make_key(path, "other")
    ring = KeyRing(path)
    assert (await ring.find(key)).name == "one"
    assert (await ring.find(other)).name == "other"
    swapped = "_".join([*key.split("_")[:2], other.split("_")[2]])
    for wrong in (
        "",
        "gpen_",
        key[:-1],
        key + "0",
        f" {key}",
        key.upper(),
        swapped,
        key.replace("gpen", "gpan"),
    ):
        assert await ring.find(wrong) is None


@given(st.text())
async def test_rejects_any_other_text(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "keys-of-one.json"
    if not path.exists():
        make_key(path, "one")
    assert await KeyRing(path).find(text) is None


def test_file_has_no_secret_and_is_private_to_its_owner(path):
    key = make_key(path, "one")
    _, key_id, secret = key.split("_")
    assert len(bytes.fromhex(secret)) == 32
    assert key_id in path.read_text()
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_repr_of_a_record_has_no_hash(path):
    make_key(path, "one")
    (record,) = read_keys(path)
    assert record.sha256 not in repr(record)


def test_keeps_all_keys_made_concurrently(path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: make_key(path, f"key {number}"), range(24)))
    assert len({record.id for record in read_keys(path)}) == 24
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


async def test_revoked_key_is_found_as_revoked_and_others_stay_valid(path):
    key, other = make_key(path, "one"), make_key(path, "other")
    ring = KeyRing(path)
    revoked = revoke_key(path, key.split("_")[1])
    assert (await ring.find(key)).revoked == revoked.revoked
    assert (await ring.find(other)).revoked is None
    assert len(ring) == 1


def test_revoking_twice_keeps_the_first_time(path):
    key_id = make_key(path, "one").split("_")[1]
    assert revoke_key(path, key_id) == revoke_key(path, key_id)


def test_revoking_an_unknown_id_changes_nothing(path):
    make_key(path, "one")
    before = path.read_bytes()
    with pytest.raises(UnknownKey, match="0123456789ab"):
        revoke_key(path, "0123456789ab")
    assert path.read_bytes() == before


async def test_new_key_is_valid_without_a_restart(path):
    make_key(path, "one")
    ring = KeyRing(path)
    later = make_key(path, "later", rate="5/minute")
    assert (await ring.find(later)).rate == "5/minute"


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"keys": [{"id": "x"}]}', '{"clefs": []}', None])
async def test_broken_file_keeps_the_keys_and_is_logged_once(path, broken, caplog):
    key = make_key(path, "one")
    ring = KeyRing(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert (await ring.find(key)).name == "one"
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        path.unlink(missing_ok=True)
        assert await ring.find(make_key(path, "new"))
        assert await ring.find(key) is None


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"keys": [{"id": "x"}]}', '{"clefs": []}', None])
def test_rejects_a_broken_file_at_start(path, broken):
    if broken is not None:
        path.write_text(broken)
    with pytest.raises(KeysUnusable, match=r"keys\.json"):
        KeyRing(path)


def test_rejects_duplicate_ids(path):
    make_key(path, "one")
    file = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": file["keys"] * 2}))
    with pytest.raises(KeysUnusable, match="same id"):
        KeyRing(path)


def test_error_about_the_file_has_no_hashes(path):
    make_key(path, "one")
    digest = read_keys(path)[0].sha256
    path.write_text(path.read_text().replace('"one"', '""').replace(digest, digest + "00"))
    with pytest.raises(KeysUnusable) as refused:
        KeyRing(path)
    assert digest not in str(refused.value)


async def test_detects_a_change_that_keeps_size_and_time(path):
    """An atomic write creates a new inode."""
    key = make_key(path, "one")
    ring = KeyRing(path)
    before = path.stat()
    copy = path.with_name("copy")
    copy.write_text(path.read_text().replace('"one"', '"two"'))
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)
    assert (await ring.find(key)).name == "two"


def test_command_prints_the_key_once_and_lists_only_its_record(path):
    status, key, message = cli(
        path, "make", "Ada's phone", "--rate", "60/minute", "--concurrency", "4", "--max-body", "20MB"
    )
    assert (status, len(key.strip())) == (0, 82)
    assert key.strip() not in message
    (record,) = read_keys(path)
    assert (record.rate, record.concurrency, record.max_body_bytes) == ("60/minute", 4, 20_000_000)
    status, listed, _ = cli(path, "list")
    assert status == 0
    for shown in (record.id, "Ada's phone", "60/minute", "20000000"):
        assert shown in listed
    assert key.strip().split("_")[2] not in listed
    assert record.sha256 not in listed


def test_command_revokes_a_key(path):
    _, key, _ = cli(path, "make", "one")
    status, output, _ = cli(path, "revoke", key.split("_")[1])
    assert status == 0
    assert "revoked since 20" in output
    assert read_keys(path)[0].revoked is not None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("make", "one", "--rate", "often"), "60/minute"),
        (("make", "one", "--rate", "0/minute"), "at least one"),
        (("make", "one", "--concurrency", "0"), "concurrency"),
        (("make", "one", "--max-body", "big"), "20MB"),
        (("make", ""), "name"),
        (("revoke", "unknown"), "keys list"),
        (("list",), "cannot be read"),
    ],
)
def test_command_explains_invalid_arguments(path, arguments, why):
    status, _, message = cli(path, *arguments)
    assert status == 2
    assert why in message
    assert "Traceback" not in message


def test_command_requires_a_file():
    outcome = CliRunner(env={"GATEWAY_KEYS_FILE": None}).invoke(main, ["keys", "list"])
    assert outcome.exit_code == 2
    assert "GATEWAY_KEYS_FILE" in outcome.output


@pytest.mark.parametrize("content", [None, "{"])
def test_serve_exits_without_a_readable_keys_file(path, content):
    if content is not None:
        path.write_text(content)
    outcome = CliRunner(env={"GATEWAY_KEYS_FILE": str(path)}).invoke(main, ["serve", "--port", "0"])
    assert outcome.exit_code == 2
    assert "keys make" in outcome.output
    assert "Traceback" not in outcome.output
