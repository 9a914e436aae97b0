"""The models of one server: loads each engine lazily, keeps it, and falls back to the classical engine."""

import logging
from dataclasses import dataclass

from gpen_backend.engines import Engine
from gpen_backend.engines.classical import ClassicalEngine
from gpen_backend.models.default_download import DefaultDownload
from gpen_backend.models.loading import load_stored, runnable_formats
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import KNOWN_MODELS, RESTORERS
from gpen_backend.weights.store import StoredFile, WeightStore
from gpen_common.model_names import CHECKPOINT_FOR, DEFAULT_RESTORER
from gpen_common.types import Task

logger = logging.getLogger(__name__)


class ModelNotServed(LookupError):
    """No model of that name is served. `str(error)` lists the available models."""


class ModelNotReady(Exception):
    """The model cannot serve requests. `str(error)` states why and what to do."""


class WrongTask(ValueError):
    """The model is for another task. `str(error)` names the right model."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Status of one model.

    engine: the one that runs it, or that will once it is loaded. size: side of the network's input, px.
    reason: why it is not ready, None if it is.
    """

    name: str
    engine: str
    task: Task
    size: int
    default: bool
    reason: str | None


class ModelRegistry:
    """The models of one server.

    `engine` blocks and must be called on the one thread that owns the network. `status` and `loaded` do not
    block and may be called on any thread.
    """

    def __init__(self, settings: BackendSettings) -> None:
        """Scan `settings.models_dir` once; load nothing."""
        self._settings = settings
        self._store = WeightStore(settings.models_dir, settings.models_mirror)
        self._formats = runnable_formats(settings.engine)
        self._may_fall_back = settings.engine == "auto"
        self._engines: dict[str, Engine] = {}
        self._failures: dict[str, str] = {}
        self._files: dict[str, tuple[StoredFile, ...]] = {}
        self.download: DefaultDownload | None = None
        self.names: tuple[str, ...] = ()
        self.default = settings.default_model or DEFAULT_RESTORER
        self._scan()
        if not any(name in self._files for name in RESTORERS):
            self._start_without_checkpoint()

    async def finish_download(self) -> None:
        """Download the default model's checkpoint if that is pending; fall back if it fails."""
        if self.download is None:
            return
        try:
            await self.download.run()
            self._scan()
        except Exception as error:
            # Fall back after any failure, so that the server can serve.
            self._fall_back(str(error))
        self.download = None

    def get_loaded(self, name: str) -> Engine | None:
        """The engine of a model, None if it is not loaded yet. Raises ModelNotServed."""
        self._require(name)
        return self._engines.get(name)

    def engine(self, name: str) -> Engine:
        """The engine of a model, loaded on first use. Blocks. Raises ModelNotServed, ModelNotReady."""
        self._require(name)
        if self.download is not None and name not in self._files:
            raise ModelNotReady(self.download.status)
        if name in self._failures:
            raise ModelNotReady(self._failures[name])
        if name not in self._engines:
            self._engines[name] = self._load(name)
        return self._engines[name]

    def status(self, name: str) -> ModelStatus:
        """Status of a model. A model that loads on first use counts as ready. Raises ModelNotServed."""
        self._require(name)
        engine = self._engines.get(name)
        files = self._files.get(name, ())
        return ModelStatus(
            name=name,
            engine=engine.name if engine else self._expected_engine(files),
            task=KNOWN_MODELS[name].task,
            size=engine.size if engine else KNOWN_MODELS[name].size,
            default=name == self.default,
            reason=self._reason(name),
        )

    def require_task(self, name: str, task: Task) -> None:
        """Raise WrongTask if the model `name` does not perform `task`."""
        own = KNOWN_MODELS[name].task
        if own == task:
            return
        right = next((other for other in self.names if KNOWN_MODELS[other].task == task), None)
        if right is None:
            needed = CHECKPOINT_FOR[task]
            raise WrongTask(
                f"{name} is for the task {own!r}; {task!r} needs checkpoint {needed}: {_pull_advice(needed)}"
            )
        raise WrongTask(f"{name} is for the task {own!r}; use {right} for {task!r}")

    def _scan(self) -> None:
        """Find the stored files and choose the default model among them."""
        found = {name: self._store.find(model, self._formats) for name, model in KNOWN_MODELS.items()}
        self._files = {name: files for name, files in found.items() if files}
        wanted = self._settings.default_model
        stored = [name for name in RESTORERS if name in self._files]
        if stored and not (wanted and not self._may_fall_back):
            ranked = sorted(stored, key=lambda name: (name != wanted, name != DEFAULT_RESTORER))
            self.default = ranked[0]
            if wanted is not None and wanted != self.default:
                logger.warning("%s; the default is %s instead", self._no_checkpoint(wanted), self.default)
        served = {self.default, *self._files} if self._formats else set()
        self.names = tuple(name for name in KNOWN_MODELS if name in served)
        if self._formats and not self._may_fall_back and self.default not in self._files:
            self._failures[self.default] = self._no_checkpoint(self.default)

    def _start_without_checkpoint(self) -> None:
        """Choose what to do without a checkpoint for restoring: download one, or use the classical engine."""
        if self._settings.engine == "classical":
            self._serve_classical()
        elif self._may_fall_back and self._settings.fetch:
            self.download = DefaultDownload(self._store, KNOWN_MODELS[self.default], self._formats)
        elif self._may_fall_back:
            self._fall_back("GPEN_BACKEND_FETCH is off")

    def _fall_back(self, why: str) -> None:
        logger.warning(
            "%s (%s); until then every result has engine=classical", self._no_checkpoint(self.default), why
        )
        self._serve_classical()

    def _serve_classical(self) -> None:
        """Serve every restoring model with the classical engine, which cannot perform the other tasks."""
        for name in RESTORERS:
            self._engines[name] = ClassicalEngine(KNOWN_MODELS[name].size)
        self.names = tuple(name for name in KNOWN_MODELS if name in self._engines or name in self._files)

    def _load(self, name: str) -> Engine:
        """Load a model from the first sound one of its files. Raises ModelNotReady, and keeps the reason."""
        reasons = []
        for found in self._files[name]:
            logger.info("loading %s from %s", name, found.path)
            try:
                return load_stored(self._store, found, self._settings)  # type: ignore[return-value]
            except Exception as error:
                # No file may stop the server; the model's status reports the reason.
                logger.exception("%s cannot be loaded from %s", name, found.path)
                reasons.append(str(error) or type(error).__name__)
        if self._may_fall_back and KNOWN_MODELS[name].task == "restore":
            logger.warning("%s cannot be loaded; its results have engine=classical", name)
            return ClassicalEngine(KNOWN_MODELS[name].size)
        self._failures[name] = f"{name} cannot be loaded: {'; '.join(reasons)}"
        raise ModelNotReady(self._failures[name])

    def _reason(self, name: str) -> str | None:
        if self.download is not None and name not in self._files:
            return self.download.status
        if name in self._failures:
            return self._failures[name]
        return f"{name} is being loaded" if name not in self._engines and name == self.default else None

    def _expected_engine(self, files: tuple[StoredFile, ...]) -> str:
        return "onnx" if (files[0].file.format if files else self._formats[0]) == "onnx" else "torch"

    def _require(self, name: str) -> None:
        if name in self.names:
            return
        cause = f" ({self._no_checkpoint(name)})" if name in KNOWN_MODELS else ""
        raise ModelNotServed(
            f"no model {name[:80]!r} on this server{cause}; available: {', '.join(self.names)}"
        )

    def _no_checkpoint(self, name: str) -> str:
        """The message for a model without a checkpoint: how to get one."""
        usable = [file for file in KNOWN_MODELS[name].files if file.format in (self._formats or ("pth",))]
        file = next((file for file in usable if file.urls), usable[0])
        return f"{name} has no checkpoint: {_pull_advice(name)}, or put {file.name} into {self._store.folder}"


def _pull_advice(name: str) -> str:
    return f"run `gpen-gateway models pull {name}`"
