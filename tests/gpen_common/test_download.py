"""Downloads from real servers that do everything wrong that servers do."""

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
    Interrupted,
    NoSpace,
    Partial,
    Patience,
    Refused,
    Remote,
    Stopped,
    Unreachable,
    WrongFile,
    download,
    exclusive,
)
from gpen_common.download.errors import Passing

NAME = "model.pth"
CONTENT = bytes(range(256)) * 4096
SIZE = len(CONTENT)
HALF = SIZE // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect_s=1, stall_s=0.4, attempts=3, pause_s=0.01)


@pytest.fixture
def server(file_server):
    file_server.files[NAME] = CONTENT
    return file_server


@pytest.fixture
def fetch(server, tmp_path):
    def run(sha256=SHA256, size=SIZE, urls=None, **options):
        remote = Remote(NAME, urls or (f"{server.url}/{NAME}",), sha256, size, 2 * len(CONTENT))
        return download(remote, tmp_path, **{"patience": QUICK, **options})

    return run


def half_then(end, handler, content):
    """Half of the file, with the validator a later try needs."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    handler.head(200, len(content), ETag=etag)
    handler.wfile.write(content[: len(content) // 2])
    end(handler)


def break_off(handler, content):
    """A reset may take along what the client has not read yet."""
    half_then(lambda handler: (time.sleep(0.1), handler.reset()), handler, content)


stall = partial(half_then, lambda handler: handler.stall())
close_early = partial(half_then, lambda handler: None)


def status(number, **headers):
    return lambda handler, content: handler.head(number, 0, **headers)


def test_a_file_comes_whole_and_says_where_from(fetch, server, tmp_path):
    seen = []
    came = fetch(progress=lambda received, total: seen.append((received, total)))
    assert came.path == tmp_path / NAME
    assert (came.sha256, came.size, came.url) == (SHA256, len(CONTENT), f"{server.url}/{NAME}")
    assert came.path.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_without_a_known_checksum_or_size_it_is_computed(fetch):
    assert fetch(sha256=None, size=None).sha256 == SHA256


@pytest.mark.parametrize("fault", [break_off, stall, close_early])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_broke_off_is_taken_up_where_it_was(fetch, server, fault, sha256):
    server.faults = [fault]
    assert fetch(sha256=sha256).path.read_bytes() == CONTENT
    first, second = (headers for _, headers in server.requests)
    assert "Range" not in first
    if fault is not break_off:
        assert second["Range"] == f"bytes={HALF}-"
    assert second["If-Range"]


def test_the_next_process_takes_it_up_too(fetch, server, tmp_path):
    server.faults = [close_early] * 3
    with pytest.raises(Interrupted, match="broke off"):
        fetch()
    assert not (tmp_path / NAME).exists()
    assert Partial(tmp_path / NAME).size == HALF
    fetch()
    assert server.requests[-1][1]["Range"] == f"bytes={HALF}-"
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_file_that_was_whole_but_not_renamed_is_not_fetched_again(fetch, server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=lambda received, total: _interrupt() if received == total else None)
    asked = len(server.requests)
    Partial(tmp_path / NAME).path.write_bytes(CONTENT)
    assert fetch().path.read_bytes() == CONTENT
    assert len(server.requests) == asked


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(fetch, server, sha256):
    """The rest of one version must never be joined to the beginning of another."""
    server.files[NAME] = CONTENT[::-1]
    server.faults = [break_off] * 3
    with pytest.raises(Interrupted):
        fetch()
    server.files[NAME] = CONTENT
    assert fetch(sha256=sha256).path.read_bytes() == CONTENT


def test_a_server_that_ignores_if_range_is_found_out_by_the_checksum(fetch, server):
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


def test_without_a_validator_and_a_checksum_nothing_is_taken_up(fetch, server):
    def half_of_something(handler, content):
        handler.head(200, len(content))
        handler.wfile.write(content[:HALF])

    server.faults = [half_of_something]
    assert fetch(sha256=None).path.read_bytes() == CONTENT
    assert "Range" not in server.requests[1][1]


def test_a_weak_validator_is_none(fetch, server):
    def weak(handler, content):
        handler.head(200, len(content), ETag='W/"x"')
        handler.wfile.write(content[:HALF])

    server.faults = [weak]
    fetch()
    assert "If-Range" not in server.requests[1][1]


def test_a_server_without_ranges_sends_it_all_again(fetch, server):
    server.faults = [break_off, lambda handler, content: handler.serve(content, ranges=False)]
    assert fetch().path.read_bytes() == CONTENT


def test_another_range_than_was_asked_for_is_not_joined(fetch, server):
    def wrong_range(handler, content):
        handler.head(206, 10, Content_Range=f"bytes 0-9/{len(content)}")
        handler.wfile.write(content[:10])

    server.faults = [break_off, wrong_range]
    assert fetch().path.read_bytes() == CONTENT


def test_a_range_past_the_end_starts_anew(fetch, server):
    server.faults = [break_off, status(416)]
    assert fetch().path.read_bytes() == CONTENT


def test_a_length_that_is_too_small_is_found_out(fetch, server):
    def lie(handler, content):
        handler.head(200, HALF)
        handler.wfile.write(content)

    server.faults = [lie] * 5
    with pytest.raises(WrongFile, match=rf"has {HALF} bytes, not {len(CONTENT)}"):
        fetch()
    server.faults = [lie]
    with pytest.raises(WrongFile, match="another file"):
        fetch(size=None)


def test_a_length_that_is_too_large_is_refused_before_it_is_read(fetch, server):
    server.faults = [lambda handler, content: (handler.head(200, 10**12), handler.stall())]
    with pytest.raises(WrongFile, match="1000000000000 bytes, not at most"):
        fetch(sha256=None, size=None)


def test_a_body_without_end_is_cut_off(fetch, server, tmp_path):
    def endless(handler, content):
        handler.head(200, None)
        while True:
            handler.wfile.write(content)

    server.faults = [endless]
    with pytest.raises(WrongFile, match="more than"):
        fetch(sha256=None, size=None)
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_the_same_size_is_refused_and_dropped(fetch, server, tmp_path):
    server.files[NAME] = CONTENT[::-1]
    with pytest.raises(WrongFile, match="another file"):
        fetch()
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_an_empty_file_is_no_file(fetch, server):
    server.files[NAME] = b""
    with pytest.raises(WrongFile):
        fetch(sha256=None, size=None)


def test_a_login_page_is_told_as_such(fetch, server):
    def portal(handler, content):
        page = b"<html>Welcome to the hotel</html>"
        handler.head(200, len(page), Content_Type="text/html; charset=utf-8")
        handler.wfile.write(page)

    server.faults = [portal]
    with pytest.raises(WrongFile, match="wants a login"):
        fetch(sha256=None, size=None)


def test_what_the_inspector_refuses_never_appears(fetch, tmp_path):
    def refuse(path):
        assert path.read_bytes() == CONTENT
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fetch(inspect=refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410, 204, 304])
def test_a_refusal_is_told_at_once(fetch, server, number):
    server.faults = [status(number)] * 9
    with pytest.raises(Refused, match=str(number)):
        fetch()
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [429, 500, 503])
def test_a_passing_failure_is_tried_again_so_often(fetch, server, number):
    server.faults = [status(number, Retry_After="0"), status(number)]
    assert fetch().path.read_bytes() == CONTENT
    server.files[NAME] = CONTENT
    Path(fetch().path).unlink()
    server.faults = [status(number)] * 9
    with pytest.raises(Interrupted, match=str(number)):
        fetch()
    assert len(server.faults) == 6


def test_redirects_are_followed_but_not_forever(fetch, server):
    server.faults = [status(302, Location="/elsewhere")]
    server.files["elsewhere"] = CONTENT
    assert fetch().path.read_bytes() == CONTENT
    server.faults = [status(302, Location=f"/{NAME}")] * 99
    with pytest.raises(Refused, match="cannot be followed"):
        fetch()


def test_the_second_address_serves_where_the_first_does_not(fetch, server):
    urls = (f"{server.url}/absent", "http://127.0.0.1:1/x", f"{server.url}/{NAME}")
    assert fetch(urls=urls).url == urls[2]
    with pytest.raises(Refused, match=r"404.*reached"):
        fetch(urls=urls[:2])


def test_a_machine_without_a_network_knows_at_once(fetch):
    start = time.monotonic()
    with pytest.raises(Unreachable, match="cannot be reached"):
        fetch(urls=("http://127.0.0.1:1/x", "http://no-such-host.invalid/x"))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "http://[bad/x", "nothing"])
def test_an_address_that_is_none_is_refused(fetch, url):
    with pytest.raises(DownloadError):
        fetch(urls=(url,))


def test_compressed_content_is_refused(fetch, server):
    server.faults = [lambda handler, content: handler.head(200, 10, Content_Encoding="gzip")]
    with pytest.raises(Refused, match="compressed"):
        fetch()


def test_all_of_it_has_one_deadline(fetch, server):
    def drip(handler, content):
        handler.head(200, len(content))
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"x")

    server.faults = [drip]
    with pytest.raises(Interrupted, match=r"within 0\.5 s"):
        fetch(patience=Patience(stall_s=5, total_s=0.5))


def test_stopping_ends_it_and_keeps_what_came(fetch, server, tmp_path):
    stop = threading.Event()
    with pytest.raises(Stopped):
        fetch(stop=stop, progress=lambda received, total: stop.set())
    assert 0 < Partial(tmp_path / NAME).size < len(CONTENT)
    assert fetch().path.read_bytes() == CONTENT


def test_a_disk_without_room_is_told_before_a_byte_is_written(fetch, monkeypatch):
    full = shutil._ntuple_diskusage(10**9, 10**9, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(NoSpace, match=r"no room for the 1 MB that are missing of model\.pth"):
        fetch()


def test_a_disk_that_fills_up_is_told(fetch, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Partial, "begin", full)
    with pytest.raises(NoSpace, match=r"no room of model\.pth"):
        fetch()


def test_a_folder_that_cannot_be_made_is_an_os_error(server, tmp_path):
    (tmp_path / "file").touch()
    remote = Remote(NAME, (f"{server.url}/{NAME}",), SHA256, None, 10**9)
    with pytest.raises(OSError, match="file"):
        download(remote, tmp_path / "file" / "models")


def _hold(path, entered, leave):
    with exclusive(Path(path)):
        entered.set()
        leave.wait(20)


def test_processes_keep_each_other_out_and_waiting_can_be_stopped(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / NAME), entered, leave))
    other.start()
    try:
        assert entered.wait(20)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped), exclusive(tmp_path / NAME, stop):
            pytest.fail("two processes at once")
    finally:
        leave.set()
        other.join(20)
    with exclusive(tmp_path / NAME):
        pass


def test_the_error_tree_is_complete():
    """Whoever catches DownloadError catches all; what passes never leaves."""
    kinds = [Unreachable, Interrupted, Refused, WrongFile, NoSpace, Stopped]
    assert set(DownloadError.__subclasses__()) == set(kinds)
    assert not issubclass(Passing, DownloadError)
