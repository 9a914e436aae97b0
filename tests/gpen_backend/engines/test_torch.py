from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from gpen_backend.engines import Engine, EngineError, EngineOutOfMemory
from gpen_backend.engines.torch import TorchEngine, choose_device, choose_dtype
from gpen_backend.network.checkpoint import generator_from_state_dict

faces_16 = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(16), st.just(16), st.just(3)))


class Stub(nn.Module):
    """A network that applies a function, and keeps its input."""

    size = 16

    def __init__(self, function=lambda x: x):
        super().__init__()
        self.function = function

    def forward(self, x):
        self.given = x
        self.inference = torch.is_inference_mode_enabled()
        return self.function(x)


def random_faces(count=2, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def engine(tiny_state) -> Engine:
    return TorchEngine(generator_from_state_dict(tiny_state))


@settings(deadline=None)
@given(faces_16)
def test_an_identity_network_returns_the_same_bytes(faces):
    assert np.array_equal(TorchEngine(Stub()).restore(faces), faces)


@settings(deadline=None)
@given(st.floats(-3, 3, width=32))
def test_rounds_and_clips_the_output(value):
    restored = TorchEngine(Stub(lambda x: torch.full_like(x, value))).restore(random_faces(1))
    exact = np.clip((value + 1) * 127.5, 0, 255)
    assert abs(restored[0, 0, 0, 0] - exact) <= 0.5 + 1e-4  # ties depend on float32 rounding


def test_feeds_the_network_rgb_planes_from_minus_one_to_one():
    network = Stub()
    faces = np.zeros((1, 16, 16, 3), np.uint8)
    faces[..., 0], faces[0, 3, 5, 2] = 255, 255
    TorchEngine(network).restore(faces)
    assert network.given.shape == (1, 3, 16, 16)
    assert network.given.dtype == torch.float32
    assert (network.given[0, 0] == 1).all()
    assert (network.given[0, 1] == -1).all()
    assert network.given[0, 2, 3, 5] == 1


def test_returns_a_new_array_of_the_same_shape(engine):
    faces = random_faces(3)
    before = faces.copy()
    restored = engine.restore(faces)
    assert restored.shape == faces.shape
    assert restored.dtype == np.uint8
    assert not np.shares_memory(restored, faces)
    assert np.array_equal(faces, before)
    assert len(np.unique(restored)) > 10


def test_accepts_read_only_and_strided_faces(engine):
    """Faces decoded from a message are read-only views of its bytes."""
    faces = random_faces(2)
    view = np.frombuffer(faces.tobytes(), np.uint8).reshape(faces.shape)
    assert np.array_equal(engine.restore(view), engine.restore(faces))
    assert np.array_equal(engine.restore(faces[:, ::-1]), engine.restore(faces[:, ::-1].copy()))


def test_faces_of_a_batch_do_not_mix(engine):
    faces = random_faces(4)
    alone = np.concatenate([engine.restore(face[None]) for face in faces])
    assert np.abs(engine.restore(faces).astype(int) - alone).max() <= 1


def test_enters_inference_mode_on_the_calling_thread():
    network = Stub()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(TorchEngine(network).restore, random_faces()).result()
    assert network.inference
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    "shape", [(16, 16, 3), (0, 16, 16, 3), (1, 32, 32, 3), (1, 3, 16, 16), (1, 16, 16, 4)]
)
def test_rejects_another_shape(engine, shape):
    with pytest.raises(ValueError, match=r"\(N, 16, 16, 3\)"):
        engine.restore(np.zeros(shape, np.uint8))


def test_rejects_another_dtype(engine):
    with pytest.raises(ValueError, match="uint8, not float32"):
        engine.restore(np.zeros((1, 16, 16, 3), np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_raises_engine_error_for_output_that_is_not_finite(value):
    network = Stub(lambda x: torch.cat([x[:1], torch.full_like(x[1:], value)]))
    with pytest.raises(EngineError, match="not finite"):
        TorchEngine(network).restore(random_faces(2))


def test_out_of_memory_has_its_own_error():
    """The batcher can try a smaller batch, without importing torch to recognise its error."""

    def exhausted(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineOutOfMemory, match="not enough memory on cpu for 2 faces"):
        TorchEngine(Stub(exhausted)).restore(random_faces(2))


def test_a_torch_error_becomes_an_engine_error():
    with pytest.raises(EngineError, match="torch failed on cpu"):
        TorchEngine(Stub(lambda x: x @ torch.zeros(3, 3))).restore(random_faces())


def test_loads_the_same_engine_from_a_checkpoint_file(tmp_path, tiny_state, engine):
    torch.save(tiny_state, tmp_path / "tiny.pth")
    from_file = TorchEngine.from_checkpoint(tmp_path / "tiny.pth")
    assert (from_file.name, from_file.size) == ("torch", 16)
    assert np.array_equal(from_file.restore(random_faces()), engine.restore(random_faces()))


def test_dtype_auto_is_bfloat16_if_the_processor_supports_it(monkeypatch):
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for has in ([False, False], [True, False], [False, True]):
        for name, answer in zip(tests, has, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
        assert choose_dtype("auto", "cpu") == (torch.bfloat16 if any(has) else torch.float32)
    assert choose_dtype("float32", "cpu") == torch.float32
    assert choose_dtype("bfloat16", "cpu") == torch.bfloat16


def test_device_auto_is_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(EngineError, match="finds no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_bfloat16_changes_pixels_only_slightly(tiny_state):
    exact, quick = (
        TorchEngine(generator_from_state_dict(tiny_state), "cpu", dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    faces = random_faces(2)
    difference = np.abs(exact.restore(faces).astype(int) - quick.restore(faces))
    assert difference.mean() < 2
    assert difference.max() <= 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_and_cpu_agree(tiny_state):
    """For several batch sizes, whose graphs are captured once and replayed."""
    cpu, gpu = (TorchEngine(generator_from_state_dict(tiny_state), device) for device in ("cpu", "cuda"))
    for count in (1, 3, 1, 4, 3):
        faces = random_faces(count)
        np.testing.assert_allclose(gpu.output(faces), cpu.output(faces), atol=1e-3)
