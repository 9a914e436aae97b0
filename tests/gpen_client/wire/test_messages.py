import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpen_client.errors import WireError
from gpen_client.wire.messages import (
    HEADER_LENGTH,
    InferRequest,
    InferResponse,
    Tensor,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_header_length,
)

# The examples of Triton's "Binary Tensor Data Extension", with the bytes that they only describe.
TRITON_REQUEST = b"""{
  "model_name" : "mymodel",
  "inputs" : [
    {
      "name" : "input0",
      "shape" : [ 2, 2 ],
      "datatype" : "UINT32",
      "parameters" : {
        "binary_data_size" : 16
      }
    },
    {
      "name" : "input1",
      "shape" : [ 3 ],
      "datatype" : "BOOL",
      "parameters" : {
        "binary_data_size" : 3
      }
    }
  ],
  "outputs" : [
    {
      "name" : "output0",
      "parameters" : {
        "binary_data" : true
      }
    }
  ]
}
"""
TRITON_REQUEST_BYTES = b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\x80" + b"\x01\x00\x01"
TRITON_RESPONSE = b"""{
  "outputs" : [
    {
      "name" : "output0",
      "shape" : [ 3, 2 ],
      "datatype"  : "FP32",
      "parameters" : {
        "binary_data_size" : 24
      }
    }
  ]
}
"""
TRITON_RESPONSE_BYTES = np.array([1.0, 1.1, 2.0, 2.1, 3.0, 3.1], "<f4").tobytes()

# The examples of the Open Inference Protocol's REST specification. As published, input1 has one value of
# three and the response lacks the comma after its id.
KSERVE_REQUEST = b"""{
  "id" : "42",
  "inputs" : [
    {
      "name" : "input0",
      "shape" : [ 2, 2 ],
      "datatype" : "UINT32",
      "data" : [ 1, 2, 3, 4 ]
    },
    {
      "name" : "input1",
      "shape" : [ 3 ],
      "datatype" : "BOOL",
      "data" : [ true, false, true ]
    }
  ],
  "outputs" : [
    {
      "name" : "output0"
    }
  ]
}"""
KSERVE_RESPONSE = b"""{
  "id" : "42",
  "outputs" : [
    {
      "name" : "output0",
      "shape" : [ 3, 2 ],
      "datatype"  : "FP32",
      "data" : [ 1.0, 1.1, 2.0, 2.1, 3.0, 3.1 ]
    }
  ]
}"""

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
PARAMETERS = st.dictionaries(
    NAMES.filter(lambda name: name != "binary_data_output"),
    NAMES
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans(),
    max_size=5,
)
NUMBERS = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes()
NUMBERS = NUMBERS.filter(lambda dtype: dtype.itemsize <= 8)


def tensors(finite: bool = False) -> st.SearchStrategy[list[Tensor]]:
    elements = {"allow_nan": False, "allow_infinity": False} if finite else None
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    arrays = hnp.arrays(NUMBERS, shapes, elements=elements)
    return st.lists(st.builds(Tensor, NAMES, arrays), max_size=4, unique_by=lambda tensor: tensor.name)


REQUESTS = st.builds(
    InferRequest, tensors(), PARAMETERS, st.none() | NAMES, st.lists(NAMES, max_size=3), st.just(True)
)


def responses(finite: bool = False) -> st.SearchStrategy[InferResponse]:
    return st.builds(InferResponse, NAMES, tensors(finite), PARAMETERS, st.none() | NAMES, st.none() | NAMES)


def assert_same(ours: Any, theirs: Any) -> None:
    """All fields are equal, and all tensors bit for bit except for the byte order."""
    mine, other = dict(vars(ours)), dict(vars(theirs))
    for tensor, twin in zip(mine.pop("tensors"), other.pop("tensors"), strict=True):
        assert tensor.name == twin.name
        assert tensor.data.dtype.newbyteorder("=") == twin.data.dtype.newbyteorder("=")
        np.testing.assert_array_equal(tensor.data, twin.data, strict=False)
        assert tensor.data.shape == twin.data.shape
    assert mine == other


def length_in(headers: dict[str, str]) -> int | None:
    assert int(headers.get(HEADER_LENGTH, 0)) >= 0
    return read_header_length(headers)


def message(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "UINT8", "data": [1, 2]} | changes


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    given = tensor(parameters={"binary_data_size": size}, **changes)
    return {key: value for key, value in given.items() if key != "data"}


def test_reads_tritons_published_binary_request():
    request = decode_request(TRITON_REQUEST + TRITON_REQUEST_BYTES, len(TRITON_REQUEST))
    np.testing.assert_array_equal(
        request.tensor("input0"), np.array([[1, 2], [3, 0x8000_0000]], np.uint32), strict=True
    )
    np.testing.assert_array_equal(request.tensor("input1"), np.array([True, False, True]), strict=True)
    assert (request.outputs, request.binary_output) == (["output0"], True)


def test_reads_tritons_published_binary_response_which_has_no_model_name():
    response = decode_response(TRITON_RESPONSE + TRITON_RESPONSE_BYTES, len(TRITON_RESPONSE))
    output = np.array([[1.0, 1.1], [2.0, 2.1], [3.0, 3.1]], np.float32)
    np.testing.assert_array_equal(response.tensor("output0"), output, strict=True)
    assert response.model_name == ""


def test_reads_kserves_published_json_request():
    request = decode_request(KSERVE_REQUEST, None)
    assert request.id == "42"
    np.testing.assert_array_equal(
        request.tensor("input0"), np.array([[1, 2], [3, 4]], np.uint32), strict=True
    )
    np.testing.assert_array_equal(request.tensor("input1"), np.array([True, False, True]), strict=True)
    assert (request.outputs, request.binary_output) == (["output0"], False)


def test_reads_kserves_published_json_response():
    response = decode_response(KSERVE_RESPONSE, None)
    output = np.array([[1.0, 1.1], [2.0, 2.1], [3.0, 3.1]], np.float32)
    np.testing.assert_array_equal(response.tensor("output0"), output, strict=True)


def test_writes_a_request_as_the_extension_specifies():
    request = InferRequest(
        [Tensor("image", np.array([[1, 2]], np.uint8)), Tensor("landmarks", np.array([1.5], np.float32))],
        {"strength": 70.0},
        "42",
        ["image"],
    )
    headers, body = encode_request(request)
    length = int(headers[HEADER_LENGTH])
    assert headers["Content-Type"] == "application/octet-stream"
    assert json.loads(body[:length]) == {
        "id": "42",
        "parameters": {"strength": 70.0, "binary_data_output": True},
        "inputs": [
            {"name": "image", "shape": [1, 2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
            {"name": "landmarks", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
        ],
        "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
    }
    assert body[length:] == b"\x01\x02\x00\x00\xc0\x3f"


@given(REQUESTS)
def test_a_request_is_the_same_after_encoding_and_decoding(request_: InferRequest):
    headers, body = encode_request(request_)
    assert_same(decode_request(body, length_in(headers)), request_)


@given(responses())
def test_a_response_is_the_same_after_encoding_and_decoding_as_bytes(response: InferResponse):
    headers, body = encode_response(response, binary=True)
    assert_same(decode_response(body, length_in(headers)), response)


@given(responses(finite=True))
def test_a_response_is_the_same_after_encoding_and_decoding_as_json(response: InferResponse):
    headers, body = encode_response(response, binary=False)
    assert headers == {"Content-Type": "application/json"}
    assert_same(decode_response(body, None), response)


def test_a_picture_is_read_without_a_copy():
    headers, body = encode_request(InferRequest([Tensor("image", np.zeros((1, 64, 64, 3), np.uint8))]))
    image = decode_request(body, length_in(headers)).tensor("image")
    assert image is not None
    assert np.shares_memory(image, np.frombuffer(body, np.uint8))
    assert not image.flags.writeable


def test_writes_strided_and_big_endian_arrays_row_major_and_little_endian():
    data = np.arange(6, dtype=">i4").reshape(2, 3).T
    headers, body = encode_request(InferRequest([Tensor("x", data)]))
    assert body[length_in(headers) :] == data.astype("<i4").tobytes(order="C")
    np.testing.assert_array_equal(decode_request(body, length_in(headers)).tensor("x"), data)


def test_reads_json_data_that_is_nested_like_its_shape():
    nested = tensor(shape=[1, 2, 2], datatype="INT16", data=[[[1, -2], [3, 4]]])
    assert decode_request(message(nested), None).tensor("x").tolist() == [[[1, -2], [3, 4]]]


@pytest.mark.parametrize(
    ("outputs", "parameters", "wanted"),
    [
        (None, {}, False),
        (None, {"binary_data_output": True}, True),
        ([{"name": "a"}], {"binary_data_output": True}, True),
        ([{"name": "a", "parameters": {"binary_data": False}}], {"binary_data_output": True}, False),
        ([{"name": "a", "parameters": {"binary_data": True}}], {}, True),
        ([{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}], {}, False),
    ],
)
def test_sends_bytes_if_each_output_or_else_the_request_wants_them(outputs, parameters, wanted):
    request = decode_request(message(tensor(), outputs=outputs, parameters=parameters), None)
    assert request.binary_output is wanted
    assert request.parameters == {}


def test_ignores_unknown_keys():
    body = message(
        tensor(parameters={"content_type": "np"}), model_name="m", extra={"a": [None]}, parameters=None
    )
    assert decode_request(body, None).tensor("x").tolist() == [1, 2]


MALFORMED = {
    "not JSON": (b"\x89PNG", "JSON"),
    "empty": (b"", "JSON"),
    "cut short": (message(tensor())[:-1], "JSON"),
    "trailing text": (message(tensor()) + b"x", "JSON"),
    "too deep": (b'{"inputs":' + b"[" * 100_000, "JSON"),
    "an array": (b"[]", "object"),
    "no inputs": (b"{}", "inputs"),
    "inputs of another type": (b'{"inputs": {}}', "inputs"),
    "too many inputs": (message(*(tensor(name=str(i)) for i in range(65))), "64"),
    "id of another type": (message(id=42), "id"),
    "name of another type": (message(tensor(name=1)), "name"),
    "nested parameter": (message(tensor(), parameters={"a": {"b": 1}}), "'a' must be"),
    "null parameter": (message(tensor(), parameters={"a": None}), "'a' must be"),
    "NaN parameter": (message(tensor(), parameters={"a": float("nan")}), "'a' must be"),
    "infinite parameter": (message(tensor(), parameters={"a": float("inf")}), "'a' must be"),
    "huge parameter": (message(tensor(), parameters={"a": 10**400}), "'a' must be"),
    "BYTES": (message(tensor(datatype="BYTES", data=["a", "b"])), "BYTES"),
    "unknown datatype": (message(tensor(datatype="uint8")), "supported are BOOL, UINT8"),
    "long datatype": (message(tensor(datatype="x" * 10_000)), "xxx…"),
    "negative side": (message(tensor(shape=[-2])), "greater than or equal to 0"),
    "negative pair": (message(tensor(shape=[-1, -2])), "greater than or equal to 0"),
    "fractional side": (message(tensor(shape=[2.0])), "shape"),
    "boolean side": (message(tensor(shape=[True, 2])), "shape"),
    "huge shape": (message(tensor(shape=[2**40, 2**40])), "larger than any memory"),
    "huge side": (message(tensor(shape=[10**30])), "larger than any memory"),
    "huge empty shape": (message(tensor(shape=[0, 2**62, 2**62], data=[])), "larger than any memory"),
    "too many dimensions": (message(tensor(shape=[1] * 33, data=[1])), "32"),
    "too few values": (message(tensor(data=[1])), "has 1 values"),
    "too many values": (message(tensor(data=[1, 2, 3])), "has 3 values"),
    "as KServe publishes it": (message(tensor(shape=[3], datatype="BOOL", data=[True])), "has 1 values"),
    "nested otherwise": (message(tensor(shape=[2, 2], data=[[1, 2, 3], [4]])), "not nested like"),
    "nested in part": (message(tensor(shape=[2, 2], data=[[1, 2], 3, 4])), "not nested like"),
    "nested too deep": (message(tensor(shape=[2], data=[[1], [2]])), "not UINT8"),
    "strings": (message(tensor(data=["1", "2"])), "not UINT8"),
    "null": (message(tensor(data=[1, None])), "not UINT8"),
    "booleans as numbers": (message(tensor(data=[True, False])), "not UINT8"),
    "numbers as booleans": (message(tensor(datatype="BOOL")), "not BOOL"),
    "fractions as integers": (message(tensor(data=[1.0, 2.5])), "not UINT8"),
    "out of range": (message(tensor(data=[1, 256])), "range of UINT8"),
    "negative unsigned": (message(tensor(data=[1, -1])), "range of UINT8"),
    "beyond 64 bits": (message(tensor(datatype="INT64", data=[1, 2**63])), "range of INT64"),
    "integer beyond floats": (message(tensor(datatype="FP64", data=[1, 10**400])), "range of FP64"),
    "NaN": (message(tensor(datatype="FP32", data=[1, float("nan")])), "not finite"),
    "infinity": (message(tensor(datatype="FP32", data=[1, float("inf")])), "not finite"),
    "overflow to infinity": (message(tensor(datatype="FP64")).replace(b"1, 2", b"1, 1e999"), "not finite"),
    "beyond half floats": (message(tensor(datatype="FP16", data=[1, 1e6])), "not finite"),
    "data of another type": (message(tensor(data="AQI=")), "data"),
    "no data": (message({"name": "x", "shape": [2], "datatype": "UINT8"}), "either data or"),
    "data twice": (message(tensor(parameters={"binary_data_size": 2})), "not both"),
    "name twice": (message(tensor(), tensor()), "given twice"),
    "binary but no bytes": (message(binary(2)), "only 0 are left"),
    "fractional size": (message(binary(2.5)), "binary_data_size"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "said"), MALFORMED.values(), ids=MALFORMED)
def test_rejects_malformed_json_with_the_reason(body, said):
    with pytest.raises(WireError) as caught:
        decode_request(body, None)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


MALFORMED_BINARY = {
    "too small a size": ([binary(1)], b"\1", "takes 2 bytes"),
    "too large a size": ([binary(3)], b"\1\2\3", "takes 2 bytes"),
    "negative size": ([binary(-2)], b"\1\2", "takes 2 bytes"),
    "bytes missing": ([binary(2)], b"\1", "only 1 are left"),
    "second tensor missing": ([binary(2), binary(2, name="y")], b"\1\2", "only 0 are left"),
    "bytes left over": ([binary(2)], b"\1\2\3", "1 bytes follow"),
    "bytes after JSON tensors": ([tensor()], b"\1", "1 bytes follow"),
    "neither true nor false": ([binary(2, datatype="BOOL")], b"\1\2", "other than 0 and 1"),
    "BYTES": ([binary(2, datatype="BYTES")], b"\1\2", "BYTES"),
}


@pytest.mark.parametrize(("inputs", "blob", "said"), MALFORMED_BINARY.values(), ids=MALFORMED_BINARY)
def test_rejects_malformed_binary_tensors_with_the_reason(inputs, blob, said):
    header = message(*inputs)
    with pytest.raises(WireError, match=said):
        decode_request(header + blob, len(header))


@pytest.mark.parametrize("length", [-1, 10**9, 10**30])
def test_rejects_a_header_length_outside_the_body(length):
    with pytest.raises(WireError, match=HEADER_LENGTH):
        decode_request(message(tensor()), length)


def test_rejects_a_header_length_inside_the_json():
    body = message(tensor())
    with pytest.raises(WireError, match="JSON"):
        decode_request(body, len(body) - 3)


@pytest.mark.parametrize(
    ("headers", "length"),
    [({}, None), ({HEADER_LENGTH: "12"}, 12), ({HEADER_LENGTH.lower(): "0"}, 0)],
)
def test_reads_the_header_length_in_any_case(headers, length):
    assert read_header_length(headers) == length


@pytest.mark.parametrize("value", ["", "-1", "+1", "1_0", "1.0", " 1", "१२", "9" * 5000])
def test_rejects_a_header_length_that_is_not_a_number(value):
    with pytest.raises(WireError, match=HEADER_LENGTH):
        read_header_length({HEADER_LENGTH: value})


@pytest.mark.parametrize(
    "data", [np.array(["a"]), np.array([1j]), np.array([None]), np.array(["2026"], "M8[D]")]
)
def test_rejects_arrays_without_a_datatype_in_the_protocol(data):
    with pytest.raises(WireError, match="no datatype"):
        encode_request(InferRequest([Tensor("x", data)]))


@pytest.mark.parametrize(
    "request_",
    [
        InferRequest([], {"a": float("nan")}),
        InferRequest([], {"a": None}),
        InferRequest([], {"a": "\ud800"}),
        InferRequest([], id="\ud800"),
        InferRequest([], id=42),
        InferRequest([Tensor("x", np.zeros([1] * 40))]),
    ],
)
def test_rejects_what_json_cannot_represent(request_):
    with pytest.raises(WireError):
        encode_request(request_)


def test_writes_numbers_that_are_not_finite_as_bytes_but_not_as_json():
    response = InferResponse("m", [Tensor("x", np.array([np.nan, np.inf], np.float32))])
    headers, body = encode_response(response, binary=True)
    assert_same(decode_response(body, length_in(headers)), response)
    with pytest.raises(WireError, match="not finite"):
        encode_response(response, binary=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
SIDES = st.integers(-1, 3) | st.sampled_from([2**31, 2**63, 2**64, 10**30])
ODD_TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from("xy"),
        "shape": st.lists(SIDES, max_size=4),
        "datatype": st.sampled_from(["BOOL", "UINT8", "INT64", "FP16", "FP32", "BYTES"]),
    },
    optional={
        "data": st.lists(JSON, max_size=6),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 12)}),
    },
)
ODD_MESSAGES = st.one_of(
    st.fixed_dictionaries({"inputs": st.lists(ODD_TENSORS, max_size=3)}),
    st.fixed_dictionaries({"outputs": st.lists(ODD_TENSORS, max_size=3)}),
    st.fixed_dictionaries({"inputs": JSON, "outputs": JSON, "parameters": JSON, "id": JSON}),
)
BODIES = st.binary(max_size=60) | st.builds(
    lambda header, blob: json.dumps(header).encode() + blob, ODD_MESSAGES, st.binary(max_size=12)
)


@pytest.mark.parametrize("decode", [decode_request, decode_response])
@given(body=BODIES, cut=st.none() | st.integers(-20, 20), from_end=st.booleans())
@example(body=b'{"inputs":[],"outputs":[]}', cut=None, from_end=False)
def test_any_bytes_decode_to_a_message_or_a_wire_error(decode, body, cut, from_end):
    length = None if cut is None else cut + (len(body) if from_end else 0)
    with suppress(WireError):
        decode(body, length)


@given(request_=REQUESTS, at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_damaged_message_decodes_to_a_message_or_a_wire_error(request_, at, byte):
    headers, body = encode_request(request_)
    damaged = bytearray(body)
    damaged[at % len(damaged)] = byte
    with suppress(WireError):
        decode_request(bytes(damaged), length_in(headers))
