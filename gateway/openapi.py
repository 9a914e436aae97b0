"""The OpenAPI of routes that take pictures: FastAPI cannot infer bodies of three kinds."""

from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel

from gateway.errors import (
    BackendAway,
    BackendBroken,
    BackendIsBusy,
    DeadlinePassed,
    GatewayError,
    InvalidParameters,
    MalformedRequest,
    QueueFull,
    SlowUpload,
    TooLarge,
    UnsupportedPicture,
)
from gateway.photo import OutputFormat
from gateway.schemas import Problem
from gateway.service.problem import PROBLEM_JSON

_PICTURE = {"type": "string", "format": "binary", "description": "A JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF."}
_URL = {"type": "string", "format": "uri", "description": "Where the picture is, in place of `image`: https."}
_BASE64 = {"type": "string", "format": "byte", "description": "The picture's bytes in base64."}

UPLOAD_ERRORS = (
    MalformedRequest,
    SlowUpload,
    TooLarge,
    UnsupportedPicture,
    InvalidParameters,
    QueueFull,
    DeadlinePassed,
)
"""What can be wrong with an upload."""

BACKEND_ERRORS = (BackendIsBusy, BackendBroken, BackendAway, DeadlinePassed)
"""What can be wrong behind the gateway."""


def picture_body(params: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a route that takes a picture and `params` in any of the three shapes."""
    properties = params.model_json_schema()["properties"]
    return {
        "parameters": _query(properties),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _object({"image": _PICTURE, **properties})},
                "image/*": {"schema": _PICTURE},
                "application/json": {"schema": _object({"image": _BASE64, **properties})},
            },
        },
    }


def batch_body(params: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a route that takes many pictures, and `params` for them all."""
    properties = params.model_json_schema()["properties"]
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "Pictures, and ZIPs of pictures: every part with a filename, whatever its name.",
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
    answer: type[BaseModel], *errors: type[GatewayError]
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that returns a picture (`answer` to who accepts JSON) or one of `errors`."""
    pictures = {f"image/{name}": {"schema": _PICTURE} for name in get_args(OutputFormat)}
    return {
        200: {"description": "The picture.", "content": pictures, "model": answer},
        **error_responses(*errors),
    }


def error_responses(*errors: type[GatewayError]) -> dict[int | str, dict[str, Any]]:
    """`responses` for `errors`, which all have one schema."""
    return {
        error.status: {
            "description": error.title,
            "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}},
        }
        for error in errors
    }


def with_image_url(app: FastAPI) -> None:
    """Adds `image_url` to the document of `app`, wherever a picture is taken."""
    document = app.openapi

    def with_url() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in document()["paths"].values():
                for operation in path.values():
                    _offer_url(operation)
        return document()

    app.openapi = with_url  # type: ignore[method-assign] # as FastAPI's documentation has it


def _offer_url(operation: dict[str, Any]) -> None:
    content = operation.get("requestBody", {}).get("content", {})
    schemas = [
        shape["schema"] for shape in content.values() if "image" in shape["schema"].get("properties", {})
    ]
    for schema in schemas:
        schema["properties"] = {"image_url": _URL, **schema["properties"]}
        schema["required"] = []
    if schemas:
        operation["requestBody"]["required"] = False
        url = {"name": "image_url", "in": "query", "required": False, "schema": _URL}
        operation["parameters"] = [*operation["parameters"], url]


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
    return {"type": "object", "required": ["image"], "properties": properties, "additionalProperties": False}
