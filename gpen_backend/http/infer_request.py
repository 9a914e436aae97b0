"""Read a restoration from a message of the protocol, and validate it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from gpen_backend.http.errors import ProtocolError
from gpen_backend.settings import BackendSettings
from gpen_client.wire.messages import InferRequest, decode_request
from gpen_common.types import Pixels, Points, RestoreParams

_TIMEOUT = "timeout_ms"
_INPUTS = ("image", "landmarks")


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """One restoration.

    image: (H, W, 3) uint8 RGB. landmarks: (F, 5, 2) float32, (x, y) px, or None. timeout_s: seconds that the
    client waits for the answer, None if without limit. binary: send the answer as bytes.
    """

    image: Pixels
    landmarks: Points | None
    params: RestoreParams
    timeout_s: float | None
    id: str | None
    binary: bool


def read_request(body: bytes, header_length: int | None, settings: BackendSettings) -> RestoreRequest:
    """Decode and validate a body. Raises WireError if it is malformed, ProtocolError 400 if it is invalid."""
    message = decode_request(body, header_length)
    for tensor in message.tensors:
        if tensor.name not in _INPUTS:
            raise ProtocolError(
                400, f"unknown input {tensor.name[:80]!r}; the inputs are image and landmarks"
            )
    if any(name != "image" for name in message.outputs):
        raise ProtocolError(400, "unknown output; the only output is image")
    params = {name: value for name, value in message.parameters.items() if name != _TIMEOUT}
    checked = _params(params)
    return RestoreRequest(
        image=_image(message, settings.max_pixels, checked.upscale),
        landmarks=_landmarks(message, settings.max_faces),
        params=checked,
        timeout_s=_timeout(message.parameters),
        id=message.id,
        binary=message.binary_output,
    )


def _image(message: InferRequest, max_pixels: int, upscale: float) -> Pixels:
    image = message.tensor("image")
    if image is None:
        raise ProtocolError(400, "the input image is missing")
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[0] != 1 or image.shape[3] != 3:
        raise ProtocolError(400, f"image must be UINT8 [1, H, W, 3], not {image.dtype} {list(image.shape)}")
    height, width = image.shape[1:3]
    if not height * width:
        raise ProtocolError(400, "image has no pixels")
    pixels = round(height * width * upscale**2)
    if pixels > max_pixels:
        raise ProtocolError(400, f"image has {pixels} pixels; the limit is {max_pixels}")
    return np.ascontiguousarray(image[0])


def _landmarks(message: InferRequest, max_faces: int) -> Points | None:
    landmarks = message.tensor("landmarks")
    if landmarks is None:
        return None
    if landmarks.dtype != np.float32 or landmarks.ndim != 3 or landmarks.shape[1:] != (5, 2):
        actual = f"{landmarks.dtype} {list(landmarks.shape)}"
        raise ProtocolError(400, f"landmarks must be FP32 [F, 5, 2], not {actual}")
    if len(landmarks) > max_faces:
        raise ProtocolError(400, f"landmarks has {len(landmarks)} faces; the limit is {max_faces}")
    return landmarks


def _params(parameters: Mapping[str, object]) -> RestoreParams:
    try:
        return RestoreParams.model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])[:80]
        if first["type"] == "extra_forbidden":
            known = ", ".join((*RestoreParams.model_fields, _TIMEOUT))
            raise ProtocolError(400, f"unknown parameter {name!r}; the parameters are {known}") from error
        raise ProtocolError(400, f"parameter {name!r}: {first['msg']}") from error


def _timeout(parameters: Mapping[str, object]) -> float | None:
    """Return the seconds of `timeout_ms`."""
    value = parameters.get(_TIMEOUT)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ProtocolError(400, f"parameter {_TIMEOUT!r} must be a positive number of milliseconds")
    return value / 1000
