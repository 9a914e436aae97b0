"""Downloads from a real server with all kinds of faults."""

import errno
import hashlib
import multiprocessing
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from gpen_common.download import (
    DownloadError,
    DownloadRefused,
    Interrupted,
    NoSpace,
    Partial,
    RemoteFile,
    RetryPolicy,
    Stopped,
    Unreachable,
    WrongFile,
    download,
    lock_file,
)
from gpen_common.download.errors import Transient

NAME = "model.pth"
CONTENT = bytes(range(256)) * 4096
SIZE = len(CONTENT)
HALF = SIZE // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = RetryPolicy(connect_s=1, stall_s=0.4, attempts=3, pause_s=0.01)


@pytest.fixture
def server(file_server):
    file_server.files[NAME] = CONTENT
    return file_server


@pytest.fixture
def fetch(server, tmp_path):
    def run(sha256=SHA256, size=SIZE, urls=None, **options):
        remote = RemoteFile(NAME, urls or (f"{server.url}/{NAME}",), sha256, size, 2 * len(CONTENT))
        return download(remote, tmp_path, **{"policy": QUICK, **options})

    return run


def half_then(end, handler, content):
    """Send half of the file, with the validator that a later attempt needs."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    handler.head(200, len(content), ETag=etag)
    handler.wfile.write(content[: len(content) // 2])
    end(handler)


def break_off(handler, content):
    """A reset may discard bytes that the client has not read yet."""
    half_then(lambda handler: (time.sleep(0.1), handler.reset()), handler, content)


stall = partial(half_then, lambda handler: handler.stall())
close_early = partial(half_then, lambda handler: None)


def status(number, **headers):
    return lambda handler, content: handler.head(number, 0, **headers)


def test_stores_the_whole_file_and_reports_its_address(fetch, server, tmp_path):
    seen = []
    came = fetch(progress=lambda received, total: seen.append((received, total)))
    assert came.path == tmp_path / NAME
    assert (came.sha256, came.size, came.url) == (SHA256, len(CONTENT), f"{server.url}/{NAME}")
    assert came.path.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_computes_an_unknown_checksum(fetch):
    assert fetch(sha256=None, size=None).sha256 == SHA256


@pytest.mark.parametrize("fault", [break_off, stall, close_early])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_resumes_an_interrupted_transfer(fetch, server, fault, sha256):
    server.faults = [fault]
    assert fetch(sha256=sha256).path.read_bytes() == CONTENT
    first, second = (headers for _, headers in server.requests)
    assert "Range" not in first
    if fault is not break_off:
        assert second["Range"] == f"bytes={HALF}-"
    assert second["If-Range"]


def test_resumes_in_a_later_call(fetch, server, tmp_path):
    server.faults = [close_early] * 3
    with pytest.raises(Interrupted, match="was interrupted"):
        fetch()
    assert not (tmp_path / NAME).exists()
    assert Partial(tmp_path / NAME).size == HALF
    fetch()
    assert server.requests[-1][1]["Range"] == f"bytes={HALF}-"
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_does_not_download_a_complete_partial_file_again(fetch, server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=lambda received, total: _interrupt() if received == total else None)
    asked = len(server.requests)
    Partial(tmp_path / NAME).path.write_bytes(CONTENT)
    assert fetch().path.read_bytes() == CONTENT
    assert len(server.requests) == asked


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_restarts_if_the_file_changed(fetch, server, sha256):
    """The rest of one version must never be appended to the beginning of another."""
    server.files[NAME] = CONTENT[::-1]
    server.faults = [break_off] * 3
    with pytest.raises(Interrupted):
        fetch()
    server.files[NAME] = CONTENT
    assert fetch(sha256=sha256).path.read_bytes() == CONTENT


def test_checksum_detects_a_server_that_ignores_if_range(fetch, server):
    def rest_of_another(handler, content):
        handler.headers.replace_header("If-Range", handler.headers["If-Range"])
        del handler.headers["If-Range"]
        handler.serve(content)

    server.files[NAME] = CONTENT[::-1]
    server.faults = [break_off] * 3
    with pytest.raises(Interrupted):
        fetch()
    server.files[NAME] = CONTENT
    server.faults = [rest_of_another]
    assert fetch().path.read_bytes() == CONTENT
    assert len(server.requests) == 5


def test_does_not_resume_without_validator_and_checksum(fetch, server):
    def half_of_something(handler, content):
        handler.head(200, len(content))
        handler.wfile.write(content[:HALF])

    server.faults = [half_of_something]
    assert fetch(sha256=None).path.read_bytes() == CONTENT
    assert "Range" not in server.requests[1][1]


def test_does_not_use_a_weak_validator(fetch, server):
    def weak(handler, content):
        handler.head(200, len(content), ETag='W/"x"')
        handler.wfile.write(content[:HALF])

    server.faults = [weak]
    fetch()
    assert "If-Range" not in server.requests[1][1]


def test_restarts_on_a_server_without_ranges(fetch, server):
    server.faults = [break_off, lambda handler, content: handler.serve(content, ranges=False)]
    assert fetch().path.read_bytes() == CONTENT


def test_does_not_append_a_range_that_was_not_requested(fetch, server):
    def wrong_range(handler, content):
        handler.head(206, 10, Content_Range=f"bytes 0-9/{len(content)}")
        handler.wfile.write(content[:10])

    server.faults = [break_off, wrong_range]
    assert fetch().path.read_bytes() == CONTENT


def test_restarts_after_416(fetch, server):
    server.faults = [break_off, status(416)]
    assert fetch().path.read_bytes() == CONTENT


def test_rejects_a_length_that_is_too_small(fetch, server):
    def lie(handler, content):
        handler.head(200, HALF)
        handler.wfile.write(content)

    server.faults = [lie] * 5
    with pytest.raises(WrongFile, match=rf"has {HALF} bytes, not {len(CONTENT)}"):
        fetch()
    server.faults = [lie]
    with pytest.raises(WrongFile, match="another file"):
        fetch(size=None)


def test_rejects_a_length_that_is_too_large_before_reading(fetch, server):
    server.faults = [lambda handler, content: (handler.head(200, 10**12), handler.stall())]
    with pytest.raises(WrongFile, match="1000000000000 bytes, not at most"):
        fetch(sha256=None, size=None)


def test_aborts_an_endless_body(fetch, server, tmp_path):
    def endless(handler, content):
        handler.head(200, None)
        while True:
            handler.wfile.write(content)

    server.faults = [endless]
    with pytest.raises(WrongFile, match="more than"):
        fetch(sha256=None, size=None)
    assert list(tmp_path.iterdir()) == []


def test_rejects_and_deletes_another_file_of_the_same_size(fetch, server, tmp_path):
    server.files[NAME] = CONTENT[::-1]
    with pytest.raises(WrongFile, match="another file"):
        fetch()
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_rejects_an_empty_file(fetch, server):
    server.files[NAME] = b""
    with pytest.raises(WrongFile):
        fetch(sha256=None, size=None)


def test_recognises_a_login_page(fetch, server):
    def portal(handler, content):
        page = b"<html>Welcome to the hotel</html>"
        handler.head(200, len(page), Content_Type="text/html; charset=utf-8")
        handler.wfile.write(page)

    server.faults = [portal]
    with pytest.raises(WrongFile, match="requires a login"):
        fetch(sha256=None, size=None)


def test_deletes_a_file_that_fails_inspection(fetch, tmp_path):
    def refuse(path):
        assert path.read_bytes() == CONTENT
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fetch(inspect=refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410, 204, 304])
def test_does_not_retry_a_permanent_status(fetch, server, number):
    server.faults = [status(number)] * 9
    with pytest.raises(DownloadRefused, match=str(number)):
        fetch()
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [429, 500, 503])
def test_retries_a_transient_status_up_to_the_limit(fetch, server, number):
    server.faults = [status(number, Retry_After="0"), status(number)]
    assert fetch().path.read_bytes() == CONTENT
    server.files[NAME] = CONTENT
    Path(fetch().path).unlink()
    server.faults = [status(number)] * 9
    with pytest.raises(Interrupted, match=str(number)):
        fetch()
    assert len(server.faults) == 6


def test_follows_a_limited_number_of_redirects(fetch, server):
    server.faults = [status(302, Location="/elsewhere")]
    server.files["elsewhere"] = CONTENT
    assert fetch().path.read_bytes() == CONTENT
    server.faults = [status(302, Location=f"/{NAME}")] * 99
    with pytest.raises(DownloadRefused, match="cannot be followed"):
        fetch()


def test_tries_the_addresses_in_order(fetch, server):
    urls = (f"{server.url}/absent", "http://127.0.0.1:1/x", f"{server.url}/{NAME}")
    assert fetch(urls=urls).url == urls[2]
    with pytest.raises(DownloadRefused, match=r"404.*reached"):
        fetch(urls=urls[:2])


def test_fails_quickly_without_a_network(fetch):
    start = time.monotonic()
    with pytest.raises(Unreachable, match="cannot be reached"):
        fetch(urls=("http://127.0.0.1:1/x", "http://no-such-host.invalid/x"))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "http://[bad/x", "nothing"])
def test_rejects_an_invalid_address(fetch, url):
    with pytest.raises(DownloadError):
        fetch(urls=(url,))


def test_rejects_compressed_content(fetch, server):
    server.faults = [lambda handler, content: handler.head(200, 10, Content_Encoding="gzip")]
    with pytest.raises(DownloadRefused, match="compressed"):
        fetch()


def test_total_timeout_covers_the_whole_download(fetch, server):
    def drip(handler, content):
        handler.head(200, len(content))
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"x")

    server.faults = [drip]
    with pytest.raises(Interrupted, match=r"within 0\.5 s"):
        fetch(policy=RetryPolicy(stall_s=5, total_s=0.5))


def test_stop_ends_the_download_and_keeps_its_bytes(fetch, server, tmp_path):
    stop = threading.Event()
    with pytest.raises(Stopped):
        fetch(stop=stop, progress=lambda received, total: stop.set())
    assert 0 < Partial(tmp_path / NAME).size < len(CONTENT)
    assert fetch().path.read_bytes() == CONTENT


def test_checks_free_space_before_writing(fetch, monkeypatch):
    full = shutil._ntuple_diskusage(10**9, 10**9, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(NoSpace, match=r"no room for the missing 1 MB of model\.pth"):
        fetch()


def test_reports_a_disk_that_fills_up(fetch, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Partial, "begin", full)
    with pytest.raises(NoSpace, match=r"no room for model\.pth"):
        fetch()


def test_raises_os_error_if_the_folder_cannot_be_created(server, tmp_path):
    (tmp_path / "file").touch()
    remote = RemoteFile(NAME, (f"{server.url}/{NAME}",), SHA256, None, 10**9)
    with pytest.raises(OSError, match="file"):
        download(remote, tmp_path / "file" / "models")


def _hold(path, entered, leave):
    with lock_file(Path(path)):
        entered.set()
        leave.wait(20)


def test_lock_file_excludes_other_processes_and_stops_waiting(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / NAME), entered, leave))
    other.start()
    try:
        assert entered.wait(20)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped), lock_file(tmp_path / NAME, stop):
            pytest.fail("two processes at once")
    finally:
        leave.set()
        other.join(20)
    with lock_file(tmp_path / NAME):
        pass


def test_error_tree_is_complete():
    """Catching DownloadError catches every error; Transient never leaves the package."""
    kinds = [Unreachable, Interrupted, DownloadRefused, WrongFile, NoSpace, Stopped]
    assert set(DownloadError.__subclasses__()) == set(kinds)
    assert not issubclass(Transient, DownloadError)
