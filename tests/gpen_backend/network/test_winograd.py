import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from gpen_backend.network.winograd import Winograd, is_faster

CPU = torch.device("cpu")


def layer(count, in_channels, out_channels, height, width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(count + in_channels + out_channels + height + width)
    x = torch.randn(count, in_channels, height, width, dtype=dtype, generator=generator)
    weight = torch.randn(out_channels, in_channels, 3, 3, dtype=dtype, generator=generator)
    return x.contiguous(memory_format=torch.channels_last), weight / (3 * in_channels**0.5)


def run(x, weight):
    winograd = Winograd(x.dtype, CPU)
    return winograd(x, winograd.transform_weight(weight))


@given(
    count=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    tiles=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_equals_the_convolution_for_any_shape(count, channels, tiles):
    x, weight = layer(count, *channels, tiles[0] * 4, tiles[1] * 4)
    torch.testing.assert_close(run(x, weight), F.conv2d(x, weight, padding=1), rtol=1e-10, atol=1e-10)


def test_both_memory_layouts_give_the_same_result():
    x, weight = layer(2, 3, 4, 8, 12)
    assert torch.equal(run(x, weight), run(x.contiguous(), weight))
    assert run(x, weight).is_contiguous(memory_format=torch.channels_last)


def test_does_not_change_its_input():
    x, weight = layer(1, 3, 4, 8, 8)
    before = x.clone(), weight.clone()
    run(x, weight)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


def error_against_doubles(dtype, convolve):
    x, weight = layer(1, 256, 128, 16, 16)
    expected = F.conv2d(x, weight, padding=1)
    error = convolve(x.to(dtype), weight.to(dtype)).double() - expected
    return (error.square().mean() / expected.square().mean()).sqrt().item()


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 6), (torch.bfloat16, 12)])
def test_rounding_error_stays_near_that_of_a_plain_convolution(dtype, factor):
    """Processors round differently, so the plain convolution beside it is the measure.

    Measured: 2.6 times its error in float32, 8.5 in bfloat16; with Lavin and Gray's points fifteen.
    """
    plain = error_against_doubles(dtype, lambda x, weight: F.conv2d(x, weight, padding=1))
    assert error_against_doubles(dtype, run) < factor * plain


def test_transforms_a_map_of_many_strips():
    x, weight = layer(2, 300, 3, 40, 120, torch.float64)
    torch.testing.assert_close(run(x, weight), F.conv2d(x, weight, padding=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_transform_matrices_are_exact_in_the_dtype(dtype):
    exact, own = Winograd(torch.float64, CPU), Winograd(dtype, CPU)
    assert torch.equal(own.forth.double(), exact.forth)
    assert torch.equal(own.back.double(), exact.back)


def test_is_not_faster_for_bfloat16_on_processors_with_amx(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert not is_faster(torch.bfloat16, 512, 64)
    assert is_faster(torch.float32, 512, 64)


@pytest.mark.parametrize(
    ("dtype", "out_channels", "side", "expected"),
    [
        (torch.bfloat16, 512, 64, True),
        (torch.float32, 128, 256, True),
        (torch.float32, 64, 512, False),
        (torch.bfloat16, 512, 8, False),
        (torch.float16, 512, 64, False),
    ],
)
def test_is_not_faster_for_narrow_layers_and_small_maps(dtype, out_channels, side, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert is_faster(dtype, out_channels, side) is expected
