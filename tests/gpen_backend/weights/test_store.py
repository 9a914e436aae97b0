"""What is trusted, what is refused, and what is remembered of it."""

import hashlib
import json
import threading

import pytest

from gpen_backend.weights.catalog import KNOWN_MODELS, KnownModel, ModelFile
from gpen_backend.weights.errors import Altered, CheckpointError
from gpen_backend.weights.store import LOCK_NAME, Found, Store
from gpen_common.download import Patience, Unreachable, WrongFile

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect_s=1, stall_s=0.5, attempts=2, pause_s=0.01)

OPEN = ModelFile("open.pth", "pth", ("http://127.0.0.1:1/open.pth",), aliases=("other-name.pth",))
PUBLISHED = ModelFile("published.onnx", "onnx", ("http://127.0.0.1:1/p.onnx",), len(CONTENT), SHA256)
MODEL = KnownModel("model", "restore", 16, 1, 1, len(CONTENT), (OPEN, PUBLISHED))


@pytest.fixture
def store(tmp_path, file_server):
    file_server.files = {"open.pth": CONTENT, "published.onnx": CONTENT}
    return Store(tmp_path, mirror=file_server.url)


def pull(store, file=OPEN, **options):
    return store.pull(MODEL, file, patience=QUICK, **options)


def lock(store):
    return json.loads((store.folder / LOCK_NAME).read_text())["files"]


def test_a_first_pull_is_recorded_where_no_checksum_is_published(store, file_server):
    found = pull(store)
    entry = lock(store)["open.pth"]
    assert (entry["sha256"], entry["size"]) == (SHA256, len(CONTENT))
    assert entry["url"] == f"{file_server.url}/open.pth"
    assert entry["date"].endswith("+00:00")
    assert store.verify(found) == SHA256
    assert store.state(OPEN) == "verified"


def test_a_published_checksum_needs_no_record(store):
    pull(store, PUBLISHED)
    assert store.state(PUBLISHED) == "verified"
    assert not (store.folder / LOCK_NAME).exists()


def test_another_file_than_the_published_one_never_gets_here(store, file_server):
    file_server.files["published.onnx"] = CONTENT[::-1]
    with pytest.raises(WrongFile):
        pull(store, PUBLISHED)
    assert store.state(PUBLISHED) == "missing"


def test_a_second_pull_must_bring_what_the_first_did(store, file_server):
    pull(store).path.unlink()
    file_server.files["open.pth"] = CONTENT[::-1]
    with pytest.raises(WrongFile, match=SHA256):
        pull(store)
    file_server.files["open.pth"] = CONTENT
    assert store.verify(pull(store)) == SHA256


@pytest.mark.parametrize("changed", [CONTENT[::-1], CONTENT + b"x", b""])
@pytest.mark.parametrize("file", [OPEN, PUBLISHED])
def test_a_file_that_changed_is_refused(store, file, changed):
    found = pull(store, file)
    found.path.write_bytes(changed)
    with pytest.raises(Altered, match="delete it and pull it again"):
        store.verify(found)
    assert store.state(file) == "broken"
    with pytest.raises(Altered):
        pull(store, file)


def test_a_file_put_there_by_hand_is_trusted_once_and_must_stay_as_it_is(store):
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
    assert store.state(OPEN) == "broken", "what is recorded is not replaced unasked"
    store.trust(found, store.sha256(found), anew=True)
    assert store.state(OPEN) == "verified"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"open.pth": {"sha256": 1}}}', "{"])
def test_a_record_that_cannot_be_read_trusts_nothing(store, text):
    """Else whoever breaks the record could replace the weights."""
    found = pull(store)
    (store.folder / LOCK_NAME).write_text(text)
    with pytest.raises(Altered, match="cannot be read"):
        store.verify(found)


def test_a_folder_that_cannot_be_written_is_warned_of(store, monkeypatch, caplog):
    (store.folder / "open.pth").write_bytes(CONTENT)

    def refuse(*_, **__):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("gpen_backend.weights.store.exclusive", refuse)
    (found,) = store.find(MODEL, ("pth",))
    store.trust(found, store.verify(found))
    assert "could not be recorded" in caplog.text


def test_what_is_here_is_not_fetched(store, file_server):
    pull(store)
    pull(store)
    assert len(file_server.requests) == 1


def test_eight_at_once_fetch_it_once(store, file_server):
    found = []
    threads = [threading.Thread(target=lambda: found.append(pull(store))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [Found(OPEN, store.folder / "open.pth")] * 8
    assert len(file_server.requests) == 1


def test_a_part_is_told_with_its_share(store, file_server):
    def half(handler, content):
        handler.head(200, len(content), ETag='"x"')
        handler.wfile.write(content[: len(content) // 2])

    file_server.faults = [half] * 2
    with pytest.raises(Exception, match="broke off"):
        pull(store)
    assert store.state(OPEN) == "partial"
    assert store.received(OPEN) == (len(CONTENT) // 2, len(CONTENT))


def test_without_a_mirror_the_published_address_is_asked(tmp_path):
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/open\.pth"):
        pull(Store(tmp_path))


def test_a_file_that_does_not_load_is_neither_kept_nor_trusted(store):
    def refuse(path):
        raise CheckpointError("no")

    with pytest.raises(CheckpointError):
        pull(store, inspect=refuse)
    assert store.state(OPEN) == "missing"
    assert store.trusted() == {}


def test_formats_are_found_in_the_order_of_preference(store):
    pull(store)
    pull(store, PUBLISHED)
    assert [found.file for found in store.find(MODEL, ("pth", "onnx"))] == [OPEN, PUBLISHED]
    assert [found.file for found in store.find(MODEL, ("onnx",))] == [PUBLISHED]
    assert store.find(KNOWN_MODELS["gpen-bfr-512"], ("pth", "onnx")) == ()
