"""A redis-server for tests."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis


@dataclass
class RedisServer:
    """A redis-server on a Unix socket, so that it needs no port."""

    binary: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.folder / "redis.sock"), "--save", ""]
        self.process = subprocess.Popen(
            [self.binary, *arguments, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        for _ in range(1000):
            with suppress(redis.ConnectionError), self.client() as client:
                client.ping()
                return
            time.sleep(0.01)
        pytest.fail("redis-server did not start")

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.wake()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running redis-server; its tests skip without the binary (Debian: redis-server)."""
    if not (binary := shutil.which("redis-server")):
        pytest.skip("redis-server is not installed")
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()
