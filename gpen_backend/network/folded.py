"""The generator folded for inference: computes the same as `network.Generator` in fewer and cheaper steps.

Loading multiplies every constant into the adjacent weights: equalisation scales, the gains of filter and
activation, the share of the encoder's features. One matrix product computes all styles. The latent stays
float32; feature maps and convolutions have the requested dtype, channels last.

A latent scales either the activations or the weights of its convolution, whichever are fewer. Scaled weights
belong to one face, so faces run one by one where that is faster. Measurements are in docs/performance.md.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the name every torch reader knows)
from torch import Tensor, nn

from gpen_backend.network.generator import EncoderBlock, Generator, StyledConv, ToRGB
from gpen_backend.network.layers import EPSILON, GAIN, SLOPE, EqualisedLinear, ModulatedConv, PixelNorm, fir
from gpen_backend.network.winograd import Winograd, is_faster

_LAYOUT = torch.channels_last


class FoldedGenerator(nn.Module):
    """A generator for inference on one device.

    size: side of input and output, px. dtype: of the feature maps and convolutions. one_by_one: run the faces
    of a batch one after the other, and wide layers by Winograd's filtering, which suits CPUs; otherwise run
    them together, by the library's choice of algorithm, which suits GPUs.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype, one_by_one: bool) -> None:
        """Fold a copy of the weights of `generator`, on its device."""
        super().__init__()
        self.size = generator.size
        self._dtype = dtype
        self._one_by_one = one_by_one
        decoder = generator.generator
        blocks = [module for module in generator.children() if isinstance(module, EncoderBlock)]
        convs = [decoder.conv1, *cast("Sequence[StyledConv]", decoder.convs)]
        to_rgbs = [decoder.to_rgb1, *cast("Sequence[ToRGB]", decoder.to_rgbs)]
        resolutions = [4, *(8 << level // 2 for level in range(len(convs) - 1))]
        with torch.no_grad():
            self._encoders = nn.ModuleList(_Encoder(block, dtype) for block in blocks)
            self._code = _Linear(generator.final_linear[0])
            self._mapping = nn.Sequential(PixelNorm(), *(_Linear(layer) for layer in list(decoder.style)[1:]))
            modulations = [layer.conv.modulation for layer in convs]
            modulations += [layer.conv.modulation for layer in to_rgbs]
            self._styles = _Styles(modulations)
            self._constant = _constant(decoder.input.input, dtype)
            self._convs = nn.ModuleList(
                _Styled(layer, resolution, dtype, one_by_one)
                for layer, resolution in zip(convs, resolutions, strict=True)
            )
            self._to_rgbs = nn.ModuleList(_ToRGB(layer, dtype) for layer in to_rgbs)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """image: (N, 3, S, S) float32 RGB in [-1, 1]. Returns the same shape and dtype."""
        if not self._one_by_one or len(image) == 1:
            return self._run(image)
        return torch.cat([self._run(face) for face in torch.split(image, 1)])

    def _run(self, image: Tensor) -> Tensor:
        x = image.to(self._dtype).contiguous(memory_format=_LAYOUT)
        features = []
        for encoder in self._encoders:
            x = encoder(x)
            features.append(x)
        styles = self._styles(self._mapping(self._code(x.flatten(1).float())))
        to_conv, to_rgb = styles[: len(self._convs)], styles[len(self._convs) :]
        x = self._constant.expand(len(image), -1, -1, -1)
        rgb: Tensor | None = None
        for index, project in enumerate(self._to_rgbs):
            feature = features.pop()
            # One convolution at 4 px; at every further resolution one that enlarges and one that refines.
            for layer in (0,) if index == 0 else (2 * index - 1, 2 * index):
                x = self._convs[layer](x, to_conv[layer], feature)
            rgb = project(x, to_rgb[index], rgb)
        assert rgb is not None  # noqa: S101 - every generator has a layer to RGB
        return rgb


class _Linear(nn.Module):
    """An activated linear layer, (N, in) float32 to (N, out)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, EqualisedLinear)  # noqa: S101 - for the type checker
        # Leaky ReLU commutes with a positive factor, so its gain can be folded into the weights before it.
        self.weight = _constant(layer.weight * (layer.scale * GAIN))
        self.bias = _constant(layer.bias * (layer.lr_mul * GAIN))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.linear(x, self.weight, self.bias), SLOPE, inplace=True)


class _Styles(nn.Module):
    """Computes the style of every layer, float32 (N, in) each, from the latent (N, D)."""

    def __init__(self, modulations: Sequence[EqualisedLinear]) -> None:
        super().__init__()
        self.weight = _constant(torch.cat([layer.weight * layer.scale for layer in modulations]))
        self.bias = _constant(torch.cat([layer.bias for layer in modulations]))
        self._widths = [len(layer.bias) for layer in modulations]

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        return torch.split(F.linear(latent, self.weight, self.bias), self._widths, dim=1)


class _Encoder(nn.Module):
    """One block of the encoder: blur and halve (except in the first block), convolve, activate."""

    def __init__(self, block: EncoderBlock, dtype: torch.dtype) -> None:
        super().__init__()
        *blurs, conv, activation = cast("Sequence[nn.Module]", block[0])
        weight = cast(Tensor, conv.weight)
        self.weight = _constant(weight * (cast(float, conv.scale) * GAIN), dtype)
        self.bias = _constant(cast(Tensor, activation.bias) * GAIN, dtype)
        self.blur = _constant(_filters(weight.shape[1], 1, weight.device), dtype) if blurs else None

    def forward(self, x: Tensor) -> Tensor:
        stride = 1
        if self.blur is not None:
            x, stride = F.conv2d(x, self.blur, padding=2, groups=x.shape[1]), 2
        return F.leaky_relu(F.conv2d(x, self.weight, self.bias, stride), SLOPE, inplace=True)


class _Styled(nn.Module):
    """One modulated 3×3 convolution of the decoder, concatenated with the encoder's feature, activated."""

    def __init__(self, layer: StyledConv, resolution: int, dtype: torch.dtype, one_by_one: bool) -> None:
        """resolution: side of the output, px."""
        super().__init__()
        conv: ModulatedConv = layer.conv
        weight = conv.weight[0] * conv.scale
        out_channels = len(weight)
        self._dtype = dtype
        self.energy = _constant(weight.square().sum((-1, -2)))
        self.enlarges = conv.blur is not None
        side = resolution // 2 if self.enlarges else resolution
        by_winograd = one_by_one and not self.enlarges and is_faster(dtype, out_channels, side)
        self.winograd = Winograd(dtype, weight.device) if by_winograd else None
        if self.winograd is not None:
            weight = self.winograd.transform_weight(weight)
        elif self.enlarges:
            weight = weight.transpose(0, 1)
        numbers = weight.numel() // self.energy.numel()
        self.scales_weights = one_by_one and side**2 > numbers * out_channels
        # Weights that are scaled in every run are rounded to `dtype` only afterwards.
        self.weight = _constant(weight, torch.float32 if self.scales_weights else dtype)
        self.blur = _constant(_filters(out_channels, 4, weight.device), dtype) if self.enlarges else None
        bias = layer.activate.bias * GAIN
        self.bias = _constant(bias[:out_channels], dtype)
        self.feature_bias = _constant(bias[None, out_channels:, None, None], dtype)
        self._feature_gain = float(layer.noise.weight) * GAIN

    def forward(self, x: Tensor, style: Tensor, feature: Tensor) -> Tensor:
        """x: (N, in, H, W). style: (N, in) float32. feature: (N, out, H', W'). Returns (N, 2 out, H', W')."""
        gain = torch.rsqrt(F.linear(style.square(), self.energy) + EPSILON).mul_(GAIN)
        if self.scales_weights:
            y = self._convolve(x, self._scale_weight(style, gain), self.bias)
        else:
            y = self._convolve(x * style.to(self._dtype)[:, :, None, None], self.weight)
            y = torch.addcmul(self.bias[:, None, None], y, gain.to(self._dtype)[:, :, None, None])
        count, channels, height, width = y.shape
        shape = (count, 2 * channels, height, width)
        both = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=_LAYOUT)
        both[:, :channels] = y
        torch.add(self.feature_bias, feature, alpha=self._feature_gain, out=both[:, channels:])
        return F.leaky_relu(both, SLOPE, inplace=True)

    def _scale_weight(self, style: Tensor, gain: Tensor) -> Tensor:
        """Scale the weights for one face by `style` (1, in) and `gain` (1, out)."""
        if self.winograd is not None:
            return (self.weight * (style.T * gain)).to(self._dtype)
        factors = style.T * gain if self.enlarges else gain.T * style
        return (self.weight * factors[:, :, None, None]).to(self._dtype)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.winograd is not None:
            convolved: Tensor = self.winograd(x, weight)
            return convolved if bias is None else convolved.add_(bias[:, None, None])
        if self.blur is None:
            return F.conv2d(x, weight, bias, padding=1)
        y = F.conv_transpose2d(x, weight, stride=2)
        return F.conv2d(y, self.blur, bias, padding=1, groups=y.shape[1])


class _ToRGB(nn.Module):
    """Projects a feature map to RGB and adds it to the enlarged picture so far. Pictures are float32."""

    def __init__(self, layer: ToRGB, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        weight = layer.conv.weight[0, :, :, 0, 0] * layer.conv.scale
        self.weight = _constant(weight)
        self.bias = _constant(layer.bias)
        self.filter = nn.Parameter(_filters(3, 4, weight.device), requires_grad=False)

    def forward(self, x: Tensor, style: Tensor, rgb: Tensor | None) -> Tensor:
        """x: (N, in, H, W). style: (N, in) float32. rgb: (N, 3, H/2, W/2) or None. Returns (N, 3, H, W)."""
        weight = (self.weight * style[:, None]).to(self._dtype)
        # Face by face: a batched product would copy the feature maps first.
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        added = torch.stack([own @ face.T for own, face in zip(weight, pixels, strict=True)])
        picture = added.float().reshape(len(x), 3, *x.shape[2:]) + self.bias
        if rgb is None:
            return picture
        return picture + F.conv_transpose2d(rgb, self.filter, stride=2, padding=1, groups=3)


def _constant(value: Tensor, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """A constant parameter with a copy of `value`."""
    copied = value.detach().to(dtype, copy=True)
    if copied.ndim == 4:
        copied = copied.contiguous(memory_format=_LAYOUT)
    return nn.Parameter(copied, requires_grad=False)


def _filters(channels: int, gain: float, device: torch.device) -> Tensor:
    """The low-pass filter repeated for every channel, (channels, 1, 4, 4)."""
    return fir(gain).to(device).expand(channels, 1, 4, 4)
