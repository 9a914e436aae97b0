"""Runs an ONNX export of the network with ONNX Runtime, which the extra `onnx` installs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpen_backend.engines import (
    Engine,
    EngineError,
    EngineOutOfMemory,
    from_network,
    require_faces,
    to_network,
)
from gpen_backend.weights.errors import CheckpointError, NotAGenerator, Unreadable

# Smallest side that GPEN's architecture allows, px; larger sides are powers of two.
_SMALLEST = 8
# ONNX Runtime's log level: errors only. Its warnings about published exports need no action.
_ERRORS_ONLY = 3


def is_available() -> bool:
    """Return whether ONNX Runtime is installed, without importing it."""
    return find_spec("onnxruntime") is not None


class OnnxEngine(Engine):
    """An exported GPEN generator as an Engine: input (1 or N, 3, S, S), first output of the same shape.

    together: the export accepts several faces at once. parameters: unknown for an export.
    """

    name = "onnx"
    parameters: int | None = None

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - an onnxruntime.InferenceSession
        """Wrap a session. Raises NotAGenerator if its network does not have GPEN's inputs and outputs."""
        self._session = session
        self._input, self.size, self._batch = _read_signature(session)
        self.together = self._batch is None

    @classmethod
    def from_checkpoint(cls, path: Path) -> Self:
        """Load an `.onnx` file on the CPU. Raises a CheckpointError that names the file."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen types for broken bytes
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise Unreadable(
                f"{path}: ONNX Runtime cannot load the file ({reason}); download it again"
            ) from error
        try:
            return cls(session)
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from error

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, size, size, 3) uint8 RGB faces, N >= 1. Returns new pixels of the same shape. Blocks.

        Raises ValueError for any other shape or dtype, EngineOutOfMemory, and EngineError if the network
        fails or its output is not finite.
        """
        return from_network(self.output(faces))

    def output(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on (N, size, size, 3) uint8 RGB. Returns (N, 3, size, size) float32, about [-1, 1].

        Raises as `restore` does, but returns values that are not finite.
        """
        require_faces(faces, self.size)
        pixels = to_network(faces)
        step = self._batch or len(pixels)
        return np.concatenate(
            [self._run(pixels[first : first + step]) for first in range(0, len(pixels), step)]
        )

    def _run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = self._session.run(None, {self._input: pixels})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no other base class
            if "allocate" in str(error).lower():
                raise EngineOutOfMemory(f"not enough memory for {len(pixels)} faces at once") from error
            raise EngineError(f"ONNX Runtime failed: {str(error).splitlines()[0][:200]}") from error
        if output.shape != pixels.shape or output.dtype != np.float32:
            raise EngineError(f"the network returned {output.dtype} {output.shape} for {pixels.shape}")
        restored: NDArray[np.float32] = output
        return restored


def _read_signature(session: Any) -> tuple[str, int, int | None]:  # noqa: ANN401
    """Return the input's name, its side in px and its batch size (None for any). Raises NotAGenerator."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or not outputs:
        raise NotAGenerator(f"takes {len(inputs)} inputs; GPEN's generator takes one picture")
    first, result = inputs[0], outputs[0]
    for verb, tensor in (("takes", first), ("returns", result)):
        if tensor.type != "tensor(float)" or len(tensor.shape) != 4 or tensor.shape[1] != 3:
            raise NotAGenerator(
                f"{verb} {tensor.type} {tensor.shape}; GPEN's generator uses float pictures [N, 3, S, S]"
            )
    batch, _, height, width = first.shape
    if not isinstance(height, int) or height != width or height < _SMALLEST or height & (height - 1):
        raise NotAGenerator(
            f"takes pictures {first.shape}; GPEN's are square and of one size: 256, 512, 1024 or 2048 px"
        )
    # An exporter may leave the output's sides open; `_run` checks the shape of every result.
    if any(isinstance(side, int) and side != height for side in result.shape[2:]):
        raise NotAGenerator(
            f"returns {result.shape} for {first.shape}; GPEN's output is as large as its input"
        )
    if isinstance(batch, int) and batch != 1:
        raise NotAGenerator(
            f"takes exactly {batch} faces at once; export it with a batch size of 1, or with a dynamic one"
        )
    return first.name, height, batch if isinstance(batch, int) else None
