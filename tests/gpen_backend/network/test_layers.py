import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gpen_backend.network.layers import (
    EqualisedConv,
    EqualisedLinear,
    ModulatedConv,
    ModulatedProjection,
    Upsample,
)

FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def filtered(x, kernel, padding):
    """Filter every channel of x, padded by (left, right) zeros on both axes."""
    channels = x.shape[1]
    padded = F.pad(x, (*padding, *padding))
    return F.conv2d(padded, kernel.expand(channels, 1, 4, 4), groups=channels)


def zero_stuffed(x):
    """Double the size of x; every second row and column is zero."""
    stuffed = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    stuffed[:, :, ::2, ::2] = x
    return stuffed


def modulated_weight(layer, latent):
    """The published formula: scaled and modulated weights per sample. Returns (N, out, in, k, k)."""
    scale = layer.weight[0, 0].numel() ** -0.5
    return scale * layer.weight * layer.modulation(latent)[:, None, :, None, None]


def demodulated(weight):
    return weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)


def test_upsample_equals_zeros_between_the_pixels_then_the_filter():
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(Upsample()(x), filtered(zero_stuffed(x), FIR * 4, (2, 1)))


def test_modulated_conv_equals_a_convolution_with_weights_per_sample():
    layer, x, latent = ModulatedConv(6, 5, style_dim=8), torch.randn(3, 6, 4, 4), torch.randn(3, 8)
    weights = demodulated(modulated_weight(layer, latent))
    expected = torch.cat([F.conv2d(x[i : i + 1], weights[i], padding=1) for i in range(3)])
    torch.testing.assert_close(layer(x, latent), expected, atol=1e-5, rtol=1e-5)


def test_upsampling_modulated_conv_equals_a_transposed_convolution_then_the_filter():
    layer, x, latent = ModulatedConv(6, 5, 8, upsample=True), torch.randn(3, 6, 4, 4), torch.randn(3, 8)
    weights = demodulated(modulated_weight(layer, latent)).transpose(1, 2)
    enlarged = torch.cat([F.conv_transpose2d(x[i : i + 1], weights[i], stride=2) for i in range(3)])
    expected = filtered(enlarged, FIR * 4, (1, 1))
    assert expected.shape == (3, 5, 8, 8)
    torch.testing.assert_close(layer(x, latent), expected, atol=1e-5, rtol=1e-5)


def test_projection_is_modulated_and_not_demodulated():
    layer, x, latent = ModulatedProjection(6, style_dim=8), torch.randn(3, 6, 4, 5), torch.randn(3, 8)
    weights = modulated_weight(layer, latent)
    expected = torch.cat([F.conv2d(x[i : i + 1], weights[i]) for i in range(3)])
    torch.testing.assert_close(layer(x, latent), expected, atol=1e-5, rtol=1e-5)


def test_demodulation_uses_the_loaded_weights():
    layer, other = ModulatedConv(6, 5, 8), ModulatedConv(6, 5, 8)
    layer.load_state_dict(other.state_dict())
    x, latent = torch.randn(1, 6, 4, 4), torch.randn(1, 8)
    assert torch.equal(layer(x, latent), other(x, latent))


def test_equalised_layers_keep_the_variance_of_their_input():
    """Unit weights are scaled at run time, so the output has the variance of the input at any width."""
    with torch.no_grad():
        x = torch.randn(64, 512)
        assert EqualisedLinear(512, 512)(x).std() == pytest.approx(1, abs=0.05)
        assert EqualisedLinear(512, 512, lr_mul=0.01)(x).std() == pytest.approx(1, abs=0.05)
        assert EqualisedConv(64, 64, 3)(torch.randn(4, 64, 9, 9)).std() == pytest.approx(1, abs=0.05)
