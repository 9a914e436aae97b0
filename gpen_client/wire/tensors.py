"""Tensors of the Open Inference Protocol v2: a JSON description with the values as bytes or numbers."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gpen_client.errors import WireError

# The protocol's datatypes by numpy's typestr without byte order. BYTES is missing: no picture needs it.
_DATATYPE_OF = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64", "i1": "INT8", "i2": "INT16",
    "i4": "INT32", "i8": "INT64", "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip
_DTYPE_OF = {datatype: np.dtype("<" + code) for code, datatype in _DATATYPE_OF.items()}
_JSON_TYPES_OF_KIND: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}

# Ample for any picture, and numpy 1's limit.
_MAX_DIMENSIONS = 32
# Longest part of the sender's text that an error quotes, characters.
_MAX_QUOTE = 80


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named array. `data.dtype` decides the protocol's datatype."""

    name: str
    data: NDArray[Any]


class JsonModel(BaseModel):
    """A JSON object of the protocol. Unknown keys are ignored; types are not coerced."""

    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=())


class TensorParameters(JsonModel):
    """The tensor parameter of the binary extension."""

    binary_data_size: int | None = None


class TensorJson(JsonModel):
    """A tensor's JSON description, with its numbers in `data` or their `binary_data_size`."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=_MAX_DIMENSIONS)]
    datatype: str
    parameters: TensorParameters | None = None
    data: list[Any] | None = None


def describe(tensor: Tensor, binary: bool) -> TensorJson:
    """Describe `tensor` as JSON. binary: its numbers follow the JSON as bytes instead of inside it.

    Raises WireError for a dtype that the protocol lacks, and for NaN or infinity in JSON.
    """
    data = tensor.data
    datatype = _DATATYPE_OF.get(data.dtype.str[1:])
    if datatype is None:
        raise WireError(f"tensor {quote(tensor.name)}: the protocol has no datatype for {data.dtype}")
    if not binary and data.dtype.kind == "f" and not np.isfinite(data).all():
        raise WireError(f"tensor {quote(tensor.name)} is not finite: JSON has no NaN and no infinity")
    return TensorJson(
        name=tensor.name,
        shape=list(data.shape),
        datatype=datatype,
        parameters=TensorParameters(binary_data_size=data.nbytes) if binary else None,
        data=None if binary else data.ravel().tolist(),
    )


def to_little_endian(tensor: Tensor) -> memoryview:
    """Return the numbers as the binary extension has them: little-endian, row-major, without padding.

    A view of the array if it is laid out that way, else a copy.
    """
    numbers = np.asarray(tensor.data, tensor.data.dtype.newbyteorder("<"), order="C")
    return numbers.reshape(-1).view(np.uint8).data


def read_tensors(descriptions: Sequence[TensorJson], binary: memoryview) -> list[Tensor]:
    """Read the tensors that a message describes.

    binary: the read-only bytes after the JSON: the binary tensors in the order of `descriptions`. Their
    arrays are views of it.
    Raises WireError for repeated names, for counts, sizes or types that do not fit, and for extra bytes.
    """
    tensors: dict[str, Tensor] = {}
    for description in descriptions:
        if description.name in tensors:
            raise WireError(f"tensor {quote(description.name)} is given twice")
        dtype = _dtype(description)
        size = description.parameters.binary_data_size if description.parameters else None
        if (size is None) == (description.data is None):
            raise _fault(description, "needs either data or a binary_data_size, and not both")
        if size is None:
            data = _from_json(description, dtype)
        else:
            data = _from_bytes(description, dtype, size, binary)
            binary = binary[size:]
        tensors[description.name] = Tensor(description.name, data)
    if len(binary):
        raise WireError(f"{len(binary)} bytes follow the last binary tensor")
    return list(tensors.values())


def quote(text: str) -> str:
    """Quote the sender's text for an error, shortened to 80 characters."""
    return repr(text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…")


def _dtype(description: TensorJson) -> np.dtype[Any]:
    dtype = _DTYPE_OF.get(description.datatype)
    if dtype is None:
        known = ", ".join(_DTYPE_OF)
        raise _fault(description, f"has datatype {quote(description.datatype)}; supported are {known}")
    # A zero counts as one: numpy rejects (0, 2**62, 2**62) as well.
    if math.prod(max(side, 1) for side in description.shape) * dtype.itemsize > sys.maxsize:
        raise _fault(description, "has a shape larger than any memory")
    return dtype


def _from_bytes(description: TensorJson, dtype: np.dtype[Any], size: int, binary: memoryview) -> NDArray[Any]:
    count = math.prod(description.shape)
    needed = count * dtype.itemsize
    if needed != size:
        raise _fault(description, f"takes {needed} bytes, but its binary_data_size is {size}")
    if needed > len(binary):
        raise _fault(description, f"takes {needed} bytes, but only {len(binary)} are left of the body")
    data = np.frombuffer(binary, dtype, count) if count else np.empty(0, dtype)
    if dtype.kind == "b" and (data.view(np.uint8) > 1).any():
        raise _fault(description, "holds bytes other than 0 and 1")
    return data.reshape(description.shape)


def _from_json(description: TensorJson, dtype: np.dtype[Any]) -> NDArray[Any]:
    flat = _flatten(description)
    if not set(map(type, flat)) <= _JSON_TYPES_OF_KIND[dtype.kind]:
        raise _fault(description, f"holds values that are not {description.datatype}")
    try:
        with np.errstate(over="ignore"):
            data = np.array(flat, dtype)
    except OverflowError:
        raise _fault(description, f"holds numbers out of the range of {description.datatype}") from None
    if dtype.kind == "f" and not np.isfinite(data).all():
        raise _fault(description, f"holds numbers that are not finite as {description.datatype}")
    return data.reshape(description.shape)


def _flatten(description: TensorJson) -> list[Any]:
    """List the values of a tensor's JSON `data`, which may be flat or nested like its shape."""
    shape, flat = description.shape, description.data or []
    if flat and type(flat[0]) is list:
        for side in shape[1:]:
            if not all(type(row) is list and len(row) == side for row in flat):
                raise _fault(description, f"is not nested like its shape {shape}")
            flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _fault(description, f"has {len(flat)} values, but its shape {shape} needs {math.prod(shape)}")
    return flat


def _fault(description: TensorJson, what: str) -> WireError:
    return WireError(f"tensor {quote(description.name)} {what}")
