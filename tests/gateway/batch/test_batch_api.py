"""`/v1/batch`: uploads, archives, failures, limits and slow clients."""

import asyncio
import base64
import io
import json
import socket
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.settings import BatchSettings, CacheSettings, LimitSettings, Settings, UpstreamSettings

ZIP = {"Accept": "application/zip"}


@pytest.fixture(autouse=True)
def spooled_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where batches are spooled."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def settings(**batch: object) -> Settings:
    return Settings(batch=BatchSettings(**batch), cache=CacheSettings(cache="off"))


def picture(seed: int = 0, side: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    return encode(pixels, "jpeg", 80)


def lines(answer: httpx.Response) -> tuple[list[dict], dict]:
    """The lines of the files, in the order of the upload, and the summary."""
    assert answer.status_code == 200, answer.text
    *files, last = (json.loads(line) for line in answer.text.splitlines())
    return sorted(files, key=lambda line: line["index"]), last["summary"]


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def parts(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", file) for file in files]


pytestmark = pytest.mark.anyio


async def test_enhances_every_file_of_a_form_with_the_same_parameters(serving, echo_backend):
    backend = echo_backend()
    async with serving(backend, settings=settings()) as client:
        answer = await client.post(
            "/v1/batch",
            files=[("one", ("a.jpg", picture(1))), ("two", ("b/c.png", picture(2)))],
            data={"strength": "33", "format": "png", "linkage": "false"},
        )
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["x-request-id"]
    (first, second), summary = lines(answer)
    assert (first["name"], second["name"]) == ("a.jpg", "b/c.png")
    for line in (first, second):
        assert line["status"] == 200
        assert line["media_type"] == "image/png"
        assert base64.b64decode(line["image_base64"]).startswith(b"\x89PNG")
        assert line["report"]["engine"] == "echo"
    assert summary["done"] == 2
    assert summary["failed"] == 0
    assert [asked.parameters["strength"] for asked in backend.asked] == [33, 33]


async def test_returns_each_result_under_the_name_of_its_picture(serving, echo_backend):
    shades = [10, 90, 170, 250]
    files = [(f"{shade}.png", encode(np.full((64, 64, 3), shade, np.uint8), "png", 1)) for shade in shades]
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post(
            "/v1/batch", files=parts(*files), data={"clahe": "off", "exposure": "off", "format": "png"}
        )
    for shade, line in zip(shades, lines(answer)[0], strict=True):
        photo = decode(base64.b64decode(line["image_base64"]), PixelLimits(10**7, 10**4))
        assert line["name"] == f"{shade}.png"
        assert abs(int(photo.pixels.mean()) - shade) <= 1


async def test_broken_file_does_not_affect_the_others(serving, echo_backend):
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post(
            "/v1/batch", files=parts(("good.jpg", picture()), ("text.txt", b"hello"), ("none.jpg", b""))
        )
    (good, text, empty), summary = lines(answer)
    assert good["status"] == 200
    assert text["status"] == 415
    assert text["problem"]["type"] == "unsupported-picture"
    assert text["problem"]["request_id"] == answer.headers["x-request-id"]
    assert empty["problem"]["type"] == "missing-picture"
    assert (summary["done"], summary["failed"]) == (1, 2)


async def test_rejects_invalid_parameters_before_any_work(serving, echo_backend):
    backend = echo_backend()
    async with serving(backend, settings=settings()) as client:
        answer = await client.post("/v1/batch", files=parts(("a.jpg", picture())), data={"strenght": "1"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "strenght"
    assert not backend.asked


@pytest.mark.parametrize("as_part", [True, False])
async def test_unpacks_a_zip(serving, echo_backend, as_part):
    archive = zipped({"in/a.jpg": picture(1), "b.jpg": picture(2), "in/": b"", "__MACOSX/in/._a.jpg": b"x",
                      "in/.DS_Store": b"x", "Thumbs.db": b"x"})  # fmt: skip
    async with serving(echo_backend(), settings=settings()) as client:
        if as_part:
            answer = await client.post("/v1/batch", files=parts(("all.zip", archive)), params={"strength": 1})
        else:
            answer = await client.post(
                "/v1/batch?strength=1", content=archive, headers={"Content-Type": "application/zip"}
            )
    files, summary = lines(answer)
    assert [file["name"] for file in files] == ["in/a.jpg", "b.jpg"]
    assert summary["done"] == 2


async def test_zip_response_has_the_pictures_and_a_report(serving, echo_backend):
    files = parts(
        ("in/a.jpg", picture(1)), ("in/A.jpeg", picture(2)), ("b.tif", b"no"), ("ü.bmp", picture(3))
    )
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post("/v1/batch", files=files, headers=ZIP)
        assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"in/a.jpg", "in/A-2.jpeg", "ü.jpg", "report.ndjson"}
        assert archive.namelist()[-1] == "report.ndjson"
        assert archive.read("in/a.jpg").startswith(b"\xff\xd8")
        *files, last = (json.loads(line) for line in archive.read("report.ndjson").splitlines())
    by_index = {line["index"]: line for line in files}
    assert by_index[0]["file"] == "in/a.jpg"
    assert by_index[0]["report"]["engine"] == "echo"
    assert by_index[2]["problem"]["status"] == 415
    assert (last["summary"]["done"], last["summary"]["failed"]) == (3, 1)


async def test_names_in_a_zip_response_are_safe_relative_paths(serving, echo_backend):
    names = ["../../etc/passwd.jpg", "/abs.jpg", "C:\\x\\..\\y.jpg", "a\x00b.jpg", "...", "n" * 400 + ".jpg"]
    archive = zipped({})
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "w") as written:
        for name in names:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            written.writestr(info, picture())
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post("/v1/batch", files=parts(("a.zip", out.getvalue())), headers=ZIP)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as restored:
        unpacked = restored.namelist()
    assert "etc/passwd.jpg" in unpacked
    assert "x/y.jpg" in unpacked
    for name in unpacked:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\\" not in name
        assert len(name) < 256


def _encrypted(data: bytes) -> bytes:
    """`data`, an archive of one member, marked as encrypted in both of its headers."""
    changed = bytearray(data)
    changed[6] |= 1
    directory = changed.rindex(b"PK\x01\x02")
    changed[directory + 8] |= 1
    return bytes(changed)


def _lying(size: int) -> bytes:
    """An archive whose member declares 100 bytes and unpacks to `size` zeros."""
    changed = bytearray(zipped({"bomb.jpg": bytes(size)}))
    for place in (22, changed.rindex(b"PK\x01\x02") + 24):
        changed[place : place + 4] = struct.pack("<I", 100)
    return bytes(changed)


def _damaged() -> bytes:
    changed = bytearray(zipped({"a.jpg": picture()}, zipfile.ZIP_STORED))
    changed[200] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (_encrypted(zipped({"a.jpg": picture()})), "unsupported-picture"),
        (zipped({"a.jpg": picture()}, zipfile.ZIP_BZIP2), "unsupported-picture"),
        (zipped({"a.jpg": picture()}, zipfile.ZIP_LZMA), "unsupported-picture"),
        (zipped({"nested.zip": zipped({"a.jpg": picture()})}), "unsupported-picture"),
        (zipped({"bomb.jpg": bytes(3_000_000)}), "too-large"),
        (_lying(3_000_000), "damaged-picture"),
        (_damaged(), "damaged-picture"),
        (zipped({"empty.jpg": b""}), "missing-picture"),
    ],
    ids=["encrypted", "bzip2", "lzma", "nested", "bomb", "lying bomb", "damaged", "empty"],
)
async def test_unreadable_member_does_not_affect_the_others(serving, echo_backend, archive, problem):
    chosen = settings().model_copy(update={"limits": LimitSettings(max_body_bytes=1_000_000)})
    async with serving(echo_backend(), settings=chosen) as client:
        answer = await client.post("/v1/batch", files=parts(("a.zip", archive), ("good.jpg", picture())))
    (bad, good), _ = lines(answer)
    assert bad["problem"]["type"] == problem
    assert good["status"] == 200


async def test_limits_the_total_unpacked_size_of_archives(serving, echo_backend):
    archive = zipped({f"{n}.bmp": bytes(80_000) for n in range(4)})
    async with serving(echo_backend(), settings=settings(batch_max_bytes=200_000, batch_concurrency=1)) as c:
        answer = await c.post("/v1/batch", content=archive, headers={"Content-Type": "application/zip"})
    types = [file["problem"]["type"] for file in lines(answer)[0]]
    assert types == ["unsupported-picture", "unsupported-picture", "too-large", "too-large"]


async def test_broken_archive_fails_alone_beside_other_files(serving, echo_backend):
    broken = zipped({"a.jpg": picture()})[:60]
    async with serving(echo_backend(), settings=settings()) as client:
        beside = await client.post("/v1/batch", files=parts(("a.zip", broken), ("good.jpg", picture())))
        alone = await client.post("/v1/batch", files=parts(("a.zip", broken)))
    (bad, good), _ = lines(beside)
    assert (bad["name"], bad["problem"]["type"]) == ("a.zip", "malformed-request")
    assert good["status"] == 200
    assert (alone.status_code, alone.json()["type"]) == (400, "malformed-request")


async def test_rejects_an_archive_with_millions_of_directory_entries(serving, echo_backend):
    """Reading the directory would take a hundred times the archive's size in memory."""
    entry = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0
    )
    directory = (entry + b"a") * 200_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 4, 0)
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post("/v1/batch", content=b"PK\x03\x04" + directory + end,
                                   headers={"Content-Type": "application/zip"})  # fmt: skip
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data", 400),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400),
        (b"hello", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\nabc',
         "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n--x--\r\n',
         "multipart/form-data; boundary=x", 422),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
         "multipart/form-data; boundary=x", 400),
        (b"", "application/zip", 400),
        (b"not a zip", "application/zip", 400),
        (zipped({}), "application/zip", 422),
        (zipped({"__MACOSX/._a": b"x"}), "application/zip", 422),
        (b"{}", "application/json", 400),
        (picture(), "image/jpeg", 400),
    ],
)  # fmt: skip
async def test_rejects_a_body_without_pictures(serving, echo_backend, content, content_type, status):
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post("/v1/batch", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
async def test_full_disk_is_503_and_leaves_no_files(serving, echo_backend, spooled_here, monkeypatch):
    opened = Path.open

    def full(path: Path, mode: str = "r", *rest, **options):
        return opened(Path("/dev/full") if mode == "wb" else path, mode, *rest, **options)

    async with serving(echo_backend(), settings=settings()) as client:
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.open", full)
            answer = await client.post("/v1/batch", files=parts(("a.jpg", picture())))
        assert (answer.status_code, answer.json()["type"]) == (503, "not-ready")
        assert "no room on its disk" in answer.json()["detail"]
        assert answer.headers["Retry-After"] == "30"
        assert not list(spooled_here.iterdir())
        lines(await client.post("/v1/batch", files=parts(("a.jpg", picture()))))


SMALL = picture(side=16)


@pytest.fixture
def limited() -> Settings:
    """Two files per batch and 10,000 bytes, 3,000 bytes per file."""
    return settings(batch_max_files=2, batch_max_bytes=10_000).model_copy(
        update={"limits": LimitSettings(max_body_bytes=3_000)}
    )


async def test_file_over_the_limit_does_not_affect_the_others(serving, echo_backend, limited):
    async with serving(echo_backend(), settings=limited) as client:
        answer = await client.post("/v1/batch", files=parts(("a.jpg", SMALL), ("big.jpg", bytes(6_000))))
    (good, big), _ = lines(answer)
    assert good["status"] == 200
    assert big["problem"]["type"] == "too-large"


@pytest.mark.parametrize(
    "files",
    [
        parts(*[(f"{n}.jpg", SMALL) for n in range(3)]),
        parts(("a.zip", zipped({f"{n}": SMALL for n in "abc"}))),
        parts(("a.jpg", bytes(12_000))),
    ],
    ids=["files", "members of an archive", "bytes"],
)
async def test_rejects_a_batch_over_its_limits(serving, echo_backend, limited, spooled_here, files):
    async with serving(echo_backend(), settings=limited) as client:
        assert (await client.post("/v1/batch", files=files)).status_code == 413
    assert not list(spooled_here.iterdir()), "spooled files remain"


async def test_limits_of_batches_do_not_apply_to_single_pictures(serving, echo_backend, limited):
    async with serving(echo_backend(), settings=limited) as client:
        answer = await client.post("/v1/enhance", files={"image": ("a.jpg", bytes(6_000))})
    assert answer.status_code == 413


def form(*files: tuple[str, bytes]) -> bytes:
    """A multipart body with the boundary x."""
    head = '--x\r\nContent-Disposition: form-data; name="f"; filename="{}"\r\n\r\n'
    return b"".join(head.format(name).encode() + data + b"\r\n" for name, data in files) + b"--x--\r\n"


async def test_empty_file_inputs_do_not_count_towards_the_limit(serving, echo_backend, limited):
    """Browsers send an empty part without a filename for a file input with nothing selected."""
    body = form(("", b""), ("a.jpg", SMALL), ("", b""), ("b.jpg", SMALL))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with serving(echo_backend(), settings=limited) as client:
        answer = await client.post("/v1/batch", content=body, headers=headers)
    files, _ = lines(answer)
    assert [file["name"] for file in files] == ["a.jpg", "b.jpg"]


async def test_a_picture_without_a_filename_is_rejected_with_a_hint(serving, echo_backend):
    async with serving(echo_backend(), settings=settings()) as client:
        answer = await client.post("/v1/batch", files={"f": (None, picture(side=400))})
    assert (answer.status_code, answer.json()["type"]) == (400, "malformed-request")
    assert "give its part a filename" in answer.json()["detail"]


async def test_unreachable_backend_is_a_problem_of_each_remaining_file(serving, echo_backend):
    backend = echo_backend()
    served = 0

    async def failing_after_two(request: httpx.Request) -> httpx.Response:
        nonlocal served
        served += 1
        if served > 2:
            raise httpx.ConnectError("refused")
        return await backend.echo(request)

    backend.answer = failing_after_two
    chosen = settings(batch_concurrency=1).model_copy(
        update={"upstream": UpstreamSettings(backend_attempts=1)}
    )
    async with serving(backend, settings=chosen) as client:
        answer = await client.post("/v1/batch", files=parts(*[(f"{n}.jpg", picture(n)) for n in range(9)]))
    files, summary = lines(answer)
    assert [file["status"] for file in files] == [200, 200] + [503] * 7
    assert {file["problem"]["type"] for file in files[2:]} == {"backend-away"}
    assert (summary["done"], summary["failed"]) == (2, 7)


async def test_unexpected_error_is_the_problem_of_one_file(serving, echo_backend, fixed_finder):
    async with serving(echo_backend(), fixed_finder(defect=RuntimeError("bug")), settings()) as client:
        answer = await client.post("/v1/batch", files=parts(("a.jpg", picture())))
    (file,), _ = lines(answer)
    assert (file["status"], file["problem"]["type"]) == (500, "internal-error")
    assert "bug" not in answer.text


async def test_each_file_has_its_own_deadline(serving, echo_backend):
    backend = echo_backend()

    async def hanging_once(request: httpx.Request) -> httpx.Response:
        if not backend.asked:
            backend.asked.append(None)
            await asyncio.sleep(60)
        return await backend.echo(request)

    backend.answer = hanging_once
    async with serving(backend, settings=settings(batch_concurrency=1)) as client:
        answer = await client.post(
            "/v1/batch", files=parts(("a.jpg", picture(1)), ("b.jpg", picture(2))), data={"timeout_s": "0.5"}
        )
    (late, good), _ = lines(answer)
    assert (late["status"], late["problem"]["type"]) == (504, "deadline-passed")
    assert good["status"] == 200


async def test_limits_the_files_in_progress(serving, echo_backend):
    backend, at_work, most, all_here = echo_backend(), 0, 0, asyncio.Event()

    async def counting(request: httpx.Request) -> httpx.Response:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        # The first three wait for each other.
        if most == 3:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 10)
        await asyncio.sleep(0.005)
        at_work -= 1
        return await backend.echo(request)

    backend.answer = counting
    async with serving(backend, settings=settings(batch_concurrency=3)) as client:
        answer = await client.post("/v1/batch", files=parts(*[(f"{n}.jpg", picture(n)) for n in range(12)]))
    assert lines(answer)[1]["done"] == 12
    assert most == 3


async def test_batch_holds_one_place_until_it_ends(serving, echo_backend):
    backend, entered, may_go_on = echo_backend(), asyncio.Event(), asyncio.Event()

    async def held(request: httpx.Request) -> httpx.Response:
        entered.set()
        await may_go_on.wait()
        return await backend.echo(request)

    backend.answer = held
    chosen = settings().model_copy(update={"limits": LimitSettings(workers=1, queue=1)})
    async with serving(backend, settings=chosen) as client:
        files = parts(*[(f"{n}.jpg", picture(n)) for n in range(3)])
        batch = asyncio.create_task(client.post("/v1/batch", files=files))
        await asyncio.wait_for(entered.wait(), 10)
        second = asyncio.create_task(client.post("/v1/enhance", content=picture(8)))
        async with asyncio.timeout(10):
            while client._transport.app.state.gateway.admission.taken < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await client.post("/v1/enhance", content=picture(9))).status_code == 429
        may_go_on.set()
        assert lines(await batch)[1]["done"] == 3
        assert (await second).status_code == 200
        assert (await client.post("/v1/enhance", content=picture())).status_code == 200


async def test_shutdown_ends_the_batch_with_problems_and_a_summary(echo_backend, fixed_finder, monkeypatch):
    from gateway.app import create_app
    from gateway.settings import ServerSettings

    backend = echo_backend()
    chosen = settings(batch_concurrency=1).model_copy(update={"server": ServerSettings(grace_s=0.001)})
    app = create_app(chosen, finder=fixed_finder(), transport=httpx.MockTransport(backend))

    async def stopping(request: httpx.Request) -> httpx.Response:
        app.state.draining.begin()
        await asyncio.sleep(0.01)
        return await backend.echo(request)

    backend.answer = stopping
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        answer = await client.post("/v1/batch", files=parts(*[(f"{n}.jpg", picture(n)) for n in range(4)]))
    files, summary = lines(answer)
    assert files[0]["status"] == 200
    assert files[-1]["problem"]["type"] == "not-ready"
    assert summary["done"] + summary["failed"] == 4


@pytest.fixture(scope="module")
def server(server_process, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A gateway process and its spool folder. Each of its results has about a megabyte."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "spool").mkdir()
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(folder),
        "GATEWAY_CACHE": "off",
        "TMPDIR": str(folder / "spool"),
        "GATEWAY_BATCH_STALL_S": "2",
        "GATEWAY_DRAIN_S": "0",
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0"]
    with server_process(command, environment, folder) as url:
        yield url, folder / "spool"


def _body(count: int) -> tuple[bytes, str]:
    files = [(f"{n}.jpg", picture(n % 5)) for n in range(count)]
    request = httpx.Request(
        "POST", "http://x", files=parts(*files), data={"format": "png", "output": "portrait"}
    )
    return request.read(), request.headers["content-type"]


def _until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sends_results_while_other_files_are_in_progress(server):
    url, spool = server
    body, content_type = _body(6)
    with (
        httpx.Client(timeout=60) as client,
        client.stream("POST", f"{url}/v1/batch", content=body, headers={"Content-Type": content_type}) as got,
    ):
        received = got.iter_lines()
        first = json.loads(next(received))
        assert first["status"] == 200
        assert list(spool.iterdir()), "the rest is still to come"
        *_, last = received
    assert json.loads(last)["summary"]["done"] == 6
    _until(lambda: not list(spool.iterdir()))


def test_disconnect_ends_the_batch(server):
    url, spool = server
    body, content_type = _body(60)
    headers = {"Content-Type": content_type}
    with httpx.Client(timeout=60) as client, client.stream("POST", f"{url}/v1/batch", content=body,
                                                           headers=headers) as got:  # fmt: skip
        # Kept: garbage collection of the generator would close the connection.
        received = got.iter_lines()
        assert json.loads(next(received))["status"] == 200
        assert list(spool.iterdir())
    _until(lambda: not list(spool.iterdir()), 10)


def test_cancels_the_batch_of_a_client_that_stops_reading(server):
    url, spool = server
    content, content_type = _body(40)
    with _posted(url, content, content_type) as connection:
        _until(lambda: list(spool.iterdir()))
        _until(lambda: not list(spool.iterdir()))
        tail = b""
        while piece := connection.recv(1 << 20):
            tail = (tail + piece)[-400:]
    assert b'"summary"' not in tail


_SERVE = """
import os, pathlib, sys
from gateway.cli import main
pathlib.Path("pid").write_text(str(os.getpid()))
main(["serve", "--port", "0"])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_number_of_files(server_process, tmp_path):
    """The gateway computes results only as fast as the client reads them: 300 of over a megabyte."""
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(tmp_path),
        "GATEWAY_CACHE": "off",
    }
    with server_process([sys.executable, "-c", _SERVE], environment, tmp_path) as url:
        process = Path("/proc") / (tmp_path / "pid").read_text()
        _read_slowly(url, 40, pause_s=0)
        before = _kilobytes(process, "VmRSS")
        (process / "clear_refs").write_text("5")
        received = _read_slowly(url, 300, pause_s=0.01)
        grown = _kilobytes(process, "VmHWM") - before
    assert received > 300_000_000
    assert grown < 150_000


def _read_slowly(url: str, count: int, pause_s: float) -> int:
    """Post a batch of `count` pictures, read slowly, and return the size of the response."""
    content, content_type = _body(count)
    with _posted(url, content, content_type) as connection:
        received, tail = 0, b""
        while piece := connection.recv(1 << 18):
            received += len(piece)
            tail = (tail + piece)[-400:]
            time.sleep(pause_s)
    assert f'"done":{count},"failed":0'.encode() in tail
    return received


@contextmanager
def _posted(url: str, content: bytes, content_type: str) -> Iterator[socket.socket]:
    """A connection that has sent a batch and has a small receive buffer."""
    address = httpx.URL(url)
    head = (
        f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect((address.host, address.port))
        connection.settimeout(120)
        connection.sendall(head.encode() + content)
        yield connection


def _kilobytes(process: Path, name: str) -> int:
    (line,) = (line for line in (process / "status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])
