"""The OpenAPI document as a whole: what it says of itself, and what its routes refer to."""

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
        {"name": "models", "description": "What the backend can run."},
        {"name": "health", "description": "Probes for whoever runs the gateway."},
    ],
}
"""What the document says of itself."""

_URL = {"type": "string", "format": "uri", "description": "Where the picture is, in place of `image`: https."}
_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {"description": "The same picture has the same one.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "Server-Timing": {
        "description": "Milliseconds by stage.",
        "schema": {"type": "string"},
        "example": "decode;dur=9.5, find_faces;dur=12.7, backend;dur=712.4, total;dur=775.9",
    },
    "X-Cache": {
        "description": "Whether the result was kept from before.",
        "schema": {"type": "string", "enum": ["hit", "miss", "off"]},
    },
    "X-Faces": {
        "description": "How many faces were treated.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-GPEN-Engine": {"description": "What restored.", "schema": {"type": "string"}, "example": "torch"},
    "X-GPEN-Model": {"description": "By which model.", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "The caller's own where that is sane, else a new one.",
        "schema": {"type": "string"},
    },
}


def documented(app: FastAPI, *, image_url: bool) -> None:
    """Completes the document of `app` once it is asked for. image_url: whether it is a parameter."""
    inferred = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = inferred()
            components = document.setdefault("components", {})
            components["headers"] = _HEADERS
            _add_schemas(components.setdefault("schemas", {}))
            for path in document["paths"].values():
                for operation in path.values() if image_url else ():
                    _offer_url(operation)
        return inferred()

    app.openapi = completed  # type: ignore[method-assign] # as FastAPI's documentation has it


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Adds what is referred to by name alone, and an example to each answer."""
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
