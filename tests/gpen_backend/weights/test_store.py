"""Which files are trusted or rejected, and what is recorded about them."""

import hashlib
import json
import threading

import pytest

from gpen_backend.weights.catalog import KNOWN_MODELS, KnownModel, ModelFile
from gpen_backend.weights.errors import Altered, CheckpointError
from gpen_backend.weights.store import LOCK_NAME, StoredFile, WeightStore
from gpen_common.download import RetryPolicy, Unreachable, WrongFile

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = RetryPolicy(connect_s=1, stall_s=0.5, attempts=2, pause_s=0.01)

OPEN = ModelFile("open.pth", "pth", ("http://127.0.0.1:1/open.pth",), aliases=("other-name.pth",))
PUBLISHED = ModelFile("published.onnx", "onnx", ("http://127.0.0.1:1/p.onnx",), len(CONTENT), SHA256)
MODEL = KnownModel("model", "restore", 16, 1, 1, len(CONTENT), (OPEN, PUBLISHED))


@pytest.fixture
def store(tmp_path, file_server):
    file_server.files = {"open.pth": CONTENT, "published.onnx": CONTENT}
    return WeightStore(tmp_path, mirror=file_server.url)


def pull(store, file=OPEN, **options):
    return store.pull(MODEL, file, policy=QUICK, **options)


def lock(store):
    return json.loads((store.folder / LOCK_NAME).read_text())["files"]


def test_records_the_first_pull_of_a_file_without_published_checksum(store, file_server):
    found = pull(store)
    record = lock(store)["open.pth"]
    assert (record["sha256"], record["size"]) == (SHA256, len(CONTENT))
    assert record["url"] == f"{file_server.url}/open.pth"
    assert record["date"].endswith("+00:00")
    assert store.verify(found) == SHA256
    assert store.state(OPEN) == "verified"


def test_does_not_record_a_file_with_a_published_checksum(store):
    pull(store, PUBLISHED)
    assert store.state(PUBLISHED) == "verified"
    assert not (store.folder / LOCK_NAME).exists()


def test_never_stores_another_file_than_the_published_one(store, file_server):
    file_server.files["published.onnx"] = CONTENT[::-1]
    with pytest.raises(WrongFile):
        pull(store, PUBLISHED)
    assert store.state(PUBLISHED) == "missing"


def test_a_second_pull_must_match_the_first(store, file_server):
    pull(store).path.unlink()
    file_server.files["open.pth"] = CONTENT[::-1]
    with pytest.raises(WrongFile, match=SHA256):
        pull(store)
    file_server.files["open.pth"] = CONTENT
    assert store.verify(pull(store)) == SHA256


@pytest.mark.parametrize("changed", [CONTENT[::-1], CONTENT + b"x", b""])
@pytest.mark.parametrize("file", [OPEN, PUBLISHED])
def test_rejects_a_changed_file(store, file, changed):
    found = pull(store, file)
    found.path.write_bytes(changed)
    with pytest.raises(Altered, match="delete it and pull it again"):
        store.verify(found)
    assert store.state(file) == "broken"
    with pytest.raises(Altered):
        pull(store, file)


def test_trusts_a_file_put_there_by_hand_until_it_changes(store):
    path = store.folder / "other-name.pth"
    path.write_bytes(CONTENT)
    (found,) = store.find(MODEL, ("pth",))
    assert (found.path, store.state(OPEN)) == (path, "present")
    store.trust(found, store.verify(found))
    assert lock(store)["other-name.pth"]["url"] is None
    assert store.state(OPEN) == "verified"
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(Altered, match="first used on 20"):
        store.verify(found)
    store.trust(found, store.sha256(found))
    assert store.state(OPEN) == "broken", "a record is only replaced with overwrite"
    store.trust(found, store.sha256(found), overwrite=True)
    assert store.state(OPEN) == "verified"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"open.pth": {"sha256": 1}}}', "{"])
def test_an_unreadable_record_trusts_no_file(store, text):
    """Otherwise an attacker could replace the weights by breaking the record."""
    found = pull(store)
    (store.folder / LOCK_NAME).write_text(text)
    with pytest.raises(Altered, match="cannot be read"):
        store.verify(found)


def test_warns_if_the_record_cannot_be_written(store, monkeypatch, caplog):
    (store.folder / "open.pth").write_bytes(CONTENT)

    def refuse(*_, **__):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("gpen_backend.weights.store.lock_file", refuse)
    (found,) = store.find(MODEL, ("pth",))
    store.trust(found, store.verify(found))
    assert "could not be recorded" in caplog.text


def test_does_not_download_a_stored_file(store, file_server):
    pull(store)
    pull(store)
    assert len(file_server.requests) == 1


def test_eight_concurrent_pulls_download_once(store, file_server):
    found = []
    threads = [threading.Thread(target=lambda: found.append(pull(store))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [StoredFile(OPEN, store.folder / "open.pth")] * 8
    assert len(file_server.requests) == 1


def test_reports_a_partial_download(store, file_server):
    def half(handler, content):
        handler.head(200, len(content), ETag='"x"')
        handler.wfile.write(content[: len(content) // 2])

    file_server.faults = [half] * 2
    with pytest.raises(Exception, match="was interrupted"):
        pull(store)
    assert store.state(OPEN) == "partial"
    assert store.count_received(OPEN) == (len(CONTENT) // 2, len(CONTENT))


def test_uses_the_published_address_without_a_mirror(tmp_path):
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/open\.pth"):
        pull(WeightStore(tmp_path))


def test_neither_keeps_nor_trusts_a_file_that_does_not_load(store):
    def refuse(path):
        raise CheckpointError("no")

    with pytest.raises(CheckpointError):
        pull(store, inspect=refuse)
    assert store.state(OPEN) == "missing"
    assert store.trust_records() == {}


def test_finds_files_in_the_order_of_formats(store):
    pull(store)
    pull(store, PUBLISHED)
    assert [found.file for found in store.find(MODEL, ("pth", "onnx"))] == [OPEN, PUBLISHED]
    assert [found.file for found in store.find(MODEL, ("onnx",))] == [PUBLISHED]
    assert store.find(KNOWN_MODELS["gpen-bfr-512"], ("pth", "onnx")) == ()
