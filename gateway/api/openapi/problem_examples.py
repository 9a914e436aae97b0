"""Examples of errors for the OpenAPI document. Each is raised by the code that raises it for clients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gateway import errors
from gateway.api.upload import Upload, parse_json, slow_upload
from gateway.errors import GatewayError
from gateway.faces import Face, Pose
from gateway.image_url.fetcher import check_url, unexpected_status
from gateway.imaging.decoder import PixelLimits, decode
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.picture_request import deadline_passed
from gateway.service.access import rate_exceeded, too_many_at_once
from gateway.service.admission import queue_full
from gateway.service.middleware import body_too_large
from gateway.service.problem import problem_of
from gateway.service.rates import Quota
from gateway.settings import FetchSettings
from gateway.standardise.portrait import choose_face
from gateway.upstream.client_errors import map_client_errors
from gateway.upstream.model_choice import choose_model
from gpen_client.http.failures import refusal
from gpen_common.types import ModelInfo

_REQUEST_ID = "2f0c1f6b9c7f4f0e8a4f3f4a5d0a7c11"
_LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
_BACKEND = "http://gpen-backend:8001"
# PNGs that end before their pixels, 64x64 and 9000x8000, 8 bits RGB (PNG, third edition, section 11.2).
_DAMAGED_PNG, _LARGE_PNG = (
    bytes.fromhex(f"89504e470d0a1a0a0000000d49484452{header}0000001049444154")
    for header in ("00000040000000400802000000250be689", "0000232800001f40080200000069d3a7fc")
)


def problem_example(error: type[GatewayError]) -> dict[str, Any]:
    """Return a problem document of `error`."""
    raise_error = _EXAMPLES.get(error, error)
    try:
        example = raise_error()
    except GatewayError as raised:
        example = raised
    return problem_of(example, _REQUEST_ID).model_dump(exclude_none=True)


def _turned_face() -> Face:
    landmarks5 = np.array([(40, 40), (60, 40), (50, 52), (42, 62), (58, 62)], np.float32)
    return Face((30, 20, 70, 80), landmarks5, 0.9, Pose(38, 0, 0))


def _raise_from_backend(status: int, body: bytes) -> None:
    """Raise the error for a backend's response."""
    with map_client_errors():
        raise refusal(_BACKEND, status, {}, body)


_EXAMPLES: dict[type[GatewayError], Callable[[], Any]] = {
    errors.MalformedRequest: lambda: parse_json(b'{"image": "/9j/4"}', {}),
    errors.DamagedPicture: lambda: decode(_DAMAGED_PNG, _LIMITS),
    errors.TooLarge: lambda: body_too_large(50_000_000),
    errors.TooManyPixels: lambda: decode(_LARGE_PNG, _LIMITS),
    errors.UnsupportedPicture: lambda: decode(b"notes", _LIMITS),
    errors.InvalidParameters: lambda: Upload(b"", {"strength": 101}).params(EnhanceParams),
    errors.ImageUrlRefused: lambda: check_url("https://example.org:22/a.jpg", FetchSettings()),
    errors.ImageUrlUnreachable: lambda: unexpected_status(404),
    errors.UnknownModel: lambda: choose_model(
        [ModelInfo("gpen-bfr-512", True, "torch", 512)], "gpen-bfr-2048", "restore", "gpen-bfr-512"
    ),
    errors.SlowUpload: lambda: slow_upload(60),
    errors.NoFace: lambda: choose_face([], PreprocessParams(no_face="reject"), "yunet"),
    errors.HeadTurned: lambda: choose_face([_turned_face()], PreprocessParams(yaw="reject"), "yunet"),
    errors.RateExceeded: lambda: rate_exceeded(Quota(60, 60, 0, 12, True)),
    errors.TooManyAtOnce: lambda: too_many_at_once(4),
    errors.QueueFull: lambda: queue_full(80),
    errors.BackendIsBusy: lambda: _raise_from_backend(429, b'{"error": "the queue is full"}'),
    errors.BackendBroken: lambda: _raise_from_backend(500, b'{"error": "gpen-bfr-512 failed"}'),
    errors.BackendAway: lambda: _raise_from_backend(503, b'{"error": "gpen-bfr-512 is being loaded"}'),
    errors.DeadlinePassed: lambda: deadline_passed(120),
}
"""Raises or returns one error of each type whose text depends on the request; the others have one text."""
