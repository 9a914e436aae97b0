"""The client against KServe's own server: both implement the same protocol."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import ModelNotFound
from gpen_common.types import ModelInfo, RestoreParams

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

KSERVE = "kserve==0.21.*"
SERVER = """
import sys
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Negative(Model):
    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        inputs = {tensor.name: tensor for tensor in payload.inputs}
        image = inputs["image"].as_numpy()
        assert (inputs["image"].datatype, image.shape[0], image.shape[3]) == ("UINT8", 1, 3)
        faces = 0
        if "landmarks" in inputs:
            landmarks = inputs["landmarks"].as_numpy()
            assert (inputs["landmarks"].datatype, landmarks.shape[1:]) == ("FP32", (5, 2))
            faces = int(landmarks[0, 0, 0])
        restored = InferOutput("image", list(image.shape), "UINT8")
        restored.set_data_from_numpy(255 - image, binary_data=payload.use_binary_outputs)
        return InferResponse(
            payload.id, self.name, [restored],
            parameters={"faces": faces, "engine": f"strength {payload.parameters['strength']}"},
            requested_outputs=payload.request_outputs, use_binary_outputs=payload.use_binary_outputs,
        )


model = Negative("negative")
model.ready = True
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False).start([model])
"""


@pytest.fixture(scope="module")
def server(
    python_with: Callable[..., Path],
    free_ports: Callable[[int], list[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "serve.py").write_text(SERVER)
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (folder / "log").open("w") as log:
        command = [python_with(KSERVE), folder / "serve.py", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_live(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait_until_live(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/v2/health/live").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"KServe's server ended: {log.read_text()[-2000:]}")


async def test_kserve_is_live_and_ready(server):
    async with GpenClient(server) as client:
        assert await client.live()
        assert await client.ready()


async def test_kserve_describes_its_model(server):
    async with GpenClient(server) as client:
        assert await client.models(["negative", "other"]) == [
            ModelInfo("negative", ready=True, engine="unknown")
        ]


@pytest.mark.parametrize("faces", [0, 3])
async def test_kserve_restores_a_picture(server, faces):
    """With landmarks and parameters, and binary tensors in both directions."""
    image = np.random.default_rng(0).integers(0, 256, (97, 61, 3), np.uint8)
    landmarks = np.full((1, 5, 2), faces, np.float32) if faces else None
    async with GpenClient(server) as client:
        restored = await client.restore(
            image, landmarks, RestoreParams(strength=42), model="negative", timeout_s=10, request_id="r-1"
        )
    np.testing.assert_array_equal(restored.pixels, 255 - image, strict=True)
    assert (restored.engine, restored.model, restored.faces) == ("strength 42.0", "negative", faces)


async def test_kserve_has_no_other_model(server):
    async with GpenClient(server) as client:
        with pytest.raises(ModelNotFound, match="other"):
            await client.restore(
                np.zeros((2, 2, 3), np.uint8), None, RestoreParams(), model="other", timeout_s=10
            )
