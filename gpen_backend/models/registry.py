"""Which engine serves which model, loaded on first use and kept."""

import logging
from dataclasses import dataclass

from gpen_backend.engines import Engine
from gpen_backend.engines.classical import ClassicalEngine
from gpen_backend.models.default_download import Fetch
from gpen_backend.models.loading import formats, load
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import KNOWN_MODELS, RESTORERS
from gpen_backend.weights.store import Found, Store
from gpen_common.model_names import CHECKPOINT_FOR, DEFAULT_RESTORER
from gpen_common.types import Task

logger = logging.getLogger(__name__)


class UnknownModel(LookupError):
    """No model of that name is served here. `str(error)` lists those that are."""


class ModelNotReady(Exception):
    """The model cannot answer. `str(error)` says why, and what to do about it."""


class WrongTask(ValueError):
    """The model is for another task. `str(error)` names the right model."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as it stands. reason: why it is not ready, None where it is.

    engine: what runs it, or would. task: what it is for. size: side of the network's input, px.
    """

    name: str
    engine: str
    task: Task
    size: int
    default: bool
    reason: str | None


class Models:
    """The models of one server.

    `engine` blocks and belongs on the one thread that owns the network. `status` and `loaded` only look, from
    any thread.
    """

    def __init__(self, settings: BackendSettings) -> None:
        """Looks at the files in `settings.models_dir` once; loads nothing."""
        self._settings = settings
        self._store = Store(settings.models_dir, settings.models_mirror)
        self._formats = formats(settings.engine)
        self._may_fall_back = settings.engine == "auto"
        self._engines: dict[str, Engine] = {}
        self._failures: dict[str, str] = {}
        self._files: dict[str, tuple[Found, ...]] = {}
        self.fetch: Fetch | None = None
        self.names: tuple[str, ...] = ()
        self.default = settings.default_model or DEFAULT_RESTORER
        self._look()
        if not any(name in self._files for name in RESTORERS):
            self._begin_without()

    async def fetched(self) -> None:
        """Wait for the default model's checkpoint where it is being fetched; without it, fall back."""
        if self.fetch is None:
            return
        try:
            await self.fetch.run()
            self._look()
        except Exception as error:
            # Whatever kept it from coming, the server serves.
            self._fall_back(str(error))
        self.fetch = None

    def loaded(self, name: str) -> Engine | None:
        """The engine of a model that is ready now. Raises UnknownModel."""
        self._require(name)
        return self._engines.get(name)

    def engine(self, name: str) -> Engine:
        """The engine of a model, loaded if need be. Blocks. Raises UnknownModel, ModelNotReady."""
        self._require(name)
        if self.fetch is not None and name not in self._files:
            raise ModelNotReady(self.fetch.status)
        if name in self._failures:
            raise ModelNotReady(self._failures[name])
        if name not in self._engines:
            self._engines[name] = self._load(name)
        return self._engines[name]

    def status(self, name: str) -> ModelStatus:
        """How a model stands. One that is only loaded on first use counts as ready. Raises UnknownModel."""
        self._require(name)
        engine = self._engines.get(name)
        files = self._files.get(name, ())
        return ModelStatus(
            name=name,
            engine=engine.name if engine else self._engine_to_be(files),
            task=KNOWN_MODELS[name].task,
            size=engine.size if engine else KNOWN_MODELS[name].size,
            default=name == self.default,
            reason=self._reason(name),
        )

    def require_task(self, name: str, task: Task) -> None:
        """Raise WrongTask where the model `name` is not for `task`."""
        own = KNOWN_MODELS[name].task
        if own == task:
            return
        right = next((other for other in self.names if KNOWN_MODELS[other].task == task), None)
        if right is None:
            needed = CHECKPOINT_FOR[task]
            raise WrongTask(
                f"{name} is for the task {own!r}; {task!r} needs checkpoint {needed}: {_pull(needed)}"
            )
        raise WrongTask(f"{name} is for the task {own!r}; ask {right} for {task!r}")

    def _look(self) -> None:
        """See which files there are, and choose the default model among them."""
        found = {name: self._store.find(model, self._formats) for name, model in KNOWN_MODELS.items()}
        self._files = {name: files for name, files in found.items() if files}
        wanted = self._settings.default_model
        here = [name for name in RESTORERS if name in self._files]
        if here and not (wanted and not self._may_fall_back):
            ranked = sorted(here, key=lambda name: (name != wanted, name != DEFAULT_RESTORER))
            self.default = ranked[0]
            if wanted is not None and wanted != self.default:
                logger.warning("%s; %s is the default instead", self._missing(wanted), self.default)
        named = {self.default, *self._files} if self._formats else set()
        self.names = tuple(name for name in KNOWN_MODELS if name in named)
        if self._formats and not self._may_fall_back and self.default not in self._files:
            self._failures[self.default] = self._missing(self.default)

    def _begin_without(self) -> None:
        """Start without a checkpoint of a model that restores."""
        if self._settings.engine == "classical":
            self._serve_classical()
        elif self._may_fall_back and self._settings.fetch:
            self.fetch = Fetch(self._store, KNOWN_MODELS[self.default], self._formats)
        elif self._may_fall_back:
            self._fall_back("GPEN_BACKEND_FETCH is off")

    def _fall_back(self, why: str) -> None:
        logger.warning(
            "%s (%s); until then every answer is engine=classical", self._missing(self.default), why
        )
        self._serve_classical()

    def _serve_classical(self) -> None:
        """Every model that restores, without a network. It cannot do the other tasks."""
        for name in RESTORERS:
            self._engines[name] = ClassicalEngine(KNOWN_MODELS[name].size)
        self.names = tuple(name for name in KNOWN_MODELS if name in self._engines or name in self._files)

    def _load(self, name: str) -> Engine:
        """Load a model from the first of its files that is sound, or remember why there is none."""
        reasons = []
        for found in self._files[name]:
            logger.info("loading %s from %s", name, found.path)
            try:
                return load(self._store, found, self._settings)  # type: ignore[return-value]
            except Exception as error:
                # Whatever a file does to its loader, the server goes on and says what is wrong.
                logger.exception("%s cannot be loaded from %s", name, found.path)
                reasons.append(str(error) or type(error).__name__)
        if self._may_fall_back and KNOWN_MODELS[name].task == "restore":
            logger.warning("%s cannot be loaded; its answers are engine=classical", name)
            return ClassicalEngine(KNOWN_MODELS[name].size)
        self._failures[name] = f"{name} cannot be loaded: {'; '.join(reasons)}"
        raise ModelNotReady(self._failures[name])

    def _reason(self, name: str) -> str | None:
        if self.fetch is not None and name not in self._files:
            return self.fetch.status
        if name in self._failures:
            return self._failures[name]
        return f"{name} is being loaded" if name not in self._engines and name == self.default else None

    def _engine_to_be(self, files: tuple[Found, ...]) -> str:
        return "onnx" if (files[0].file.format if files else self._formats[0]) == "onnx" else "torch"

    def _require(self, name: str) -> None:
        if name in self.names:
            return
        lacks = f" ({self._missing(name)})" if name in KNOWN_MODELS else ""
        raise UnknownModel(f"no model {name[:80]!r} here{lacks}; available: {', '.join(self.names)}")

    def _missing(self, name: str) -> str:
        """What to do about a model without a checkpoint."""
        published = [file for file in KNOWN_MODELS[name].files if file.format in (self._formats or ("pth",))]
        file = next((file for file in published if file.urls), published[0])
        return f"{name} has no checkpoint: {_pull(name)}, or put {file.name} into {self._store.folder}"


def _pull(name: str) -> str:
    return f"run `gpen-gateway models pull {name}`"
