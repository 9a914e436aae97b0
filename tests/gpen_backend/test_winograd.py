import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from gpen_backend.winograd import Winograd, pays, tile_for

CPU = torch.device("cpu")
TILES = pytest.mark.parametrize("tile", [2, 4])


def layer(count, in_channels, out_channels, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(count + in_channels + out_channels + height + width)
    x = torch.randn(count, in_channels, height, width, dtype=dtype, generator=generator)
    weight = torch.randn(out_channels, in_channels, 3, 3, dtype=dtype, generator=generator)
    return x.contiguous(memory_format=torch.channels_last), weight / (3 * in_channels**0.5)


def run(x, weight, tile):
    winograd = Winograd(tile, x.dtype, CPU)
    return winograd(x, winograd.spread(weight))


@TILES
@given(
    count=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    tiles=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_it_is_the_convolution_for_any_shape(tile, count, channels, tiles):
    x, weight = layer(count, *channels, tiles[0] * tile, tiles[1] * tile)
    torch.testing.assert_close(run(x, weight, tile), F.conv2d(x, weight, padding=1), rtol=1e-10, atol=1e-10)


@TILES
def test_maps_of_either_layout_give_the_same(tile):
    x, weight = layer(2, 3, 4, 8, 12)
    assert torch.equal(run(x, weight, tile), run(x.contiguous(), weight, tile))
    assert run(x, weight, tile).is_contiguous(memory_format=torch.channels_last)


@TILES
def test_what_it_is_given_is_left_as_it_was(tile):
    x, weight = layer(1, 3, 4, 8, 8)
    before = x.clone(), weight.clone()
    run(x, weight, tile)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


def error_against_doubles(dtype, convolve):
    x, weight = layer(1, 256, 128, 16, 16)
    expected = F.conv2d(x, weight, padding=1)
    error = convolve(x.to(dtype), weight.to(dtype)).double() - expected
    return (error.square().mean() / expected.square().mean()).sqrt().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_error_is_of_the_size_of_the_plain_convolutions(dtype, monkeypatch):
    """Three times it, with the tile that is chosen for the dtype."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    own = error_against_doubles(dtype, lambda x, weight: run(x, weight, tile_for(dtype)))
    plain = error_against_doubles(dtype, lambda x, weight: F.conv2d(x, weight, padding=1))
    assert own < max(3 * plain, 1e-6 if dtype == torch.float32 else 0)


def test_processors_with_amx_convolve_bfloat16_plainly(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert tile_for(torch.bfloat16) == 0
    assert tile_for(torch.float32) == 4
    assert not pays(0, 512, 64)


@pytest.mark.parametrize(
    ("tile", "out_channels", "side", "expected"),
    [(2, 512, 64, True), (2, 128, 256, True), (4, 128, 256, True), (4, 64, 512, False), (2, 512, 8, False)],
)
def test_narrow_layers_and_small_maps_are_left_out(tile, out_channels, side, expected):
    assert pays(tile, out_channels, side) is expected
