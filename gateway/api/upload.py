"""The upload of a request: a picture and parameters, in any of three forms."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from gateway.errors import CallerLeft, InvalidParameters, MalformedRequest, MissingPicture, SlowUpload
from gateway.params import MAX_FIELDS
from gpen_common.threads import LARGE, off_loop

Params = TypeVar("Params", bound=BaseModel)

_MAX_FILES = 4


@dataclass(frozen=True, slots=True)
class Upload:
    """data: the picture's bytes. fields: unchecked parameters, strings or JSON values.

    image_url: the picture's address, where there is no data.
    """

    data: bytes
    fields: dict[str, Any]
    image_url: str | None = None

    def params(self, model: type[Params]) -> Params:
        """Return the checked parameters. Raises InvalidParameters, which lists every invalid one."""
        try:
            return model.model_validate(self.fields)
        except ValidationError as error:
            raise invalid_parameters(error, model) from error


async def read_upload(request: Request) -> Upload:
    """Read the upload of `request`: multipart with a file `image`, JSON with base64 in it, or the bare
    picture.

    Query parameters count in all three forms; a field of the body with the same name wins.
    Raises MissingPicture, MalformedRequest, and TooLarge of the body's limits.
    """
    query: dict[str, Any] = dict(request.query_params)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        upload = await _from_multipart(request, query)
    elif content_type == "application/json" or content_type.endswith("+json"):
        # Parsing and decoding a large body takes a tenth of a second: off the event loop, and on another
        # thread than pixels, because the upload's timeout is running.
        upload = await asyncio.to_thread(parse_json, await _read_body(request), query)
    else:
        upload = Upload(await _read_body(request), query)
    upload = _take_url(upload)
    if not upload.data and upload.image_url is None:
        raise MissingPicture
    return upload


@asynccontextmanager
async def upload_within(timeout_s: float) -> AsyncIterator[None]:
    """Bound the time in which the block receives an upload.

    Raises SlowUpload after `timeout_s` seconds, and CallerLeft if the client disconnects.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise slow_upload(timeout_s) from error
    except ClientDisconnect as error:
        raise CallerLeft("the client disconnected before the upload was complete") from error


def slow_upload(timeout_s: float) -> SlowUpload:
    """Return the error for an upload that took longer than `timeout_s`."""
    return SlowUpload(
        f"the body did not arrive within {timeout_s:g} seconds; send a smaller file, or on a faster network"
    )


def invalid_parameters(error: ValidationError, model: type[BaseModel]) -> InvalidParameters:
    """Return the error that names each invalid parameter of `error` and the reason."""
    wrong = [_explain(detail, model) for detail in error.errors(include_url=False, include_context=False)]
    problem = InvalidParameters("; ".join(f"{item['parameter']}: {item['message']}" for item in wrong))
    problem.errors = wrong
    return problem


async def _read_body(request: Request) -> bytes:
    # Not request.body(), which would keep the bytes for as long as the request lives.
    chunks = [chunk async for chunk in request.stream()]
    return await off_loop(sum(map(len, chunks)) > LARGE, b"".join, chunks)


def _take_url(upload: Upload) -> Upload:
    """Move the field `image_url`, where there is one, out of the parameters."""
    fields = dict(upload.fields)
    # Forms send their empty fields, too.
    url = fields.pop("image_url", None) or None
    reason = "must be a string" if url and not isinstance(url, str) else "send it or `image`, not both"
    if url and (upload.data or not isinstance(url, str)):
        error = InvalidParameters(f"image_url: {reason}")
        error.errors = [{"parameter": "image_url", "message": reason}]
        raise error
    return Upload(upload.data, fields, url)


def _explain(detail: Any, model: type[BaseModel]) -> dict[str, str]:  # noqa: ANN401
    name = ".".join(str(part) for part in detail["loc"]) or "body"
    if detail["type"] == "extra_forbidden":
        return {
            "parameter": name,
            "message": f"unknown parameter; the parameters are {', '.join(model.model_fields)}",
        }
    return {"parameter": name, "message": detail["msg"]}


class _InMemory(MultiPartParser):
    """Keeps files in memory, where the body's limit bounds them: a temporary file would double the time."""

    spool_max_size = 0


async def _from_multipart(request: Request, query: dict[str, Any]) -> Upload:
    async with aclosing(request.stream()) as body:
        parser = _InMemory(request.headers, body, max_files=_MAX_FILES, max_fields=MAX_FIELDS)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise MalformedRequest(error.message) from error
    try:
        return await _from_form(form, query)
    finally:
        await form.close()


async def _from_form(form: FormData, query: dict[str, Any]) -> Upload:
    image = form.get("image")
    fields = {name: value for name, value in form.multi_items() if name != "image"}
    for name, value in fields.items():
        if isinstance(value, UploadFile):
            raise MalformedRequest(f"the part {name!r} is a file; only the part `image` may be a file")
    if image is None:
        return Upload(b"", {**query, **fields})
    if not isinstance(image, UploadFile):
        raise MalformedRequest("the part `image` must be a file: give it a filename")
    data = await off_loop((image.size or 0) > LARGE, image.file.read)
    return Upload(data, {**query, **fields})


def parse_json(body: bytes, query: dict[str, Any]) -> Upload:
    """Parse a JSON body with base64 in `image`. Raises MalformedRequest."""
    try:
        fields = from_json(body)
    except ValueError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedRequest("the body must be a JSON object with the picture in base64 as `image`")
    image = fields.pop("image", "")
    if not isinstance(image, str):
        raise MalformedRequest("`image` must be a string of base64")
    try:
        # Browsers prefix it with `data:image/jpeg;base64,`.
        encoded = image.partition(",")[2] if image.startswith("data:") else image
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest(f"`image` is not base64: {error}") from error
    return Upload(data, {**query, **fields})
