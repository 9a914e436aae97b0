"""Servers in processes, their ports, and interpreters with other packages."""

import hashlib
import itertools
import os
import random
import re
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# Nothing else uses these: the kernel gives connections and other tests' servers 32768 and up, Ray its workers
# 10002 to 19999 and its replicas 30000 to 31000.
_UNTRIED_PORTS = iter(random.sample(range(20000, 30000), 10000))


def find_free_ports(number: int) -> list[int]:
    """Return ports for servers that start later and cannot choose their own."""
    return list(itertools.islice(filter(_is_free, _UNTRIED_PORTS), number))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def wait_until_listening(process: "subprocess.Popen[str]") -> str:
    """Return the URL in the log, on stderr, of a server that uses uvicorn. Raises RuntimeError if it ends."""
    assert process.stderr
    log = []
    for line in process.stderr:
        log.append(line)
        if listening := re.search(r"running on (http://[0-9.]+:[0-9]+)", line):
            # A full pipe would block the server.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return listening[1]
    raise RuntimeError("the server did not start:\n" + "".join(log))


@contextmanager
def run_server_process(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[str]:
    """Run a server that uses uvicorn during the block; yields its URL."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
    with subprocess.Popen(
        command,
        env={**inherited, "GPEN_BACKEND_FETCH": "off", "GATEWAY_CACHE": "off", **environment},
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield wait_until_listening(process)
        finally:
            process.terminate()
            process.wait(20)


def install_python_with(requirement: str, home: Path, *, ours: bool = False, state: str = "") -> Path:
    """Return an interpreter in `home` that has `requirement`; skip the test if it cannot be installed.

    ours: it also finds the packages of the tests' own interpreter. state: another one installs again.
    """
    digest = hashlib.sha256(f"{requirement} {sys.prefix} {state}".encode()).hexdigest()[:16]
    python, complete = home / "venv" / "bin" / "python", home / "venv" / digest
    if complete.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", home / "venv"], check=True)
    if ours:
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.check_output([python, "-c", asked], text=True).strip()
        # Of two versions of a package the venv's own comes first.
        shared = sysconfig.get_path("purelib")
        Path(site, "tests.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", requirement],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"{requirement} cannot be installed here: {installed.stdout[-300:]}")
    complete.touch()
    return python
