"""Loads weights into the engine that runs them."""

from pathlib import Path

from gpen_backend.engines import onnx
from gpen_backend.engines.onnx import OnnxEngine
from gpen_backend.models.selfcheck import NetworkEngine
from gpen_backend.settings import BackendSettings, DeviceChoice, DtypeChoice
from gpen_backend.weights.catalog import Format
from gpen_backend.weights.store import StoredFile, WeightStore


def runnable_formats(engine: str) -> tuple[Format, ...]:
    """The formats that the setting `engine` can run on this machine, the preferred one first."""
    match engine:
        case "torch":
            return ("pth",)
        case "onnx":
            return ("onnx",)
        case "auto":
            return ("pth", "onnx") if onnx.is_available() else ("pth",)
    return ()


def load_stored(store: WeightStore, found: StoredFile, settings: BackendSettings) -> NetworkEngine:
    """Verify and load a file, and record its checksum on first use. Blocks. Raises CheckpointError."""
    digest = store.verify(found)
    engine = load_engine(found.path, found.file.format, settings.device, settings.dtype)
    store.trust(found, digest)
    return engine


def load_engine(
    path: Path, kind: Format, device: DeviceChoice = "cpu", dtype: DtypeChoice = "float32"
) -> NetworkEngine:
    """Load a file of the format `kind` without verifying its checksum. Blocks. Raises CheckpointError.

    device, dtype: for torch. By default those whose numbers agree between machines.
    """
    if kind == "onnx":
        return OnnxEngine.from_checkpoint(path)
    # Imported lazily: a server without checkpoints neither waits for torch nor holds it in memory.
    from gpen_backend.engines.torch import TorchEngine

    return TorchEngine.from_checkpoint(path, device, dtype)
