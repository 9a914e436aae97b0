"""Seeded networks, exported and run by ONNX Runtime, compared with torch."""

import warnings

import numpy as np
import pytest
import torch

from gpen_backend.engines import EngineError
from gpen_backend.engines.onnx import OnnxEngine
from gpen_backend.engines.torch import TorchEngine
from gpen_backend.network.checkpoint import generator_from_state_dict
from gpen_backend.weights.errors import NotAGenerator, Unreadable

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def export(module, path, example):
    with warnings.catch_warnings():
        # The exporter warns about its own imports.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=True, verbose=False, external_data=False)
    return path


@pytest.fixture(scope="module")
def generator(tiny_state):
    return generator_from_state_dict(tiny_state)


@pytest.fixture(scope="module")
def exported(generator, tmp_path_factory):
    """An export with a batch size of 1, like the published ones."""
    return export(generator, tmp_path_factory.mktemp("onnx") / "tiny.onnx", torch.zeros(1, 3, 16, 16))


def faces(count):
    return np.random.default_rng(3).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3])
def test_agrees_with_the_torch_engine(generator, exported, count):
    ours, theirs = TorchEngine(generator), OnnxEngine.from_checkpoint(exported)
    assert (theirs.name, theirs.size) == ("onnx", ours.size)
    np.testing.assert_allclose(theirs.output(faces(count)), ours.output(faces(count)), atol=1e-3)
    difference = theirs.restore(faces(count)).astype(int) - ours.restore(faces(count))
    assert np.abs(difference).max() <= 1


def tensors(path, given, made, operator="Identity"):
    """Write an ONNX file with one operator, and an input and output of these types and shapes."""
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node(operator, ["in"], ["out"])],
        "graph",
        [helper.make_tensor_value_info("in", *given)],
        [helper.make_tensor_value_info("out", *made)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


# Codes of onnx.TensorProto.
F, UINT8 = 1, 2


def test_runs_a_whole_batch_if_the_export_allows_it(tmp_path):
    shape = (F, ["N", 3, 16, 16])
    engine = OnnxEngine.from_checkpoint(tensors(tmp_path / "any.onnx", shape, shape))
    np.testing.assert_array_equal(engine.restore(faces(5)), faces(5))


@pytest.mark.parametrize(
    ("given", "made", "message"),
    [
        ((F, [1, 3, 224, 224]), (F, [1, 3, 224, 224]), "256, 512, 1024 or 2048"),
        ((F, [1, 3, 64, 128]), (F, [1, 3, 64, 128]), "square"),
        ((F, [1, 3, "H", "W"]), (F, [1, 3, "H", "W"]), "of one size"),
        ((F, [4, 3, 64, 64]), (F, [4, 3, 64, 64]), "exactly 4 faces"),
        ((F, [1, 64, 64, 3]), (F, [1, 64, 64, 3]), r"float pictures \[N, 3, S, S\]"),
        ((F, [1, 512]), (F, [1, 512]), "float pictures"),
        ((UINT8, [1, 3, 64, 64]), (UINT8, [1, 3, 64, 64]), "uint8"),
    ],
)
def test_rejects_networks_with_other_inputs_or_outputs(tmp_path, given, made, message):
    path = tensors(tmp_path / "other.onnx", given, made)
    with pytest.raises(NotAGenerator, match=message) as caught:
        OnnxEngine.from_checkpoint(path)
    assert "other.onnx" in str(caught.value)


def test_rejects_a_super_resolution_network(tmp_path):
    helper = onnx.helper
    scales = helper.make_tensor("scales", F, [4], [1, 1, 2, 2])
    graph = helper.make_graph(
        [helper.make_node("Resize", ["in", "", "scales"], ["out"], mode="nearest")], "graph",
        [helper.make_tensor_value_info("in", F, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("out", F, [1, 3, 128, 128])],
        [scales],
    )  # fmt: skip
    path = tmp_path / "x2.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(NotAGenerator, match="as large as its input"):
        OnnxEngine.from_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"<html>login</html>", bytes(1000), b"PK\x03\x04" + bytes(100)])
def test_reports_garbage_as_unreadable(tmp_path, data):
    path = tmp_path / "garbage.onnx"
    path.write_bytes(data)
    with pytest.raises((Unreadable, NotAGenerator), match=r"garbage\.onnx"):
        OnnxEngine.from_checkpoint(path)


def test_reports_a_truncated_file_as_unreadable(tmp_path, exported):
    path = tmp_path / "short.onnx"
    path.write_bytes(exported.read_bytes()[:-2000])
    with pytest.raises(Unreadable, match="download it again"):
        OnnxEngine.from_checkpoint(path)


def test_reports_a_missing_file_as_unreadable(tmp_path):
    with pytest.raises(Unreadable, match=r"absent\.onnx"):
        OnnxEngine.from_checkpoint(tmp_path / "absent.onnx")


def test_raises_engine_error_for_output_that_is_not_finite(tmp_path):
    shape = (F, [1, 3, 16, 16])
    engine = OnnxEngine.from_checkpoint(tensors(tmp_path / "log.onnx", shape, shape, "Log"))
    with pytest.raises(EngineError, match="not finite"):
        engine.restore(faces(1))


@pytest.mark.parametrize("wrong", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32)])
def test_rejects_faces_of_another_shape_or_dtype(exported, wrong):
    with pytest.raises(ValueError, match="faces must be"):
        OnnxEngine.from_checkpoint(exported).restore(wrong)
