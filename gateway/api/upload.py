"""What a request brings: a picture and parameters, in any of three shapes."""

import asyncio
import base64
import binascii
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gateway.errors import InvalidParameters, MalformedRequest, MissingPicture
from gpen_common.pieces import LARGE
from gpen_common.threads import off_loop

Params = TypeVar("Params", bound=BaseModel)

# Every parameter there is, twice over.
_MAX_FIELDS = 64
_MAX_FILES = 4


@dataclass(frozen=True, slots=True)
class Upload:
    """data: the picture's bytes. fields: parameters as they came, strings or JSON values.

    image_url: where the picture is, in place of data.
    """

    data: bytes
    fields: dict[str, Any]
    image_url: str | None = None

    def params(self, model: type[Params]) -> Params:
        """The parameters, checked. Raises InvalidParameters, which lists every one that is wrong."""
        try:
            return model.model_validate(self.fields)
        except ValidationError as error:
            raise invalid_parameters(error, model) from error


async def read_upload(request: Request) -> Upload:
    """The upload of `request`: multipart with a file `image`, JSON with base64 in it, or the bare picture.

    Query parameters count in all three; a field of the body with the same name wins.
    Raises MissingPicture, MalformedRequest, and whatever the body's limits raise.
    """
    query: dict[str, Any] = dict(request.query_params)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        upload = await _from_multipart(request, query)
    elif content_type == "application/json" or content_type.endswith("+json"):
        # Parsing and decoding a large body takes a tenth of a second: not on the event loop, nor behind other
        # requests' pixels, for the upload's time is running.
        upload = await asyncio.to_thread(_from_json, await request.body(), query)
    else:
        upload = Upload(await request.body(), query)
    upload = _with_url(upload)
    if not upload.data and upload.image_url is None:
        raise MissingPicture(
            "send a picture: a multipart file named `image`, an image body, or JSON with base64 in `image`"
        )
    return upload


def invalid_parameters(error: ValidationError, model: type[BaseModel]) -> InvalidParameters:
    """What `error` means to a caller: each wrong parameter and why."""
    wrong = [_explained(detail, model) for detail in error.errors(include_url=False, include_context=False)]
    problem = InvalidParameters("; ".join(f"{item['parameter']}: {item['message']}" for item in wrong))
    problem.errors = wrong
    return problem


def _with_url(upload: Upload) -> Upload:
    """`upload` with the field `image_url`, where there is one, taken out of the parameters."""
    fields = dict(upload.fields)
    # A form sends its empty fields, too.
    url = fields.pop("image_url", None) or None
    why = "must be a string" if url and not isinstance(url, str) else "send it or `image`, not both"
    if url and (upload.data or not isinstance(url, str)):
        problem = InvalidParameters(f"image_url: {why}")
        problem.errors = [{"parameter": "image_url", "message": why}]
        raise problem
    return Upload(upload.data, fields, url)


def _explained(detail: Any, model: type[BaseModel]) -> dict[str, str]:  # noqa: ANN401
    name = ".".join(str(part) for part in detail["loc"]) or "body"
    if detail["type"] == "extra_forbidden":
        return {"parameter": name, "message": f"unknown; the parameters are {', '.join(model.model_fields)}"}
    return {"parameter": name, "message": detail["msg"]}


class _InMemory(MultiPartParser):
    """Keeps files where they arrive: the body's limit bounds them, and a disk would take as long again."""

    spool_max_size = 0


async def _from_multipart(request: Request, query: dict[str, Any]) -> Upload:
    async with aclosing(request.stream()) as body:
        parser = _InMemory(request.headers, body, max_files=_MAX_FILES, max_fields=_MAX_FIELDS)
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
            raise MalformedRequest(f"the part {name!r} is a file; only `image` may be one")
    if image is None:
        return Upload(b"", {**query, **fields})
    if not isinstance(image, UploadFile):
        raise MalformedRequest("the part `image` must be a file: give it a filename")
    data = await off_loop((image.size or 0) > LARGE, image.file.read)
    return Upload(data, {**query, **fields})


def _from_json(body: bytes, query: dict[str, Any]) -> Upload:
    try:
        fields = from_json(body)
    except ValueError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedRequest("the body must be a JSON object with base64 in `image`")
    image = fields.pop("image", "")
    if not isinstance(image, str):
        raise MalformedRequest("`image` must be a string of base64")
    try:
        # Browsers write `data:image/jpeg;base64,` in front.
        encoded = image.partition(",")[2] if image.startswith("data:") else image
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest(f"`image` is not base64: {error}") from error
    return Upload(data, {**query, **fields})
