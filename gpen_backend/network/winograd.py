"""3×3 convolutions by Winograd's minimal filtering: fewer multiplications, paid for with additions.

A tile of 4×4 outputs comes from 6×6 inputs by 36 multiplications, in place of nine for each output, 144. The
additions are matrix products too, one before the multiplication and one after it, by small matrices of
constants.

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
# Where the polynomials behind the transforms are looked at, beside infinity. A half and minus two, and not
# two and minus two as in Lavin and Gray: so a convolution in bfloat16 is off by 1.8 % of its result's
# deviation in place of 2.8 (a plain one by 0.2).
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)

# Numbers of a map that are transformed at once: what comes of them stays in a core's cache.
_STRIP = 2**16

_NARROWEST, _SMALLEST = 128, 16


@dataclass(frozen=True)
class _Transforms:
    """Of one dimension, float64; both at once are their Kronecker squares."""

    inputs: Tensor
    weights: Tensor
    outputs: Tensor


def pays(dtype: torch.dtype, out_channels: int, side: int) -> bool:
    """Whether a layer with twice as many inputs as `out_channels`, on maps of `side` px, gains by it here.

    Narrow layers have more to transform than to multiply, and the weights of small maps, of which there are
    more than before, are read for nothing. Limits by measurement, see docs/performance.md. Processors with
    AMX multiply bfloat16 so fast that the additions would cost more than they save.
    """
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    suits = dtype == torch.float32 or (dtype == torch.bfloat16 and not has_amx)
    return suits and out_channels >= _NARROWEST and side >= _SMALLEST


class Winograd(nn.Module):
    """A convolution with one pixel of zeros around, as F.conv2d(x, …, padding=1)."""

    forth: Tensor
    back: Tensor

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """dtype, device: of what is convolved."""
        super().__init__()
        self._along = _transforms()
        for name, along in (("forth", self._along.inputs), ("back", self._along.outputs)):
            self.register_buffer(name, torch.kron(along, along).to(device, dtype), persistent=False)

    def spread(self, weight: Tensor) -> Tensor:
        """Weights (out, in, 3, 3) as `forward` wants them: (36, in, out)."""
        along = self._along.weights.to(weight)
        return torch.einsum("ik,jl,ockl->ijco", along, along, weight).flatten(0, 1).contiguous()

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: (N, in, H, W), sides multiples of 4. weight: as `spread` makes it, in the dtype of `x`.

        Returns (N, out, H, W), channels last.
        """
        count, channels, height, width = x.shape
        rows, columns = height // _TILE, width // _TILE
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        face, row, column, channel = padded.stride()
        # Every place in a tile, and for it all tiles, which overlap by two pixels.
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
        # It is larger than any map of the network, and so is what follows.
        del padded, tiles, strip
        made = self.back @ torch.bmm(given, weight).view(_SPAN**2, -1)
        made = made.view(_TILE, _TILE, count, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        return made.reshape(count, height, width, -1).permute(0, 3, 1, 2)


def _transforms() -> _Transforms:
    """Toom and Cook's construction for `_POINTS` and infinity: Lavin and Gray's B^T, G and A^T.

    B^T and A^T are exact in bfloat16.
    """
    inputs, weights, outputs = np.zeros((_SPAN, _SPAN)), np.zeros((_SPAN, _TAPS)), np.zeros((_TILE, _SPAN))
    for index, point in enumerate(_POINTS):
        others = _POINTS[:index] + _POINTS[index + 1 :]
        # Coefficients, the constant first, of the polynomial that is 0 at all others.
        inputs[index, : len(_POINTS)] = np.poly(others)[::-1]
        weights[index] = np.power(point, range(_TAPS)) / np.prod(point - np.array(others))
        outputs[:, index] = np.power(point, range(_TILE))
    inputs[-1] = np.poly(_POINTS)[::-1]
    weights[-1, -1] = outputs[-1, -1] = 1
    return _Transforms(*map(torch.from_numpy, (inputs, weights, outputs)))
