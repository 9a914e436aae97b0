"""What is taken from pieces is what was in them, whatever the cuts."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpen_common.pieces import Pieces, sliced

PIECES = st.lists(st.binary(max_size=20) | st.binary(max_size=20).map(memoryview), max_size=6)


@given(PIECES, st.lists(st.integers(0, 30), max_size=8))
def test_bytes_come_in_their_order_and_none_is_lost(given_pieces, sizes):
    whole, pieces, taken = b"".join(given_pieces), Pieces(given_pieces), b""
    for size in sizes:
        if size > pieces.left:
            with pytest.raises(ValueError, match="are left"):
                pieces.take(size)
            continue
        piece = pieces.take(size)
        assert len(piece) == size
        taken += piece
        assert pieces.left == len(whole) - len(taken)
    assert taken + pieces.take(pieces.left) == whole


def test_what_one_piece_has_is_not_copied_and_cannot_be_written():
    piece = bytearray(b"abcdef")
    pieces = Pieces([b"12", piece])
    assert pieces.take(3) == b"12a"
    view = pieces.take(2)
    piece[1:3] = b"XY"
    assert view == b"XY"
    assert view.readonly


def test_crumbs_are_put_together_before_they_are_looked_at():
    crumbs = [bytes([number % 256]) for number in range(200_000)]
    tracemalloc.start()
    pieces = Pieces(crumbs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(crumbs)
    assert pieces.take(200_000) == b"".join(crumbs)


@given(PIECES, st.integers(1, 30))
def test_slices_are_bytes_of_one_size(given_pieces, most):
    slices = sliced(given_pieces, most)
    assert b"".join(slices) == b"".join(given_pieces)
    assert all(type(one) is bytes and len(one) == most for one in slices[:-1])
    assert all(type(one) is bytes and 0 < len(one) <= most for one in slices[-1:])
