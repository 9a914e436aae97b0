"""Unusual and broken forms are read, or rejected with a problem, in bounded time and memory."""

import gc
import os
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, Settings

pytestmark = [
    pytest.mark.anyio,
    # Starlette does not close the file of an unfinished part.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PHOTO = encode(np.full((16, 16, 3), 128, np.uint8), "png", 95)
LIMIT = 2_000_000


@pytest.fixture
async def client(serving, echo_backend):
    limits = Settings(limits=LimitSettings(max_body_bytes=LIMIT))
    async with serving(echo_backend(), settings=limits) as in_process:
        yield in_process
    # Collect unclosed files here, so that their warnings are ignored with those of these tests.
    gc.collect()


async def post(client: httpx.AsyncClient, body, boundary: bytes = b"x", path: str = "/v1/preprocess"):
    """Post a form; the response must be a picture or a problem, and no place may stay taken."""
    headers = [(b"Content-Type", b"multipart/form-data; boundary=" + boundary)]
    answer = await client.post(path, headers=headers, content=body)
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
    admission = client._transport.app.state.gateway.admission
    assert admission.taken == admission.uploads == 0
    return answer


def part(head: bytes, content: bytes = b"", boundary: bytes = b"x") -> bytes:
    return b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def form_data(rest: bytes) -> bytes:
    return b"Content-Disposition: form-data; " + rest


def field(name: bytes, value: bytes) -> bytes:
    return part(form_data(b'name="' + name + b'"'), value)


IMAGE = part(form_data(b'name="image"; filename="a.png"'), PHOTO)
END = b"--x--\r\n"


async def test_reads_a_plain_form(client):
    assert (await post(client, IMAGE + END)).status_code == 200


MALFORMED, INVALID = (400, "malformed-request"), (422, "invalid-parameters")
TOO_MUCH = b"x" * 1_500_000

FORMS = {
    "two hundred thousand empty parts": (b"--x\r\n\r\n\r\n" * 200_000, None),
    "ten thousand fields": (part(form_data(b'name="a"'), b"1") * 10_000 + IMAGE + END, None),
    "sixty-five fields": (part(form_data(b'name="a"'), b"1") * 65 + IMAGE + END, MALFORMED),
    "five files": (IMAGE * 5 + END, MALFORMED),
    "a field of megabytes": (field(b"mode", TOO_MUCH) + IMAGE + END, MALFORMED),
    "a field's name of megabytes": (part(form_data(b'name="' + TOO_MUCH + b'"')) + END, None),
    "a file name of megabytes": (
        part(form_data(b'name="image"; filename="' + TOO_MUCH + b'"'), PHOTO) + END, None,
    ),
    "a header of megabytes": (part(b"X-A: " + TOO_MUCH) + END, None),
    "a hundred thousand headers": (b"--x\r\n" + b"a: b\r\n" * 100_000 + b"\r\n" + END, None),
    "a preamble of megabytes": (TOO_MUCH + b"\r\n" + IMAGE + END, None),
    "an epilogue of megabytes": (IMAGE + END + TOO_MUCH, None),
    "megabytes of dashes": (b"-" * 1_900_000, None),
    "megabytes of line ends": (b"\r\n" * 900_000, None),
    "almost boundaries": (IMAGE[:-2] + b"\r\n--" * 400_000 + END, None),
    "no closing boundary": (IMAGE, None),
    "an unfinished header": (b"--x\r\nContent-Disposition: form-data; name", None),
    "no filename": (part(form_data(b'name="image"'), PHOTO) + END, MALFORMED),
    "an empty filename": (part(form_data(b'name="image"; filename=""'), PHOTO) + END, None),
    "no name": (part(form_data(b'filename="a.png"'), PHOTO) + END, None),
    "no disposition": (part(b"Content-Type: image/png", PHOTO) + END, MALFORMED),
    "an empty disposition": (part(b"Content-Disposition:", PHOTO) + END, None),
    "another disposition": (
        part(b'Content-Disposition: attachment; name="image"; filename="a"', PHOTO) + END, None,
    ),
    "invalid UTF-8 in a name": (field(b"\xff\xfe", b"1") + IMAGE + END, INVALID),
    "invalid UTF-8 in a value": (part(form_data(b'name="mode"'), b"\xff\xfe") + IMAGE + END, None),
    "another charset": (
        part(form_data(b'name="mode"') + b"\r\nContent-Type: text/plain; charset=utf-16", b"\xff\xfem\0")
        + IMAGE + END,
        INVALID,
    ),
    "an unknown charset": (
        part(form_data(b'name="_charset_"'), b"no-such-charset") + IMAGE + END, INVALID,
    ),
    "a NUL in a name": (part(form_data(b'name="mo\0de"'), b"1") + IMAGE + END, None),
    "a transfer encoding": (
        part(form_data(b'name="image"; filename="a"') + b"\r\nContent-Transfer-Encoding: base64", PHOTO)
        + END,
        None,
    ),
    "a form in a form": (
        part(form_data(b'name="image"; filename="a"') + b"\r\nContent-Type: multipart/mixed; boundary=y",
             part(b"X: y", PHOTO, b"y") + b"--y--") + END,
        (415, "unsupported-picture"),
    ),
    "the picture twice": (IMAGE * 2 + END, None),
    "the picture and a field of its name": (IMAGE + part(form_data(b'name="image"'), b"no file") + END, None),
    "the same parameter twice": (
        IMAGE + field(b"format", b"png") + field(b"format", b"jpeg") + END, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
async def test_reads_or_rejects_unusual_forms(client, name):
    body, expected = FORMS[name]
    answer = await post(client, body)
    if expected:
        assert (answer.status_code, answer.json()["type"]) == expected


@pytest.mark.parametrize(
    "boundary",
    [
        b"",
        b'""',
        b'"',
        b" ",
        b"x; boundary=y",
        b"x" * 71,
        b"x" * 100_000,
        b"\xff\xfe",
        b"a b",
        b"x\0y",
        b"--",
        b"'",
    ],
)
async def test_reads_or_rejects_unusual_boundaries(client, boundary):
    await post(client, IMAGE + END, boundary)


@pytest.mark.parametrize(
    "piece",
    [bytes(10_000), b"\r\n--" * 2500, b"\r\n--x" * 2000, os.urandom(10_000)],
    ids=["zeros", "almost boundaries", "boundaries", "noise"],
)
async def test_reads_an_endless_body_only_up_to_the_limit(client, piece):
    """The parser streams, so memory stays bounded too."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield IMAGE[:-10]
        while True:
            sent += len(piece)
            yield piece

    tracemalloc.start()
    answer = await post(client, endless())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code in (400, 413)
    assert sent <= LIMIT + 200_000
    assert peak < 8 * LIMIT


TOKENS = st.sampled_from(
    [b"--x", b"--x--", b"\r\n", b"\r", b"\n", b"--", b"Content-Disposition: ", b"form-data", b"; ",
     b'name="image"', b'name="mode"', b'filename="a.png"', b"filename*=utf-8''%ff", b"Content-Type: ",
     b"image/png", b"charset=",
     b'"', b"\\", b"=", b":", b"\0", b"\xff", b"natural", PHOTO, b"Content-Transfer-Encoding: base64"]
)  # fmt: skip


@given(st.lists(TOKENS | st.binary(max_size=8), max_size=40).map(b"".join))
@example(b"")
@example(b"--x")
@example(b"--x--")
@example(b"--x\r\n\r\n")
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
async def test_reads_or_rejects_any_sequence_of_tokens(client, body):
    await post(client, body)


@st.composite
def mutated_forms(draw: st.DrawFn) -> bytes:
    """Draw a valid form with bytes of its framing changed, doubled or dropped."""
    body = bytearray(part(form_data(b'name="format"'), b"png") + IMAGE + END)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, 120) | st.integers(len(body) - 12, len(body) - 1)) % len(body)
        match draw(st.sampled_from(["change", "double", "drop"])):
            case "change":
                body[place] = draw(st.integers(0, 255))
            case "double":
                body[place:place] = body[place : place + draw(st.integers(1, 30))]
            case "drop":
                del body[place : place + draw(st.integers(1, 30))]
    return bytes(body)


@given(mutated_forms())
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
async def test_reads_or_rejects_a_mutated_form(client, body):
    await post(client, body)
