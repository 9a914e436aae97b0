"""From a file of weights to the engine that runs it, verified on the way."""

from pathlib import Path

from gpen_backend.engines import onnx
from gpen_backend.engines.onnx import OnnxEngine
from gpen_backend.models.selfcheck import NetworkEngine
from gpen_backend.settings import BackendSettings, DeviceChoice, DtypeChoice
from gpen_backend.weights.catalog import Format
from gpen_backend.weights.store import Found, Store


def formats(engine: str) -> tuple[Format, ...]:
    """The formats that an engine choice of the settings can run here, the one it prefers first."""
    match engine:
        case "torch":
            return ("pth",)
        case "onnx":
            return ("onnx",)
        case "auto":
            return ("pth", "onnx") if onnx.available() else ("pth",)
    return ()


def load(store: Store, found: Found, settings: BackendSettings) -> NetworkEngine:
    """Verify a file, load it, and record it where this was its first use. Blocks. Raises CheckpointError."""
    digest = store.verify(found)
    engine = engine_of(found.path, found.file.format, settings.device, settings.dtype)
    store.trust(found, digest)
    return engine


def engine_of(
    path: Path, kind: Format, device: DeviceChoice = "cpu", dtype: DtypeChoice = "float32"
) -> NetworkEngine:
    """The engine for one file, whatever its name, not verified. Blocks. Raises CheckpointError.

    device, dtype: for torch; by default those whose numbers agree between machines.
    """
    if kind == "onnx":
        return OnnxEngine.from_checkpoint(path)
    # Here, so that a server without checkpoints never waits for torch, nor holds its memory.
    from gpen_backend.engines.torch import TorchEngine

    return TorchEngine.from_checkpoint(path, device, dtype)
