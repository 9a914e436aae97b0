import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.etag import enhance_etag, lists_any, lists_etag
from gateway.api.negotiation import Accepted

ONE, OTHER = (enhance_etag(digit * 64, Accepted(json=False, output_format=None)) for digit in "ab")
JSON = enhance_etag("a" * 64, Accepted(json=True, output_format=None))


def test_etags_of_picture_and_json_differ():
    assert JSON.removeprefix("W/") != ONE


def test_only_the_etag_of_json_is_weak():
    assert JSON.startswith('W/"')
    assert ONE.startswith('"')


@pytest.mark.parametrize("header", [ONE, f"W/{ONE}", f"{OTHER}, {ONE}", f"{OTHER} ,W/{ONE}"])
def test_finds_the_etag_in_a_list(header):
    assert lists_etag(header, ONE)


def test_a_comma_within_an_etag_ends_no_etag():
    assert lists_etag(f'"a,b", {ONE}', ONE)
    assert not lists_etag(f'"a, {ONE.strip(chr(34))}, b"', ONE)


@pytest.mark.parametrize("header", [None, "", OTHER, ONE.strip('"'), "*", f"{ONE[:-2]}"])
def test_finds_no_other_etag(header):
    assert not lists_etag(header, ONE)


@pytest.mark.parametrize(
    ("header", "any_result"),
    [("*", True), (" * ", True), (ONE, False), (None, False), ('"a,*,b"', False), (f"*, {ONE}", False)],
)
def test_star_lists_any_result(header, any_result):
    assert lists_any(header) is any_result


@given(st.text())
def test_reads_any_header_without_an_error(header):
    assert isinstance(lists_etag(header, ONE), bool)
    assert isinstance(lists_any(header), bool)
