"""The checkpoints as an operator sees them: which are here and how they stand; fetching and trying one."""

from collections.abc import Iterator
from dataclasses import dataclass

from gpen_backend.engines import EngineError, onnx
from gpen_backend.models.loading import engine_of
from gpen_backend.models.selfcheck import NetworkEngine, SelfCheck, self_check
from gpen_backend.weights.catalog import KNOWN_MODELS, Format, KnownModel, ModelFile
from gpen_backend.weights.errors import CheckpointError, ShapeMismatch
from gpen_backend.weights.store import Found, State, Store
from gpen_common.download import Progress


class CannotPull(Exception):
    """There is nothing to fetch. `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of one model. state: as `Store.state` has it. received, size: bytes, None where unknown."""

    model: str
    task: str
    side: int
    file: str
    state: State
    received: int
    size: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    """One file, looked at closely. faults: nothing where all is well. check: None where it did not load."""

    model: str
    file: str
    sha256: str | None
    check: SelfCheck | None
    faults: tuple[str, ...]


def inventory(store: Store) -> Iterator[Entry]:
    """Every file of every known model, smallest model first; of the unpublished ones only those here."""
    for model in KNOWN_MODELS.values():
        for file in model.files:
            state = store.state(file)
            if not file.urls and state == "missing":
                continue
            here = [found for found in store.find(model, (file.format,)) if found.file is file]
            received, size = store.received(file)
            if here:
                received = size = here[0].path.stat().st_size
            name = here[0].path.name if here else file.name
            yield Entry(model.name, model.task, model.size, name, state, received, size)


def pull(store: Store, name: str, kind: Format, progress: Progress | None = None) -> Found:
    """Have a model's file here, fetched if need be, and loadable. Blocks.

    Raises CannotPull, DownloadError, CheckpointError, OSError.
    """
    model = KNOWN_MODELS[name]
    file = next((file for file in model.files if file.format == kind and file.urls), None)
    if file is None:
        raise CannotPull(f"{name} is not published as {kind}")
    if kind == "onnx" and not onnx.available():
        raise CannotPull(
            "ONNX Runtime, which looks at the file, is missing: pip install 'gpen-gateway[onnx]'"
        )
    return store.pull(model, file, progress=progress, inspect=lambda path: engine_of(path, kind))


def verify(store: Store, name: str, *, accept: bool = False) -> Iterator[Verified]:
    """Look closely at every file of a model that is here. Blocks for seconds each.

    accept: trust files that nobody published a checksum of as they are now, if they work.
    """
    model = KNOWN_MODELS[name]
    formats: tuple[Format, ...] = ("pth", "onnx")
    for found in store.find(model, formats):
        yield _verified(store, model, found, accept)


def _verified(store: Store, model: KnownModel, found: Found, accept: bool) -> Verified:
    digest: str | None = None
    faults: list[str] = []
    check: SelfCheck | None = None
    try:
        digest = store.sha256(found) if accept and found.file.sha256 is None else store.verify(found)
        if found.file.format == "onnx" and not onnx.available():
            raise EngineError("ONNX Runtime is missing: pip install 'gpen-gateway[onnx]'")
        engine = engine_of(found.path, found.file.format)
        _require_form(engine, model, found.file)
        check = self_check(engine)
        faults.extend(check.faults)
        if not faults:
            store.trust(found, digest, anew=accept)
    except (CheckpointError, EngineError) as error:
        faults.append(str(error))
    return Verified(model.name, found.path.name, digest, check, tuple(faults))


def _require_form(engine: NetworkEngine, model: KnownModel, file: ModelFile) -> None:
    """Raise ShapeMismatch where a sound network is not the one that its file's name promises."""
    if engine.size != model.size:
        raise ShapeMismatch(f"{file.name} holds a network of {engine.size} px; {model.name} has {model.size}")
    parameters = getattr(engine, "parameters", None)
    if parameters is not None and parameters != model.parameters:
        raise ShapeMismatch(
            f"{file.name} holds {parameters:,} numbers; {model.name} has {model.parameters:,}"
        )
