"""Runs the network with torch, folded for inference, on the CPU or a GPU."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpen_backend.engines import Engine, EngineError, EngineOutOfMemory, require_faces
from gpen_backend.engines.graphs import CudaGraphs
from gpen_backend.hardware.memory import Memory, device_memory
from gpen_backend.hardware.processors import usable_processors
from gpen_backend.network.checkpoint import load_generator
from gpen_backend.network.folded import FoldedGenerator
from gpen_backend.network.generator import Generator
from gpen_backend.settings import DeviceChoice, DtypeChoice

# Half of 255: the network's range [-1, 1] maps to bytes.
_HALF_RANGE = 127.5


class TorchEngine(Engine):
    """A GPEN generator as an Engine.

    parameters: number of weights. together: whether batches run faster than single faces. On a CPU they do
    not, so the faces of a batch run one by one, in the memory of one.
    """

    name = "torch"

    def __init__(self, generator: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        """Fold a Generator for `device`, named as in torch; run any other module with a `size` as it is.

        dtype: of the convolutions; input and output are float32.
        """
        self.size: int = generator.size  # type: ignore[assignment]
        self._device = torch.device(device)
        self.parameters: int | None = sum(parameter.numel() for parameter in generator.parameters())
        on_gpu = self._device.type == "cuda"
        self.together = on_gpu
        network = generator.to(self._device).eval()
        if isinstance(generator, Generator):
            network = FoldedGenerator(generator, dtype, one_by_one=not on_gpu)
        self._network = CudaGraphs(network) if on_gpu else network
        if on_gpu:
            # Batches have few distinct shapes, so benchmarking pays. TF32 would make float32 less exact.
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = False
        elif usable_processors() < torch.get_num_threads():
            # In a container torch counts the whole machine's processors: its threads would block each other.
            torch.set_num_threads(usable_processors())

    @classmethod
    def from_checkpoint(
        cls, path: Path, device: DeviceChoice = "cpu", dtype: DtypeChoice = "float32"
    ) -> Self:
        """Load the generator in a `.pth` file. Raises CheckpointError, EngineError for a missing device."""
        chosen = choose_device(device)
        return cls(load_generator(path), chosen, choose_dtype(dtype, chosen))

    def memory(self) -> Memory:
        """Peak use of the device's memory by this process, and what is still free."""
        return device_memory(self._device)

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, size, size, 3) uint8 RGB faces, N >= 1. Returns new pixels of the same shape. Blocks.

        Raises ValueError for any other shape or dtype, EngineOutOfMemory, and EngineError if the network
        fails or its output is not finite.
        """
        require_faces(faces, self.size)
        # Entered here and not in the constructor: torch keeps this mode per thread.
        with torch.inference_mode():
            output = self._run(faces)
            if not output.isfinite().all():
                raise EngineError("the network's output is not finite; its checkpoint may be damaged")
            return _to_pixels(output)

    def output(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on (N, size, size, 3) uint8 RGB. Returns (N, 3, size, size) float32, about [-1, 1].

        Raises as `restore` does, but returns values that are not finite.
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
            raise EngineOutOfMemory(
                f"not enough memory on {self._device} for {len(faces)} faces at once"
            ) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):  # the message of torch's CPU allocator
                raise EngineOutOfMemory(f"not enough memory for {len(faces)} faces at once") from error
            raise EngineError(f"torch failed on {self._device}: {error}") from error
        return output


def choose_device(choice: DeviceChoice) -> str:
    """Choose the device: auto is the GPU if there is one. Raises EngineError for cuda without a GPU."""
    present = torch.cuda.is_available()
    if choice == "cuda" and not present:
        raise EngineError("GPEN_BACKEND_DEVICE is cuda, but torch finds no GPU on this machine")
    return "cuda" if present and choice != "cpu" else "cpu"


def choose_dtype(choice: DtypeChoice, device: str) -> torch.dtype:
    """Choose the convolutions' dtype: auto is bfloat16 if the device has hardware for it, else float32."""
    if choice == "auto":
        on_gpu = device == "cuda"
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _cpu_has_bf16()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if choice == "bfloat16" else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX). Others are slower."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in tests)


def _to_input(faces: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Convert (N, S, S, 3) uint8 to (N, 3, S, S) float32 in [-1, 1] on `device`."""
    pixels = torch.tensor(np.ascontiguousarray(faces))
    if device.type == "cuda":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels.permute(0, 3, 1, 2).float().contiguous().div_(_HALF_RANGE).sub_(1)


def _to_pixels(output: Tensor) -> NDArray[np.uint8]:
    """Convert (N, 3, S, S), about [-1, 1], to (N, S, S, 3) uint8, rounded and clipped."""
    pixels = output.add(1).mul_(_HALF_RANGE).round_().clamp_(0, 255).to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1).contiguous()
    if pixels.is_cuda:
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pixels = pinned.copy_(pixels, non_blocking=True)
        torch.cuda.current_stream().synchronize()
    restored: NDArray[np.uint8] = pixels.numpy()
    return restored
