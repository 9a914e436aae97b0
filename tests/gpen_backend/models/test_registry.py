"""Which engine serves a model, given the stored files and the result of the download."""

import asyncio
import logging

import httpx
import numpy as np
import pytest
import torch

from gpen_backend.app import create_app
from gpen_backend.restoration.align import template
from gpen_backend.settings import BackendSettings
from gpen_client.client import GpenClient
from gpen_client.errors import BackendRejected, BackendUnavailable, ModelNotFound
from gpen_client.resilience import Resilience
from gpen_common.types import RestoreParams

pytestmark = pytest.mark.anyio

LANDMARKS = (template(64) + 20)[None].astype(np.float32)
PHOTO = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
PTH = "GPEN-BFR-512.pth"


class Backend:
    """A running backend and a client of it."""

    def __init__(self, tmp_path, **settings):
        self.app = create_app(BackendSettings(**{"models_dir": tmp_path, "threads": 2, **settings}))

    async def __aenter__(self):
        self.life = self.app.router.lifespan_context(self.app)
        await self.life.__aenter__()
        self.client = GpenClient(
            "http://backend", transport=httpx.ASGITransport(self.app), resilience=Resilience(attempts=1)
        )
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.client.__aexit__(*error)
        await self.life.__aexit__(*error)

    async def restore(self, model="gpen-bfr-512", **params):
        return await self.client.restore(PHOTO, LANDMARKS, RestoreParams(**params), model=model, timeout_s=20)

    async def wait_until_ready(self, model="gpen-bfr-512"):
        """The model's status once it is ready."""
        while not (status := await self.client.model(model)).ready:  # noqa: ASYNC110 - as a probe does
            await asyncio.sleep(0.02)
        return status


@pytest.fixture
def checkpoint(tmp_path_factory, tiny_state):
    """The bytes of a small checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / PTH
    torch.save(dict(tiny_state), path)
    return path.read_bytes()


async def test_auto_downloads_a_missing_checkpoint_and_reports_progress_until_ready(
    tmp_path, checkpoint, file_server, caplog
):
    caplog.set_level(logging.INFO, "gpen_backend")

    def half_and_wait(handler, content):
        handler.head(200, len(content), ETag='"x"')
        handler.wfile.write(content[: len(content) // 2])
        handler.stall()

    file_server.files[PTH] = checkpoint
    file_server.faults = [half_and_wait]
    async with Backend(tmp_path, fetch=True, models_mirror=file_server.url) as backend:
        while " %" not in ((await backend.client.model("gpen-bfr-512")).reason or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        with pytest.raises(BackendUnavailable, match=r"gpen-bfr-512 is being downloaded: \d+ %") as refused:
            await backend.restore()
        assert refused.value.retry_after
        file_server.released.set()
        assert (await backend.wait_until_ready()).engine == "torch"
        assert (await backend.restore()).engine == "torch"
    assert "non-commercial" in caplog.text
    assert "GPEN-BFR-512.pth" in (tmp_path / "checksums.lock").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "404"), (b"<html>hotel</html>", "is text"), (b"PK\x03\x04" + bytes(500), "damaged")],
)
async def test_auto_falls_back_to_classical_if_the_download_fails(
    tmp_path, file_server, caplog, content, reason
):
    if content is not None:
        file_server.files[PTH] = content
    async with Backend(tmp_path, fetch=True, models_mirror=file_server.url) as backend:
        assert (await backend.wait_until_ready()).engine == "classical"
        assert (await backend.restore()).engine == "classical"
    assert reason in caplog.text
    assert "engine=classical" in caplog.text
    assert not (tmp_path / PTH).exists()


async def test_serves_within_seconds_without_a_network(tmp_path, caplog):
    async with Backend(tmp_path, fetch=True, models_mirror="http://127.0.0.1:1") as backend:
        async with asyncio.timeout(10):
            assert (await backend.wait_until_ready()).engine == "classical"
    assert "cannot be reached" in caplog.text


async def test_stops_during_a_download(tmp_path, checkpoint, file_server):
    file_server.files[PTH] = checkpoint
    file_server.faults = [lambda handler, content: (handler.head(200, len(content)), handler.stall())]
    async with asyncio.timeout(10), Backend(tmp_path, fetch=True, models_mirror=file_server.url) as backend:
        while not file_server.requests:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.02)
        assert not await backend.client.ready()


async def test_sends_no_request_with_fetch_off(tmp_path, file_server):
    async with Backend(tmp_path, fetch=False, models_mirror=file_server.url) as backend:
        assert (await backend.client.model("gpen-bfr-512")).engine == "classical"
    assert file_server.requests == []


@pytest.mark.parametrize("engine", ["auto", "torch"])
async def test_never_loads_a_checkpoint_that_changed_since_its_first_use(
    tmp_path, checkpoint, engine, caplog
):
    (tmp_path / PTH).write_bytes(checkpoint)
    async with Backend(tmp_path, engine=engine) as backend:
        assert (await backend.wait_until_ready()).engine == "torch"
    state = torch.load(tmp_path / PTH, weights_only=True)
    torch.save({name: tensor * 1.5 for name, tensor in state.items()}, tmp_path / PTH)
    async with Backend(tmp_path, engine=engine) as backend:
        if engine == "auto":
            assert (await backend.restore()).engine == "classical"
            assert "the one first used on" in caplog.text
        else:
            with pytest.raises(BackendUnavailable, match="the one first used on"):
                await backend.restore()


async def test_never_loads_an_altered_export(tmp_path):
    (tmp_path / "gpen_bfr_512.onnx").write_bytes(b"anything")
    pytest.importorskip("onnxruntime")
    async with Backend(tmp_path, engine="onnx") as backend:
        with pytest.raises(BackendUnavailable, match="the published one has 284340240"):
            await backend.restore()


async def test_onnx_and_auto_serve_an_own_export(tmp_path):
    """auto uses an export if there is no checkpoint for torch."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape = [1, 3, 16, 16]
    value, helper = onnx.helper.make_tensor_value_info, onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Neg", ["in"], ["out"])], "graph", [value("in", 1, shape)], [value("out", 1, shape)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "gpen-bfr-512-own.onnx"))
    for engine in ("onnx", "auto"):
        async with Backend(tmp_path, engine=engine) as backend:
            restored = await backend.restore(strength=100, mode="strong", skin_protect=False)
            assert (restored.engine, restored.faces) == ("onnx", 1)
            assert (await backend.client.model("gpen-bfr-512")).engine == "onnx"


async def test_auto_prefers_torch_to_onnx(tmp_path, checkpoint):
    (tmp_path / PTH).write_bytes(checkpoint)
    (tmp_path / "gpen-bfr-512-own.onnx").write_bytes(b"never read")
    async with Backend(tmp_path, engine="auto") as backend:
        assert (await backend.restore()).engine == "torch"


async def test_serves_a_network_of_unpublished_size_from_its_first_request(tmp_path, checkpoint):
    (tmp_path / "GPEN-Colorization-1024.pth").write_bytes(checkpoint)
    async with Backend(tmp_path, engine="auto") as backend:
        described = await backend.client.model("gpen-colorization-1024")
        for _ in range(2):
            answer = await backend.restore(described.name, task="colorize", inference_size=described.size)
            assert answer.engine == "torch"
        assert (await backend.client.model("gpen-colorization-1024")).size == 16


async def test_rejects_other_tasks_and_names_the_right_model(tmp_path, checkpoint):
    for name in (PTH, "GPEN-Colorization-1024.pth"):
        (tmp_path / name).write_bytes(checkpoint)
    async with Backend(tmp_path, engine="torch") as backend:
        assert (await backend.client.model("gpen-colorization-1024")).task == "colorize"
        coloured = await backend.restore("gpen-colorization-1024", task="colorize")
        assert (coloured.engine, coloured.faces) == ("torch", 1)
        with pytest.raises(BackendRejected, match="use gpen-colorization-1024 for 'colorize'") as refused:
            await backend.restore("gpen-bfr-512", task="colorize")
        assert refused.value.status == 400
        with pytest.raises(BackendRejected, match="use gpen-bfr-512 for 'restore'"):
            await backend.restore("gpen-colorization-1024")
        with pytest.raises(BackendRejected, match="'inpaint' needs checkpoint gpen-inpainting-1024"):
            await backend.restore("gpen-bfr-512", task="inpaint")


@pytest.mark.parametrize("engine", ["auto", "classical"])
async def test_the_classical_engine_only_restores(tmp_path, engine):
    async with Backend(tmp_path, engine=engine) as backend:
        with pytest.raises(BackendRejected, match="needs checkpoint gpen-colorization-1024") as refused:
            await backend.restore("gpen-bfr-512", task="colorize")
        assert refused.value.status == 400
        with pytest.raises(ModelNotFound, match=r"gpen-inpainting-1024 has no checkpoint: run .*; available"):
            await backend.restore("gpen-inpainting-1024", task="inpaint")


async def test_a_checkpoint_for_another_task_does_not_serve_restore(tmp_path, checkpoint):
    (tmp_path / "GPEN-Inpainting-1024.pth").write_bytes(checkpoint)
    async with Backend(tmp_path, engine="auto") as backend:
        assert (await backend.restore("gpen-bfr-512")).engine == "classical"
        assert (await backend.restore("gpen-inpainting-1024", task="inpaint")).engine == "torch"
        assert (await backend.client.model("gpen-bfr-512")).default


async def test_a_broken_checkpoint_for_another_task_has_no_fallback(tmp_path):
    (tmp_path / "GPEN-Colorization-1024.pth").write_bytes(b"<html>")
    async with Backend(tmp_path, engine="auto") as backend:
        with pytest.raises(BackendUnavailable, match="cannot be loaded"):
            await backend.restore("gpen-colorization-1024", task="colorize")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "gpen-bfr-256",
        "gpen-bfr-512",
        "gpen-bfr-1024",
        "gpen-bfr-2048",
        "gpen-colorization-1024",
        "gpen-inpainting-1024",
    ],
)
async def test_every_published_shape_restores_over_http(tmp_path, seed_weights, name):
    from gpen_backend.network.generator import Generator
    from gpen_backend.weights.catalog import KNOWN_MODELS

    known = KNOWN_MODELS[name]
    generator = Generator(known.size, known.channel_multiplier, known.narrow)
    torch.save(seed_weights(generator.state_dict()), tmp_path / known.files[0].name)
    del generator
    async with Backend(tmp_path, engine="torch") as backend:
        restored = await backend.client.restore(
            PHOTO, LANDMARKS, RestoreParams(task=known.task), model=name, timeout_s=600
        )
        assert (restored.engine, restored.model, restored.faces) == ("torch", name, 1)
        assert restored.pixels.shape == PHOTO.shape
        assert not np.array_equal(restored.pixels, PHOTO)
        assert (await backend.client.model(name)).size == known.size
