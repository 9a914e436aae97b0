"""GPEN exactly by the published formulas: the baseline for the backend's network.

FIR filters run on zero-stuffed maps, weights are scaled at every call, and every sample has its own modulated
weights in a grouped convolution, as in StyleGAN2's and GPEN's public code without custom kernels.
Works on a state dict with GPEN's names.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

State = Mapping[str, Tensor]
_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
FIR = torch.outer(_TAPS, _TAPS) / 64


def seeded(shapes: State) -> dict[str, Tensor]:
    """A random checkpoint, equal on every machine. shapes: tensors, which may be on the meta device."""
    state = {}
    for name, tensor in shapes.items():
        if name.endswith("kernel"):
            state[name] = FIR * (1 if name.startswith("ecd") else 4)
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noise = torch.from_numpy(rng.standard_normal(tuple(tensor.shape)).astype(np.float32))
        if name.endswith("modulation.bias"):
            noise = 1 + 0.1 * noise
        elif name.endswith("noise.weight"):
            noise = 0.5 + 0.1 * noise
        elif name.endswith("bias"):
            noise = 0.1 * noise
        elif name.startswith("generator.style."):
            noise = 100 * noise
        state[name] = noise
    return state


def generate(state: State, image: Tensor) -> Tensor:
    """image: (N, 3, S, S) float32 in [-1, 1]. Returns the same shape."""
    x = image
    features = []
    for index in range(image.shape[-1].bit_length() - 2):
        name = f"ecd{index}.0"
        conv, bias = (0, 1) if index == 0 else (1, 2)
        if index:
            x = upfirdn(x, FIR, 1, (2, 2))
        x = equalised_conv(x, state[f"{name}.{conv}.weight"], stride=2 if index else 1)
        x = activated(x, state[f"{name}.{bias}.bias"])
        features.append(x)
    latent = linear(x.flatten(1), state, "final_linear.0", activate=True)
    latent = latent * torch.rsqrt(latent.square().mean(1, keepdim=True) + 1e-8)
    index = 1
    while f"generator.style.{index}.weight" in state:
        latent = linear(latent, state, f"generator.style.{index}", activate=True, lr_mul=0.01)
        index += 1
    x = state["generator.input.input"].repeat(len(image), 1, 1, 1)
    x = styled(x, latent, features[-1], state, "generator.conv1")
    rgb = to_rgb(x, latent, None, state, "generator.to_rgb1")
    for level, feature in enumerate(reversed(features[:-1])):
        x = styled(x, latent, feature, state, f"generator.convs.{2 * level}", upsample=True)
        x = styled(x, latent, feature, state, f"generator.convs.{2 * level + 1}")
        rgb = to_rgb(x, latent, rgb, state, f"generator.to_rgbs.{level}")
    return rgb


def upfirdn(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Insert zeros between the pixels, pad with zeros, filter."""
    batch, channels, height, width = x.shape
    x = x.reshape(-1, 1, height, 1, width, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1])
    x = F.pad(x.reshape(-1, 1, height * up, width * up), [*pad, *pad])
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])
    return x.reshape(batch, channels, *x.shape[2:])


def activated(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


def linear(x: Tensor, state: State, name: str, activate: bool = False, lr_mul: float = 1) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    scaled = weight * (lr_mul / math.sqrt(weight.shape[1]))
    if activate:
        return activated(F.linear(x, scaled), bias * lr_mul)
    return F.linear(x, scaled, bias * lr_mul)


def equalised_conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight / math.sqrt(weight[0].numel()), stride=stride)


def modulated_conv(
    x: Tensor, latent: Tensor, state: State, name: str, demodulate: bool = True, upsample: bool = False
) -> Tensor:
    weight = state[f"{name}.weight"]
    batch, in_channels, height, width = x.shape
    _, out_channels, _, side, _ = weight.shape
    style = linear(latent, state, f"{name}.modulation").reshape(batch, 1, in_channels, 1, 1)
    weight = weight / math.sqrt(in_channels * side**2) * style
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4)) + 1e-8).reshape(batch, -1, 1, 1, 1)
    x = x.reshape(1, batch * in_channels, height, width)
    if upsample:
        weight = weight.transpose(1, 2).reshape(batch * in_channels, out_channels, side, side)
        y = F.conv_transpose2d(x, weight, stride=2, groups=batch)
        return upfirdn(y.reshape(batch, out_channels, *y.shape[2:]), FIR * 4, 1, (1, 1))
    weight = weight.reshape(batch * out_channels, in_channels, side, side)
    y = F.conv2d(x, weight, padding=side // 2, groups=batch)
    return y.reshape(batch, out_channels, height, width)


def styled(
    x: Tensor, latent: Tensor, feature: Tensor, state: State, name: str, upsample: bool = False
) -> Tensor:
    y = modulated_conv(x, latent, state, f"{name}.conv", upsample=upsample)
    y = torch.cat((y, state[f"{name}.noise.weight"] * feature), 1)
    return activated(y, state[f"{name}.activate.bias"])


def to_rgb(x: Tensor, latent: Tensor, rgb: Tensor | None, state: State, name: str) -> Tensor:
    y = modulated_conv(x, latent, state, f"{name}.conv", demodulate=False) + state[f"{name}.bias"]
    return y if rgb is None else y + upfirdn(rgb, FIR * 4, 2, (2, 1))
