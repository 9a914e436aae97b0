"""A client's own request id is used only where it is safe in headers and logs."""

import pytest

from gpen_common.request_id import read_request_id


@pytest.mark.parametrize("value", ["a", "abc-123", "A_b.c", "x" * 128])
def test_accepts(value):
    assert read_request_id({"headers": [(b"x-request-id", value.encode())]}) == value


@pytest.mark.parametrize("value", ["", "x" * 129, "<script>", "a b", "a\n", "é", "٣"])
def test_rejects(value):
    assert read_request_id({"headers": [(b"x-request-id", value.encode())]}) is None


def test_is_none_without_the_header():
    assert read_request_id({"headers": [(b"x-other", b"abc")]}) is None


def test_reads_the_first_of_several():
    assert read_request_id({"headers": [(b"x-request-id", b"a"), (b"x-request-id", b"b")]}) == "a"
