"""The road of a request: one clock, 304 without work, cache hits past a full queue, one place for twins."""

import asyncio
import re
import threading

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.cache import Cache
from gateway.imaging.encoder import encode
from gateway.service.admission import SPARE_UPLOADS
from gateway.settings import CacheSettings, LimitSettings, ServerSettings, Settings

pytestmark = pytest.mark.anyio

JSON = {"Accept": "application/json"}
CACHES = pytest.mark.parametrize("cache", ["on", "off"])


def photo(seed: int, side: int = 160) -> bytes:
    return encode(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8), "jpeg", 90)


def settings(tmp_path, cache: str = "on", **limits: int) -> Settings:
    kept = CacheSettings(cache=cache, cache_dir=tmp_path / "results")
    return Settings(cache=kept, limits=LimitSettings(**limits))


def gateway_of(client: httpx.AsyncClient):
    return client._transport.app.state.gateway


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.005)


def stages_of(answer: httpx.Response) -> dict[str, float]:
    return {
        name: float(took)
        for name, took in re.findall(r"([\w.-]+);dur=([\d.]+)", answer.headers["Server-Timing"])
    }


@CACHES
@pytest.mark.parametrize("output", ["portrait", "photo"])
async def test_the_stages_of_a_miss_add_up_to_its_total(
    serving, echo_backend, fixed_finder, tmp_path, cache, output
):
    async with serving(echo_backend(), fixed_finder(), settings(tmp_path, cache)) as client:
        await client.post("/v1/enhance", content=photo(0))
        answer = await client.post(f"/v1/enhance?output={output}", content=photo(1, 1500))
    stages = stages_of(answer)
    total = stages.pop("total")
    top = {name: took for name, took in stages.items() if not name.startswith("gpen_")}
    assert {"key", "model", "queue", "decode", "find_faces", "link", "backend", "encode"} <= set(top)
    assert sum(top.values()) == pytest.approx(total, rel=0.1)


async def test_the_clock_covers_the_wait_for_a_worker(serving, echo_backend, fixed_finder, tmp_path):
    backend = echo_backend()
    go_on = backend.hold()
    async with serving(backend, fixed_finder(), settings(tmp_path, workers=1, queue=1)) as client:
        first = asyncio.create_task(client.post("/v1/enhance", content=photo(1)))
        await until(lambda: gateway_of(client).admission.busy == 1)
        second = asyncio.create_task(client.post("/v1/enhance", content=photo(2)))
        await until(lambda: gateway_of(client).admission.queued == 1)
        await asyncio.sleep(0.3)
        go_on.set()
        await first
        stages = stages_of(await second)
    assert stages["queue"] >= 290
    assert stages["total"] >= stages["queue"]


async def test_metrics_and_server_timing_report_the_same_clock(serving, echo_backend, fixed_finder, tmp_path):
    async with serving(echo_backend(), fixed_finder(), settings(tmp_path)) as client:
        stages = stages_of(await client.post("/v1/enhance", content=photo(1)))
        text = (await client.get("/metrics")).text
    sums = {
        sample.labels["stage"]: sample.value * 1000
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gateway_stage_seconds_sum"
    }
    assert sums.keys() == stages.keys()
    # The header has one decimal.
    assert sums == pytest.approx(stages, abs=0.06)


async def test_a_hit_is_timed_by_its_own_clock(serving, echo_backend, fixed_finder, tmp_path):
    async with serving(echo_backend(), fixed_finder(), settings(tmp_path)) as client:
        miss = stages_of(await client.post("/v1/enhance", content=photo(1)))
        hit = stages_of(await client.post("/v1/enhance", content=photo(1)))
    assert "backend" in miss
    assert set(hit) == {"key", "model", "cache", "total"}


@CACHES
async def test_the_right_etag_is_answered_304_without_any_work(
    serving, echo_backend, fixed_finder, tmp_path, cache
):
    backend = echo_backend()
    async with serving(backend, fixed_finder(), settings(tmp_path, cache, workers=1, queue=0)) as client:
        etags = {}
        for accept in ("image/*", "application/json"):
            answer = await client.post("/v1/enhance", content=photo(1), headers={"Accept": accept})
            etags[accept] = answer.headers["ETag"]
        done, finder = len(backend.asked), gateway_of(client).finder
        finder.entered.clear()
        go_on = backend.hold()
        busy = asyncio.create_task(client.post("/v1/enhance", content=photo(2)))
        await until(lambda: finder.entered.is_set() and gateway_of(client).admission.busy == 1)
        finder.entered.clear()
        for accept, etag in etags.items():
            headers = {"Accept": accept, "If-None-Match": f'"other", {etag}'}
            known = await client.post("/v1/enhance", content=photo(1), headers=headers)
            assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", etag)
            assert known.headers["Cache-Control"] == "private, no-cache"
            assert known.headers["Vary"] == "Accept"
        assert not finder.entered.is_set()
        assert len(backend.asked) == done
        go_on.set()
        assert (await busy).status_code == 200


async def test_an_asterisk_is_304_only_for_a_result_in_the_cache(
    serving, echo_backend, fixed_finder, tmp_path
):
    any_result = {"If-None-Match": "*"}
    async with serving(echo_backend(), fixed_finder(), settings(tmp_path)) as client:
        first = await client.post("/v1/enhance", content=photo(1), headers=any_result)
        second = await client.post("/v1/enhance", content=photo(1), headers=any_result)
        no_picture = await client.post("/v1/enhance", content=b"no picture", headers=any_result)
    assert (first.status_code, second.status_code, no_picture.status_code) == (200, 304, 415)
    assert second.headers["ETag"] == first.headers["ETag"]


async def test_a_cached_result_is_answered_while_every_worker_is_busy_and_the_queue_is_full(
    serving, echo_backend, fixed_finder, tmp_path
):
    backend = echo_backend()
    async with serving(backend, fixed_finder(), settings(tmp_path, workers=1, queue=1)) as client:
        miss = await client.post("/v1/enhance", content=photo(0))
        portrait = await client.post("/v1/preprocess", content=photo(0))
        go_on = backend.hold()
        others = [asyncio.create_task(client.post("/v1/enhance", content=photo(n))) for n in (1, 2)]
        await until(lambda: gateway_of(client).admission.taken == 2)
        hit = await client.post("/v1/enhance", content=photo(0))
        same_portrait = await client.post("/v1/preprocess", content=photo(0))
        refused = await client.post("/v1/enhance", content=photo(3))
        assert (hit.status_code, hit.headers["X-Cache"], hit.content) == (200, "hit", miss.content)
        assert same_portrait.headers["X-Cache"] == "hit"
        assert same_portrait.content == portrait.content
        assert (refused.status_code, refused.json()["type"]) == (429, "queue-full")
        go_on.set()
        assert [(await other).status_code for other in others] == [200, 200]


@pytest.mark.parametrize("path", ["/v1/enhance", "/v1/preprocess"])
async def test_uploads_without_a_place_are_bounded_while_a_look_up_hangs(
    serving, echo_backend, fixed_finder, tmp_path, path, monkeypatch
):
    go_on = asyncio.Event()
    asked = settings(tmp_path, workers=1, queue=1)
    async with serving(echo_backend(), fixed_finder(), asked) as client:
        gateway = gateway_of(client)

        async def hang(cache: Cache, key: str) -> None:
            await go_on.wait()

        monkeypatch.setattr(Cache, "get", hang)
        limit = gateway.admission.limit + SPARE_UPLOADS
        requests = [asyncio.create_task(client.post(path, content=photo(n, 32))) for n in range(limit + 10)]
        await until(lambda: sum(request.done() for request in requests) == 10)
        assert gateway.admission.uploads == limit
        go_on.set()
        answers = [await request for request in requests]
    assert sorted({answer.status_code for answer in answers}) == [200, 429]


async def test_a_result_of_another_engine_than_the_listed_one_is_not_stored(
    serving, echo_backend, fixed_finder, tmp_path
):
    backend = echo_backend()
    async with serving(backend, fixed_finder(), settings(tmp_path)) as client:
        first = await client.post("/v1/enhance", content=photo(1))
        engine = first.headers["X-GPEN-Engine"]
        backend.engine = "another"
        other = await client.post("/v1/enhance", content=photo(2))
        backend.engine = engine
        again = await client.post("/v1/enhance", content=photo(2))
        hit = await client.post("/v1/enhance", content=photo(2))
    assert (other.headers["X-GPEN-Engine"], other.headers["X-Cache"]) == ("another", "miss")
    assert (again.headers["X-GPEN-Engine"], again.headers["X-Cache"]) == (engine, "miss")
    assert hit.headers["X-Cache"] == "hit"


async def test_a_cached_result_is_answered_in_json_while_every_pixel_thread_is_busy(
    serving, echo_backend, fixed_finder, tmp_path
):
    go_on, finder = threading.Event(), fixed_finder()
    one_thread = settings(tmp_path).model_copy(update={"server": ServerSettings(threads=1)})
    async with serving(echo_backend(), finder, one_thread) as client:
        miss = await client.post("/v1/enhance", content=photo(0), headers=JSON)
        finder.may_go_on = go_on
        finder.entered.clear()
        busy = asyncio.create_task(client.post("/v1/enhance", content=photo(1)))
        await until(finder.entered.is_set)
        hit = await client.post("/v1/enhance", content=photo(0), headers=JSON)
        portrait = await client.post("/v1/preprocess", content=photo(0))
        go_on.set()
        await busy
    assert (hit.status_code, hit.headers["X-Cache"]) == (200, "hit")
    assert (portrait.status_code, portrait.headers["X-Cache"]) == (200, "hit")
    assert hit.json()["image_base64"] == miss.json()["image_base64"]


@CACHES
async def test_identical_requests_in_flight_hold_one_place_together(
    serving, echo_backend, fixed_finder, tmp_path, cache
):
    backend = echo_backend()
    go_on = backend.hold()
    async with serving(backend, fixed_finder(), settings(tmp_path, cache, workers=1, queue=1)) as client:
        twins = [asyncio.create_task(client.post("/v1/enhance", content=photo(1))) for _ in range(15)]
        flights = gateway_of(client).enhancer.in_flight._flights
        await until(lambda: sum(flight.waiting for flight in flights.values()) == 15)
        assert gateway_of(client).admission.taken == 1
        assert len(gateway_of(client).pictures._by_digest) == 1, "they share their bytes"
        other = asyncio.create_task(client.post("/v1/enhance", content=photo(2)))
        await until(lambda: gateway_of(client).admission.taken == 2)
        go_on.set()
        answers = [await twin for twin in twins]
        assert (await other).status_code == 200
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(backend.asked) == 2
    assert sum("join" in stages_of(answer) for answer in answers) == 14


async def test_identical_portraits_in_flight_are_standardised_once(
    serving, echo_backend, fixed_finder, tmp_path
):
    finder = fixed_finder()
    async with serving(echo_backend(), finder, settings(tmp_path, "off")) as client:
        posts = (client.post("/v1/preprocess", content=photo(1, 1500)) for _ in range(5))
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {200}
    assert finder.looked == 1
