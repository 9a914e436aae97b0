"""The GPEN generator: an encoder whose features steer a StyleGAN2 decoder. Deterministic.

Parameters have GPEN's names, so its checkpoints load strictly and unchanged.

Sources: Yang et al. 2021, "GAN Prior Embedded Network for Blind Face Restoration in the Wild"; GPEN's
face_model/gpen_model.py.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gpen_backend.network.layers import (
    Activation,
    Blur,
    EqualisedConv,
    EqualisedLinear,
    ModulatedConv,
    ModulatedProjection,
    PixelNorm,
    Upsample,
)

# StyleGAN2's mapping network learns a hundred times slower, so its weights are stored a hundred times larger.
_MAPPING_LR = 0.01

# Resolution of the decoder's first feature map, and the resolution up to which all maps are equally wide.
_SMALLEST = 4
_WIDEST_RESOLUTION = 32

SIZES = tuple(2**level for level in range(3, 13))
"""Possible sides of a generator, px. GPEN's authors train 256 to 2048."""


def channels_at(resolution: int, channel_multiplier: int, narrow: float) -> int:
    """Return the width of a feature map of `resolution` px. Source: the table in gpen_model.py."""
    if resolution <= _WIDEST_RESOLUTION:
        return int(512 * narrow)
    return int(16384 // resolution * channel_multiplier * narrow)


class FeatureInjection(nn.Module):
    """Concatenates the encoder's feature to the decoder's, where StyleGAN2 adds noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """x, feature: (N, C, H, W). Returns (N, 2C, H, W)."""
        return torch.cat((x, self.weight * feature), dim=1)


class StyledConv(nn.Module):
    """Modulated convolution, concatenation of the encoder's feature, activation."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, out_channels, style_dim, upsample)
        self.noise = FeatureInjection()
        self.activate = Activation(2 * out_channels)

    def forward(self, x: Tensor, latent: Tensor, feature: Tensor) -> Tensor:
        """x: (N, in, H, W). latent: (N, D). feature: (N, out, H', W'). Returns (N, 2 out, H', W')."""
        y: Tensor = self.activate(self.noise(self.conv(x, latent), feature))
        return y


class ToRGB(nn.Module):
    """A modulated 1×1 convolution to RGB, added to the enlarged picture so far."""

    def __init__(self, in_channels: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedProjection(in_channels, style_dim)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if upsample else None

    def forward(self, x: Tensor, latent: Tensor, rgb: Tensor | None = None) -> Tensor:
        """x: (N, in, H, W). latent: (N, D). rgb: (N, 3, H/2, W/2) or None. Returns (N, 3, H, W)."""
        y: Tensor = self.conv(x, latent) + self.bias
        if self.upsample is not None:
            y += self.upsample(rgb)
        return y


class ConstantInput(nn.Module):
    """The learned 4×4 map that the decoder starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, _SMALLEST, _SMALLEST))

    def forward(self, batch: int) -> Tensor:
        """Repeat the map for a batch. Returns (batch, C, 4, 4)."""
        return self.input.expand(batch, -1, -1, -1)


class Decoder(nn.Module):
    """StyleGAN2's generator with the encoder's features in place of its noise."""

    def __init__(self, channels: list[int], style_dim: int, mlp_layers: int) -> None:
        """channels: width at every resolution, 4×4 first."""
        super().__init__()
        mapping = [
            EqualisedLinear(style_dim, style_dim, _MAPPING_LR, activated=True) for _ in range(mlp_layers)
        ]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(channels[0])
        self.conv1 = StyledConv(channels[0], channels[0], style_dim)
        self.to_rgb1 = ToRGB(2 * channels[0], style_dim, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for below, here in pairwise(channels):
            self.convs.append(StyledConv(2 * below, here, style_dim, upsample=True))
            self.convs.append(StyledConv(2 * here, here, style_dim))
            self.to_rgbs.append(ToRGB(2 * here, style_dim))

    def forward(self, code: Tensor, features: list[Tensor]) -> Tensor:
        """code: (N, D). features: of the encoder, 4×4 first. Returns (N, 3, S, S)."""
        latent = self.style(code)
        x = self.conv1(self.input(len(code)), latent, features[0])
        rgb: Tensor = self.to_rgb1(x, latent)
        stages = zip(self.convs[::2], self.convs[1::2], self.to_rgbs, features[1:], strict=True)
        for enlarge, refine, to_rgb, feature in stages:
            x = refine(enlarge(x, latent, feature), latent, feature)
            rgb = to_rgb(x, latent, rgb)
        return rgb


class EncoderBlock(nn.Sequential):
    """Convolution and activation. Blocks after the first blur first and halve the sides."""

    def __init__(self, in_channels: int, out_channels: int, halve: bool = True) -> None:
        if halve:
            conv = EqualisedConv(in_channels, out_channels, kernel_size=3, stride=2)
            super().__init__(nn.Sequential(Blur(padding=2), conv, Activation(out_channels)))
        else:
            conv = EqualisedConv(in_channels, out_channels, kernel_size=1)
            super().__init__(nn.Sequential(conv, Activation(out_channels)))


class Generator(nn.Module):
    """GPEN's whole generator for faces of one fixed size.

    size: side of input and output, px, a power of two from 8 to 4096. channel_multiplier, narrow: widths, see
    `channels_at`. style_dim: width of the latent. mlp_layers: depth of the mapping network.
    Raises ValueError for any other size, or for widths that leave a layer without channels.
    """

    def __init__(
        self,
        size: int,
        channel_multiplier: int = 2,
        narrow: float = 1,
        style_dim: int = 512,
        mlp_layers: int = 8,
    ) -> None:
        super().__init__()
        self.size = size
        if size not in SIZES:
            raise ValueError(f"size must be a power of two from {SIZES[0]} to {SIZES[-1]}, not {size}")
        resolutions = [_SMALLEST, *SIZES[: SIZES.index(size) + 1]]
        channels = [channels_at(resolution, channel_multiplier, narrow) for resolution in resolutions]
        if min(*channels, style_dim) < 1:
            raise ValueError("every layer needs at least one channel")
        self._encoder_names = [f"ecd{index}" for index in range(len(channels))]
        widths = [3, *reversed(channels)]
        for index, name in enumerate(self._encoder_names):
            self.add_module(name, EncoderBlock(widths[index], widths[index + 1], halve=index > 0))
        flat = channels[0] * _SMALLEST**2
        self.final_linear = nn.Sequential(EqualisedLinear(flat, style_dim, activated=True))
        self.generator = Decoder(channels, style_dim, mlp_layers)

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """image: (N, 3, S, S). Returns the code (N, D) and the feature of every resolution, 4×4 first."""
        features = [image]
        for name in self._encoder_names:
            features.append(self.get_submodule(name)(features[-1]))
        return self.final_linear(features[-1].flatten(1)), features[:0:-1]

    def forward(self, image: Tensor) -> Tensor:
        """image: (N, 3, S, S) float32 RGB in [-1, 1]. Returns the same shape, nominally the same range."""
        code, features = self.encode(image)
        restored: Tensor = self.generator(code, features)
        return restored
