"""StyleGAN2's layers as GPEN uses them, with GPEN's parameter names and raw, unscaled values.

Each layer needs one plain convolution for any batch: latents scale the activations instead of the weights,
and other scales of the published formulas move to whichever tensor is smaller.

Sources: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"; GPEN's
face_model/gpen_model.py.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the name every torch reader knows)
from torch import Tensor, nn

# StyleGAN2's constants: slope and gain of the activation, epsilon of the normalisations, binomial filter.
SLOPE = 0.2
GAIN = math.sqrt(2)
EPSILON = 1e-8
_FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def _activate(x: Tensor) -> Tensor:
    """Leaky ReLU that preserves the variance. Overwrites `x`."""
    return F.leaky_relu(x, SLOPE, inplace=True).mul_(GAIN)


def fir(gain: float) -> Tensor:
    """Return the (4, 4) binomial low-pass filter, summing to `gain`."""
    taps = torch.tensor(_FIR_TAPS)
    return torch.outer(taps, taps) * (gain / 64)


class PixelNorm(nn.Module):
    """Scales every latent (N, D) to a mean square of one."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, D). Returns the same shape."""
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPSILON)


class EqualisedLinear(nn.Module):
    """A linear layer whose stored weights have unit variance, optionally activated."""

    def __init__(
        self, in_features: int, out_features: int, lr_mul: float = 1, bias: float = 0, activated: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias)))
        self.lr_mul = lr_mul
        self.scale = lr_mul / math.sqrt(in_features)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in). Returns (N, out)."""
        # Scaling the inputs is equivalent to scaling the weights, of which there are more.
        y = F.linear(x * self.scale, self.weight, self.bias * self.lr_mul)
        return _activate(y) if self.activated else y


class EqualisedConv(nn.Module):
    """A convolution without padding or bias whose stored weights have unit variance."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in, H, W). Returns (N, out, H', W')."""
        return F.conv2d(x, self.weight, stride=self.stride).mul_(self.scale)


class Activation(nn.Module):
    """A bias per channel, then the leaky ReLU. Overwrites its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns the same tensor."""
        return _activate(x.add_(self.bias[:, None, None]))


class Blur(nn.Module):
    """The FIR low-pass filter over every channel, with `padding` zeros on each side."""

    kernel: Tensor

    def __init__(self, padding: int, gain: float = 1) -> None:
        super().__init__()
        self.register_buffer("kernel", fir(gain))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, C, H + 2 padding - 3, W + 2 padding - 3)."""
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, 1, 4, 4), padding=self.padding, groups=channels)


class Upsample(nn.Module):
    """Doubles both sides through the FIR filter."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir(gain=4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, C, 2H, 2W)."""
        # One transposed convolution for zero-stuffing, (2, 1) padding and the filter.
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class ModulatedConv(nn.Module):
    """A 3×3 convolution: the latent scales its input channels, demodulation its output to unit variance.

    `energy` derives from the weights and is updated by load_state_dict: load weights, do not assign them.
    """

    energy: Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, 3, 3))
        self.modulation = EqualisedLinear(style_dim, in_channels, bias=1)
        self.blur = Blur(padding=1, gain=4) if upsample else None
        self.scale = 1 / math.sqrt(in_channels * 9)
        self.register_buffer("energy", torch.empty(out_channels, in_channels), persistent=False)
        self.register_load_state_dict_post_hook(_measure_energy)  # type: ignore[no-untyped-call]  # torch has none
        _measure_energy(self)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """x: (N, in, H, W). latent: (N, D). Returns (N, out, H, W), or (N, out, 2H, 2W) if upsampling."""
        style = self.modulation(latent) * self.scale
        demodulation = torch.rsqrt(F.linear(style.square(), self.energy) + EPSILON)
        x = x * style[:, :, None, None]
        if self.blur is None:
            y = F.conv2d(x, self.weight[0], padding=1)
        else:
            y = self.blur(F.conv_transpose2d(x, self.weight[0].transpose(0, 1), stride=2))
        return y.mul_(demodulation[:, :, None, None])


def _measure_energy(layer: ModulatedConv, _keys: object = None) -> None:
    """Sum the squares of the layer's weights over space, once per load, for demodulation."""
    layer.energy = layer.weight.detach()[0].square().sum((-1, -2))


class ModulatedProjection(nn.Module):
    """The 1×1 convolution of ToRGB: modulated by the latent, not demodulated."""

    def __init__(self, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3, in_channels, 1, 1))
        self.modulation = EqualisedLinear(style_dim, in_channels, bias=1)
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """x: (N, in, H, W). latent: (N, D). Returns (N, 3, H, W)."""
        # Modulates the weights: three rows of them are far smaller than the activations.
        style = self.modulation(latent) * self.scale
        weight = self.weight[0, :, :, 0, 0] * style[:, None, :]
        y: Tensor = weight @ x.flatten(2)
        return y.view(len(x), 3, *x.shape[2:])
