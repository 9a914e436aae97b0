"""Log lines are machine-readable, have the request id and contain no secrets."""

import base64
import json
import logging
import logging.config

import httpx
import numpy as np
import pytest

from gateway.imaging.encoder import encode
from gateway.service.logs import JsonFormatter, build_log_config, current_request_id

pytestmark = pytest.mark.anyio

PICTURE = encode(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8), "png", 95)
SECRETS = ("s3cr3t-bearer", "s3cr3t-api-key", "s3cr3t-query", "s3cr3t-file", "s3cr3t-field", "s3cr3t-cookie")


@pytest.fixture
def log_as(capsys):
    """Configures logging like a server; returns a function that reads the lines so far."""
    loggers = ("", "uvicorn", "gateway", "gpen_common", "gpen_client", "gpen_backend")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in loggers}

    def configure(log_format: str, level: str = "debug"):
        logging.config.dictConfig(build_log_config(level, log_format))
        return lambda: capsys.readouterr().err

    yield configure
    for name, (handlers, level) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, True
        logger.setLevel(level)


async def send_secrets(client: httpx.AsyncClient) -> None:
    """Send valid and invalid requests in every format, with secrets in every place."""
    headers = {
        "Authorization": "Bearer s3cr3t-bearer",
        "X-API-Key": "s3cr3t-api-key",
        "Cookie": "session=s3cr3t-cookie",
        "X-Request-ID": "req-1",
    }
    in_base64 = base64.b64encode(PICTURE).decode()
    for picture in (PICTURE, PICTURE[:200], b"s3cr3t-field"):
        files = {"image": ("s3cr3t-file.png", picture)}
        query = {"token": "s3cr3t-query"}
        await client.post("/v1/enhance", headers=headers, files=files)
        await client.post("/v1/enhance", headers=headers, params=query, files=files)
        await client.post("/v1/enhance", headers=headers, files=files, data={"mode": "s3cr3t-field"})
        await client.post("/v1/enhance", headers=headers, content=picture)
        await client.post("/v1/enhance", headers=headers, json={"image": in_base64, "mode": "s3cr3t-field"})
        await client.post("/v1/enhance", headers=headers, json={"image": in_base64})
        await client.post("/v1/preprocess", headers=headers, json={"image": in_base64[:-3]})
    await client.get("/nothing?token=s3cr3t-query", headers=headers)


def assert_has_no_secrets(written: str) -> None:
    for secret in SECRETS:
        assert secret not in written
    in_base64 = base64.b64encode(PICTURE).decode()
    for start in range(0, len(PICTURE) - 24, 24):
        assert in_base64[start : start + 24] not in written
        assert repr(PICTURE[start : start + 12])[2:-1] not in written


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("fails", [False, True])
async def test_never_logs_pictures_keys_queries_or_names(
    serving, echo_backend, fixed_finder, log_as, log_format, fails
):
    finder = fixed_finder(defect=RuntimeError("a defect") if fails else None)
    async with serving(echo_backend(), finder) as client:
        written = log_as(log_format)
        await send_secrets(client)
        log = written()
    assert_has_no_secrets(log)
    assert log.count("req-1") >= 22
    assert ("a defect" in log) == fails


async def test_json_lines_have_the_request_id_even_from_pixel_threads(
    serving, echo_backend, fixed_finder, log_as
):
    class TalkingFinder(fixed_finder):
        def find(self, pixels):
            logging.getLogger("gateway.faces").info("looking at %d pixels", pixels.size)
            return super().find(pixels)

    async with serving(echo_backend(), TalkingFinder()) as client:
        written = log_as("json")
        for name in ("one", "two"):
            await client.post("/v1/enhance", content=PICTURE, headers={"X-Request-ID": name})
        await client.get("/healthz", headers={"X-Request-ID": "probe"})
        lines = [json.loads(line) for line in written().splitlines()]
    looked = [line["request_id"] for line in lines if line["message"].startswith("looking")]
    assert looked == ["one", "two"]
    access = [line for line in lines if line["logger"] == "gateway.service.middleware"]
    assert [line["request_id"] for line in access] == ["one", "two", "probe"]
    assert [line["level"] for line in access] == ["info", "info", "debug"]
    assert {"time", "level", "logger", "request_id", "message", "method", "path", "status", "ms"} <= set(
        access[0]
    )
    assert (access[0]["path"], access[0]["status"]) == ("/v1/enhance", 200)


async def test_unexpected_error_is_one_json_line_with_its_traceback(
    serving, echo_backend, fixed_finder, log_as
):
    async with serving(echo_backend(), fixed_finder(defect=RuntimeError("first\nsecond"))) as client:
        written = log_as("json", "warning")
        await client.post("/v1/enhance", content=PICTURE, headers={"X-Request-ID": "mine"})
        (line,) = map(json.loads, written().splitlines())
    assert (line["request_id"], line["level"]) == ("mine", "error")
    assert "RuntimeError: first\nsecond" in line["exception"]


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_request_cannot_forge_log_lines(serving, echo_backend, log_as, log_format):
    async with serving(echo_backend()) as client:
        written = log_as(log_format)
        await client.get("/x%0a2026-01-01 ERROR gateway [-] forged%1b[31m%0d%c2%85%e2%80%a8")
        log = written()
    assert len(log.splitlines()) == 1
    assert "\x1b" not in log


def test_lines_of_other_libraries_have_the_same_format(log_as):
    written = log_as("json")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    logging.getLogger("httpx").info("GET http://backend/?token=s3cr3t-query")
    (line,) = map(json.loads, written().splitlines())
    assert (line["logger"], line["message"]) == ("asyncio", "Task exception was never retrieved")


def test_json_format_accepts_any_record():
    record = logging.LogRecord("gateway", logging.INFO, __file__, 1, "%s \ud800 é", (object,), None)
    record.fields = {"path": {1, 2}}
    line = json.loads(JsonFormatter().format(record).encode("ascii"))
    assert line["request_id"] == current_request_id.get()
    assert line["level"] == "info"
    assert line["time"].endswith("Z")
