"""A file server whose answers can fail."""

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` (by name) with ETags and ranges. Each of `faults` answers one request instead.

    requests: the (name, headers) of all requests. released: set to end stalled answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.files: dict[str, bytes] = {}
        self.faults: list[Callable[[FileHandler, bytes], None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up."""


class FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.close_connection = True
        name = self.path.strip("/")
        self.server.requests.append((name, dict(self.headers)))
        content = self.server.files.get(name)
        if self.server.faults:
            self.server.faults.pop(0)(self, content or b"")
        elif content is None:
            self.head(404, 0)
        else:
            self.serve(content)

    def serve(self, content: bytes, ranges: bool = True) -> None:
        """Answer correctly."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not ranges or not asked or self.headers.get("If-Range", etag) != etag:
            self.head(200, len(content), ETag=etag)
            self.wfile.write(content)
        elif (start := int(asked[1])) >= len(content):
            self.head(416, 0)
        else:
            part = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.head(206, len(content) - start, ETag=etag, Content_Range=part)
            self.wfile.write(content[start:])

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def stall(self) -> None:
        """Send nothing more until the test ends."""
        self.wfile.flush()
        self.server.released.wait(30)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def run_file_server() -> Iterator[FileServer]:
    """Run a file server on a free port during the block."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
