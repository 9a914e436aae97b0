"""Examples of requests and answers for the OpenAPI document. A test checks each against its schema."""

from typing import Any

from gateway.api.openapi.problem_examples import problem_example
from gateway.errors import UnsupportedPicture

# The beginning of a picture in base64.
_JPEG_BASE64 = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYG"
_PNG_BASE64 = "iVBORw0KGgoAAAANSUhEUgAAA4AAAAOACAIAAAAMe2pCAAA="

FORM: dict[str, Any] = {"image": "(the bytes of portrait.jpg)", "strength": 80, "framing": "face"}
"""Fields of a multipart request."""

JSON: dict[str, Any] = {"image": _JPEG_BASE64, "output": "photo", "format": "webp"}
"""A JSON request."""

PREPROCESS_FORM: dict[str, Any] = {"image": "(the bytes of portrait.jpg)", "framing": "face"}
"""Fields of a multipart request that only standardises."""

PREPROCESS_JSON: dict[str, Any] = {"image": _JPEG_BASE64, "clahe": "off", "format": "png"}
"""A JSON request that only standardises."""

_FACE = {
    "landmarks5": [[189.78, 242.84], [313.74, 244.88], [266.45, 315.7], [192.55, 361.66], [299.1, 364.93]],
    "bbox": [92.32, 107.64, 372.33, 450.08],
    "score": 0.942,
    "pose": {"yaw": -11.3, "pitch": -13.8, "roll": 1.0},
}

_PREPROCESS_REPORT: dict[str, Any] = {
    "finder": "yunet",
    "face": _FACE,
    "portrait": {
        "matrix": [[2.0, 0.0, -54.5], [0.0, 2.0, -38.5]],
        "short_edge": 1024.0,
        "size": [896, 896],
        "off_centre_px": 1.6,
    },
    "light": {
        "before": {"mean": 151.4, "spread": 35.8, "shadows": 0.0, "highlights": 0.0},
        "after": {"mean": 146.1, "spread": 39.5, "shadows": 0.0001, "highlights": 0.0},
        "exposure": {"direction": "lowered", "gamma": 1.113},
        "clahe": {"weight": 0.31, "clip_limit": 1.95},
    },
    "quality": {"interocular_px": 124.0, "sharpness": 9.9, "noise_sigma": 0.28},
    "warnings": [],
    "timings_ms": {"decode": 9.5, "find_faces": 12.7, "frame": 9.6, "light": 22.8, "total": 56.2},
}  # fmt: skip

_ENHANCE_REPORT: dict[str, Any] = {
    **_PREPROCESS_REPORT,
    "timings_ms": {**_PREPROCESS_REPORT["timings_ms"], "backend": 712.4, "total": 775.9},
    "faces": [_FACE],
    "left_alone": [],
    "linkage": [
        {
            "face": 0,
            "rule": "clahe",
            "parameter": "brightness",
            "asked": 30.0,
            "effective": 25.35,
            "because": "CLAHE of weight 0.31 already raised the local contrast",
        }
    ],
    "engine": "torch",
    "model": "gpen-bfr-512",
}  # fmt: skip

ANSWERS: dict[str, dict[str, Any]] = {
    "EnhanceAnswer": {
        "image_base64": _JPEG_BASE64,
        "media_type": "image/jpeg",
        "report": _ENHANCE_REPORT,
    },
    "PreprocessAnswer": {
        "image_base64": _JPEG_BASE64,
        "media_type": "image/jpeg",
        "report": _PREPROCESS_REPORT,
    },
    "ArticleAnswer": {"image_base64": _PNG_BASE64},
    "ModelsAnswer": {
        "default": "gpen-bfr-512",
        "models": [
            {
                "name": "gpen-bfr-512",
                "ready": True,
                "engine": "torch",
                "task": "restore",
                "size": 512,
                "default": True,
                "reason": None,
            },
            {
                "name": "gpen-bfr-1024",
                "ready": False,
                "engine": "torch",
                "task": "restore",
                "size": 1024,
                "default": False,
                "reason": "gpen-bfr-1024 has no checkpoint: run `gpen-gateway models pull gpen-bfr-1024`",
            },
        ],
    },
    "HealthAnswer": {"status": "ok", "version": "0.1.0"},
    "ReadyAnswer": {
        "status": "ready",
        "finder": "yunet",
        "engine": "torch",
        "model": "gpen-bfr-512",
        "backend": "http://gpen-backend:8001/",
        "breaker": "closed",
        "notices": [],
    },
}
"""One answer for each schema, by the schema's name."""

BATCH_LINES: dict[str, dict[str, Any]] = {
    "picture": {"index": 0, "name": "anna.jpg", "status": 200, **ANSWERS["EnhanceAnswer"]},
    "failure": {
        "index": 1,
        "name": "notes.txt",
        "status": 415,
        "problem": problem_example(UnsupportedPicture),
    },
    "end": {"summary": {"done": 1, "failed": 1, "ms": 803}},
}
"""Lines of a batch's response, by kind."""
