import gzip
import hashlib
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from gateway.faces.weights import WeightsFile, WeightsUnavailable, find_torch_hub_folder

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def server(answer):
    """A server that reads each request and calls `answer(connection, path)`."""
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def talk(connection):
        with connection:
            request = b""
            while b"\r\n\r\n" not in request and (part := connection.recv(4096)):
                request += part
            if request:
                answer(connection, request.split(b" ")[1].decode())

    def accept():
        while not closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=quietly, args=(connection,)))
            threads[-1].start()

    def quietly(connection):
        # The client closes the connection on some of these answers.
        with suppress(OSError):
            talk(connection)

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/weights.bin"
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(5)


def head(length=None, status="200 OK", *more):
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(CONTENT) if length is None else length}",
        "Connection: close",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def serve_whole(connection, path):
    connection.sendall(head() + CONTENT)


def reset_half_way(connection, path):
    connection.sendall(head() + CONTENT[: len(CONTENT) // 2])
    # SO_LINGER of zero makes close() send a reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_half_way(connection, path):
    connection.sendall(head() + CONTENT[: len(CONTENT) // 2])


def close_half_way_without_a_length(connection, path):
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT[: len(CONTENT) // 2])


def stall_half_way(connection, path):
    connection.sendall(head() + CONTENT[: len(CONTENT) // 2])
    connection.recv(1)


def stall_at_once(connection, path):
    connection.recv(1)


def drip(connection, path):
    connection.sendall(head())
    for byte in CONTENT:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def send_too_much(connection, path):
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(CONTENT)


def unpack_too_much(connection, path):
    packed = gzip.compress(bytes(50_000_000))
    connection.sendall(head(len(packed), "200 OK", "Content-Encoding: gzip") + packed)


def send_another_file(connection, path):
    connection.sendall(head() + CONTENT[::-1])


def send_nothing(connection, path):
    connection.sendall(head(0))


def answer_404(connection, path):
    connection.sendall(head(9, "404 Not Found") + b"not found")


def answer_500(connection, path):
    connection.sendall(head(0, "500 Internal Server Error"))


def talk_nonsense(connection, path):
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def redirect_forever(connection, path):
    connection.sendall(head(0, "302 Found", "Location: /weights.bin"))


def redirect_to_a_file(connection, path):
    connection.sendall(head(0, "302 Found", "Location: file:///etc/hostname"))


def file_at(url, sha256=SHA256):
    return WeightsFile("weights.bin", url, sha256, max_bytes=2 * len(CONTENT))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


def fetch(file, folder):
    return file.fetch(folder, read_timeout_s=0.3, total_timeout_s=1.0)


def test_downloads_a_file(folder):
    with server(serve_whole) as url:
        path = fetch(file_at(url), folder)
    assert path == folder / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def test_accepts_a_checksum_prefix(folder):
    with server(serve_whole) as url:
        assert fetch(file_at(url, SHA256[:10]), folder).read_bytes() == CONTENT


def test_follows_redirects(folder):
    def redirect(connection, path):
        if path == "/weights.bin":
            connection.sendall(head(0, "302 Found", "Location: /elsewhere"))
        else:
            serve_whole(connection, path)

    with server(redirect) as url:
        assert fetch(file_at(url), folder).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [
        reset_half_way, close_half_way, close_half_way_without_a_length, stall_half_way, stall_at_once, drip,
        send_too_much, unpack_too_much, send_another_file, send_nothing, answer_404, answer_500,
        talk_nonsense, redirect_forever, redirect_to_a_file,
    ],
)  # fmt: skip
def test_failed_download_leaves_no_files(folder, answer):
    with server(answer) as url:
        with pytest.raises(WeightsUnavailable, match=r"weights\.bin"):
            fetch(file_at(url), folder)
        assert list(folder.iterdir()) == []


def test_retry_after_a_failed_download_succeeds(folder):
    answers = [reset_half_way, serve_whole]
    with server(lambda *asked: answers.pop(0)(*asked)) as url:
        with pytest.raises(WeightsUnavailable):
            fetch(file_at(url), folder)
        assert fetch(file_at(url), folder).read_bytes() == CONTENT


def test_uses_the_file_on_disk_without_a_download(folder):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    assert fetch(file_at("http://127.0.0.1:1/weights.bin"), folder).read_bytes() == CONTENT


def test_replaces_a_damaged_file(folder, caplog):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT[:-1])
    with server(serve_whole) as url:
        assert file_at(url).find_verified(folder) is None
        assert "not the published file" in caplog.text
        assert fetch(file_at(url), folder).read_bytes() == CONTENT


def test_raises_if_a_damaged_file_cannot_be_replaced(folder):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT[:-1])
    with server(answer_404) as url, pytest.raises(WeightsUnavailable):
        fetch(file_at(url), folder)
    assert (folder / "weights.bin").read_bytes() == CONTENT[:-1]


def test_unreadable_file_counts_as_missing(folder):
    folder.mkdir()
    # /proc/self/mem can be opened, but not read at offset zero.
    (folder / "weights.bin").symlink_to("/proc/self/mem")
    assert file_at("http://127.0.0.1:1/").find_verified(folder) is None


def test_concurrent_downloads_all_get_the_file(folder):
    paths = []
    with server(serve_whole) as url:
        threads = [
            threading.Thread(target=lambda: paths.append(file_at(url).fetch(folder))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert paths == [folder / "weights.bin"] * 8
    assert [path.read_bytes() for path in folder.iterdir()] == [CONTENT]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/weights.bin", "http://no-such-host.invalid/weights.bin", "http://[bad/w", "file:///etc/hostname"],
)  # fmt: skip
def test_raises_for_an_unreachable_url(folder, url):
    with pytest.raises(WeightsUnavailable, match=r"weights\.bin cannot be downloaded"):
        fetch(file_at(url), folder)


@pytest.mark.parametrize("is_a_file", [True, False])
def test_raises_for_an_unwritable_folder(tmp_path, is_a_file):
    folder = tmp_path / "models"
    if is_a_file:
        folder.write_bytes(b"")
    else:
        (folder / "weights.bin").mkdir(parents=True)
    with server(serve_whole) as url, pytest.raises(WeightsUnavailable):
        fetch(file_at(url), folder)
    assert is_a_file or [path.name for path in folder.iterdir()] == ["weights.bin"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"TORCH_HOME": "/t"}, "/t/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/torch/hub/checkpoints"),
        ({"HOME": "/h"}, "/h/.cache/torch/hub/checkpoints"),
        ({"HOME": "/h", "TORCH_HOME": "~/t"}, "/h/t/hub/checkpoints"),
    ],
)
def test_finds_the_same_folder_as_torch_hub(monkeypatch, environment, folder):
    torch_hub = pytest.importorskip("torch.hub")
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(find_torch_hub_folder()) == folder == f"{torch_hub.get_dir()}/checkpoints"
