import hashlib

import numpy as np
import pytest

from gpen_backend.engines import EngineError
from gpen_backend.engines.torch import TorchEngine
from gpen_backend.models.selfcheck import check_input, self_check
from gpen_backend.network.checkpoint import generator_from_state_dict


class Fake:
    """An engine that returns these outputs in turn."""

    name, size, parameters = "fake", 16, None

    def __init__(self, *outputs):
        self.outputs = list(outputs)

    def output(self, faces):
        assert faces.shape == (1, 16, 16, 3)
        return self.outputs.pop(0)


def picture(seed=0, spread=0.5):
    return np.random.default_rng(seed).uniform(-spread, spread, (1, 3, 16, 16)).astype(np.float32)


def test_input_is_the_same_on_every_machine():
    digest = hashlib.sha256(check_input(64).tobytes()).hexdigest()
    assert digest == "baaac6cc8c53bb5f394e8ad587a6b91ab1c8ae7268936f9fe2784f039f479dfb"
    assert check_input(100).shape == (100, 100, 3)


def test_a_sound_network_has_no_faults():
    check = self_check(Fake(picture(), picture()))
    assert check.faults == ()
    assert (check.mean, check.std) == (pytest.approx(picture().mean()), pytest.approx(picture().std()))


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ((picture(spread=9), picture(spread=9)), "not a trained generator"),
        ((picture(spread=0), picture(spread=0)), "blank"),
        ((picture(1), picture(2)), "second run"),
    ],
)
def test_reports_faults(outputs, fault):
    assert any(fault in found for found in self_check(Fake(*outputs)).faults)


def test_raises_engine_error_for_output_that_is_not_finite():
    with pytest.raises(EngineError, match="not finite"):
        self_check(Fake(np.full((1, 3, 16, 16), np.nan, np.float32)))


def test_a_real_network_gives_the_same_numbers_each_time(tiny_state):
    engine = TorchEngine(generator_from_state_dict(tiny_state))
    assert self_check(engine).sha256 == self_check(engine).sha256
