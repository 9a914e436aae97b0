"""Choose the model for a request from those of the backend."""

from typing import get_args

from gateway.errors import InvalidParameters, NotReady, UnknownModel
from gateway.upstream.model_list import ModelList
from gpen_client.client import GpenClient
from gpen_common.model_names import CHECKPOINT_FOR, ModelName
from gpen_common.types import ModelInfo, Task

_PULL = "its operator can add models with `gpen-gateway models pull`"


class Models:
    """The backend's models, and the choice of one for each request."""

    def __init__(self, client: GpenClient, default: ModelName) -> None:
        self._default = default
        self._list = ModelList(client, get_args(ModelName))

    @property
    def known(self) -> list[ModelInfo]:
        """The models by the last answer of the backend, without a request to it."""
        return self._list.known

    async def available(self) -> list[ModelInfo]:
        """Return the backend's models. Raises any backend error, for instance BackendAway."""
        return await self._list.get_fresh()

    async def default(self) -> ModelInfo | None:
        """Return the default model for restoration: the configured one, else the backend's own default."""
        return self.pick_default(await self.available())

    def pick_default(self, models: list[ModelInfo]) -> ModelInfo | None:
        """Return the one of `models` that is the default, as `default`."""
        return _pick_default(models, self._default)

    async def choose(self, asked: ModelName | None, task: Task = "restore") -> ModelInfo:
        """Choose the model `asked`, or without one the model for the task.

        Raises UnknownModel, InvalidParameters if the model does not fit the task, and NotReady.
        """
        return choose_model(await self._list.get(), asked, task, self._default)

    async def close(self) -> None:
        """Cancel any refresh in progress."""
        await self._list.close()


def choose_model(
    models: list[ModelInfo], asked: ModelName | None, task: Task, default: ModelName
) -> ModelInfo:
    """Choose the one of `models` that a request gets, as `Models.choose`. default: the configured model."""
    if asked is None and task == "restore":
        restorer = _pick_default(models, default)
        if restorer is None:
            raise NotReady("the backend has no model that this gateway supports; see its /v2/health/ready")
        return restorer
    for model in models:
        if asked is None and model.task == task:
            return model
        if model.name == asked:
            if model.task != task:
                raise InvalidParameters(
                    f"{asked} is for the task {model.task}, not {task}; omit `model` to use the right one"
                )
            return model
    if asked is None:
        raise UnknownModel(
            f"the backend has no model for the task {task}: {CHECKPOINT_FOR[task]} is missing; {_PULL}"
        )
    names = ", ".join(model.name for model in models) or "none"
    raise UnknownModel(f"the backend does not have {asked}; it has: {names}; {_PULL}")


def _pick_default(models: list[ModelInfo], default: ModelName) -> ModelInfo | None:
    restorers = [model for model in models if model.task == "restore"]
    by_rank = sorted(restorers, key=lambda model: (model.name != default, not model.default))
    return by_rank[0] if by_rank else None
