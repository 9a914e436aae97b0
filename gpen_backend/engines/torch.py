"""The network run by torch, eager and float32, on the CPU or a GPU."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpen_backend.checkpoints import load_generator
from gpen_backend.engines import EngineError, EngineOutOfMemory, require_faces
from gpen_backend.network import Generator

# Half of 255: the network's [-1, 1] spans the bytes.
_HALF_RANGE = 127.5


class TorchEngine:
    """A GPEN generator behind the Engine interface. parameters: how many numbers it learnt."""

    name = "torch"

    def __init__(self, generator: Generator, device: str = "cpu") -> None:
        """Move `generator` to `device`, as torch names it, and put it in eval mode."""
        self.size = generator.size
        self._device = torch.device(device)
        self._generator = generator.to(self._device).eval()
        self.parameters = sum(parameter.numel() for parameter in generator.parameters())

    @classmethod
    def from_checkpoint(cls, path: Path, device: str = "cpu") -> Self:
        """Load the generator in a `.pth` file. Raises CheckpointError."""
        return cls(load_generator(path), device)

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, size, size, 3) uint8 RGB faces, N >= 1. Returns new pixels of the same shape. Blocks.

        Raises ValueError for another shape or dtype, EngineOutOfMemory, and EngineError where the network
        failed or its output is not finite.
        """
        require_faces(faces, self.size)
        # Here and not in the constructor: torch keeps this mode per thread.
        with torch.inference_mode():
            output = self._run(faces)
            if not output.isfinite().all():
                raise EngineError("the network's output is not finite; its checkpoint may be damaged")
            return _to_pixels(output)

    def output(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network makes of (N, size, size, 3) uint8 RGB: (N, 3, size, size) float32, about [-1, 1].

        Raises as `restore` does, except for values that are not finite.
        """
        require_faces(faces, self.size)
        with torch.inference_mode():
            output: NDArray[np.float32] = self._run(faces).float().cpu().numpy()
        return output

    def _run(self, faces: NDArray[np.uint8]) -> Tensor:
        """Run the network. Returns its output (N, 3, size, size)."""
        try:
            output: Tensor = self._generator(_to_input(faces, self._device))
        except torch.OutOfMemoryError as error:
            raise EngineOutOfMemory(f"{self._device} has no memory for {len(faces)} faces at once") from error
        except RuntimeError as error:
            raise EngineError(f"torch failed on {self._device}: {error}") from error
        return output


def _to_input(faces: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Turn (N, S, S, 3) uint8 into (N, 3, S, S) float32 in [-1, 1] on `device`."""
    pixels = torch.tensor(np.ascontiguousarray(faces)).to(device)
    return pixels.permute(0, 3, 1, 2).float().contiguous().div_(_HALF_RANGE).sub_(1)


def _to_pixels(output: Tensor) -> NDArray[np.uint8]:
    """Turn (N, 3, S, S) about [-1, 1] into (N, S, S, 3) uint8, rounded and clipped."""
    pixels = output.add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255).to(torch.uint8)
    restored: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return restored
