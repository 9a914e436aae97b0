"""The Open Inference Protocol v2 over HTTP, with its binary tensor data extension: messages <-> bytes.

Sources: "Open Inference Protocol, inference REST" (kserve/open-inference-protocol) and "Binary Tensor Data
Extension" (triton-inference-server/server, docs/protocol). A message is a JSON object; tensors marked with
`binary_data_size` follow it, in order, little-endian and row-major, and an HTTP header has the JSON's length.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias, TypeVar

from numpy.typing import NDArray
from pydantic import AfterValidator, Field, ValidationError

from gpen_client.errors import WireError
from gpen_client.wire.tensors import (
    JsonModel,
    Tensor,
    TensorJson,
    describe,
    quote,
    read_tensors,
    to_little_endian,
)

__all__ = [
    "HEADER_LENGTH",
    "InferRequest",
    "InferResponse",
    "Parameters",
    "Tensor",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "read_header_length",
]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header with the number of bytes of JSON before the binary tensors."""

Parameters: TypeAlias = Mapping[str, str | int | float | bool]
"""Parameters of the protocol: a string, a finite number or a boolean by name."""

# Ample for any model. A hostile list fails before its entries are validated.
_MAX_TENSORS = 64
# The binary extension's request parameter for "send every output as bytes".
_ALL_BINARY = "binary_data_output"


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A request to a model.

    outputs: names of the tensors to return; empty means all. binary_output: return them as bytes.
    """

    tensors: Sequence[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str | None = None
    outputs: Sequence[str] = ()
    binary_output: bool = False

    def tensor(self, name: str) -> NDArray[Any] | None:
        """Return the input of that name, if any."""
        return _find(self.tensors, name)


@dataclass(frozen=True, eq=False)
class InferResponse:
    """A model's response. model_name: empty if the server sends none."""

    model_name: str
    tensors: Sequence[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str | None = None
    model_version: str | None = None

    def tensor(self, name: str) -> NDArray[Any] | None:
        """Return the output of that name, if any."""
        return _find(self.tensors, name)


def encode_request(request: InferRequest) -> tuple[dict[str, str], bytes]:
    """Write `request` as HTTP headers and body, with every tensor and every wanted output as bytes.

    Raises WireError for a tensor or a parameter that the protocol cannot represent.
    """
    with _wire_errors("the request"):
        message = _RequestJson(
            id=request.id,
            parameters={**request.parameters, _ALL_BINARY: True},
            inputs=[describe(tensor, binary=True) for tensor in request.tensors],
            outputs=[_OutputJson(name=name, parameters=_BINARY) for name in request.outputs] or None,
        )
        return _assemble(message, request.tensors)


def decode_request(body: bytes, header_length: int | None) -> InferRequest:
    """Read the request in an HTTP body.

    header_length: value of HEADER_LENGTH, None if it was not sent. Tensors sent as bytes are read-only views
    of `body`. Their numbers are not checked: a binary FP32 may be NaN. Raises WireError if it is malformed.
    """
    message, binary = _parse(_RequestJson, body, header_length)
    parameters = dict(message.parameters or {})
    default = parameters.pop(_ALL_BINARY, False) is True
    outputs = message.outputs or []
    choices = [output.parameters.binary_data if output.parameters else None for output in outputs]
    return InferRequest(
        tensors=read_tensors(message.inputs, binary),
        parameters=parameters,
        id=message.id,
        outputs=[output.name for output in outputs],
        binary_output=all(default if one is None else one for one in choices) if choices else default,
    )


def encode_response(response: InferResponse, binary: bool) -> tuple[dict[str, str], bytes]:
    """Write `response` as HTTP headers and body, its tensors as bytes or as JSON numbers.

    Raises WireError for a tensor or a parameter that the protocol cannot represent; JSON has no NaN or
    infinity.
    """
    with _wire_errors("the response"):
        message = _ResponseJson(
            model_name=response.model_name,
            model_version=response.model_version,
            id=response.id,
            parameters=dict(response.parameters),
            outputs=[describe(tensor, binary) for tensor in response.tensors],
        )
        return _assemble(message, response.tensors if binary else None)


def decode_response(body: bytes, header_length: int | None) -> InferResponse:
    """Read the response in an HTTP body, like `decode_request`. Raises WireError."""
    message, binary = _parse(_ResponseJson, body, header_length)
    return InferResponse(
        model_name=message.model_name or "",
        tensors=read_tensors(message.outputs, binary),
        parameters=message.parameters or {},
        id=message.id,
        model_version=message.model_version,
    )


def read_header_length(headers: Mapping[str, str]) -> int | None:
    """Read HEADER_LENGTH from HTTP headers; None if it was not sent. Raises WireError unless it is digits.

    headers: a mapping that ignores case, as httpx's and Starlette's do, or one with lower-case keys.
    """
    value = headers.get(HEADER_LENGTH, headers.get(HEADER_LENGTH.lower()))
    if value is None:
        return None
    # More digits than any body's length has; int() rejects over 4,300.
    if not re.fullmatch("[0-9]{1,18}", value):
        raise WireError(f"{HEADER_LENGTH} must be a number of bytes, not {quote(value)}")
    return int(value)


def _require_scalars(parameters: dict[str, Any]) -> dict[str, Any]:
    # Stop at the first bad entry: a union of types would collect four errors for each of a million.
    for name, value in parameters.items():
        if not _is_scalar(value):
            raise ValueError(f"parameter {quote(name)} must be a string, a finite number or a boolean")
    return parameters


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    # Other readers have 64 bits; Python's larger integers would overflow there.
    return isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**64)


_Parameters = Annotated[dict[str, Any], AfterValidator(_require_scalars)]
_Tensors = Annotated[list[TensorJson], Field(max_length=_MAX_TENSORS)]


class _OutputParameters(JsonModel):
    binary_data: bool | None = None


class _OutputJson(JsonModel):
    name: str
    parameters: _OutputParameters | None = None


class _RequestJson(JsonModel):
    id: str | None = None
    parameters: _Parameters | None = None
    inputs: _Tensors
    outputs: Annotated[list[_OutputJson], Field(max_length=_MAX_TENSORS)] | None = None


class _ResponseJson(JsonModel):
    # Required by the protocol, but Triton's own examples leave it out.
    model_name: str | None = None
    model_version: str | None = None
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: _Tensors


_BINARY = _OutputParameters(binary_data=True)
_Message = TypeVar("_Message", _RequestJson, _ResponseJson)


@contextmanager
def _wire_errors(what: str) -> Iterator[None]:
    """Raise WireError in place of pydantic's errors."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = quote(".".join(map(str, first["loc"])) or "its JSON")
        raise WireError(f"{what} is malformed at {where}: {first['msg']}") from error
    except ValueError as error:
        raise WireError(f"{what} cannot be written as JSON: {error}") from error


def _assemble(message: JsonModel, tensors: Sequence[Tensor] | None) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a message. tensors: those that follow the JSON; None for JSON alone."""
    head = message.model_dump_json(exclude_none=True).encode()
    if tensors is None:
        return {"Content-Type": "application/json"}, head
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return headers, b"".join((head, *map(to_little_endian, tensors)))


def _parse(kind: type[_Message], body: bytes, header_length: int | None) -> tuple[_Message, memoryview]:
    """Return the JSON at the front of `body`, and a view of the bytes after it."""
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise WireError(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes")
    with _wire_errors("the message"):
        return kind.model_validate_json(body[:length]), memoryview(body)[length:]


def _find(tensors: Sequence[Tensor], name: str) -> NDArray[Any] | None:
    return next((tensor.data for tensor in tensors if tensor.name == name), None)
