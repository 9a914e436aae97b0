"""/metrics, parsed as Prometheus does."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.service.metrics import Metrics, Names
from gateway.settings import CacheSettings, LimitSettings, Settings, UpstreamSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def picture(astronaut) -> bytes:
    return encode(astronaut, "png", 95)


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    """Return every sample of /metrics by its name and labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    found = [sample for family in families for sample in family.samples]
    values = {f"{one.name}{json.dumps(dict(sorted(one.labels.items())))}": one.value for one in found}
    # Prometheus drops a scrape with duplicate series.
    assert len(values) == len(found)
    return values


def sample(values: dict[str, float], name: str, **labels: str) -> float:
    return values[f"{name}{json.dumps(dict(sorted(labels.items())))}"]


async def test_counts_pictures_stages_faces_bytes_and_cache_reads(serving, echo_backend, picture, tmp_path):
    settings = Settings(cache=CacheSettings(cache="on", cache_dir=tmp_path))
    backend = echo_backend(parameters={"network_ms": 120.0, "batch_size": 2})
    async with serving(backend, settings=settings) as client:
        for _ in range(2):
            answer = await client.post("/v1/enhance", content=picture, headers={"Content-Type": "image/png"})
            assert answer.status_code == 200
        values = await samples(client)
    assert sample(values, "gateway_requests_total", route="/v1/enhance", status="200") == 2
    assert sample(values, "gateway_request_seconds_count", route="/v1/enhance") == 2
    assert sample(values, "gateway_body_bytes_sum", direction="in") == 2 * len(picture)
    made = {"output": "portrait", "engine": "echo", "model": "gpen-bfr-512"}
    assert sample(values, "gateway_pictures_total", **made) == 1
    assert sample(values, "gateway_stage_seconds_sum", stage="gpen_network") == pytest.approx(0.12)
    assert sample(values, "gateway_stage_seconds_count", stage="decode") == 1
    assert sample(values, "gateway_faces_sum", outcome="restored") == 1
    # The first request read the result and its portrait, the second found the result.
    assert sample(values, "gateway_cache_reads_total", tier="memory", outcome="miss") == 2
    assert sample(values, "gateway_cache_reads_total", tier="memory", outcome="hit") == 1
    assert sample(values, "gateway_cache_reads_total", tier="disk", outcome="miss") == 2
    assert sample(values, "gateway_backend_attempts_total", outcome="ok") == 1
    assert sample(values, "gateway_model_ready", model="gpen-bfr-512", engine="echo") == 1
    assert sample(values, "gateway_face_finder_info", finder="fixed") == 1
    assert sample(values, "gateway_tickets") == 0


async def test_unknown_paths_and_methods_do_not_become_labels(serving, echo_backend):
    async with serving(echo_backend()) as client:
        for path in ("/a", "/b/../c", "/v1/enhance/x"):
            await client.get(path)
        await client.request("BREW", "/v1/enhance")
        values = await samples(client)
    routes = {name for name in values if name.startswith("gateway_requests_total")}
    assert sample(values, "gateway_requests_total", route="other", status="404") == 3
    assert len(routes) == 2


async def test_gauges_show_a_full_queue(serving, echo_backend, fixed_finder, picture):
    answering = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await answering.wait()
        return httpx.Response(400, json={"error": "enough"})

    settings = Settings(limits=LimitSettings(workers=1, queue=1), cache=CacheSettings(cache="off"))
    async with serving(echo_backend(answer=slow), settings=settings) as client:
        headers = {"Content-Type": "image/png"}
        posts = [
            asyncio.create_task(client.post("/v1/enhance", content=picture + end, headers=headers))
            for end in (b"1", b"2")
        ]
        async with asyncio.timeout(20):
            while sample(values := await samples(client), "gateway_queue_depth") < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sample(values, "gateway_workers_busy") == sample(values, "gateway_workers") == 1
        assert sample(values, "gateway_tickets") == sample(values, "gateway_tickets_limit") == 2
        assert (await client.post("/v1/enhance", content=picture, headers=headers)).status_code == 429
        answering.set()
        await asyncio.gather(*posts)
        values = await samples(client)
    assert sample(values, "gateway_requests_total", route="/v1/enhance", status="429") == 1
    for name in ("gateway_queue_depth", "gateway_workers_busy", "gateway_tickets"):
        assert sample(values, name) == 0


async def test_an_unavailable_backend_shows_in_attempts_retries_and_the_breaker(
    serving, echo_backend, picture
):
    async def away(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json={"error": "away"})

    upstream = UpstreamSettings(backend_attempts=2, breaker_failures=2)
    settings = Settings(upstream=upstream, cache=CacheSettings(cache="off"))
    async with serving(echo_backend(answer=away), settings=settings) as client:
        for _ in range(2):
            answer = await client.post("/v1/enhance", content=picture, headers={"Content-Type": "image/png"})
            assert answer.status_code == 503
        values = await samples(client)
    assert sample(values, "gateway_backend_attempts_total", outcome="away") == 2
    assert sample(values, "gateway_backend_attempts_total", outcome="refused") >= 1
    assert sample(values, "gateway_backend_retries_total") == 1
    assert sample(values, "gateway_breaker_state", state="open") == 1
    assert sample(values, "gateway_breaker_state", state="closed") == 0


async def test_includes_the_metrics_of_an_embedded_backend(serving, picture):
    async with serving(settings=Settings(cache=CacheSettings(cache="off"))) as client:
        answer = await client.post("/v1/enhance", content=picture, headers={"Content-Type": "image/png"})
        assert answer.status_code == 200
        values = await samples(client)
    restored = {"model": "gpen-bfr-512", "engine": "classical"}
    assert sample(values, "gpen_backend_restorations_total", **restored) == 1
    assert sample(values, "gateway_info", version=create_app().version) == 1


async def test_gateways_in_one_process_count_separately(serving, echo_backend):
    async with serving(echo_backend()) as one, serving(echo_backend()) as other:
        await one.get("/healthz")
        assert sample(await samples(one), "gateway_requests_total", route="/healthz", status="200") == 1
        assert not [name for name in await samples(other) if name.startswith("gateway_requests_total")]


def test_a_restarted_app_reports_its_gauges_once(serving, echo_backend):
    """Counters continue; the gauges of the earlier start are gone."""
    app = create_app(
        Settings(cache=CacheSettings(cache="off")), transport=httpx.MockTransport(echo_backend())
    )

    async def started() -> dict[str, float]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            return await samples(client)

    asyncio.run(started())
    assert sample(asyncio.run(started()), "gateway_requests_total", route="/metrics", status="200") == 1


def test_label_values_beyond_the_limit_become_other():
    name = Names(most=2)
    assert [name(each) for each in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


def test_metrics_have_separate_registries():
    assert Metrics().text().count(b"gateway_info{") == Metrics().text().count(b"gateway_info{") == 1
