"""OpenAPI of single routes, where FastAPI cannot infer it: bodies of three kinds, answers, problems."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from gateway.api.openapi import examples
from gateway.api.openapi.problem_examples import problem_example
from gateway.errors import (
    BackendAway,
    BackendBroken,
    BackendIsBusy,
    DeadlinePassed,
    GatewayError,
    HeadTurned,
    InvalidParameters,
    MalformedRequest,
    NoFace,
    NotReady,
    QueueFull,
    RateExceeded,
    SlowUpload,
    TooLarge,
    TooManyAtOnce,
    TryLater,
    UnsupportedPicture,
)
from gateway.imaging.encoder import OutputFormat
from gateway.params import EnhanceParams
from gateway.service.problem import PROBLEM_JSON

UPLOAD_ERRORS = (
    MalformedRequest,
    SlowUpload,
    TooLarge,
    UnsupportedPicture,
    InvalidParameters,
    NoFace,
    HeadTurned,
    RateExceeded,
    TooManyAtOnce,
    QueueFull,
    NotReady,
    DeadlinePassed,
    GatewayError,
)
"""Errors of every route that takes an upload."""

BACKEND_ERRORS = (BackendIsBusy, BackendBroken, BackendAway, DeadlinePassed)
"""Errors of the backend."""

_PICTURE = {"type": "string", "format": "binary", "description": "A JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF."}
_RESULT = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "byte", "description": "The picture's bytes in base64."}
_WITH_PORTRAIT = ("Server-Timing", "X-Cache", "X-Faces", "X-Request-ID")
_WITH_RESULT = (*_WITH_PORTRAIT, "ETag", "X-GPEN-Engine", "X-GPEN-Model")


def picture_body(params: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` for a route that takes a picture and `params` in any of the three forms."""
    properties = _properties(params)
    enhances = issubclass(params, EnhanceParams)
    form = examples.FORM if enhances else examples.PREPROCESS_FORM
    json = examples.JSON if enhances else examples.PREPROCESS_JSON
    return {
        "parameters": _query(properties),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {**_object({"image": _PICTURE, **properties}), "example": form},
                "image/*": {"schema": _PICTURE},
                "application/json": {**_object({"image": _BASE64, **properties}), "example": json},
            },
        },
    }


def batch_body(params: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` for a route that takes many pictures, and `params` for all of them."""
    properties = _properties(params)
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "Pictures, or ZIPs of pictures: every part that has a filename, under any field name.",
    }
    return {
        "parameters": _query(properties),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {"files": files, **properties}}
                },
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    }


def picture_responses(
    answer: type[BaseModel], *errors: type[GatewayError], etag: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Return `responses` of a route that returns a picture, or `answer` in JSON, or one of `errors`.

    etag: whether the route answers If-None-Match.
    """
    content: dict[str, Any] = {f"image/{name}": {"schema": _RESULT} for name in get_args(OutputFormat)}
    headers = _references("headers", _WITH_RESULT if etag else _WITH_PORTRAIT)
    same: dict[int | str, dict[str, Any]] = {
        304: {"description": "The client has this picture: `If-None-Match` lists its ETag."}
    }
    return {
        200: {"description": "The picture.", "content": content, "headers": headers, "model": answer},
        **(same if etag else {}),
        **error_responses(*errors),
    }


def error_responses(*errors: type[GatewayError]) -> dict[int | str, dict[str, Any]]:
    """Return `responses` for `errors` and their subclasses, which all have one schema."""
    by_status: dict[int | str, list[type[GatewayError]]] = defaultdict(list)
    for error in dict.fromkeys(one for top in errors for one in _family(top)):
        by_status[error.status].append(error)
    return {status: _problem_response(by_status[status]) for status in by_status}


def _problem_response(errors: list[type[GatewayError]]) -> dict[str, Any]:
    problems = {one.type: {"summary": one.title, "value": problem_example(one)} for one in errors}
    response = {
        "description": "; ".join(dict.fromkeys(f"{error.title} (`{error.type}`)" for error in errors)) + ".",
        "content": {PROBLEM_JSON: {"schema": _reference("schemas", "Problem"), "examples": problems}},
    }
    if any(issubclass(error, TryLater) for error in errors):
        response["headers"] = _references("headers", ("Retry-After",))
    return response


def _family(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    # Without subclasses: every error is one of GatewayError.
    if error is GatewayError:
        return
    for below in error.__subclasses__():
        yield from _family(below)


def _properties(params: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of `params` by name. A parameter that may be null is described as optional."""
    properties = {}
    for name, schema in params.model_json_schema()["properties"].items():
        kept = {key: value for key, value in schema.items() if key != "title"}
        if kept.get("default", ...) is None:
            del kept["default"]
            (own,) = (one for one in kept.pop("anyOf") if one != {"type": "null"})
            kept = {**own, **kept}
        properties[name] = kept
    return properties


def _query(properties: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {key: value for key, value in schema.items() if key != "description"},
            "description": schema.get("description", ""),
        }
        for name, schema in properties.items()
    ]


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    known = {"type": "object", "required": ["image"], "properties": properties, "additionalProperties": False}
    return {"schema": known}


def _references(kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _reference(kind, name) for name in names}


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
