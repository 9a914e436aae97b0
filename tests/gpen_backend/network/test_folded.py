import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gpen_backend.network.checkpoint import generator_from_state_dict
from gpen_backend.network.folded import FoldedGenerator
from gpen_backend.network.generator import Generator
from gpen_backend.network.winograd import Winograd

DATA = Path(__file__).parents[2] / "data"
SHARED = os.environ.get("GPEN_GATEWAY_SHARED")
# Measured: 1e-5. Promised: 1e-3.
TOLERANCE = 1e-4


def images(size, count=1):
    noise = np.random.default_rng(size).uniform(-1, 1, (count, 3, size, size))
    return torch.from_numpy(noise.astype(np.float32))


def run(network, pictures):
    with torch.inference_mode():
        return network(pictures).numpy()


@pytest.fixture(scope="module")
def golden_64(seed_weights):
    with torch.device("meta"):
        shapes = Generator(64, 1, 0.25).state_dict()
    return generator_from_state_dict(seed_weights(shapes))


@pytest.mark.parametrize("one_by_one", [True, False])
def test_agrees_with_the_original(golden_64, one_by_one):
    expected = np.load(DATA / "golden-64.npz")["output"]
    folded = FoldedGenerator(golden_64, torch.float32, one_by_one)
    np.testing.assert_allclose(run(folded, images(64)), expected, atol=TOLERANCE)


@pytest.mark.skipif(SHARED is None, reason="GPEN_GATEWAY_SHARED names no folder of recordings")
@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize(("name", "shape"), [("gpen-bfr-256", (256, 1, 0.5)), ("gpen-bfr-512", (512, 2, 1))])
def test_published_shapes_agree_with_the_original(seed_weights, name, shape, one_by_one):
    with torch.device("meta"):
        shapes = Generator(*shape).state_dict()
    generator = generator_from_state_dict(seed_weights(shapes))
    output = run(FoldedGenerator(generator, torch.float32, one_by_one), images(shape[0]))
    expected = np.load(Path(SHARED) / "golden" / f"{name}.npz")["output"]
    edge = (shape[0] - 256) // 2
    np.testing.assert_allclose(output[..., edge : edge + 256, edge : edge + 256], expected, atol=TOLERANCE)


def test_faces_give_the_same_result_one_by_one_and_together(golden_64):
    pictures = images(64, 3)
    plain = run(golden_64, pictures)
    for one_by_one in (True, False):
        output = run(FoldedGenerator(golden_64, torch.float32, one_by_one), pictures)
        np.testing.assert_allclose(output, plain, atol=TOLERANCE)


def test_faces_of_a_batch_do_not_affect_each_other(golden_64):
    folded = FoldedGenerator(golden_64, torch.float32, one_by_one=True)
    pictures = images(64, 3)
    assert np.array_equal(run(folded, pictures)[1], run(folded, pictures[1:2])[0])


def test_bfloat16_stays_within_a_few_grey_levels(golden_64):
    """Random weights give output with three times the deviation of a face."""
    error = np.abs(
        run(FoldedGenerator(golden_64, torch.bfloat16, True), images(64)) - run(golden_64, images(64))
    )
    assert error.mean() * 127.5 < 2
    assert error.max() * 127.5 < 12


def test_changes_neither_generator_nor_input(golden_64):
    before = {name: tensor.clone() for name, tensor in golden_64.state_dict().items()}
    pictures = images(64)
    run(FoldedGenerator(golden_64, torch.float32, True), pictures)
    assert torch.equal(pictures, images(64))
    assert all(torch.equal(before[name], tensor) for name, tensor in golden_64.state_dict().items())


def test_repeated_runs_are_bit_equal(golden_64):
    folded = FoldedGenerator(golden_64, torch.bfloat16, True)
    assert np.array_equal(run(folded, images(64)), run(folded, images(64)))


@pytest.mark.parametrize("size", [8, 16, 32])
def test_folds_every_depth(seed_weights, size):
    generator = Generator(size, narrow=1 / 64, style_dim=16, mlp_layers=3)
    generator.load_state_dict(seed_weights(generator.state_dict()))
    generator.requires_grad_(False)
    folded = FoldedGenerator(generator, torch.float32, True)
    np.testing.assert_allclose(run(folded, images(size)), run(generator, images(size)), atol=TOLERANCE)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.float32, 0.01), (torch.bfloat16, 2)])
def test_winograd_in_wide_layers_agrees_with_the_generator(seed_weights, monkeypatch, dtype, levels):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    generator = Generator(32, narrow=0.5, style_dim=16, mlp_layers=2)
    generator.load_state_dict(seed_weights(generator.state_dict()))
    generator.requires_grad_(False)
    folded = FoldedGenerator(generator, dtype, True)
    assert any(isinstance(module, Winograd) for module in folded.modules())
    error = np.abs(run(folded, images(32)) - run(generator, images(32)))
    assert error.mean() * 127.5 < levels
