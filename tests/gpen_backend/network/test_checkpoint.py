import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpen_backend.network.checkpoint import generator_from_state_dict, load_generator
from gpen_backend.network.generator import Generator
from gpen_backend.weights.errors import (
    BadWeights,
    CheckpointError,
    NotAGenerator,
    ShapeMismatch,
    Unreadable,
    UnsafePickle,
)

SHARED = os.environ.get("GPEN_GATEWAY_SHARED")
A_TENSOR = torch.zeros(2, 2)


class Intruder:
    """A malicious pickle: loading it creates a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.fixture
def saved(tmp_path):
    """Writes a checkpoint with torch.save. Returns its path."""

    def save(checkpoint, name="model.pth", **options):
        torch.save(checkpoint, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def written(tmp_path):
    """Writes any bytes as a checkpoint file. Returns its path."""

    def write(data, name="model.pth"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def shapes(state):
    return {name: tensor.shape for name, tensor in state.items()}


def with_tensor(state, name, tensor):
    return {**state, name: tensor}


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8, "narrow": 1 / 64, "style_dim": 4, "mlp_layers": 1},
        {"size": 32, "narrow": 1 / 32, "style_dim": 16, "mlp_layers": 3},
        {"size": 64, "channel_multiplier": 1, "narrow": 1 / 32, "style_dim": 8, "mlp_layers": 8},
        {"size": 64, "channel_multiplier": 2, "narrow": 1 / 32, "style_dim": 8, "mlp_layers": 2},
        {"size": 128, "channel_multiplier": 4, "narrow": 1 / 64, "style_dim": 8, "mlp_layers": 2},
    ],
)
def test_reads_the_architecture_from_shapes(options):
    state = Generator(**options).state_dict()
    generator = generator_from_state_dict(state)
    assert generator.size == options["size"]
    assert shapes(generator.state_dict()) == shapes(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "channel_multiplier", "narrow"), [(256, 1, 0.5), (512, 2, 1), (1024, 2, 1), (2048, 2, 1)]
)
def test_loads_published_sizes_from_a_file(saved, size, channel_multiplier, narrow):
    state = Generator(size, channel_multiplier, narrow).state_dict()
    generator = load_generator(saved(state))
    assert generator.size == size
    assert shapes(generator.state_dict()) == shapes(state)


@pytest.mark.parametrize("wrap", [dict, OrderedDict, lambda state: {"g_ema": state, "g": {}, "d": {}}])
@pytest.mark.parametrize("zipped", [True, False])
def test_finds_weights_at_the_top_or_under_g_ema_in_both_torch_formats(saved, tiny_state, wrap, zipped):
    generator = load_generator(saved(wrap(tiny_state), _use_new_zipfile_serialization=zipped))
    loaded = generator.state_dict()
    assert loaded.keys() == tiny_state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_state.items())


def test_returns_a_generator_in_eval_mode_without_gradients(tiny_state):
    generator = generator_from_state_dict(tiny_state)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_copies_weights_so_that_the_file_may_be_overwritten(saved, tiny_state):
    path = saved(tiny_state)
    generator = load_generator(path)
    os.truncate(path, 10)
    image = torch.zeros(1, 3, 16, 16)
    assert torch.equal(generator(image), generator_from_state_dict(tiny_state)(image))


# Files


@pytest.mark.parametrize("zipped", [True, False])
def test_rejects_code_in_a_pickle_without_running_it(saved, tmp_path, tiny_state, zipped):
    proof = tmp_path / "proof"
    path = saved({**tiny_state, "x": Intruder(proof)}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafePickle, match="none was run") as caught:
        load_generator(path)
    assert not proof.exists()
    assert "weights_only" not in str(caught.value), "torch's advice to load it unsafely must not be passed on"
    torch.load(path, weights_only=False)
    assert proof.exists(), "the pickle runs no code, so the test proves nothing"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rejects_a_bare_pickle_with_code_without_running_it(written, tmp_path, protocol):
    proof = tmp_path / "proof"
    path = written(pickle.dumps(Intruder(proof), protocol=protocol))
    with pytest.raises(Unreadable):
        load_generator(path)
    assert not proof.exists()


def test_rejects_a_whole_pickled_module(saved):
    with pytest.raises(UnsafePickle, match="save its state dict alone"):
        load_generator(saved(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9, 0.9999])
def test_reports_a_truncated_file_as_unreadable(saved, tiny_state, zipped, kept):
    path = saved(tiny_state, _use_new_zipfile_serialization=zipped)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(Unreadable, match="download it again"):
        load_generator(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>Sign in to the hotel's network</title>", "is text.*login or error page"),
        ("<html lang=zh>下载</html>".encode(), "is text"),
        (b'{"error": "rate limited"}', 'is text.*"error": "rate limited"'),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa5b", "is text.*git-lfs"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.0.1", "not a torch checkpoint .*08 07 12 07"),
        (b"\x89HDF\r\n\x1a\n", "not a torch checkpoint"),
        (b"PK\x03\x04" + bytes(200), "damaged"),
        (b"\x80\x02" + bytes(200), "damaged"),
    ],
)
def test_describes_files_that_are_no_checkpoints(written, data, message):
    with pytest.raises(Unreadable, match=message) as caught:
        load_generator(written(data))
    assert "model.pth" in str(caught.value)


def test_reports_a_missing_file_or_a_folder_as_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="No such file"):
        load_generator(tmp_path / "absent.pth")
    with pytest.raises(Unreadable, match="Is a directory"):
        load_generator(tmp_path)


@settings(deadline=None)
@given(st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02"]), st.binary(max_size=300))
def test_any_bytes_raise_a_checkpoint_error(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(head + tail)
    with pytest.raises(CheckpointError):
        load_generator(path)


# Other networks


def test_rejects_discriminators_by_file_name_before_reading(tmp_path):
    with pytest.raises(NotAGenerator, match=r"GPEN-BFR-512-D.pth: -D files hold GPEN's discriminator"):
        load_generator(tmp_path / "GPEN-BFR-512-D.pth")


@pytest.mark.parametrize(
    ("keys", "network"),
    [
        (["convs.0.0.weight", "convs.1.conv1.0.weight", "final_conv.0.weight"], "discriminator"),
        (["style.1.weight", "input.input", "conv1.conv.weight", "to_rgb1.conv.weight"], "bare StyleGAN2"),
        (["generator.style.1.weight", "generator.to_rgb1.conv.weight"], "decoder without the encoder"),
        (["conv_body_first.weight", "stylegan_decoder.style_mlp.1.weight"], "GFPGAN"),
        (["encoder.blocks.0.weight", "quantize.embedding.weight"], "CodeFormer"),
        (["module.body.stage1.0.0.weight", "module.ClassHead.0.conv1x1.weight"], "RetinaFace"),
        (["conv_first.weight", "body.0.rdb1.conv1.weight"], "Real-ESRGAN"),
        (["fc.weight", "fc.bias"], "fc.weight, fc.bias, which belong to no known network"),
        ([], "holds nothing"),
    ],
)
def test_identifies_other_networks_by_their_keys(saved, keys, network):
    with pytest.raises(NotAGenerator, match=network):
        load_generator(saved(dict.fromkeys(keys, A_TENSOR)))


@pytest.mark.skipif(SHARED is None, reason="GPEN_GATEWAY_SHARED names no folder of models")
def test_rejects_a_real_face_detector():
    with pytest.raises(NotAGenerator, match="RetinaFace"):
        load_generator(Path(SHARED) / "models/retinaface_mobilenet0.25_Final.pth")


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"params_ema": {"stylegan_decoder.style_mlp.1.weight": A_TENSOR}}, "GFPGAN"),
        ({"d": {"final_conv.0.weight": A_TENSOR}}, "discriminator"),
        ({"state_dict": {"ecd0.0.0.weight": A_TENSOR}}, "must be at the top or under g_ema"),
        ({"g_ema": A_TENSOR}, "a Tensor under g_ema"),
        ([A_TENSOR], "a list, not weights by name"),
        (A_TENSOR, "a Tensor, not weights by name"),
    ],
)
def test_rejects_weights_in_other_places(saved, checkpoint, message):
    with pytest.raises(NotAGenerator, match=message):
        load_generator(saved(checkpoint))


# Tensors


@pytest.mark.parametrize(
    "name",
    [
        "ecd1.0.1.weight",
        "final_linear.0.weight",
        "generator.input.input",
        "generator.convs.0.conv.blur.kernel",
    ],
)
def test_names_a_missing_tensor(tiny_state, name):
    with pytest.raises(ShapeMismatch, match=f"lacks .*{name}"):
        generator_from_state_dict(without(tiny_state, name))


def test_names_an_extra_tensor(tiny_state):
    with pytest.raises(ShapeMismatch, match=r"has unknown generator.noises.noise_0"):
        generator_from_state_dict(with_tensor(tiny_state, "generator.noises.noise_0", A_TENSOR))


def test_names_a_wrong_width_with_the_expected_one(tiny_state):
    wrong = with_tensor(tiny_state, "generator.conv1.activate.bias", torch.zeros(9))
    with pytest.raises(ShapeMismatch, match=r"conv1\.activate\.bias \(9,\) instead of \(8,\)"):
        generator_from_state_dict(wrong)


def test_names_a_few_wrong_tensors_and_counts_the_rest(tiny_state):
    wrong = with_tensor(tiny_state, "generator.input.input", torch.zeros(1, 8, 4, 4))
    with pytest.raises(ShapeMismatch, match=r"and \d+ more"):
        generator_from_state_dict(wrong)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("generator.input.input", ()),
        ("generator.input.input", (1, 0, 4, 4)),
        ("final_linear.0.weight", (0, 64)),
        ("ecd0.0.0.weight", ()),
        ("ecd999999999999.0.1.weight", (1,)),
        ("generator.style.99999999999.weight", (1,)),
    ],
)
def test_rejects_impossible_shapes_before_building_a_network(tiny_state, name, shape):
    with pytest.raises(ShapeMismatch):
        generator_from_state_dict(with_tensor(tiny_state, name, torch.zeros(shape)))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.complex64]
)
def test_names_a_wrong_dtype(tiny_state, dtype):
    wrong = with_tensor(tiny_state, "final_linear.0.bias", torch.zeros(8, dtype=dtype))
    with pytest.raises(BadWeights, match=f"final_linear.0.bias is {str(dtype).removeprefix('torch.')}"):
        generator_from_state_dict(wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rejects_weights_that_are_not_finite(tiny_state, value):
    weight = tiny_state["ecd0.0.0.weight"].clone()
    weight[0, 0] = value
    with pytest.raises(BadWeights, match=r"ecd0.0.0.weight has values that are not finite"):
        generator_from_state_dict(with_tensor(tiny_state, "ecd0.0.0.weight", weight))


@pytest.mark.parametrize(
    "value", [None, 3, "text", torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")], ids=repr
)
def test_rejects_values_that_are_no_dense_tensors(tiny_state, value):
    with pytest.raises(BadWeights, match=r"ecd0.0.1.bias"):
        generator_from_state_dict(with_tensor(tiny_state, "ecd0.0.1.bias", value))


def test_rejects_a_tensor_that_claims_gigabytes_in_a_small_file(saved, tiny_state):
    path = saved(with_tensor(tiny_state, "ecd0.0.1.bias", torch.zeros(1).expand(10**12)))
    with pytest.raises(BadWeights, match="claims 4000000000000 bytes"):
        load_generator(path)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tensor_of_another_shape_raises_a_checkpoint_error(tiny_state, data):
    name = data.draw(st.sampled_from(sorted(tiny_state)))
    shape = data.draw(st.lists(st.integers(0, 9), max_size=5).map(tuple))
    if shape != tuple(tiny_state[name].shape):
        with pytest.raises(CheckpointError):
            generator_from_state_dict(with_tensor(tiny_state, name, torch.zeros(shape)))
