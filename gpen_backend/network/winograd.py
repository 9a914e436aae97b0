"""3×3 convolutions by Winograd's minimal filtering, which trades multiplications for additions.

A tile of 4×4 outputs takes 36 multiplications of 6×6 inputs, instead of nine per output, 144. The additions
are matrix products with small constant matrices, one before the multiplication and one after it.

Sources: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, "Fast Algorithms for
Convolutional Neural Networks"; Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks".
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name every torch reader knows)
from torch import Tensor, nn

_TILE, _TAPS = 4, 3
_SPAN = _TILE + _TAPS - 1
# Interpolation points of the transforms, besides infinity. With 1/2 and -2, instead of Lavin and Gray's 2 and
# -2, the error of a bfloat16 convolution is 1.8 % of the result's deviation instead of 2.8 % (plain: 0.2 %).
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)

# Values of a feature map that are transformed at once, so that the result stays in a core's cache.
_STRIP = 2**16

_NARROWEST, _SMALLEST = 128, 16


@dataclass(frozen=True)
class _Transforms:
    """Matrices for one dimension, float64; those for two dimensions are their Kronecker squares."""

    inputs: Tensor
    weights: Tensor
    outputs: Tensor


def is_faster(dtype: torch.dtype, out_channels: int, side: int) -> bool:
    """Whether Winograd is faster for a layer of 2 * `out_channels` inputs on maps of `side` px, on this CPU.

    In narrow layers the transforms outweigh the multiplications; on small maps reading the weights does, of
    which Winograd has four times as many. The limits are measured, see docs/performance.md. On processors
    with AMX, bfloat16 multiplications are so fast that the additions cost more than they save.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    suits = dtype == torch.float32 or (dtype == torch.bfloat16 and not has_amx)
    return suits and out_channels >= _NARROWEST and side >= _SMALLEST


class Winograd(nn.Module):
    """A 3×3 convolution with one pixel of zero padding, equivalent to F.conv2d(x, …, padding=1)."""

    forth: Tensor
    back: Tensor

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """dtype, device: of the feature maps."""
        super().__init__()
        self._along = _transforms()
        for name, along in (("forth", self._along.inputs), ("back", self._along.outputs)):
            self.register_buffer(name, torch.kron(along, along).to(device, dtype), persistent=False)

    def transform_weight(self, weight: Tensor) -> Tensor:
        """Transform weights (out, in, 3, 3) for `forward`: (36, in, out)."""
        along = self._along.weights.to(weight)
        return torch.einsum("ik,jl,ockl->ijco", along, along, weight).flatten(0, 1).contiguous()

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: (N, in, H, W), sides multiples of 4. weight: from `transform_weight`, in the dtype of `x`.

        Returns (N, out, H, W), channels last.
        """
        count, channels, height, width = x.shape
        rows, columns = height // _TILE, width // _TILE
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        face, row, column, channel = padded.stride()
        # View of all tiles, indexed by the position in the tile first; neighbours overlap by two pixels.
        tiles = padded.as_strided(
            (_SPAN, _SPAN, count, rows, columns, channels),
            (row, column, face, _TILE * row, _TILE * column, channel),
        )
        given = x.new_empty((_SPAN**2, count, rows, columns * channels))
        for first in range(0, rows, step := max(1, _STRIP // (columns * channels))):
            strip = tiles[:, :, :, first : first + step].reshape(_SPAN**2, -1)
            given[:, :, first : first + step] = (self.forth @ strip).view(
                *given.shape[:2], -1, given.shape[3]
            )
        given = given.view(_SPAN**2, -1, channels)
        # Free memory: these and the following tensors are larger than any feature map of the network.
        del padded, tiles, strip
        made = self.back @ torch.bmm(given, weight).view(_SPAN**2, -1)
        made = made.view(_TILE, _TILE, count, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        return made.reshape(count, height, width, -1).permute(0, 3, 1, 2)


def _transforms() -> _Transforms:
    """Build Lavin and Gray's B^T, G and A^T for `_POINTS` and infinity, by Toom and Cook's construction.

    B^T and A^T are exact in bfloat16.
    """
    inputs, weights, outputs = np.zeros((_SPAN, _SPAN)), np.zeros((_SPAN, _TAPS)), np.zeros((_TILE, _SPAN))
    for index, point in enumerate(_POINTS):
        others = _POINTS[:index] + _POINTS[index + 1 :]
        # Coefficients, the constant first, of the polynomial with roots at all other points.
        inputs[index, : len(_POINTS)] = np.poly(others)[::-1]
        weights[index] = np.power(point, range(_TAPS)) / np.prod(point - np.array(others))
        outputs[:, index] = np.power(point, range(_TILE))
    inputs[-1] = np.poly(_POINTS)[::-1]
    weights[-1, -1] = outputs[-1, -1] = 1
    return _Transforms(*map(torch.from_numpy, (inputs, weights, outputs)))
