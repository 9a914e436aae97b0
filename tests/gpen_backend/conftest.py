"""Weights that are the same on every machine, and a backend in a process."""

import sys
from collections.abc import Callable, Iterator, Mapping
from zlib import crc32

import numpy as np
import pytest
import torch

from gpen_backend.network.generator import Generator
from tests.support.processes import run_server_process

SeedWeights = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


def _seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values of a tensor, which depend on its name and shape. The recorded outputs used these."""
    if name.endswith(".kernel"):
        taps = np.float32([1, 3, 3, 1])
        return np.outer(taps, taps) / np.float32(64 if name.startswith("ecd") else 16)
    normal = np.random.default_rng(crc32(name.encode())).standard_normal(shape).astype(np.float32)
    match name.split(".")[-2:]:
        case "modulation", "bias":
            return 1 + 0.1 * normal
        case "noise", "weight":
            return 0.5 + 0.1 * normal
        case _, "bias":
            return 0.1 * normal
    return 100 * normal if name.startswith("generator.style.") else normal


@pytest.fixture(scope="session")
def seed_weights() -> SeedWeights:
    """Fill a state dict with the names and shapes of another."""
    return lambda state: {
        name: torch.from_numpy(_seeded(name, tuple(tensor.shape))) for name, tensor in state.items()
    }


@pytest.fixture(scope="session")
def tiny_state(seed_weights: SeedWeights) -> Mapping[str, torch.Tensor]:
    """A checkpoint of 16 px with a short mapping network, 60 kB."""
    return seed_weights(Generator(16, narrow=1 / 128, style_dim=8, mlp_layers=2).state_dict())


@pytest.fixture(scope="session")
def backend_process() -> Iterator[str]:
    """A backend in a process with a limit of 200,000 bytes; gives its URL."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "gpen_backend.app:create_app", "--port", "0"]
    environment = {"GPEN_BACKEND_ENGINE": "classical", "GPEN_BACKEND_MAX_BODY_BYTES": "200000"}
    with run_server_process(command, environment) as url:
        yield url
