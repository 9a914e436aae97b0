"""A declared length over the limit is recognised, however many digits it has."""

import pytest

from gpen_common.content_length import exceeds, read_length


@pytest.mark.parametrize("declared", ["11", "0011", "9" * 18, "9" * 10_000])
def test_over_the_limit(declared):
    assert exceeds(declared, 10)


@pytest.mark.parametrize("declared", ["", "0", "10", "-11", "11.5", "eleven", "²"])
def test_within_the_limit_or_not_a_length(declared):
    assert not exceeds(declared, 10)


@pytest.mark.parametrize(("declared", "length"), [("0", 0), ("0011", 11), ("9" * 18, 10**18 - 1)])
def test_reads_a_length(declared, length):
    assert read_length(declared) == length


@pytest.mark.parametrize("declared", ["", "-11", "11.5", "eleven", "²", "9" * 10_000])
def test_reads_no_length_from_anything_else(declared):
    assert read_length(declared) is None
