"""The network run by ONNX Runtime, from an export. ONNX Runtime comes with the extra `onnx`."""

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

# The smallest of GPEN's layouts has this side, px; sides double.
_SMALLEST = 8
# ONNX Runtime's log levels: only errors, for its warnings about published exports help nobody.
_ERRORS_ONLY = 3


def available() -> bool:
    """Whether ONNX Runtime is installed. Does not import it."""
    return find_spec("onnxruntime") is not None


class OnnxEngine(Engine):
    """An exported GPEN generator behind the Engine interface: input (1 or N, 3, S, S), output 0 the same.

    together: it takes several faces at once.
    """

    name = "onnx"

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - an onnxruntime.InferenceSession
        """Take a session whose network has GPEN's form. Raises NotAGenerator for any other."""
        self._session = session
        self._input, self.size, self._batch = _form(session)
        self.together = self._batch is None

    @classmethod
    def from_checkpoint(cls, path: Path) -> Self:
        """Load an `.onnx` file, on the CPU. Raises a CheckpointError that names the file."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen kinds for broken bytes
            told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise Unreadable(
                f"{path}: is no ONNX file that can be run ({told}); download it again"
            ) from error
        try:
            return cls(session)
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from error

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, size, size, 3) uint8 RGB faces, N >= 1. Returns new pixels of the same shape. Blocks.

        Raises ValueError for another shape or dtype, EngineOutOfMemory, and EngineError where the network
        failed or its output is not finite.
        """
        return from_network(self.output(faces))

    def output(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network makes of (N, size, size, 3) uint8 RGB: (N, 3, size, size) float32, about [-1, 1].

        Raises as `restore` does, except for values that are not finite.
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
        except Exception as error:  # its exceptions have no common base but this
            if "allocate" in str(error).lower():
                raise EngineOutOfMemory(f"there is no memory for {len(pixels)} faces at once") from error
            raise EngineError(f"ONNX Runtime failed: {str(error).splitlines()[0][:200]}") from error
        if output.shape != pixels.shape or output.dtype != np.float32:
            raise EngineError(f"the network made {output.dtype} {output.shape} of {pixels.shape}")
        restored: NDArray[np.float32] = output
        return restored


def _form(session: Any) -> tuple[str, int, int | None]:  # noqa: ANN401
    """The input's name, its side in px and its batch (None for any). Raises NotAGenerator."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or not outputs:
        raise NotAGenerator(f"takes {len(inputs)} inputs; GPEN's generator takes one picture")
    given, made = inputs[0], outputs[0]
    for what, tensor in (("takes", given), ("gives", made)):
        if tensor.type != "tensor(float)" or len(tensor.shape) != 4 or tensor.shape[1] != 3:
            raise NotAGenerator(
                f"{what} {tensor.type} {tensor.shape}; GPEN's generator has float pictures [N, 3, S, S]"
            )
    batch, _, height, width = given.shape
    if not isinstance(height, int) or height != width or height < _SMALLEST or height & (height - 1):
        raise NotAGenerator(
            f"takes pictures {given.shape}; GPEN's are square, of one size, 256, 512, 1024 or 2048 px"
        )
    # An exporter may leave the output's sides open; what comes is checked at every run.
    if any(isinstance(side, int) and side != height for side in made.shape[2:]):
        raise NotAGenerator(f"makes {made.shape} of {given.shape}; GPEN's output is as large as its input")
    if isinstance(batch, int) and batch != 1:
        raise NotAGenerator(
            f"takes exactly {batch} faces at once; export it with a batch of 1, or of any size"
        )
    return given.name, height, batch if isinstance(batch, int) else None
