"""The backend's models, and the choice of one for each request."""

from types import SimpleNamespace

import httpx
import pytest

from gateway.errors import BackendAway, InvalidParameters, NotReady, UnknownModel
from gateway.upstream.model_choice import Models
from gpen_client.client import GpenClient
from gpen_common.types import ModelInfo

pytestmark = pytest.mark.anyio


class Backend:
    """A backend with models, the first of which is its default. Counts the descriptions sent."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.not_ready: set[str] = set()
        self.away = False
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("nothing listens there", request=request)
        name, ready = (
            request.url.path.removeprefix("/v2/models/").removesuffix("/ready"),
            "/ready" in request.url.path,
        )
        self.asked += not ready
        if name not in self.names or (ready and name in self.not_ready):
            return httpx.Response(503 if name in self.names else 404, json={"error": "no"})
        parameters = {"size": int(name.split("-")[-1]), "default": name == self.names[0]}
        return httpx.Response(200, json={"name": name, "platform": "torch", "parameters": parameters})

    def models(self, default: str = "gpen-bfr-512") -> Models:
        return Models(GpenClient("http://backend", transport=httpx.MockTransport(self)), default)


async def test_lists_only_the_models_of_the_backend():
    backend = Backend("gpen-bfr-1024", "gpen-bfr-256")
    assert [model.name for model in await backend.models().available()] == ["gpen-bfr-256", "gpen-bfr-1024"]


@pytest.mark.parametrize(
    ("has", "configured", "expected"),
    [
        (["gpen-bfr-256", "gpen-bfr-512"], "gpen-bfr-512", "gpen-bfr-512"),
        (["gpen-bfr-1024", "gpen-bfr-256"], "gpen-bfr-512", "gpen-bfr-1024"),
        (["gpen-bfr-256"], "gpen-bfr-2048", "gpen-bfr-256"),
    ],
)
async def test_default_is_the_configured_model_or_the_backends(has, configured, expected):
    models = Backend(*has).models(configured)
    assert (await models.default()).name == expected
    assert (await models.choose(None)).name == expected


async def test_named_model_is_never_replaced():
    models = Backend("gpen-bfr-256", "gpen-bfr-512").models()
    assert (await models.choose("gpen-bfr-256")).size == 256
    with pytest.raises(UnknownModel, match="it has: gpen-bfr-256, gpen-bfr-512"):
        await models.choose("gpen-bfr-2048")


async def test_backend_without_models_is_not_ready():
    models = Backend().models()
    assert await models.default() is None
    with pytest.raises(NotReady):
        await models.choose(None)
    with pytest.raises(UnknownModel, match="none"):
        await models.choose("gpen-bfr-512")


async def test_unavailable_backend_is_retried_by_the_next_request():
    backend = Backend("gpen-bfr-512")
    models = backend.models()
    backend.away = True
    with pytest.raises(BackendAway):
        await models.choose(None)
    backend.away = False
    assert (await models.choose(None)).name == "gpen-bfr-512"


async def test_models_are_cached_for_seconds(monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr("gateway.upstream.model_list.time", clock)
    backend = Backend("gpen-bfr-512")
    models = backend.models()
    await models.available()
    asked = backend.asked
    backend.names.append("gpen-bfr-256")
    clock.now += 1
    assert len(await models.available()) == 1
    assert backend.asked == asked
    clock.now += 60
    assert len(await models.available()) == 2


async def test_loading_model_is_not_cached():
    backend = Backend("gpen-bfr-512")
    backend.not_ready.add("gpen-bfr-512")
    models = backend.models()
    assert not (await models.default()).ready
    backend.not_ready.clear()
    assert (await models.default()).ready


class DescribedModels:
    """A client of a backend with these models."""

    def __init__(self, *models):
        self.known = list(models)

    async def models(self, names):
        return [model for model in self.known if model.name in names]


RESTORER = ModelInfo("gpen-bfr-256", True, "torch", 256, default=True)
COLORIZER = ModelInfo("gpen-colorization-1024", True, "torch", 1024, task="colorize")


def models_of(*known):
    return Models(DescribedModels(*known), "gpen-bfr-512")


async def test_chooses_the_model_of_the_task():
    here = models_of(COLORIZER, RESTORER)
    assert await here.choose(None, "colorize") == COLORIZER
    assert await here.choose("gpen-colorization-1024", "colorize") == COLORIZER
    assert await here.choose(None) == RESTORER


async def test_a_task_without_its_checkpoint_is_an_error_that_names_it():
    with pytest.raises(
        UnknownModel, match="no model for the task inpaint: gpen-inpainting-1024 is missing"
    ) as refused:
        await models_of(RESTORER, COLORIZER).choose(None, "inpaint")
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("name", "task"), [("gpen-bfr-256", "colorize"), ("gpen-colorization-1024", "restore")]
)
async def test_rejects_a_model_for_another_task(name, task):
    with pytest.raises(InvalidParameters, match="omit `model`"):
        await models_of(RESTORER, COLORIZER).choose(name, task)


async def test_a_model_for_another_task_is_never_the_default():
    assert await models_of(COLORIZER, RESTORER).default() == RESTORER
    assert await models_of(COLORIZER).default() is None
