"""Read a backend's answers and check them against the request."""

from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from gpen_client.errors import BackendProtocolError
from gpen_client.wire.messages import InferResponse
from gpen_common.types import Restored

UNKNOWN = "unknown"
"""The engine of a server that names none."""

# Longest part of the backend's text that an error quotes, characters.
_MAX_TEXT = 80

_Value = TypeVar("_Value", str, int)


class MetadataParameters(BaseModel):
    """What our backend adds to the protocol's description of a model."""

    model_config = ConfigDict(strict=True)

    size: int | None = None
    default: bool = False
    task: str = "restore"


class ModelMetadata(BaseModel):
    """The part of the protocol's description of a model that the client uses."""

    model_config = ConfigDict(strict=True)

    platform: str = ""
    parameters: MetadataParameters = MetadataParameters()


def read_restored(response: InferResponse, shape: tuple[int, ...], model: str) -> Restored:
    """Read a restoration from a response.

    shape: (H, W, 3) that the picture must have. model: the name in the request, used if the response has
    none. A missing engine is "", a missing count 0.
    Raises BackendProtocolError for a picture of another shape or type, and for parameters of other types.
    """
    pixels = response.tensor("image")
    if pixels is None:
        raise BackendProtocolError("the backend's answer has no tensor 'image'")
    if pixels.shape != (1, *shape) or pixels.dtype != np.uint8:
        raise BackendProtocolError(
            f"the backend's picture is {pixels.shape} {pixels.dtype}, not {shape} uint8"
        )
    return Restored(
        pixels=pixels[0],
        engine=_parameter(response, "engine", str, ""),
        model=_parameter(response, "model", str, "") or response.model_name or model,
        faces=_parameter(response, "faces", int, 0),
        batch_size=_parameter(response, "batch_size", int, 0),
        timings_ms=_timings_ms(response),
    )


def _timings_ms(response: InferResponse) -> dict[str, float]:
    timings = {}
    for name, value in response.parameters.items():
        if name.endswith("_ms"):
            # Decoding has rejected NaN and infinity.
            if isinstance(value, bool | str) or value < 0:
                raise BackendProtocolError(
                    f"the backend's {name[:_MAX_TEXT]!r} must be a number of milliseconds, 0 or more"
                )
            timings[name.removesuffix("_ms")] = float(value)
    return timings


def _parameter(response: InferResponse, name: str, kind: type[_Value], default: _Value) -> _Value:
    value = response.parameters.get(name, default)
    if type(value) is not kind:
        raise BackendProtocolError(
            f"the backend's {name!r} must be of type {kind.__name__}, not {repr(value)[:_MAX_TEXT]}"
        )
    return value
