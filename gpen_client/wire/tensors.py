"""Named arrays as the Open Inference Protocol v2 writes them: a JSON description, and bytes or numbers."""

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
from gpen_common.pieces import Pieces

# The protocol's tensor data types but BYTES, which no picture needs, by numpy's typestr without byte order.
_DATATYPE_OF = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64", "i1": "INT8", "i2": "INT16",
    "i4": "INT32", "i8": "INT64", "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip
_DTYPE_OF = {datatype: np.dtype("<" + code) for code, datatype in _DATATYPE_OF.items()}
_JSON_TYPES_OF_KIND: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}

# Ample for any picture, and as many as numpy 1 and 2 can both hold.
_MAX_DIMENSIONS = 32
# How much of the sender's text is repeated in an error, characters.
_MAX_QUOTE = 80


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named array; the protocol's datatype follows from `data.dtype`."""

    name: str
    data: NDArray[Any]


class JsonModel(BaseModel):
    """A JSON object of the protocol: unknown keys are passed over, types are not coerced."""

    model_config = ConfigDict(strict=True, frozen=True, protected_namespaces=())


class TensorParameters(JsonModel):
    """The parameter of a tensor that the binary extension defines."""

    binary_data_size: int | None = None


class TensorJson(JsonModel):
    """A tensor as the JSON describes it: `data` where it came as numbers, else a `binary_data_size`."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=_MAX_DIMENSIONS)]
    datatype: str
    parameters: TensorParameters | None = None
    data: list[Any] | None = None


def described(tensor: Tensor, binary: bool) -> TensorJson:
    """Describe `tensor` as JSON, with its numbers in it unless they follow as bytes (`binary`).

    Raises WireError for a dtype that the protocol lacks, and for NaN or infinity as JSON.
    """
    data = tensor.data
    datatype = _DATATYPE_OF.get(data.dtype.str[1:])
    if datatype is None:
        raise WireError(f"tensor {quoted(tensor.name)} of {data.dtype} has no datatype in the protocol")
    if not binary and data.dtype.kind == "f" and not np.isfinite(data).all():
        raise WireError(f"tensor {quoted(tensor.name)} holds numbers that are not finite: JSON has none")
    return TensorJson(
        name=tensor.name,
        shape=list(data.shape),
        datatype=datatype,
        parameters=TensorParameters(binary_data_size=data.nbytes) if binary else None,
        data=None if binary else data.ravel().tolist(),
    )


def little_endian(tensor: Tensor) -> memoryview:
    """Give the numbers as the binary extension has them: little-endian, row-major, without padding.

    They are not copied where the array has them so; its owner is not to change them then.
    """
    numbers = np.asarray(tensor.data, tensor.data.dtype.newbyteorder("<"), order="C")
    return numbers.reshape(-1).view(np.uint8).data.toreadonly()


def gathered(descriptions: Sequence[TensorJson], binary: Pieces) -> list[Tensor]:
    """Read the tensors that a message describes.

    binary: what follows the JSON, the binary tensors one after the other in the order of `descriptions`.
    Those are read-only, and views of a piece where they lie within it.
    Raises WireError where names repeat, or counts, sizes or types do not fit, or bytes are left over.
    """
    tensors: dict[str, Tensor] = {}
    for described in descriptions:
        if described.name in tensors:
            raise WireError(f"tensor {quoted(described.name)} is given twice")
        dtype = _dtype(described)
        size = described.parameters.binary_data_size if described.parameters else None
        if (size is None) == (described.data is None):
            raise _fault(described, "needs either data or a binary_data_size, and not both")
        data = _from_json(described, dtype) if size is None else _from_bytes(described, dtype, binary)
        tensors[described.name] = Tensor(described.name, data)
    if binary.left:
        raise WireError(f"{binary.left} bytes follow the last binary tensor")
    return list(tensors.values())


def quoted(text: str) -> str:
    """Quote the sender's text, shortened, for an error."""
    return repr(text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + "…")


def _dtype(described: TensorJson) -> np.dtype[Any]:
    dtype = _DTYPE_OF.get(described.datatype)
    if dtype is None:
        known = ", ".join(_DTYPE_OF)
        raise _fault(described, f"has datatype {quoted(described.datatype)}; understood are {known}")
    # Zeros do not count, for numpy refuses (0, 2**62, 2**62) as well.
    if math.prod(max(side, 1) for side in described.shape) * dtype.itemsize > sys.maxsize:
        raise _fault(described, "has a shape that no machine can hold")
    return dtype


def _from_bytes(described: TensorJson, dtype: np.dtype[Any], binary: Pieces) -> NDArray[Any]:
    count = math.prod(described.shape)
    size = count * dtype.itemsize
    said = described.parameters.binary_data_size if described.parameters else None
    if size != said:
        raise _fault(described, f"takes {size} bytes, but its binary_data_size is {said}")
    if size > binary.left:
        raise _fault(described, f"takes {size} bytes, but only {binary.left} are left of the body")
    data = np.frombuffer(binary.take(size), dtype) if count else np.empty(0, dtype)
    if dtype.kind == "b" and (data.view(np.uint8) > 1).any():
        raise _fault(described, "holds bytes other than 0 and 1")
    return data.reshape(described.shape)


def _from_json(described: TensorJson, dtype: np.dtype[Any]) -> NDArray[Any]:
    flat = _flattened(described)
    if not set(map(type, flat)) <= _JSON_TYPES_OF_KIND[dtype.kind]:
        raise _fault(described, f"holds values that are not {described.datatype}")
    try:
        with np.errstate(over="ignore"):
            data = np.array(flat, dtype)
    except OverflowError:
        raise _fault(described, f"holds numbers out of the range of {described.datatype}") from None
    if dtype.kind == "f" and not np.isfinite(data).all():
        raise _fault(described, f"holds numbers that are not finite as {described.datatype}")
    return data.reshape(described.shape)


def _flattened(described: TensorJson) -> list[Any]:
    """List the elements of a tensor that came as JSON, whether flat or nested as its shape is."""
    shape, flat = described.shape, described.data or []
    if flat and type(flat[0]) is list:
        for side in shape[1:]:
            if not all(type(row) is list and len(row) == side for row in flat):
                raise _fault(described, f"is nested otherwise than its shape {shape}")
            flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _fault(described, f"has {len(flat)} values, but its shape {shape} takes {math.prod(shape)}")
    return flat


def _fault(described: TensorJson, what: str) -> WireError:
    return WireError(f"tensor {quoted(described.name)} {what}")
