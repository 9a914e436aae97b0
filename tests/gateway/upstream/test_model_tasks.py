"""The model of a request by its task."""

import pytest

from gateway.errors import InvalidParameters, UnknownModel
from gateway.upstream.models import Models
from gpen_common.types import ModelInfo

pytestmark = pytest.mark.anyio


class Client:
    """A client of a backend with given models."""

    def __init__(self, *models):
        self.known = list(models)

    async def models(self, names):
        return [model for model in self.known if model.name in names]


RESTORER = ModelInfo("gpen-bfr-256", True, "torch", 256, default=True)
COLORIZER = ModelInfo("gpen-colorization-1024", True, "torch", 1024, task="colorize")


def models(*known):
    return Models(Client(*known), "gpen-bfr-512")


async def test_task_chooses_its_model():
    here = models(COLORIZER, RESTORER)
    assert await here.choose(None, "colorize") == COLORIZER
    assert await here.choose("gpen-colorization-1024", "colorize") == COLORIZER
    assert await here.choose(None) == RESTORER


async def test_rejects_a_task_whose_checkpoint_is_missing():
    with pytest.raises(
        UnknownModel, match="no model for the task inpaint: gpen-inpainting-1024 is missing"
    ) as refused:
        await models(RESTORER, COLORIZER).choose(None, "inpaint")
    assert refused.value.status == 422


async def test_rejects_a_model_for_another_task():
    for name, task in (("gpen-bfr-256", "colorize"), ("gpen-colorization-1024", "restore")):
        with pytest.raises(InvalidParameters, match="omit `model`"):
            await models(RESTORER, COLORIZER).choose(name, task)


async def test_default_is_always_a_restorer():
    assert await models(COLORIZER, RESTORER).default() == RESTORER
    assert await models(COLORIZER).default() is None
