"""The OpenAPI document as a whole: its metadata, and the components that routes refer to."""

from typing import Any

from fastapi import FastAPI

from gateway.api.openapi.examples import ANSWERS
from gateway.schemas.problem import Problem

INFO: dict[str, Any] = {
    "title": "gpen-gateway",
    "summary": "Blurry portrait in, sharp portrait out, from one HTTP call.",
    "contact": {"name": "gpen-gateway"},
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "servers": [{"url": "/", "description": "The gateway that serves this document."}],
    "openapi_tags": [
        {"name": "pictures", "description": "Enhance and standardise."},
        {"name": "models", "description": "The models of the backend."},
        {"name": "health", "description": "Probes and metrics for the operator."},
    ],
}
"""Metadata of the document."""

_URL = {
    "type": "string",
    "format": "uri",
    "description": "URL of the picture, instead of `image`; https only.",
}
_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {"description": "Identifies the result; equal for equal requests.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "Server-Timing": {
        "description": "Milliseconds by stage.",
        "schema": {"type": "string"},
        "example": "decode;dur=9.5, find_faces;dur=12.7, backend;dur=712.4, total;dur=775.9",
    },
    "X-Cache": {
        "description": "Whether the result came from the cache; `off` if there is no cache.",
        "schema": {"type": "string", "enum": ["hit", "miss", "off"]},
    },
    "X-Faces": {
        "description": "Number of faces treated.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-GPEN-Engine": {
        "description": "Engine that restored the faces.",
        "schema": {"type": "string"},
        "example": "torch",
    },
    "X-GPEN-Model": {"description": "Model that restored the faces.", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "The client's own if it is valid, else a new one.",
        "schema": {"type": "string"},
    },
}


def document_app(app: FastAPI, *, image_url: bool) -> None:
    """Add components and examples to the document of `app` on first use.

    image_url: whether to document that parameter.
    """
    infer = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = infer()
            components = document.setdefault("components", {})
            components["headers"] = _HEADERS
            _add_schemas(components.setdefault("schemas", {}))
            for path in document["paths"].values():
                for operation in path.values() if image_url else ():
                    _offer_url(operation)
        return infer()

    app.openapi = complete  # type: ignore[method-assign] # as FastAPI's documentation has it


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Add the schemas that are referred to by name only, and an example to each answer."""
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update({**problem.pop("$defs", {}), "Problem": problem})
    for name, example in ANSWERS.items():
        schemas[name]["examples"] = [example]


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
