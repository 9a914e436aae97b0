from typing import get_args

import pytest
import torch

from gpen_backend.network.generator import Generator
from gpen_backend.weights.catalog import KNOWN_MODELS, RESTORERS
from gpen_common.model_names import CHECKPOINT_FOR, ModelName, RestorerName
from gpen_common.types import Task

FILES = [(model, file) for model in KNOWN_MODELS.values() for file in model.files]


@pytest.mark.parametrize("model", KNOWN_MODELS.values(), ids=KNOWN_MODELS)
def test_parameters_match_a_network_of_these_widths(model):
    with torch.device("meta"):
        generator = Generator(model.size, model.channel_multiplier, model.narrow)
    assert sum(parameter.numel() for parameter in generator.parameters()) == model.parameters


@pytest.mark.parametrize(("model", "file"), FILES, ids=lambda item: item.name)
def test_every_file_has_https_addresses_and_a_size_limit(model, file):
    remote = model.remote(file)
    assert all(url.startswith("https://") for url in remote.urls)
    assert remote.max_bytes >= 4 * model.parameters or file.size
    assert file.name.endswith(file.format)
    assert (file.sha256 is None) == (file.size is None)
    if file.sha256 is not None:
        assert len(bytes.fromhex(file.sha256)) == 32
        # An export holds little more than its weights.
        assert 4 * model.parameters < file.size < 4.1 * model.parameters


@pytest.mark.parametrize("mirror", ["https://mirror.example/gpen", "https://mirror.example/gpen/"])
def test_a_mirror_replaces_every_address(mirror):
    model = KNOWN_MODELS["gpen-bfr-1024"]
    assert model.remote(model.files[0], mirror).urls == ("https://mirror.example/gpen/GPEN-BFR-1024.pth",)


def test_no_two_files_share_a_name():
    names = [name for _, file in FILES for name in (file.name, *file.aliases)]
    assert len(names) == len(set(names))


def test_the_catalog_has_exactly_the_models_that_are_named():
    assert tuple(KNOWN_MODELS) == get_args(ModelName)
    assert get_args(RestorerName) == RESTORERS


@pytest.mark.parametrize("task", get_args(Task))
def test_a_task_has_a_model_that_was_trained_for_it(task):
    assert KNOWN_MODELS[CHECKPOINT_FOR[task]].task == task
