"""3×3 convolutions by Winograd's minimal filtering: fewer multiplications, paid for with additions.

A tile of m×m outputs comes from (m+2)×(m+2) inputs by as many multiplications, in place of nine for each
output: 16 for 36 at m = 2, 36 for 144 at m = 4. The additions are matrix products too, one before the
multiplication and one after it, by small matrices of constants.

Sources: Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2015, "Fast Algorithms for
Convolutional Neural Networks", for F(2×2, 3×3) and F(4×4, 3×3).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (the name every torch reader knows)
from torch import Tensor, nn

_TAPS = 3
_NARROWEST, _SMALLEST = 128, 16


@dataclass(frozen=True)
class _Transforms:
    """Of one dimension; both at once are their Kronecker squares."""

    inputs: Tensor
    weights: Tensor
    outputs: Tensor


def tile_for(dtype: torch.dtype) -> int:
    """The side of tiles that suits `dtype` on this processor, px; 0 where plain convolutions are faster.

    The transforms of larger tiles lose about three bits: float32 has them, bfloat16 has not. Processors with
    AMX multiply bfloat16 so fast that the additions would cost more than they save.
    """
    if dtype == torch.float32:
        return 4
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return 2 if dtype == torch.bfloat16 and not has_amx else 0


def pays(tile: int, out_channels: int, side: int) -> bool:
    """Whether a layer with twice as many inputs as `out_channels`, on maps of `side` px, gains by it.

    Narrow layers have more to transform than to multiply, and the weights of small maps, of which there are
    more than before, are read for nothing. Limits by measurement, see docs/performance.md.
    """
    return tile > 0 and out_channels >= _NARROWEST and side >= _SMALLEST


class Winograd(nn.Module):
    """A convolution with one pixel of zeros around, as F.conv2d(x, …, padding=1), in tiles of one side."""

    forth: Tensor
    back: Tensor

    def __init__(self, tile: int, dtype: torch.dtype, device: torch.device) -> None:
        """tile: 2 or 4 px. dtype, device: of what is convolved."""
        super().__init__()
        self._tile = tile
        self._along = _transforms(tile)
        for name, along in (("forth", self._along.inputs), ("back", self._along.outputs)):
            self.register_buffer(name, torch.kron(along, along).to(device, dtype), persistent=False)

    def spread(self, weight: Tensor) -> Tensor:
        """Weights (out, in, 3, 3) as `forward` wants them: ((tile + 2)², in, out)."""
        along = self._along.weights.to(weight)
        return torch.einsum("ik,jl,ockl->ijco", along, along, weight).flatten(0, 1).contiguous()

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """x: (N, in, H, W), sides multiples of the tile's. weight: as `spread` makes it, in the dtype of `x`.

        Returns (N, out, H, W), channels last.
        """
        count, channels, height, width = x.shape
        tile, span = self._tile, self._tile + _TAPS - 1
        rows, columns = height // tile, width // tile
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        face, row, column, channel = padded.stride()
        # Every place in a tile, and for it all tiles, which overlap by two pixels.
        tiles = padded.as_strided(
            (span, span, count, rows, columns, channels),
            (row, column, face, tile * row, tile * column, channel),
        )
        spread = tiles.reshape(span**2, -1)
        given = (self.forth @ spread).view(span**2, -1, channels)
        # Each is larger than a map of the network.
        del padded, tiles, spread
        made = self.back @ torch.bmm(given, weight).view(span**2, -1)
        made = made.view(tile, tile, count, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        return made.reshape(count, height, width, -1).permute(0, 3, 1, 2)


def _transforms(tile: int) -> _Transforms:
    """Lavin and Gray's B^T, G and A^T. All but G's thirds are exact in bfloat16."""
    if tile == 2:
        return _Transforms(
            inputs=torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
            weights=torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1.0]]),
            outputs=torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]]),
        )
    return _Transforms(
        inputs=torch.tensor(
            [
                [4.0, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ]
        ),
        weights=torch.tensor(
            [
                [1 / 4, 0, 0],
                [-1 / 6, -1 / 6, -1 / 6],
                [-1 / 6, 1 / 6, -1 / 6],
                [1 / 24, 1 / 12, 1 / 6],
                [1 / 24, -1 / 12, 1 / 6],
                [0, 0, 1],
            ],
            dtype=torch.float64,
        ),
        outputs=torch.tensor(
            [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
        ),
    )
