"""The network run by torch, folded for inference, on the CPU or a GPU."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpen_backend.engines import Engine, EngineError, EngineOutOfMemory, require_faces
from gpen_backend.engines.graphs import Graphs
from gpen_backend.hardware.memory import Memory, device_memory
from gpen_backend.hardware.processors import usable_processors
from gpen_backend.network.checkpoint import load_generator
from gpen_backend.network.folded import FoldedGenerator
from gpen_backend.network.generator import Generator
from gpen_backend.settings import DeviceChoice, DtypeChoice

# Half of 255: the network's [-1, 1] spans the bytes.
_HALF_RANGE = 127.5


class TorchEngine(Engine):
    """A GPEN generator behind the Engine interface.

    parameters: how many numbers it learnt. together: faces of one batch share the device's work; on a CPU
    they gain nothing by it and are run one by one, which takes the memory of one.
    """

    name = "torch"

    def __init__(self, generator: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        """Fold `generator`, which has a size, for `device`, as torch names it; others run as they are.

        dtype: of its convolutions; what goes in and out is float32.
        """
        self.size: int = generator.size  # type: ignore[assignment]
        self._device = torch.device(device)
        self.parameters = sum(parameter.numel() for parameter in generator.parameters())
        on_gpu = self._device.type == "cuda"
        self.together = on_gpu
        network = generator.to(self._device).eval()
        if isinstance(generator, Generator):
            network = FoldedGenerator(generator, dtype, one_by_one=not on_gpu)
        self._network = Graphs(network) if on_gpu else network
        if on_gpu:
            # Every batch has one of few shapes; and float32 is to mean float32.
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = False
        elif usable_processors() < torch.get_num_threads():
            # In a container torch counts the machine's processors, and its threads then wait for each other.
            torch.set_num_threads(usable_processors())

    @classmethod
    def from_checkpoint(
        cls, path: Path, device: DeviceChoice = "cpu", dtype: DtypeChoice = "float32"
    ) -> Self:
        """Load the generator in a `.pth` file. Raises CheckpointError; EngineError without the device."""
        chosen = chosen_device(device)
        return cls(load_generator(path), chosen, chosen_dtype(dtype, chosen))

    def memory(self) -> Memory:
        """How much of the device's memory this process has used at most, and how much is free."""
        return device_memory(self._device)

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
            output: Tensor = self._network(_to_input(faces, self._device))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise EngineOutOfMemory(f"{self._device} has no memory for {len(faces)} faces at once") from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):  # what torch's CPU allocator says
                raise EngineOutOfMemory(f"there is no memory for {len(faces)} faces at once") from error
            raise EngineError(f"torch failed on {self._device}: {error}") from error
        return output


def chosen_device(choice: DeviceChoice) -> str:
    """The device to run on; auto is a GPU where there is one. Raises EngineError where it is missing."""
    present = torch.cuda.is_available()
    if choice == "cuda" and not present:
        raise EngineError("GPEN_BACKEND_DEVICE is cuda, and torch finds no GPU here")
    return "cuda" if present and choice != "cpu" else "cpu"


def chosen_dtype(choice: DtypeChoice, device: str) -> torch.dtype:
    """The dtype of the convolutions; auto is bfloat16 where the device computes with it, else float32."""
    if choice == "auto":
        on_gpu = device == "cuda"
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _cpu_has_bf16()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if choice == "bfloat16" else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself: AVX-512 BF16 or AMX. Others are slower with it."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in tests)


def _to_input(faces: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Turn (N, S, S, 3) uint8 into (N, 3, S, S) float32 in [-1, 1] on `device`."""
    pixels = torch.tensor(np.ascontiguousarray(faces))
    if device.type == "cuda":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels.permute(0, 3, 1, 2).float().contiguous().div_(_HALF_RANGE).sub_(1)


def _to_pixels(output: Tensor) -> NDArray[np.uint8]:
    """Turn (N, 3, S, S) about [-1, 1] into (N, S, S, 3) uint8, rounded and clipped."""
    pixels = output.add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255).to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1).contiguous()
    if pixels.is_cuda:
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pixels = pinned.copy_(pixels, non_blocking=True)
        torch.cuda.current_stream().synchronize()
    restored: NDArray[np.uint8] = pixels.numpy()
    return restored
