"""The operator's view of the checkpoints: list their status, download one, verify one."""

from collections.abc import Iterator
from dataclasses import dataclass

from gpen_backend.engines import EngineError, onnx
from gpen_backend.models.loading import load_engine
from gpen_backend.models.selfcheck import NetworkEngine, SelfCheck, self_check
from gpen_backend.weights.catalog import KNOWN_MODELS, Format, KnownModel, ModelFile
from gpen_backend.weights.errors import CheckpointError, ShapeMismatch
from gpen_backend.weights.store import FileState, StoredFile, WeightStore
from gpen_common.download import Progress

_INSTALL_ONNX = "ONNX Runtime is not installed: run pip install 'gpen-gateway[onnx]'"


class CannotPull(Exception):
    """The file cannot be downloaded. `str(error)` states why."""


@dataclass(frozen=True, slots=True)
class ModelFileStatus:
    """Status of one file of one model.

    side: of the network's input, px. state: see `WeightStore.state`. received, size: bytes; size is None if
    unknown.
    """

    model: str
    task: str
    side: int
    file: str
    state: FileState
    received: int
    size: int | None


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """Result of verifying one file. faults: empty if the file is sound. check: None if it did not load."""

    model: str
    file: str
    sha256: str | None
    check: SelfCheck | None
    faults: tuple[str, ...]


def list_model_files(store: WeightStore) -> Iterator[ModelFileStatus]:
    """List the files of every known model, smallest model first; unpublished files only if stored."""
    for model in KNOWN_MODELS.values():
        for file in model.files:
            state = store.state(file)
            if not file.urls and state == "missing":
                continue
            stored = [found for found in store.find(model, (file.format,)) if found.file is file]
            received, size = store.count_received(file)
            if stored:
                received = size = stored[0].path.stat().st_size
            name = stored[0].path.name if stored else file.name
            yield ModelFileStatus(model.name, model.task, model.size, name, state, received, size)


def pull(store: WeightStore, name: str, kind: Format, progress: Progress | None = None) -> StoredFile:
    """Return a model's file in the format `kind`, downloaded if missing and proven to load. Blocks.

    Raises CannotPull, DownloadError, CheckpointError, OSError.
    """
    model = KNOWN_MODELS[name]
    file = model.published_as(kind)
    if file is None:
        raise CannotPull(f"{name} is not published as {kind}")
    if kind == "onnx" and not onnx.is_available():
        raise CannotPull(_INSTALL_ONNX)
    return store.pull(model, file, progress=progress, inspect=lambda path: load_engine(path, kind))


def verify(store: WeightStore, name: str, *, accept: bool = False) -> Iterator[VerificationResult]:
    """Verify every stored file of a model: checksum, strict load, self-check. Blocks for seconds per file.

    accept: record the present checksum of a file that has no published one, if the file works.
    """
    model = KNOWN_MODELS[name]
    formats: tuple[Format, ...] = ("pth", "onnx")
    for found in store.find(model, formats):
        yield _verify_file(store, model, found, accept)


def _verify_file(
    store: WeightStore, model: KnownModel, found: StoredFile, accept: bool
) -> VerificationResult:
    digest: str | None = None
    faults: list[str] = []
    check: SelfCheck | None = None
    try:
        digest = store.sha256(found) if accept and found.file.sha256 is None else store.verify(found)
        if found.file.format == "onnx" and not onnx.is_available():
            raise EngineError(_INSTALL_ONNX)
        engine = load_engine(found.path, found.file.format)
        _require_model(engine, model, found.file)
        check = self_check(engine)
        faults.extend(check.faults)
        if not faults:
            store.trust(found, digest, overwrite=accept)
    except (CheckpointError, EngineError) as error:
        faults.append(str(error))
    return VerificationResult(model.name, found.path.name, digest, check, tuple(faults))


def _require_model(engine: NetworkEngine, model: KnownModel, file: ModelFile) -> None:
    """Raise ShapeMismatch if a sound network is not the model that the file's name promises."""
    if engine.size != model.size:
        raise ShapeMismatch(f"{file.name} holds a network of {engine.size} px; {model.name} has {model.size}")
    if engine.parameters not in (None, model.parameters):
        raise ShapeMismatch(
            f"{file.name} holds {engine.parameters:,} weights; {model.name} has {model.parameters:,}"
        )
