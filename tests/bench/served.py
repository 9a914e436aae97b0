"""Gateways and backends in processes of their own, for benches to ask and to weigh."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil


@dataclass(frozen=True)
class Server:
    """A server that is ready. ready_s: seconds from its start until /readyz said so."""

    url: str
    process: psutil.Process
    ready_s: float

    def cpu_s(self) -> float:
        """Seconds of all processors that it has used."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    def peak_mb(self) -> float:
        """The most memory that it has had resident, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


_numbers = itertools.count()


def fresh(picture: bytes) -> bytes:
    """The same JPEG in bytes that no cache has seen: decoders stop at its end."""
    return picture + str(next(_numbers)).encode()


@contextmanager
def gateway(folder: Path, **settings: str) -> Iterator[Server]:
    """A gateway that keeps its files in `folder`, with the classical engine inside and no downloads.

    Finds faces by YuNet where GPEN_GATEWAY_SHARED names a folder with its weights, else by haar.
    """
    weights = Path(os.environ.get("GPEN_GATEWAY_SHARED", "/none")) / "models"
    for file in weights.glob("face_detection_yunet_*.onnx"):
        shutil.copy(file, folder)
    finder = "yunet" if any(folder.glob("face_detection_yunet_*.onnx")) else "haar"
    told = {"GATEWAY_FACE_FINDER": finder, "GATEWAY_CACHE_DIR": str(folder / "kept"), "GATEWAY_DRAIN_S": "0"}
    with _served("serve", folder, told | settings, "/readyz") as server:
        yield server


@contextmanager
def backend(folder: Path, **settings: str) -> Iterator[Server]:
    """A backend alone, with the classical engine and no downloads."""
    with _served("backend", folder, settings, "/v2/health/ready") as server:
        yield server


@contextmanager
def both(folder: Path, **settings: str) -> Iterator[list[Server]]:
    """A gateway and the backend behind it, each a process."""
    with ExitStack() as stack:
        behind = stack.enter_context(backend(folder, **settings))
        ahead = stack.enter_context(gateway(folder, **{**settings, "GATEWAY_BACKEND_URL": behind.url}))
        yield [ahead, behind]


@contextmanager
def _served(verb: str, folder: Path, settings: dict[str, str], ready: str) -> Iterator[Server]:
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
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if listening := re.search(r"running on (http://\S+)", line):
                break
        else:
            sys.exit("the server did not start:\n" + "".join(lines))
        # What nobody reads would stop it.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            while httpx.get(listening[1] + ready).status_code != 200:
                time.sleep(0.01)
            yield Server(listening[1], psutil.Process(process.pid), time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(60)
