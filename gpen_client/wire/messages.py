"""The Open Inference Protocol v2 over HTTP, with its binary tensor data extension: messages <-> bytes.

Sources: "Open Inference Protocol, inference REST" (kserve/open-inference-protocol) and "Binary Tensor Data
Extension" (triton-inference-server/server, docs/protocol). A message is a JSON object; tensors marked with
`binary_data_size` follow it, in order, little-endian and row-major, and a header tells the JSON's length.
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
from gpen_client.wire.tensors import JsonModel, Tensor, TensorJson, described, gathered, little_endian, quoted
from gpen_common.pieces import Piece, Pieces

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
    "header_length",
]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header that tells how many bytes of JSON come before the binary tensors."""

Parameters: TypeAlias = Mapping[str, str | int | float | bool]
"""What the protocol allows as parameters: names with a string, a finite number or a boolean."""

# Ample for any model; a bound lets a hostile list fail before each of its entries is looked at.
_MAX_TENSORS = 64
# The binary extension's word, in a request's parameters, for "every output as bytes".
_ALL_BINARY = "binary_data_output"


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a caller asks of a model.

    outputs: names of the tensors that are wanted; empty means all. binary_output: they are wanted as bytes.
    """

    tensors: Sequence[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str | None = None
    outputs: Sequence[str] = ()
    binary_output: bool = False

    def tensor(self, name: str) -> NDArray[Any] | None:
        """Find the input of that name, where there is one."""
        return _named(self.tensors, name)


@dataclass(frozen=True, eq=False)
class InferResponse:
    """What a model answers. model_name: empty where the server does not tell."""

    model_name: str
    tensors: Sequence[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str | None = None
    model_version: str | None = None

    def tensor(self, name: str) -> NDArray[Any] | None:
        """Find the output of that name, where there is one."""
        return _named(self.tensors, name)


def encode_request(request: InferRequest) -> tuple[dict[str, str], list[Piece]]:
    """Write `request` as HTTP headers and body: every tensor as bytes, every output asked for as bytes.

    The body comes in pieces, first the JSON, then each tensor, of which none is copied.
    Raises WireError for a tensor or a parameter that the protocol cannot carry.
    """
    with _wire_errors("this request"):
        message = _RequestJson(
            id=request.id,
            parameters={**request.parameters, _ALL_BINARY: True},
            inputs=[described(tensor, binary=True) for tensor in request.tensors],
            outputs=[_OutputJson(name=name, parameters=_BINARY) for name in request.outputs] or None,
        )
        headers, head = _head(message)
        return headers, [head, *map(little_endian, request.tensors)]


def decode_request(body: Sequence[Piece], header_length: int | None) -> InferRequest:
    """Read the request in an HTTP body, which came in these pieces.

    header_length: value of HEADER_LENGTH, None where it was not sent. Tensors that came as bytes are
    read-only, and views of their piece where it holds them whole. Their numbers are not checked: a binary
    FP32 may be NaN. Raises WireError for anything malformed.
    """
    pieces = Pieces(body)
    message = _parsed(_RequestJson, pieces, header_length)
    parameters = dict(message.parameters or {})
    default = parameters.pop(_ALL_BINARY, False) is True
    outputs = message.outputs or []
    asked = [output.parameters.binary_data if output.parameters else None for output in outputs]
    return InferRequest(
        tensors=gathered(message.inputs, pieces),
        parameters=parameters,
        id=message.id,
        outputs=[output.name for output in outputs],
        binary_output=all(default if one is None else one for one in asked) if asked else default,
    )


def encode_response(response: InferResponse, binary: bool) -> tuple[dict[str, str], list[Piece]]:
    """Write `response` as HTTP headers and body, its tensors as bytes or as JSON numbers.

    The body comes in pieces, as that of `encode_request`.
    Raises WireError for a tensor or a parameter that the protocol cannot carry; JSON has no NaN or infinity.
    """
    with _wire_errors("this response"):
        message = _ResponseJson(
            model_name=response.model_name,
            model_version=response.model_version,
            id=response.id,
            parameters=dict(response.parameters),
            outputs=[described(tensor, binary) for tensor in response.tensors],
        )
        headers, head = _head(message, binary)
        return headers, [head, *(map(little_endian, response.tensors) if binary else ())]


def decode_response(body: Sequence[Piece], header_length: int | None) -> InferResponse:
    """Read the response in an HTTP body, as `decode_request` reads a request. Raises WireError."""
    pieces = Pieces(body)
    message = _parsed(_ResponseJson, pieces, header_length)
    return InferResponse(
        model_name=message.model_name or "",
        tensors=gathered(message.outputs, pieces),
        parameters=message.parameters or {},
        id=message.id,
        model_version=message.model_version,
    )


def header_length(headers: Mapping[str, str]) -> int | None:
    """Read HEADER_LENGTH from HTTP headers, None where it was not sent. Raises WireError unless it is digits.

    headers: keys in any case, or a mapping that does not mind, as those of httpx and Starlette.
    """
    value = headers.get(HEADER_LENGTH, headers.get(HEADER_LENGTH.lower()))
    if value is None:
        return None
    # Longer than any body's length, and short enough for int().
    if not re.fullmatch("[0-9]{1,18}", value):
        raise WireError(f"{HEADER_LENGTH} is {quoted(value)}, which is no length")
    return int(value)


def _scalars(parameters: dict[str, Any]) -> dict[str, Any]:
    # Stops at the first fault: a union of types would collect four for each of a million bad entries.
    for name, value in parameters.items():
        if not _is_scalar(value):
            raise ValueError(f"parameter {quoted(name)} must be a string, a finite number or a boolean")
    return parameters


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    # Larger integers fit no reader's own; Python's would pass, and overflow later.
    return isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**64)


_Parameters = Annotated[dict[str, Any], AfterValidator(_scalars)]
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
    # Triton's own examples leave the model's name out, though the protocol does not call it optional.
    model_name: str | None = None
    model_version: str | None = None
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: _Tensors


_BINARY = _OutputParameters(binary_data=True)
_Message = TypeVar("_Message", _RequestJson, _ResponseJson)


@contextmanager
def _wire_errors(what: str) -> Iterator[None]:
    """Turn pydantic's first complaint into a sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = quoted(".".join(map(str, first["loc"])) or "its JSON")
        raise WireError(f"{what} is malformed at {where}: {first['msg']}") from error
    except ValueError as error:
        raise WireError(f"{what} cannot be written as JSON: {error}") from error


def _head(message: JsonModel, binary: bool = True) -> tuple[dict[str, str], bytes]:
    """The HTTP headers of a message, and its JSON. binary: tensors follow that as bytes."""
    head = message.model_dump_json(exclude_none=True).encode()
    if not binary:
        return {"Content-Type": "application/json"}, head
    return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}, head


def _parsed(kind: type[_Message], pieces: Pieces, header_length: int | None) -> _Message:
    """The JSON, taken from the front of `pieces`."""
    length = pieces.left if header_length is None else header_length
    if not 0 <= length <= pieces.left:
        raise WireError(f"{HEADER_LENGTH} is {length}, but the body has {pieces.left} bytes")
    with _wire_errors("this message"):
        return kind.model_validate_json(bytes(pieces.take(length)))


def _named(tensors: Sequence[Tensor], name: str) -> NDArray[Any] | None:
    return next((tensor.data for tensor in tensors if tensor.name == name), None)
