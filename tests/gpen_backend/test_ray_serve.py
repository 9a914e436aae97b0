"""The backend on Ray Serve, on a Ray of its own: the wire, a replica that is killed, a queue that is full."""

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import BackendBusy
from gpen_client.resilience import Resilience
from gpen_client.types import RestoreParams

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.filterwarnings("ignore")]

MODEL = "gpen-bfr-512"
FACE = np.float32([[[202, 243], [309, 242], [256, 304], [212, 367], [301, 366]]])


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two replicas behind Ray's proxy."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray import serve

    from gpen_backend.ray_serve import Scale, build

    settings = {
        "RAY_AUTH_MODE": "disabled",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_BACKEND_MAX_QUEUE": "4",
        "GPEN_MODELS_DIR": str(tmp_path_factory.mktemp("models")),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
            serve.run(build(Scale(min_replicas=2, max_replicas=2, num_cpus=0.5)), route_prefix="/")
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (512, 512, 3), np.uint8)


def replicas() -> set[int]:
    """The processes of the backend's replicas."""
    psutil = pytest.importorskip("psutil")
    named = (process for process in psutil.process_iter(["name", "cmdline"]))
    return {
        one.pid for one in named if "ServeReplica:default:gpen-backend" in " ".join(one.info["cmdline"] or ())
    }


async def test_it_speaks_the_protocol_and_answers_each_with_its_own_picture(url):
    async with GpenClient(url) as client:
        assert await client.ready()
        assert (await client.model(MODEL)).engine == "classical"
        params = RestoreParams(strength=0)
        answers = await asyncio.gather(
            *(client.restore(picture(n), None, params, model=MODEL, timeout_s=60) for n in range(4))
        )
    for number, answer in enumerate(answers):
        assert np.array_equal(answer.pixels, picture(number))


async def test_a_replica_that_is_killed_under_load_costs_no_answer(url):
    before = replicas()
    assert len(before) == 2
    done: list[int] = []

    async def caller(client: GpenClient, first: int) -> None:
        for number in range(first, first + 12):
            # A queue of four is full now and then, and a caller of a gateway would be told 429.
            while True:
                try:
                    params = RestoreParams(strength=70)
                    answer = await client.restore(picture(number), FACE, params, model=MODEL, timeout_s=60)
                except BackendBusy:
                    await asyncio.sleep(0.1)
                else:
                    break
            assert answer.faces == 1
            done.append(number)

    async with GpenClient(url, resilience=Resilience(attempts=6, retry_reserve=50)) as client:
        async with asyncio.TaskGroup() as group:
            for first in range(0, 72, 12):
                group.create_task(caller(client, first))
            while len(done) < 12:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            os.kill(min(before), signal.SIGKILL)
        assert sorted(done) == list(range(72))
        async with asyncio.timeout(90):
            while len(replicas() - {min(before)}) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.5)


async def test_a_full_queue_is_429_all_the_way(url):
    ended: Counter[str] = Counter()

    async def one(client: GpenClient, number: int) -> None:
        try:
            await client.restore(
                picture(number), np.repeat(FACE, 8, 0), RestoreParams(), model=MODEL, timeout_s=60
            )
            ended["ok"] += 1
        except BackendBusy as error:
            ended["busy" if error.retry_after else "busy without a time"] += 1

    async with GpenClient(url, resilience=Resilience(attempts=1)) as client:
        await asyncio.gather(*(one(client, number) for number in range(30)))
    assert ended["ok"] >= 4
    assert ended["busy"] >= 1
    assert set(ended) == {"ok", "busy"}
