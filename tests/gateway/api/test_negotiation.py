"""The Accept header decides between JSON and pictures, and between the formats of pictures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.negotiation import Accepted, parse_accept

ANYTHING = Accepted(json=False, output_format=None)
JSON = Accepted(json=True, output_format=None)


def picture(output_format: str) -> Accepted:
    return Accepted(json=False, output_format=output_format)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ANYTHING),
        ("", ANYTHING),
        ("*/*", ANYTHING),
        ("image/*", ANYTHING),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("image/png", picture("png")),
        ("image/jpeg", picture("jpeg")),
        ("image/webp", picture("webp")),
        # Sent by axios, by <img> in Chrome, and by browsers' address bars.
        ("application/json, text/plain, */*", JSON),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", picture("webp")),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ANYTHING),
    ],
)
def test_returns_the_accepted_format(header, expected):
    assert parse_accept(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json;q=0.5, image/png", picture("png")),
        ("image/png;q=0.1, image/webp;q=0.9", picture("webp")),
        ("image/png;q=0, application/json", JSON),
        ("*/*;q=0.1, application/json;q=0.2", JSON),
        ("image/jpeg, image/png", picture("jpeg")),
        ("application/json;q=nonsense, image/png;q=0.1", picture("png")),
        ("application/json;q=nan, image/png;q=0.1", picture("png")),
    ],
)
def test_prefers_the_highest_weight_then_the_first_type(header, expected):
    assert parse_accept(header) == expected


@pytest.mark.parametrize("header", ["text/html", "image/tiff", "application/json;q=0", ";;;,,,q=1"])
def test_ignores_a_header_without_a_supported_type(header):
    assert parse_accept(header) == ANYTHING


@given(st.text(alphabet=st.characters(codec="latin-1")))
def test_reads_any_header_without_an_error(header):
    assert parse_accept(header).output_format in (None, "png", "jpeg", "webp")
