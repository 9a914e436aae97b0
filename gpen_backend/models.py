"""Which engine serves which model, loaded on first use and kept."""

import logging
from dataclasses import dataclass
from pathlib import Path

from gpen_backend.catalog import DEFAULT_MODEL, KNOWN_MODELS, find_checkpoint
from gpen_backend.engines import Engine
from gpen_backend.engines.classical import ClassicalEngine
from gpen_backend.settings import BackendSettings

logger = logging.getLogger(__name__)


class UnknownModel(LookupError):
    """No model of that name is served here. `str(error)` lists those that are."""


class ModelNotReady(Exception):
    """The model cannot answer. `str(error)` says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as it stands. reason: why it is not ready, None where it is.

    engine: what runs it, or would. size: side of the network's input, px.
    """

    name: str
    engine: str
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
        self._folder = settings.models_dir
        self._may_fall_back = settings.engine == "auto"
        self._checkpoints = _checkpoints(settings)
        self._engines: dict[str, Engine] = {}
        self._failures: dict[str, str] = {}
        if settings.engine == "torch":
            self.default = _default(settings, self._checkpoints) or settings.default_model or DEFAULT_MODEL
            self.names = tuple(name for name in KNOWN_MODELS if name in {self.default, *self._checkpoints})
            if self.default not in self._checkpoints:
                self._failures[self.default] = self._missing(self.default)
        elif self._checkpoints:
            self.default = _default(settings, self._checkpoints) or next(iter(self._checkpoints))
            self.names = tuple(self._checkpoints)
            if settings.default_model is not None and settings.default_model != self.default:
                logger.warning(
                    "%s; %s is the default instead", self._missing(settings.default_model), self.default
                )
        else:
            self.default = settings.default_model or DEFAULT_MODEL
            self.names = tuple(KNOWN_MODELS)
            if self._may_fall_back:
                logger.warning("%s; until then every answer is engine=classical", self._missing(self.default))
            for name, known in KNOWN_MODELS.items():
                self._engines[name] = ClassicalEngine(known.size)

    def loaded(self, name: str) -> Engine | None:
        """The engine of a model that is ready now. Raises UnknownModel."""
        self._require(name)
        return self._engines.get(name)

    def engine(self, name: str) -> Engine:
        """The engine of a model, loaded if need be. Blocks. Raises UnknownModel, ModelNotReady."""
        self._require(name)
        if name in self._failures:
            raise ModelNotReady(self._failures[name])
        if name not in self._engines:
            self._load(name, self._checkpoints[name])
        return self._engines[name]

    def status(self, name: str) -> ModelStatus:
        """How a model stands. One that is only loaded on first use counts as ready. Raises UnknownModel."""
        self._require(name)
        engine = self._engines.get(name)
        reason = self._failures.get(name)
        if reason is None and engine is None and name == self.default:
            reason = f"{name} is being loaded"
        return ModelStatus(
            name=name,
            engine=engine.name if engine else "torch",
            size=engine.size if engine else KNOWN_MODELS[name].size,
            default=name == self.default,
            reason=reason,
        )

    def _load(self, name: str, checkpoint: Path) -> None:
        """Load a model, or remember why it cannot be."""
        # Here, so that a server without checkpoints never waits for torch, nor holds its memory.
        from gpen_backend.engines.torch import TorchEngine

        logger.info("loading %s from %s", name, checkpoint)
        try:
            self._engines[name] = TorchEngine.from_checkpoint(checkpoint)
        except Exception as error:
            # Whatever a file does to its loader, the server goes on and says what is wrong.
            if not self._may_fall_back:
                self._failures[name] = f"{name} cannot be loaded: {error}"
                logger.exception("%s cannot be loaded", name)
                raise ModelNotReady(self._failures[name]) from error
            logger.exception("%s cannot be loaded; its answers are engine=classical", name)
            self._engines[name] = ClassicalEngine(KNOWN_MODELS[name].size)

    def _require(self, name: str) -> None:
        if name not in self.names:
            raise UnknownModel(f"no model {name[:80]!r} here; available: {', '.join(self.names)}")

    def _missing(self, name: str) -> str:
        """What to do about a model without a checkpoint."""
        return f"{name} has no checkpoint: put {KNOWN_MODELS[name].files[0]} into {self._folder}"


def _checkpoints(settings: BackendSettings) -> dict[str, Path]:
    """The checkpoints there are, by model, for the engines that need one."""
    if settings.engine == "classical":
        return {}
    found = ((name, find_checkpoint(name, settings.models_dir)) for name in KNOWN_MODELS)
    return {name: path for name, path in found if path is not None}


def _default(settings: BackendSettings, checkpoints: dict[str, Path]) -> str | None:
    """The default model: the one that was chosen, else the usual one, else the first, where it is there."""
    if settings.engine == "torch" and settings.default_model is not None:
        return settings.default_model
    for name in (settings.default_model, DEFAULT_MODEL, *checkpoints):
        if name is not None and name in checkpoints:
            return name
    return None
