"""A form, JSON and raw bytes give the same picture and parameters."""

import base64
import contextlib
import json
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from gateway.api.upload import Upload, read_upload
from gateway.errors import GatewayError, InvalidParameters, MalformedRequest, MissingPicture
from gpen_common.threads import LARGE

pytestmark = pytest.mark.anyio

PICTURE = bytes(range(256))
BASE64 = base64.b64encode(PICTURE).decode()


async def upload(content_type: str | None, body: bytes, query: str = "", pieces: int = 1) -> Upload:
    """Read the upload of a request whose body arrives in `pieces` pieces."""
    size = -(-len(body) // pieces) or 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type is not None else []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": query.encode(),
        "headers": headers,
    }
    return await read_upload(Request(scope, receive))


def multipart(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> tuple[str, bytes]:
    """Make content type and body of a form. parts: the rest of each Content-Disposition, and the content."""
    body = b"".join(
        f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return "multipart/form-data; boundary=x", body + end


FILE = ('name="image"; filename="a.png"', PICTURE)


def in_json(**fields) -> tuple[str, bytes]:
    return "application/json", json.dumps(fields).encode()


@pytest.mark.parametrize("size", [1, 2_000_000, LARGE + 1])
async def test_reads_a_form_of_any_size_without_a_writable_disk(size, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    picture = bytes(range(1, 256)) * (size // 255 + 1)
    arrived = await upload(*multipart(('name="image"; filename="a.png"', picture)), pieces=9)
    assert arrived.data == picture


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    "request_of",
    [
        multipart(FILE, ('name="strength"', b"40")),
        multipart(('name="strength"', b"40"), FILE),
        in_json(image=BASE64, strength="40"),
        in_json(image=f"data:image/png;base64,{BASE64}", strength="40"),
        ("application/vnd.photo+json; charset=utf-8", in_json(image=BASE64, strength="40")[1]),
    ],
)
async def test_fields_of_the_body_are_parameters(request_of, pieces):
    got = await upload(*request_of, query="mode=strong", pieces=pieces)
    assert got == Upload(PICTURE, {"mode": "strong", "strength": "40"})


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", "", None]
)
async def test_any_other_body_is_the_picture(content_type):
    got = await upload(content_type, PICTURE, query="strength=40&mode=strong", pieces=3)
    assert got == Upload(PICTURE, {"strength": "40", "mode": "strong"})


@pytest.mark.parametrize(
    "request_of", [multipart(FILE, ('name="strength"', b"40")), in_json(image=BASE64, strength="40")]
)
async def test_the_body_overrides_the_query(request_of):
    assert (await upload(*request_of, query="strength=90")).fields == {"strength": "40"}


async def test_json_values_keep_their_types():
    assert (await upload(*in_json(image=BASE64, strength=40.5, linkage=False))).fields == {
        "strength": 40.5,
        "linkage": False,
    }


@pytest.mark.parametrize(
    "request_of",
    [
        ("image/png", b""),
        multipart(),
        multipart(('name="strength"', b"40")),
        multipart(('name="image"; filename="a.png"', b"")),
        multipart(('name="photo"', b"x")),
        in_json(),
        in_json(image=""),
        in_json(image="data:image/png;base64,"),
    ],
)
async def test_the_error_for_a_missing_picture_explains_how_to_send_one(request_of):
    with pytest.raises(MissingPicture, match="named `image`"):
        await upload(*request_of)


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        (("application/json", b""), "not JSON"),
        (("application/json", b"{"), "not JSON"),
        (("application/json", b"\xff\xfe"), "not JSON"),
        (("application/json", b"[" * 10_000), "not JSON"),
        (("application/json", b'{"image": "\\ud800"}'), "not JSON"),
        (in_json(image="?"), "not base64"),
        (in_json(image="é"), "not base64"),
        (in_json(image="QQ"), "not base64"),
        (in_json(image=None), "string of base64"),
        (in_json(image=[BASE64]), "string of base64"),
        (("application/json", b'"text"'), "JSON object"),
        (("application/json", b"NaN"), "JSON object"),
        (multipart(('name="image"', PICTURE)), "must be a file"),
        (multipart(FILE, ('name="strength"; filename="b"', b"40")), "'strength' is a file"),
    ],
)
async def test_rejects_malformed_bodies(request_of, message):
    with pytest.raises(MalformedRequest, match=message):
        await upload(*request_of)


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    strength: float = 70
    linkage: bool = True


def test_params_returns_the_validated_model():
    assert Upload(b"", {"strength": "40", "linkage": "false"}).params(Params) == Params(
        strength=40, linkage=False
    )


def test_params_names_every_invalid_parameter():
    with pytest.raises(InvalidParameters) as raised:
        Upload(b"", {"strength": "much", "linkge": "true"}).params(Params)
    assert [error["parameter"] for error in raised.value.errors] == ["strength", "linkge"]
    assert raised.value.errors[1]["message"] == "unknown parameter; the parameters are strength, linkage"
    assert "strength:" in str(raised.value)
    assert "linkge:" in str(raised.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(BASE64),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["image", "strength", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    content_type=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "multipart/form-data; boundary=", "a/b"]
    ),
    body=st.binary(max_size=200)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.tuples(st.text(max_size=30), st.binary(max_size=30)).map(
        lambda part: multipart((part[0], part[1]))[1]
    ),
    query=st.text(alphabet=st.characters(codec="ascii"), max_size=30),
)
@settings(deadline=None, max_examples=150)
async def test_reads_or_rejects_any_body(content_type, body, query):
    with contextlib.suppress(GatewayError):
        (await upload(content_type, body, query)).params(Params)
