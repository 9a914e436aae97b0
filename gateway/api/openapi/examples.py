"""Realistic examples for the OpenAPI document. A test holds each against its schema."""

from typing import Any

from gateway import errors
from gateway.errors import GatewayError
from gateway.service.problem import defect

_REQUEST_ID = "2f0c1f6b9c7f4f0e8a4f3f4a5d0a7c11"
# As much of a base64 picture as says what it is.
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
            "because": "CLAHE of weight 0.31 has raised the local contrast already",
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
                "reason": "no checkpoint; `gpen-gateway models pull gpen-bfr-1024` fetches it",
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
"""An answer by the name of its schema."""

BATCH_LINES: dict[str, dict[str, Any]] = {
    "picture": {"index": 0, "name": "anna.jpg", "status": 200, **ANSWERS["EnhanceAnswer"]},
    "failure": {
        "index": 1,
        "name": "notes.txt",
        "status": 415,
        "problem": {
            "type": "unsupported-picture",
            "title": "Not a picture that can be read",
            "status": 415,
            "detail": "these bytes are no picture; send a JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF",
            "request_id": _REQUEST_ID,
        },
    },
    "end": {"summary": {"done": 1, "failed": 1, "ms": 803}},
}
"""Lines of a batch's answer by what they are."""

_DETAILS: dict[type[GatewayError], str] = {
    errors.GatewayError: str(defect()),
    errors.MalformedRequest: "`image` is not base64: Incorrect padding",
    errors.DamagedPicture: "the picture breaks off before its end; send a whole one",
    errors.MissingKey: "send your API key as `Authorization: Bearer KEY`, or as `X-API-Key`",
    errors.WrongKey: "this API key is not known here; ask whoever runs the gateway for one",
    errors.RevokedKey: "this API key was revoked; ask whoever runs the gateway for another",
    errors.TooLarge: "the body has more than the 50,000,000 bytes that are allowed",
    errors.TooManyPixels: "12000x9000 is more than the 64,000,000 pixels that are allowed",
    errors.UnsupportedPicture: "these bytes are no picture; send a JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF",
    errors.InvalidParameters: "strength: Input should be less than or equal to 100",
    errors.MissingPicture: "send a picture: a multipart file named `image`, an image body, or JSON with "
    "base64 in `image`",
    errors.ImageUrlOff: "`image_url` is off here (GATEWAY_IMAGE_URL); send the picture itself as `image`",
    errors.ImageUrlRefused: "port 22 may not be fetched from",
    errors.ImageUrlUnreachable: "`image_url` answered 404",
    errors.UnknownModel: "the backend has no gpen-bfr-2048; it has gpen-bfr-512",
    errors.SlowUpload: "the body did not arrive within 60 seconds; send a smaller one",
    errors.NoFace: "no face was found; send another photo, or allow `no_face=centre`",
    errors.HeadTurned: "the head is turned 38°; send a frontal photo, or allow `yaw=warn`",
    errors.RateExceeded: "you may send 60 requests in 60 seconds; try again in 12 seconds",
    errors.TooManyAtOnce: "4 of your requests are under way, as many as may be; wait for one of them",
    errors.QueueFull: "64 requests are waiting already; try again later",
    errors.BackendIsBusy: "the backend's queue is full; try again later",
    errors.BackendBroken: "the backend's picture has another size than asked; the backend's log tells more",
    errors.BackendAway: "cannot connect to the backend; try again later",
    errors.NotReady: "this process is stopping; send new requests elsewhere",
    errors.DeadlinePassed: "120 seconds were not enough; send a smaller picture, or raise GATEWAY_TIMEOUT_S",
}


def problem_example(error: type[GatewayError]) -> dict[str, Any]:
    """A problem document of `error`."""
    problem: dict[str, Any] = {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "detail": _DETAILS.get(error, (error.__doc__ or "").splitlines()[0]),
        "request_id": _REQUEST_ID,
    }
    if error is errors.InvalidParameters:
        message = "Input should be less than or equal to 100"
        problem["errors"] = [{"parameter": "strength", "message": message}]
    return problem
