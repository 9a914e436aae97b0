"""Runs gateways and backends as separate processes, for benches to send requests to and to measure."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.support.processes import wait_until_listening


@dataclass(frozen=True)
class Server:
    """A server that is ready. ready_s: seconds from its start until its readiness probe succeeded."""

    url: str
    process: psutil.Process
    ready_s: float

    def cpu_s(self) -> float:
        """CPU time used so far, seconds."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    def peak_mb(self) -> float:
        """Peak resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


_numbers = itertools.count()


def fresh(picture: bytes) -> bytes:
    """Append a number to a JPEG, so that every cache misses; decoders ignore what follows the end."""
    return picture + str(next(_numbers)).encode()


@contextmanager
def run_gateway(folder: Path, **settings: str) -> Iterator[Server]:
    """Run a gateway with files in `folder`, an embedded classical engine and no downloads.

    Its face finder is YuNet if GPEN_GATEWAY_SHARED names a folder with its weights, else haar.
    """
    weights = Path(os.environ.get("GPEN_GATEWAY_SHARED", "/none")) / "models"
    for file in weights.glob("face_detection_yunet_*.onnx"):
        shutil.copy(file, folder)
    finder = "yunet" if any(folder.glob("face_detection_yunet_*.onnx")) else "haar"
    defaults = {
        "GATEWAY_FACE_FINDER": finder,
        "GATEWAY_CACHE_DIR": str(folder / "kept"),
        "GATEWAY_DRAIN_S": "0",
    }
    with _run_server("serve", folder, defaults | settings, "/readyz") as server:
        yield server


@contextmanager
def run_backend(folder: Path, **settings: str) -> Iterator[Server]:
    """Run a standalone backend with the classical engine and no downloads."""
    with _run_server("backend", folder, settings, "/v2/health/ready") as server:
        yield server


@contextmanager
def run_both(folder: Path, **settings: str) -> Iterator[list[Server]]:
    """Run a gateway and its backend in separate processes."""
    with ExitStack() as stack:
        backend = stack.enter_context(run_backend(folder, **settings))
        gateway = stack.enter_context(run_gateway(folder, **{**settings, "GATEWAY_BACKEND_URL": backend.url}))
        yield [gateway, backend]


@contextmanager
def _run_server(verb: str, folder: Path, settings: dict[str, str], ready: str) -> Iterator[Server]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "GPEN_"))},
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_BACKEND_FETCH": "off",
        "GPEN_MODELS_DIR": str(folder),
        **settings,
    }
    command = [sys.executable, "-m", "gateway", verb, "--port", "0"]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = wait_until_listening(process)
            while httpx.get(url + ready).status_code != 200:
                time.sleep(0.01)
            yield Server(url, psutil.Process(process.pid), time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(60)
