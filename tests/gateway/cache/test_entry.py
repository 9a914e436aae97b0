"""Packed entries are unpacked unchanged, or raise Corrupt."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.cache import CacheEntry, Corrupt, pack, unpack

HEADS = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), max_size=4
)
ENTRIES = st.tuples(st.text(), st.builds(CacheEntry, HEADS, st.binary(max_size=200)))


@given(ENTRIES)
def test_unpack_returns_the_packed_entry(item):
    key, entry = item
    assert unpack(key, pack(key, entry)) == entry


@given(ENTRIES, st.data())
def test_any_changed_byte_raises_corrupt(item, data):
    key, entry = item
    packed = bytearray(pack(key, entry))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Corrupt):
        unpack(key, bytes(packed))


@given(ENTRIES, st.data())
def test_a_truncated_entry_raises_corrupt(item, data):
    key, entry = item
    packed = pack(key, entry)
    with pytest.raises(Corrupt):
        unpack(key, packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(ENTRIES, st.binary(min_size=1, max_size=20))
def test_trailing_bytes_raise_corrupt(item, more):
    with pytest.raises(Corrupt):
        unpack(item[0], pack(*item) + more)


@given(ENTRIES, st.text())
def test_the_entry_of_another_key_raises_corrupt(item, other):
    """A store that mixes entries up cannot answer with another request's picture."""
    assume(other != item[0])
    with pytest.raises(Corrupt):
        unpack(other, pack(*item))


@given(st.text(), st.binary(max_size=100))
def test_other_bytes_raise_corrupt(key, noise):
    with pytest.raises(Corrupt):
        unpack(key, noise)
