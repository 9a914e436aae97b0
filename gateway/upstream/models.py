"""What the backend can run, and which model a request gets."""

from typing import get_args

from gateway.errors import InvalidParameters, NotReady, UnknownModel
from gateway.upstream.model_list import Roster
from gpen_client.client import GpenClient
from gpen_common.model_names import CHECKPOINT_FOR, ModelName
from gpen_common.types import ModelInfo, Task

_PULL = "its operator adds models with `gpen-gateway models pull`"


class Models:
    """The backend's models, asked for when needed and remembered for seconds."""

    def __init__(self, client: GpenClient, default: ModelName) -> None:
        self._default = default
        self._roster = Roster(client, get_args(ModelName))

    @property
    def known(self) -> list[ModelInfo]:
        """The models as the backend last told them; nobody is asked."""
        return self._roster.known

    async def available(self) -> list[ModelInfo]:
        """The models that the backend has. Raises BackendAway and its kin."""
        return await self._roster.fresh()

    async def default(self) -> ModelInfo | None:
        """The model of requests that only want restoring: the configured one, else the backend's choice."""
        return self._default_of(await self.available())

    async def choose(self, asked: ModelName | None, task: Task = "restore") -> ModelInfo:
        """The model that a request asking for `asked` gets, or, where that is None, the one for its task.

        Raises UnknownModel, InvalidParameters where model and task do not go together, and NotReady.
        """
        models = await self._roster.at_hand()
        if asked is None and task == "restore":
            default = self._default_of(models)
            if default is None:
                raise NotReady("the backend has no model this gateway knows; see its /v2/health/ready")
            return default
        for model in models:
            if asked is None and model.task == task:
                return model
            if model.name == asked:
                if model.task != task:
                    raise InvalidParameters(
                        f"{asked} is for the task {model.task}, not {task}; leave `model` out to get it"
                    )
                return model
        if asked is None:
            raise UnknownModel(
                f"the backend cannot {task}: it needs checkpoint {CHECKPOINT_FOR[task]}; {_PULL}"
            )
        names = ", ".join(model.name for model in models) or "none"
        raise UnknownModel(f"the backend does not have {asked}; it has: {names}; {_PULL}")

    async def close(self) -> None:
        """Stops asking the backend."""
        await self._roster.close()

    def _default_of(self, models: list[ModelInfo]) -> ModelInfo | None:
        restorers = [model for model in models if model.task == "restore"]
        by_rank = sorted(restorers, key=lambda model: (model.name != self._default, not model.default))
        return by_rank[0] if by_rank else None
