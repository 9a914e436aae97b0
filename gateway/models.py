"""What the backend can run, and which model a request gets."""

import time
from typing import get_args

from gateway.errors import InvalidParameters, NotReady, UnknownModel, backend_errors
from gateway.params import ModelName
from gpen_client.client import GpenClient
from gpen_client.types import ModelInfo, Task

# A backend's models change when somebody pulls one: seconds are soon enough, and cost requests nothing.
_FRESH_S = 10.0
_CHECKPOINTS = {
    "restore": "gpen-bfr-512",
    "colorize": "gpen-colorization-1024",
    "inpaint": "gpen-inpainting-1024",
}
_PULL = "its operator adds models with `gpen-gateway models pull`"


class Models:
    """The backend's models, asked for when needed and remembered for seconds."""

    def __init__(self, client: GpenClient, default: ModelName) -> None:
        self._client = client
        self._default = default
        self._known: list[ModelInfo] = []
        self._fresh_until = 0.0

    async def available(self) -> list[ModelInfo]:
        """The models that the backend has. Raises BackendAway and its kin."""
        if time.monotonic() >= self._fresh_until:
            with backend_errors():
                self._known = await self._client.models(get_args(ModelName))
            self._fresh_until = time.monotonic() + _FRESH_S if all(m.ready for m in self._known) else 0.0
        return self._known

    async def default(self) -> ModelInfo | None:
        """The model of requests that only want restoring: the configured one, else the backend's own choice."""
        models = [model for model in await self.available() if model.task == "restore"]
        by_rank = sorted(models, key=lambda model: (model.name != self._default, not model.default))
        return by_rank[0] if by_rank else None

    async def choose(self, asked: ModelName | None, task: Task = "restore") -> ModelInfo:
        """The model that a request asking for `asked` gets, or, where that is None, the one for its task.

        Raises UnknownModel, InvalidParameters where model and task do not go together, and NotReady.
        """
        if asked is None and task == "restore":
            default = await self.default()
            if default is None:
                raise NotReady("the backend has no model this gateway knows; see its /v2/health/ready")
            return default
        models = await self.available()
        for model in models:
            if asked is None and model.task == task:
                return model
            if model.name == asked:
                if model.task != task:
                    raise InvalidParameters(
                        f"{asked} is for the task {model.task}, not {task}: leave `model` out, and the task finds it"
                    )
                return model
        if asked is None:
            raise UnknownModel(
                f"the backend cannot {task}: it needs checkpoint {_CHECKPOINTS[task]}; {_PULL}"
            )
        names = ", ".join(model.name for model in models) or "none"
        raise UnknownModel(f"the backend does not have {asked}; it has: {names}; {_PULL}")
