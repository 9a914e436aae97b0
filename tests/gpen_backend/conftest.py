"""Small networks, and weights that are the same on every machine without a download."""

from collections.abc import Callable, Mapping
from zlib import crc32

import numpy as np
import pytest
import torch

from gpen_backend.network.generator import Generator

SeedWeights = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


def _seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one tensor, from its name alone: the recorded outputs were made with these."""
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
    """Fills a state dict of the names and shapes in another one."""
    return lambda state: {
        name: torch.from_numpy(_seeded(name, tuple(tensor.shape))) for name, tensor in state.items()
    }


@pytest.fixture(scope="session")
def tiny_state(seed_weights: SeedWeights) -> Mapping[str, torch.Tensor]:
    """A whole checkpoint of 16 px with a short mapping network: 60 kB."""
    return seed_weights(Generator(16, narrow=1 / 128, style_dim=8, mlp_layers=2).state_dict())
