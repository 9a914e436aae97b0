"""Replicas scale with the load and share GPUs."""

import asyncio

import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import BackendBusy
from gpen_client.resilience import Resilience
from gpen_common.types import RestoreParams

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(300)]

MODEL = "gpen-bfr-512"
PICTURE = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
FACES = np.repeat(np.float32([[[202, 243], [309, 242], [256, 304], [212, 367], [301, 366]]]), 8, 0)


async def test_replicas_start_with_load_and_stop_without(cluster):
    """From one to three and back. All requests are answered, some after a 429."""
    await asyncio.to_thread(
        cluster.deploy,
        min_replicas=1,
        max_replicas=3,
        queued_requests=3,
        upscale_delay_s=1,
        downscale_delay_s=1,
    )
    (first,) = cluster.replicas()
    enough = asyncio.Event()
    restored = 0

    async def caller(client: GpenClient) -> None:
        nonlocal restored
        while not enough.is_set():
            try:
                params = RestoreParams(strength=70)
                answer = await client.restore(PICTURE, FACES, params, model=MODEL, timeout_s=60)
            except BackendBusy as error:
                await asyncio.sleep(error.retry_after or 1)
            else:
                assert answer.faces == len(FACES)
                restored += 1

    async with GpenClient(cluster.url, resilience=Resilience(attempts=1)) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller(client))
            await asyncio.to_thread(cluster.until, lambda: len(cluster.replicas()) == 3, 90)
            alone = restored
            while restored < alone + 20:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            enough.set()
        assert first in cluster.replicas()
        await asyncio.to_thread(cluster.until, lambda: len(cluster.replicas()) == 1, 90)
        answer = await client.restore(PICTURE, FACES, RestoreParams(), model=MODEL, timeout_s=60)
    assert answer.faces == len(FACES)


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["haproxy"])
async def test_four_replicas_share_a_gpu_and_others_wait(cluster):
    """Needs no GPU, because Ray does not check whether one exists."""
    await asyncio.to_thread(
        cluster.deploy, min_replicas=6, max_replicas=6, num_cpus=0.1, num_gpus=0.25, running=4
    )
    await asyncio.sleep(3)
    assert len(cluster.all_replicas()) == 6
    assert len(cluster.replicas()) == 4
    async with GpenClient(cluster.url) as client:
        answer = await client.restore(PICTURE, FACES, RestoreParams(), model=MODEL, timeout_s=60)
    assert answer.faces == len(FACES)


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["haproxy"])
async def test_a_replica_without_its_checkpoint_gets_no_requests(cluster):
    """Neither does one that is still loading it: Ray sees both as not started."""
    await asyncio.to_thread(
        cluster.deploy, min_replicas=1, max_replicas=1, running=0, env={"GPEN_BACKEND_ENGINE": "torch"}
    )
    logs = cluster.folder / "session_latest" / "logs"
    await asyncio.to_thread(
        cluster.until,
        lambda: any("the replica is not ready" in log.read_text() for log in logs.glob("worker-*.err")),
        30,
    )
    await asyncio.sleep(2)
    assert [one["state"] for one in cluster.all_replicas()] == ["STARTING"]
