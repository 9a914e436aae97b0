"""Cached results: the same request gets the same bytes, and never another request's."""

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.cache import Cache, CacheEntry, cache_key, key
from gateway.faces import Pose
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.enhancer import Enhancer
from gateway.pipeline.picture_bytes import Pictures
from gateway.pipeline.picture_request import PictureRequest
from gateway.settings import CacheSettings, Settings
from gateway.standardise import standardise
from gateway.standardise.portrait_bytes import from_stored, to_bytes, to_head
from gateway.timings import Timings
from gpen_common.types import ModelInfo

pytestmark = pytest.mark.anyio

LIMITS = PixelLimits(max_pixels=10_000_000, max_side=5000)
MODEL = ModelInfo("gpen-bfr-512", True, "torch", 512)


@pytest.fixture
def photo() -> bytes:
    return encode(np.random.default_rng(5).integers(0, 256, (200, 160, 3), np.uint8), "jpeg", 90)


@pytest.fixture
def cached(tmp_path):
    """Settings of a gateway with a cache folder."""
    return Settings(cache=CacheSettings(cache="on", cache_dir=tmp_path / "results"))


def good(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_repeated_request_is_answered_from_the_cache(
    serving, echo_backend, fixed_finder, cached, photo
):
    backend = echo_backend()
    async with serving(backend, fixed_finder(), cached) as client:
        miss = good(await client.post("/v1/enhance", content=photo))
        hit = good(await client.post("/v1/enhance", files={"image": ("other-name.jpg", photo)}))
        slow = good(
            await client.post("/v1/enhance?timeout_s=9", content=photo, headers={"X-Request-ID": "x"})
        )
    assert [answer.headers["X-Cache"] for answer in (miss, hit, slow)] == ["miss", "hit", "hit"]
    assert miss.content == hit.content == slow.content
    assert len({answer.headers["ETag"] for answer in (miss, hit, slow)}) == 1
    same = ("Content-Type", "X-Faces", "X-GPEN-Engine", "X-GPEN-Model", "Vary", "Cache-Control")
    assert [miss.headers[name] for name in same] == [hit.headers[name] for name in same]
    assert miss.headers["X-Request-ID"] != hit.headers["X-Request-ID"]
    assert len(backend.asked) == 1


async def test_a_cached_report_differs_in_its_timings_only(
    serving, echo_backend, fixed_finder, cached, photo
):
    finder = fixed_finder(pose=Pose(30, 1, 2))
    async with serving(echo_backend(), finder, cached) as client:
        miss, hit = [
            good(await client.post("/v1/enhance", content=photo, headers={"Accept": "application/json"}))
            for _ in range(2)
        ]
    assert (miss.headers["X-Cache"], hit.headers["X-Cache"]) == ("miss", "hit")
    first, second = miss.json(), hit.json()
    assert "backend" in first["report"].pop("timings_ms")
    assert "backend" not in second["report"].pop("timings_ms")
    assert first == second


async def test_cached_results_survive_a_restart(serving, echo_backend, fixed_finder, cached, photo):
    backend = echo_backend()
    async with serving(backend, fixed_finder(), cached) as client:
        miss = good(await client.post("/v1/enhance", content=photo))
    async with serving(backend, fixed_finder(), cached) as client:
        hit = good(await client.post("/v1/enhance", content=photo))
    assert (hit.headers["X-Cache"], hit.content) == ("hit", miss.content)
    assert hit.headers["ETag"] == miss.headers["ETag"]
    assert len(backend.asked) == 1


async def test_etags_differ_for_picture_and_json_and_match_if_none_match(
    serving, echo_backend, fixed_finder, cached, photo
):
    async with serving(echo_backend(), fixed_finder(), cached) as client:

        async def ask(tag: str | None = None, accept: str = "*/*") -> httpx.Response:
            headers = {"Accept": accept} | ({"If-None-Match": tag} if tag else {})
            return await client.post("/v1/enhance", content=photo, headers=headers)

        picture, document = await ask(), await ask(accept="application/json")
        tag, weak = picture.headers["ETag"], document.headers["ETag"]
        assert tag != weak.removeprefix("W/")
        known = await ask(tag)
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["ETag"] == tag
        assert "Content-Length" not in known.headers
        assert "Content-Type" not in known.headers
        assert known.headers["X-Content-Type-Options"] == "nosniff"
        assert (await ask(f'"a", W/{tag}')).status_code == 304
        assert (await ask("*")).status_code == 304, "the cache has a result"
        assert (await ask(weak, "application/json")).status_code == 304
        for other, accept in ((weak, "*/*"), (tag, "application/json"), ('"a"', "*/*")):
            assert (await ask(other, accept)).status_code == 200


ETAG = """
import asyncio, sys
import httpx
from gateway.app import create_app
async def main():
    app = create_app()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
    async with app.router.lifespan_context(app), client:
        answer = await client.post("/v1/enhance?strength=33", content=open(sys.argv[1], "rb").read())
        print(answer.headers["ETag"])
asyncio.run(main())
"""


async def test_etags_are_equal_in_every_process(tmp_path, photo, monkeypatch):
    (tmp_path / "photo.jpg").write_bytes(photo)
    tags = set()
    for seed in ("1", "2"):
        for name, value in {
            "PYTHONHASHSEED": seed,
            "GATEWAY_FACE_FINDER": "haar",
            "GPEN_BACKEND_ENGINE": "classical",
            "GPEN_MODELS_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-c", ETAG, str(tmp_path / "photo.jpg")]
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        tags.add(run.stdout)
    assert len(tags) == 1
    assert tags.pop().startswith('"')


async def test_requests_with_other_gpen_parameters_reuse_the_cached_portrait(
    serving, echo_backend, fixed_finder, cached, photo
):
    finder, backend = fixed_finder(pose=Pose(30, 1, 2)), echo_backend()
    async with serving(backend, finder, cached) as client:
        for query in ("strength=10", "strength=90&mode=strong", "brightness=20&format=png", "faces=best"):
            answer = good(await client.post(f"/v1/enhance?{query}", content=photo))
            assert answer.headers["X-Cache"] == "miss"
        assert finder.looked == 1
        assert len(backend.asked) == 4
        images = [asked.tensor("image") for asked in backend.asked]
        assert all((image == images[0]).all() for image in images)
        portrait = good(await client.post("/v1/preprocess", content=photo))
        assert portrait.headers["X-Cache"] == "hit"
        assert finder.looked == 1
        good(await client.post("/v1/enhance?clahe=off", content=photo))
        assert finder.looked == 2


async def test_a_cache_that_is_off_stores_nothing(
    serving, echo_backend, fixed_finder, tmp_path, photo, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    off = Settings(cache=CacheSettings(cache="off", cache_dir=tmp_path / "results"))
    backend = echo_backend()
    async with serving(backend, fixed_finder(), off) as client:
        first, second = [good(await client.post("/v1/enhance", content=photo)) for _ in range(2)]
        assert {first.headers["X-Cache"], second.headers["X-Cache"]} == {"off"}
        assert first.headers["ETag"] == second.headers["ETag"]
        tag = {"If-None-Match": first.headers["ETag"]}
        assert (await client.post("/v1/enhance", content=photo, headers=tag)).status_code == 304
    assert len(backend.asked) == 2
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "cache").exists()


async def test_failures_are_not_cached(serving, echo_backend, fixed_finder, cached, photo):
    backend = echo_backend()
    works, backend.answer = backend.answer, lambda _: asyncio.sleep(0, httpx.Response(500))
    async with serving(backend, fixed_finder(), cached) as client:
        assert (await client.post("/v1/enhance", content=photo)).status_code == 502
        backend.answer = works
        assert good(await client.post("/v1/enhance", content=photo)).headers["X-Cache"] == "miss"
        for _ in range(2):
            assert (await client.post("/v1/enhance", content=b"no picture")).status_code == 415


def cache_of(client: httpx.AsyncClient) -> Cache:
    return client._transport.app.state.gateway.enhancer._cache


async def test_an_entry_of_another_version_is_a_miss_and_is_replaced(
    serving, echo_backend, fixed_finder, cached, photo
):
    """A format change without a new PIPELINE_VERSION must not fail requests."""
    async with serving(echo_backend(), fixed_finder(), cached) as client:
        first = good(await client.post("/v1/enhance", content=photo))
        cache = cache_of(client)
        await cache.flush()
        folder = cached.cache.cache_dir
        for path in list(folder.glob("??/*")):
            for head in ({}, {"format": "png", "report": {}}, {"shape": [1], "own_format": "png"}):
                await cache.put(path.name, CacheEntry(head, b"old format"))
                await cache.flush()
        again = good(await client.post("/v1/enhance", content=photo))
        assert (again.headers["X-Cache"], again.content) == ("miss", first.content)
        assert good(await client.post("/v1/enhance", content=photo)).headers["X-Cache"] == "hit"


async def test_identical_concurrent_requests_call_the_backend_once(
    serving, echo_backend, fixed_finder, cached, photo
):
    backend = echo_backend()
    go_on = backend.hold()
    async with serving(backend, fixed_finder(), cached) as client:
        callers = [asyncio.create_task(client.post("/v1/enhance", content=photo)) for _ in range(10)]
        gateway = client._transport.app.state.gateway
        flights = gateway.enhancer.in_flight._flights
        while sum(flight.waiting for flight in flights.values()) < 10:  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.01)
        assert gateway.admission.taken == 1
        callers.pop(0).cancel()
        go_on.set()
        answers = await asyncio.gather(*callers)
    assert len({good(answer).content for answer in answers}) == 1
    assert len(backend.asked) == 1


async def test_a_request_continues_after_the_deadline_of_the_one_it_joined(
    serving, echo_backend, fixed_finder, cached, photo
):
    asked, backend = [], echo_backend()

    async def first_hangs(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return await backend.echo(request)

    backend.answer = first_hangs
    async with serving(backend, fixed_finder(), cached) as client:
        # On a loaded machine the first deadlines may expire before the request reaches the backend.
        for timeout_s in (0.5, 2, 8, 32):
            hasty = asyncio.create_task(client.post(f"/v1/enhance?timeout_s={timeout_s}", content=photo))
            while not asked and not hasty.done():  # noqa: ASYNC110 - no event reports it
                await asyncio.sleep(0.01)
            if asked:
                break
        patient = asyncio.create_task(client.post("/v1/enhance?timeout_s=60", content=photo))
        assert (await hasty).status_code == 504
        assert (await patient).status_code == 200
    assert len(asked) == 2


@dataclass
class NamedFinder:
    """A face finder with nothing but a name."""

    name: str = "fixed"


async def key_of(
    data=b"photo", params=None, model=MODEL, finder="fixed", accepted=None, request_id="a", deadline=1e12
) -> str:
    """Return the key of a request."""
    enhancer = Enhancer(None, None, NamedFinder(finder), None, None, Cache([]), None, None)
    picture = await Pictures().add(data)
    asked = PictureRequest(picture, params or EnhanceParams(), request_id, 60, Timings(), accepted)
    asked.model, asked.deadline = model, deadline
    enhancer.compute_key(asked)
    return asked.key


async def test_the_key_depends_on_picture_encoding_finder_model_and_version(monkeypatch):
    keys = [
        await key_of(),
        await key_of(data=b"photO"),
        await key_of(accepted="webp"),
        await key_of(finder="yunet"),
        await key_of(model=replace(MODEL, name="gpen-bfr-256")),
        await key_of(model=replace(MODEL, engine="classical")),
        await key_of(model=replace(MODEL, size=256)),
    ]
    monkeypatch.setattr(key, "PIPELINE_VERSION", key.PIPELINE_VERSION + 1)
    keys.append(await key_of())
    assert len(set(keys)) == len(keys)


async def test_the_key_does_not_depend_on_request_id_or_deadline():
    patient = EnhanceParams(timeout_s=7)
    assert await key_of(request_id="b", deadline=1e13, params=patient) == await key_of()


SCHEMA = EnhanceParams.model_json_schema()["properties"]
PARAMS = st.builds(
    EnhanceParams,
    **{
        name: st.sampled_from(options["enum"])
        for name, options in ((n, s if "enum" in s else s.get("anyOf", [{}])[0]) for n, s in SCHEMA.items())
        if "enum" in options
    },
    strength=st.floats(0, 100) | st.just("auto"),
    denoise=st.floats(0, 100),
    quality=st.integers(1, 100),
    upscale=st.integers(1, 4),
    skin_protect=st.booleans(),
    linkage=st.booleans(),
)


@given(PARAMS, PARAMS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
async def test_keys_are_equal_if_and_only_if_the_parameters_are(one, other):
    assert await key_of(params=one) == await key_of(params=one.model_copy(update={"timeout_s": 5.0}))
    assume(one != other)
    assert await key_of(params=one) != await key_of(params=other)


@pytest.mark.parametrize("name", [name for name in SCHEMA if name != "timeout_s"])
async def test_every_parameter_changes_the_key(name):
    """A parameter outside the key would get the cached result of another value."""
    default = EnhanceParams()
    schema = SCHEMA[name].get("anyOf", [SCHEMA[name]])[0]
    options = schema.get("enum") or (
        [True, False] if schema["type"] == "boolean" else [schema["minimum"], schema["maximum"]]
    )
    other = EnhanceParams(**{name: next(o for o in options if o != getattr(default, name))})
    assert await key_of(params=other) != await key_of()


@pytest.mark.parametrize("name", list(PreprocessParams.model_fields))
async def test_every_preprocess_parameter_changes_the_portrait_key(
    serving, echo_backend, fixed_finder, cached, photo, name
):
    schema = SCHEMA[name].get("anyOf", [SCHEMA[name]])[0]
    only_encodes = {"format", "quality", "timeout_s"}
    default = PreprocessParams.model_fields[name].default
    value = next(
        (o for o in schema.get("enum", []) if o not in (default, "reject")),
        schema.get("enum", [schema.get("maximum")])[-1],
    )
    async with serving(echo_backend(), fixed_finder(), cached) as client:
        good(await client.post("/v1/preprocess", content=photo))
        await cache_of(client).flush()
        other = good(await client.post("/v1/preprocess", params={name: value}, content=photo))
    assert other.headers["X-Cache"] == ("hit" if name in only_encodes else "miss")


@pytest.mark.parametrize("faces", [0, 1, 2])
@pytest.mark.parametrize("pose", [None, Pose(12.3, -4.5, 6.7)])
def test_a_stored_portrait_is_read_back_unchanged(fixed_finder, photo, faces, pose):
    finder = fixed_finder(faces=faces, pose=pose)
    portrait = standardise(decode(photo, LIMITS), PreprocessParams(), finder, Timings())
    again = from_stored(json.loads(json.dumps(to_head(portrait))), to_bytes(portrait))
    assert (again.pixels == portrait.pixels).all()
    assert (again.matrix == portrait.matrix).all()
    assert again.matrix.dtype == portrait.matrix.dtype
    assert len(again.faces) == len(portrait.faces) == faces
    assert (again.face is None) == (portrait.face is None)
    for one, other in zip(again.faces, portrait.faces, strict=True):
        assert one.landmarks5.dtype == other.landmarks5.dtype
        assert (one.landmarks5 == other.landmarks5).all()
        assert (one.bbox, one.score, one.pose) == (other.bbox, other.score, other.pose)
    for name in ("off_centre_px", "short_edge", "warnings"):
        assert getattr(again, name) == getattr(portrait, name)
    for name in ("light_before", "light_after", "light_plan", "quality"):
        assert asdict(getattr(again, name)) == asdict(getattr(portrait, name))
        assert type(getattr(again, name)) is type(getattr(portrait, name))


def test_a_key_is_64_hex_digits_and_ignores_the_order_of_parameters():
    assert cache_key("k", "d", {"a": 1, "b": 2}) == cache_key("k", "d", {"b": 2, "a": 1})
    assert len(cache_key("k", "d", {})) == 64
    assert cache_key("k", "d", {"a": 1}) != cache_key("l", "d", {"a": 1})
