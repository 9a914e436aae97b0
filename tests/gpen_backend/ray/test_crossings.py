"""How often a picture crosses between Ray's processes, counted by their reads and writes."""

import asyncio
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from gpen_client.client import GpenClient
from gpen_common.types import RestoreParams

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PICTURE = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
CALLS = 20
IN = ("read", "readv", "recvfrom", "recvmsg", "pread64")
OUT = ("write", "writev", "sendto", "sendmsg", "pwrite64")


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes of one process, in pictures per call. spliced: moved by the kernel for it."""

    name: str
    read: float
    written: float
    spliced: float


@contextmanager
def trace(processes: list[psutil.Process], folder: Path) -> Iterator[None]:
    """Record the processes' reads and writes in `folder` during the block."""
    calls = f"trace={','.join((*IN, *OUT, 'splice'))}"
    tracers = [
        subprocess.Popen(
            ["strace", "-f", "-qq", "-s0", "-e", calls, "-o", folder / str(one.pid), "-p", str(one.pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in processes
    ]
    time.sleep(2)
    try:
        yield
    finally:
        for tracer in tracers:
            tracer.send_signal(signal.SIGINT)
        errors = [tracer.communicate()[1] for tracer in tracers]
    # Other errors are of processes that have ended.
    if any("not permitted" in text for text in errors):
        pytest.skip(f"strace may not trace here: {errors[-1][:200]}")


def count_moved(process: psutil.Process, folder: Path) -> Moved:
    """Count the bytes that a process moved."""
    bytes_of: Counter[str] = Counter()
    for line in (folder / str(process.pid)).read_text().splitlines():
        if call := re.search(r"^\d+ +(?:<\.\.\. )?(\w+)(?: resumed>|\().* = (\d+)$", line):
            bytes_of[call[1]] += int(call[2])
    whole = CALLS * PICTURE.nbytes
    read, written = (sum(bytes_of[name] for name in names) / whole for names in (IN, OUT))
    return Moved(" ".join(process.cmdline()), read, written, bytes_of["splice"] / whole)


async def test_a_picture_crosses_once_to_the_replica_and_its_answer_once_back(two_replicas, tmp_path):
    """HAProxy lets the kernel move it; Ray's own proxy uses shared memory."""
    cluster = two_replicas

    async def restore(times: int) -> None:
        async with GpenClient(cluster.url) as client:
            for _ in range(times):
                answer = await client.restore(
                    PICTURE, None, RestoreParams(strength=0), model="gpen-bfr-512", timeout_s=60
                )
                assert np.array_equal(answer.pixels, PICTURE)

    await restore(4)
    # HAProxy restarts when a replica starts, and the store's number is up to a second old.
    await asyncio.sleep(3)
    processes = cluster.processes()
    stored = cluster.stored_bytes()
    with trace(processes, tmp_path):
        await restore(CALLS)
        await asyncio.sleep(2)
    stored = (cluster.stored_bytes() - stored) / (CALLS * PICTURE.nbytes)
    each = [count_moved(one, tmp_path) for one in processes if one.is_running()]
    replicas = [one for one in each if "ServeReplica" in one.name]
    (proxy,) = (
        one for one in each if re.search("bin/haproxy" if cluster.haproxy else "ProxyActor", one.name)
    )
    others = [one for one in each if one not in (*replicas, proxy)]
    assert all(max(one.read, one.written, one.spliced) < 0.05 for one in others)
    read, written = (sum(getattr(one, way) for one in replicas) for way in ("read", "written"))
    if cluster.haproxy:
        # Picture and answer each go from a socket into a pipe and out of it, not into HAProxy's memory.
        assert proxy.spliced == pytest.approx(4, abs=0.2)
        assert (proxy.read, proxy.written) == pytest.approx((0, 0), abs=0.2)
        assert (read, written) == pytest.approx((1, 1), abs=0.1)
        assert stored == 0
    else:
        assert (proxy.read, proxy.written) == pytest.approx((1, 1), abs=0.1)
        assert (read, written) == pytest.approx((0, 0), abs=0.1)
        assert stored == pytest.approx(2, abs=0.1)
