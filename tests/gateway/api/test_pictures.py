"""The HTTP API, in this process and over a socket to a gateway process."""

import asyncio
import base64
import io
import re
import threading
from typing import TypeVar

import httpx
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from gateway import __version__
from gateway.faces import Pose
from gateway.faces.haar import HaarFinder
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.params import EnhanceParams, PreprocessParams
from gateway.schemas.answers import EnhanceAnswer, PreprocessAnswer
from gateway.schemas.reports import ClaheReport
from gateway.schemas.schema import Schema
from gateway.settings import Settings, UpstreamSettings

pytestmark = pytest.mark.anyio

LIMITS = PixelLimits(max_pixels=10_000_000, max_side=5000)
AS_JSON = {"Accept": "application/json"}
Answer = TypeVar("Answer", bound=Schema)


@pytest.fixture(params=["in process", "over a socket"])
async def client(request, serving):
    """A gateway with the embedded backend, its classical engine and the haar finder."""
    if request.param == "in process":
        async with serving(finder=HaarFinder()) as in_process:
            yield in_process
    else:
        url = request.getfixturevalue("gateway_url")
        async with httpx.AsyncClient(base_url=url, timeout=60) as over_socket:
            yield over_socket


@pytest.fixture
async def quick(serving, echo_backend, fixed_finder):
    """A gateway with an echo backend and a fixed face finder."""
    async with serving(echo_backend(), fixed_finder()) as in_process:
        yield in_process


def good(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 200, answer.text
    return answer


def read_strictly(schema: type[Answer], answer: httpx.Response) -> Answer:
    """Return the JSON of `answer`, which must have the keys of `schema` at every level, and no others."""
    document = good(answer).json()
    read = schema.model_validate(document)
    assert read.model_dump(mode="json") == document
    return read


def picture(answer: httpx.Response) -> np.ndarray:
    return decode(good(answer).content, LIMITS).pixels


async def post_in_each_format(
    client: httpx.AsyncClient, path: str, photo: bytes, fields: dict
) -> list[httpx.Response]:
    """Post one request as a form, as raw bytes and as JSON."""
    encoded = base64.b64encode(photo).decode()
    return [
        await client.post(path, files={"image": ("me.jpg", photo)}, data=fields),
        await client.post(path, params=fields, content=photo, headers={"Content-Type": "image/jpeg"}),
        await client.post(path, json={"image": encoded, **fields}),
    ]


async def test_form_raw_bytes_and_json_give_the_same_picture(client, portrait_jpeg):
    fields = {"strength": "40", "clahe": "off", "format": "png", "sharpen": "20", "skin_protect": "false"}
    answers = await post_in_each_format(client, "/v1/enhance", portrait_jpeg, fields)
    assert {good(answer).headers["Content-Type"] for answer in answers} == {"image/png"}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert picture(answers[0]).shape == (896, 896, 3)


async def test_only_equal_requests_get_the_same_bytes_and_etag(client, portrait_jpeg):
    answers = [
        good(await client.post("/v1/enhance", params={"brightness": brightness}, content=portrait_jpeg))
        for brightness in (0, 0, 80)
    ]
    one, again, other = ((answer.content, answer.headers["ETag"]) for answer in answers)
    assert one == again
    assert one[0] != other[0]
    assert one[1] != other[1]


async def test_headers_report_engine_model_faces_cache_and_timings(client, portrait_jpeg):
    headers = good(
        await client.post("/v1/enhance", content=portrait_jpeg, headers={"X-Request-ID": "a-1"})
    ).headers
    assert headers["X-Request-ID"] == "a-1"
    assert headers["X-GPEN-Engine"] == "classical"
    assert headers["X-GPEN-Model"] == "gpen-bfr-512"
    assert headers["X-Faces"] == "1"
    assert headers["X-Cache"]
    assert re.fullmatch('"[0-9a-f]{16,}"', headers["ETag"])
    assert "Accept" in headers["Vary"]
    stages = dict(
        re.fullmatch(r"([\w.-]+);dur=([0-9.]+)", part).groups()
        for part in headers["Server-Timing"].split(", ")
    )
    assert {"decode", "find_faces", "backend", "encode", "total"} <= set(stages)


async def test_json_contains_picture_and_report(client, portrait_jpeg):
    fields = {"brightness": "30", "clahe": "always", "format": "webp"}
    answer = good(await client.post("/v1/enhance", params=fields, content=portrait_jpeg, headers=AS_JSON))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["ETag"].startswith('W/"'), "two responses with one picture differ in their timings"
    document = read_strictly(EnhanceAnswer, answer)
    assert document.media_type == "image/webp"
    decoded = decode(base64.b64decode(document.image_base64), LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == ("WEBP", 896, 896)
    report = document.report
    assert (report.finder, report.engine, report.model) == ("haar", "classical", "gpen-bfr-512")
    assert report.faces == [report.face]
    assert len(report.face.landmarks5) == 5
    assert np.shape(report.portrait.matrix) == (2, 3)
    assert report.portrait.size == (896, 896)
    assert report.light.clahe == ClaheReport(weight=1.0, clip_limit=2.0)
    (rule,) = (rule for rule in report.linkage if (rule.rule, rule.parameter) == ("clahe", "brightness"))
    assert (rule.asked, rule.effective) == (30, 15)
    assert any(warning.startswith("engine:") for warning in report.warnings)
    assert min(report.timings_ms.values()) >= 0


async def test_reports_the_pose_that_the_finder_estimates(serving, echo_backend, fixed_finder, portrait_jpeg):
    async with serving(echo_backend(), fixed_finder(pose=Pose(12.34, -5, 3))) as client:
        answer = good(await client.post("/v1/enhance", content=portrait_jpeg, headers=AS_JSON))
    assert answer.json()["report"]["face"]["pose"] == {"yaw": 12.3, "pitch": -5.0, "roll": 3.0}


async def test_sends_strength_zero_and_no_landmarks_without_a_face(
    serving, echo_backend, fixed_finder, portrait_jpeg
):
    backend = echo_backend()
    async with serving(backend, fixed_finder(faces=0)) as client:
        answer = good(await client.post("/v1/enhance", content=portrait_jpeg, headers=AS_JSON))
    report = answer.json()["report"]
    assert (report["face"], report["faces"]) == (None, [])
    assert answer.headers["X-Faces"] == "0"
    assert backend.asked[0].parameters["strength"] == 0
    assert backend.asked[0].tensor("landmarks") is None
    assert any(warning.startswith("no_face:") for warning in report["warnings"])


async def test_sends_the_portrait_its_landmarks_and_linked_parameters_to_the_backend(
    serving, echo_backend, fixed_finder, portrait_jpeg
):
    backend = echo_backend()
    async with serving(backend, fixed_finder()) as client:
        fields = {"strength": "55", "contrast": "50", "clahe": "always", "mode": "detail"}
        good(
            await client.post(
                "/v1/enhance", params=fields, content=portrait_jpeg, headers={"X-Request-ID": "r-7"}
            )
        )
    asked = backend.asked[0]
    assert asked.tensor("image").shape == (1, 896, 896, 3)
    assert asked.tensor("landmarks").shape == (1, 5, 2)
    parameters = asked.parameters
    assert (parameters["strength"], parameters["contrast"], parameters["mode"]) == (55, 20, "detail")
    assert (parameters["auto_align"], parameters["inference_size"]) == (False, 512)
    assert 0 < parameters["timeout_ms"] <= 120_000
    assert asked.id == backend.request_ids[0] == "r-7"


def other_value(schema: dict) -> object:
    """A value that is not the default."""
    schema = schema.get("anyOf", [schema])[0] | {"default": schema.get("default")}
    if "enum" in schema or "const" in schema:
        options = schema.get("enum", [schema.get("const")])
        return next((option for option in reversed(options) if option != schema["default"]), options[0])
    if schema["type"] == "boolean":
        return not schema["default"]
    return schema["maximum"] if schema["maximum"] != schema["default"] else schema["minimum"]


ENHANCE = EnhanceParams.model_json_schema()["properties"]
EVERYTHING = {name: other_value(schema) for name, schema in ENHANCE.items()}
# Other values need checkpoints that this backend lacks.
EVERYTHING |= {"task": "restore", "model": "gpen-bfr-512"}


async def test_accepts_every_parameter_in_every_format(quick, portrait_jpeg):
    as_text = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in EVERYTHING.items()
    }
    answers = await post_in_each_format(quick, "/v1/enhance", portrait_jpeg, as_text)
    encoded = base64.b64encode(portrait_jpeg).decode()
    answers.append(await quick.post("/v1/enhance", json={"image": encoded, **EVERYTHING}))
    assert len({good(answer).content for answer in answers}) == 1


@pytest.mark.parametrize("name", ENHANCE)
async def test_rejects_an_invalid_value_and_names_its_parameter(quick, portrait_jpeg, name):
    schema = ENHANCE[name].get("anyOf", [ENHANCE[name]])[0]
    for wrong in ("nonsense", "", "-1", "nan", "inf", str(schema.get("maximum", 1e9) + 1)):
        answer = await quick.post("/v1/enhance", params={name: wrong}, content=portrait_jpeg)
        assert answer.status_code == 422, (wrong, answer.text)
        assert [error["parameter"] for error in answer.json()["errors"]] == [name]


@pytest.mark.parametrize("path", ["/v1/enhance", "/v1/preprocess", "/preprocess"])
async def test_names_an_unknown_parameter_in_every_format(quick, portrait_jpeg, path):
    for answer in await post_in_each_format(quick, path, portrait_jpeg, {"stregth": "40"}):
        assert answer.status_code == 422
        assert [error["parameter"] for error in answer.json()["errors"]] == ["stregth"]


async def test_the_body_overrides_the_query(quick, portrait_jpeg):
    answer = await quick.post(
        "/v1/enhance?format=png&quality=1", files={"image": ("a", portrait_jpeg)}, data={"format": "webp"}
    )
    assert good(answer).headers["Content-Type"] == "image/webp"


FORMAT_CASES = [
    ({"format": "webp"}, "image/png", "JPEG", "image/webp"),
    ({}, "image/png", "JPEG", "image/png"),
    ({}, "image/avif,image/webp,*/*;q=0.8", "PNG", "image/webp"),
    ({}, "*/*", "JPEG", "image/jpeg"),
    ({}, None, "WEBP", "image/webp"),
    ({}, None, "PNG", "image/png"),
    ({}, None, "MPO", "image/jpeg"),
    ({}, None, "TIFF", "image/png"),
    ({}, None, "GIF", "image/png"),
    ({}, "text/html", "BMP", "image/png"),
]


@pytest.mark.parametrize("path", ["/v1/enhance", "/v1/preprocess"])
@pytest.mark.parametrize(("fields", "accept", "own", "expected"), FORMAT_CASES)
async def test_format_is_the_parameter_then_the_accept_header_then_the_inputs(
    quick, path, fields, accept, own, expected
):
    file = io.BytesIO()
    image = Image.new("RGB", (32, 32), "teal")
    image.save(file, own, **({"save_all": True, "append_images": [image]} if own == "MPO" else {}))
    headers = {"Accept": accept} if accept else {"Accept": ""}
    answer = good(await quick.post(path, params=fields, content=file.getvalue(), headers=headers))
    assert answer.headers["Content-Type"] == expected
    assert f"image/{decode(answer.content, LIMITS).format.lower()}" == expected


async def test_preprocess_returns_the_portrait_without_gpen(client, portrait_jpeg):
    fields = {"format": "png"}
    answer = good(await client.post("/v1/preprocess", params=fields, content=portrait_jpeg))
    assert picture(answer).shape == (896, 896, 3)
    assert (answer.headers["X-Faces"], answer.headers["Content-Type"]) == ("1", "image/png")
    assert "total;dur=" in answer.headers["Server-Timing"]
    same = await client.post("/v1/preprocess", params=fields, content=portrait_jpeg, headers=AS_JSON)
    document = read_strictly(PreprocessAnswer, same)
    assert base64.b64decode(document.image_base64) == answer.content
    assert document.report.face.score > 0


async def test_preprocess_rejects_parameters_of_gpen(quick, portrait_jpeg):
    answer = await quick.post("/v1/preprocess?strength=50", content=portrait_jpeg)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "strength"


async def test_the_articles_route_returns_a_png_in_base64(client, portrait_jpeg):
    answer = good(await client.post("/preprocess", files={"image": ("me.jpg", portrait_jpeg)}))
    assert list(answer.json()) == ["image_base64"]
    portrait = decode(base64.b64decode(answer.json()["image_base64"]), LIMITS)
    assert (portrait.format, portrait.width, portrait.height) == ("PNG", 896, 896)
    recipe = {"clahe": "always", "exposure": "off", "format": "png"}
    same = await client.post("/v1/preprocess", params=recipe, content=portrait_jpeg)
    assert (picture(same) == portrait.pixels).all()


async def test_a_whole_photo_keeps_its_size_and_the_pixels_outside_the_face(client, portrait_jpeg):
    answer = await client.post("/v1/enhance?output=photo&format=png", content=portrait_jpeg)
    before = decode(portrait_jpeg, LIMITS).pixels
    after = picture(answer)
    assert after.shape == before.shape
    assert (after[300:] == before[300:]).all()
    assert (after != before).any()
    assert answer.headers["X-Faces"] == "1"


async def test_lists_the_models(client):
    document = good(await client.get("/v1/models")).json()
    assert document["default"] == "gpen-bfr-512"
    names = [model["name"] for model in document["models"]]
    assert names == ["gpen-bfr-256", "gpen-bfr-512", "gpen-bfr-1024", "gpen-bfr-2048"]
    assert [model["name"] for model in document["models"] if model["default"]] == ["gpen-bfr-512"]
    assert {model["engine"] for model in document["models"]} == {"classical"}


async def test_probes_report_status_and_configuration(client):
    assert good(await client.get("/healthz")).json() == {"status": "ok", "version": __version__}
    ready = good(await client.get("/readyz")).json()
    assert (ready["status"], ready["finder"], ready["engine"]) == ("ready", "haar", "classical")
    assert (ready["model"], ready["backend"]) == ("gpen-bfr-512", "embedded")
    assert ready["notices"][0].startswith("no GPEN checkpoint:")


async def test_serves_the_documentation_pages(client):
    for path in ("/docs", "/redoc"):
        page = good(await client.get(path))
        assert page.headers["Content-Type"].startswith("text/html")
        assert "/openapi.json" in page.text


async def test_the_openapi_document_is_valid_and_has_every_parameter_and_error(client):
    document = good(await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()
    paths = document["paths"]
    assert {"/v1/enhance", "/v1/preprocess", "/preprocess", "/v1/models", "/healthz", "/readyz"} <= set(paths)
    assert "HTTPValidationError" not in str(document)
    for path, params in {
        "/v1/enhance": EnhanceParams,
        "/v1/preprocess": PreprocessParams,
        "/preprocess": PreprocessParams,
    }.items():
        operation = paths[path]["post"]
        assert [parameter["name"] for parameter in operation["parameters"]] == list(params.model_fields)
        assert all(parameter["description"] for parameter in operation["parameters"])
        bodies = operation["requestBody"]["content"]
        assert set(bodies) == {"multipart/form-data", "image/*", "application/json"}
        for shape in ("multipart/form-data", "application/json"):
            assert set(bodies[shape]["schema"]["properties"]) == {"image", *params.model_fields}
            assert bodies[shape]["schema"]["required"] == ["image"]
        problems = {status for status in operation["responses"] if status >= "400"}
        assert {"400", "413", "415", "422"} <= problems
        for status in problems:
            assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
    assert {"429", "502", "503", "504"} <= set(paths["/v1/enhance"]["post"]["responses"])
    content = paths["/v1/enhance"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"image/png", "image/jpeg", "image/webp", "application/json"}


async def test_the_event_loop_stays_free_during_pixel_work(
    serving, echo_backend, fixed_finder, portrait_jpeg
):
    """The finder waits until the probe is answered: on the event loop that would be a deadlock."""
    finder = fixed_finder(may_go_on=threading.Event())
    async with serving(echo_backend(), finder) as client, asyncio.timeout(30):
        enhancing = asyncio.create_task(client.post("/v1/enhance", content=portrait_jpeg))
        assert await asyncio.to_thread(finder.entered.wait, 20)
        assert good(await client.get("/healthz")).json()["status"] == "ok"
        assert not enhancing.done()
        finder.may_go_on.set()
        good(await enhancing)


COLOURS = [(40 + 50 * (i % 4), 40 + 50 * (i // 4), 220 - 12 * i) for i in range(16)]


async def test_concurrent_requests_get_their_own_pixels(client):
    """Sixteen requests, each with its own colour."""

    async def one(colour: tuple[int, int, int]) -> np.ndarray:
        photo = encode(np.full((80, 60, 3), colour, np.uint8), "png", 95)
        fields = {"format": "png", "clahe": "off", "exposure": "off"}
        return picture(await client.post("/v1/enhance", params=fields, content=photo))

    for colour, pixels in zip(COLOURS, await asyncio.gather(*map(one, COLOURS)), strict=True):
        assert np.abs(pixels.astype(int) - colour).max() <= 3


async def test_concurrent_requests_get_their_own_faces(serving, fixed_finder):
    """Sixteen requests, each with its own colour and a face; half are portraits, half are whole photos."""

    async def one(index: int) -> np.ndarray:
        photo = encode(np.full((400, 400, 3), COLOURS[index], np.uint8), "png", 95)
        fields = {
            "format": "png",
            "clahe": "off",
            "exposure": "off",
            "output": ("portrait", "photo")[index % 2],
        }
        return picture(await client.post("/v1/enhance", params=fields, content=photo))

    async with serving(finder=fixed_finder()) as client:
        for colour, pixels in zip(COLOURS, await asyncio.gather(*map(one, range(16))), strict=True):
            assert np.abs(pixels.astype(int) - colour).max() <= 6


@pytest.mark.parametrize("with_length", [True, False])
async def test_a_body_over_the_limit_gets_413_over_a_socket(gateway_url, with_length):
    """The limit of that process is 3 MB; the body is larger than the buffers of the socket."""

    async def chunks():
        for _ in range(120):
            yield bytes(100_000)

    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as client:
        answer = await client.post("/v1/enhance", content=bytes(12_000_000) if with_length else chunks())
        assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
        assert good(await client.get("/healthz"))


async def test_a_disconnect_does_not_affect_other_requests(gateway_url, portrait_jpeg):
    host, port = re.search(r"//(.*):(\d+)", gateway_url).groups()
    for body in (portrait_jpeg[:1000], portrait_jpeg):
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(portrait_jpeg)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with httpx.AsyncClient(base_url=gateway_url, timeout=60) as client:
        good(await client.post("/v1/enhance", content=portrait_jpeg))


async def test_a_disconnect_during_the_upload_is_not_an_error(serving, echo_backend):
    """Otherwise every aborted upload would log a traceback."""
    messages = [{"type": "http.request", "body": b"begun", "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/enhance", "query_string": b"", "headers": []}
    async with serving(echo_backend()) as client:
        await client._transport.app(scope, receive, send)
    assert sent[0]["status"] == 499


async def test_the_model_parameter_overrides_the_default(serving, echo_backend, portrait_jpeg):
    settings = Settings(upstream=UpstreamSettings(default_model="gpen-bfr-256"))
    async with serving(echo_backend(models=("gpen-bfr-256", "gpen-bfr-1024")), settings=settings) as client:
        chosen = good(await client.post("/v1/enhance?model=gpen-bfr-1024", content=portrait_jpeg))
        default = good(await client.post("/v1/enhance", content=portrait_jpeg))
    assert chosen.headers["X-GPEN-Model"] == "gpen-bfr-1024"
    assert default.headers["X-GPEN-Model"] == "gpen-bfr-256"
