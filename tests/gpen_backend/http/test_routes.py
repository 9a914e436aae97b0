"""The routes of the protocol."""

import numpy as np
import pytest
import torch

from gpen_client.client import GpenClient
from gpen_client.errors import BackendUnavailable
from gpen_common.types import RestoreParams
from tests.support.backend import INFER, LANDMARKS, MODEL, PHOTO, decode, error_of, message, run_backend

pytestmark = pytest.mark.anyio


async def test_describes_server_and_model():
    async with run_backend() as (client, _):
        assert (await client.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.get("/v2/models/gpen-bfr-512/ready")).status_code == 200
        model = (await client.get("/v2/models/gpen-bfr-512")).json()
        assert model["platform"] == "classical"
        assert model["parameters"] == {"size": 512, "default": True, "task": "restore"}
        assert [tensor["name"] for tensor in model["inputs"]] == ["image", "landmarks"]
        assert model["outputs"] == [{"name": "image", "datatype": "UINT8", "shape": [1, -1, -1, 3]}]


async def test_json_tensors_give_the_same_picture_as_bytes():
    small, landmarks = PHOTO[:40, :48], LANDMARKS / 2
    asked = {
        "id": "7",
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [1, 40, 48, 3], "data": small.ravel().tolist()},
            {"name": "landmarks", "datatype": "FP32", "shape": [1, 5, 2], "data": landmarks.ravel().tolist()},
        ],
    }
    async with run_backend() as (client, _):
        answer = await client.post(INFER, json=asked)
        assert answer.status_code == 200
        body = answer.json()
        assert body["id"] == "7"
        assert body["parameters"]["faces"] == 1
        in_json = np.array(body["outputs"][0]["data"], np.uint8).reshape(body["outputs"][0]["shape"])
        in_bytes = decode(await client.post(INFER, **message(small, landmarks)))
        np.testing.assert_array_equal(in_json, in_bytes.tensor("image"))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/models/x"), ("GET", "/v2/models/x/ready"), ("POST", "/v2/models/x/infer")],
)
async def test_an_unknown_model_is_404_and_the_error_lists_the_others(method, path):
    async with run_backend() as (client, _):
        answer = await client.request(method, path)
    assert answer.status_code == 404
    assert "available: gpen-bfr-256," in error_of(answer)


@pytest.mark.parametrize("path", ["/", "/v2/", "/v3", "/v2/models"])
async def test_an_unknown_route_is_404_with_the_protocols_error(path):
    async with run_backend() as (client, _):
        answer = await client.get(path)
    assert answer.status_code == 404
    assert path in error_of(answer)


async def test_a_wrong_method_is_405_with_the_protocols_error():
    async with run_backend() as (client, _):
        answer = await client.get(INFER)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert INFER in error_of(answer)


async def test_torch_without_its_checkpoint_is_not_ready_and_reports_why(tmp_path):
    async with run_backend(engine="torch", models_dir=tmp_path) as (client, _):
        for path in ("/v2/health/ready", "/v2/models/gpen-bfr-512/ready"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert f"put GPEN-BFR-512.pth into {tmp_path}" in error_of(answer)
        answer = await client.post("/v2/models/gpen-bfr-512/infer", **message())
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert (await client.get("/v2/health/live")).status_code == 200
        async with GpenClient("http://b", transport=client._transport) as gpen:
            with pytest.raises(BackendUnavailable, match="no checkpoint"):
                await gpen.restore(PHOTO, None, RestoreParams(), model="gpen-bfr-512", timeout_s=5)


async def test_torch_with_a_broken_checkpoint_is_not_ready_and_reports_why(tmp_path):
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"<html>not found</html>")
    async with run_backend(engine="torch", models_dir=tmp_path) as (client, _):
        answer = await client.post("/v2/models/gpen-bfr-512/infer", **message())
        assert answer.status_code == 503
        assert "cannot be loaded" in error_of(answer)
        assert "cannot be loaded" in error_of(await client.get("/v2/health/ready"))


async def test_auto_uses_torch_if_there_is_a_checkpoint(tmp_path, tiny_state):
    torch.save(dict(tiny_state), tmp_path / "GPEN-BFR-256.pth")
    async with run_backend(engine="auto", models_dir=tmp_path) as (client, _):
        answer = await client.post(INFER, **message(strength=100))
        assert answer.status_code == 200
        response = decode(answer)
        assert (response.parameters["engine"], response.parameters["faces"]) == ("torch", 1)
        assert (await client.get("/v2/health/ready")).status_code == 200
        model = (await client.get(f"/v2/models/{MODEL}")).json()
        assert model["parameters"] == {"size": 16, "default": True, "task": "restore"}
        assert "available: gpen-bfr-256" in error_of(await client.get("/v2/models/gpen-bfr-512"))


async def test_auto_without_checkpoints_warns_that_it_is_classical(tmp_path, caplog):
    async with run_backend(engine="auto", models_dir=tmp_path) as (client, _):
        assert f"put GPEN-BFR-512.pth into {tmp_path}" in caplog.text
        response = decode(await client.post(INFER, **message()))
        assert response.parameters["engine"] == "classical"
