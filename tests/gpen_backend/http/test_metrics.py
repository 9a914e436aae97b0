"""Metrics of a backend."""

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpen_backend.app import create_app
from gpen_backend.settings import BackendSettings
from gpen_client.client import GpenClient
from gpen_common.types import RestoreParams

pytestmark = pytest.mark.anyio


async def scrape(http: httpx.AsyncClient) -> dict[str, dict[tuple[str, ...], float]]:
    """Return values by metric and label values."""
    answer = await http.get("http://backend/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


async def test_reports_restorations_errors_queue_and_models(tmp_path):
    settings = BackendSettings(engine="classical", models_dir=tmp_path)
    app = create_app(settings)
    face = np.float32([[[26, 31], [38, 31], [32, 38], [27, 46], [37, 46]]])
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        GpenClient("http://backend", transport=transport) as client,
        httpx.AsyncClient(transport=transport) as http,
    ):
        picture = np.full((64, 64, 3), 128, np.uint8)
        for _ in range(2):
            await client.restore(picture, face, RestoreParams(), model="gpen-bfr-512", timeout_s=20)
        await http.get("http://backend/v2/models/unknown")
        await http.get("http://backend/any/where")
        metrics = await scrape(http)
    assert metrics["gpen_backend_requests_total"] == {
        ("/v2/models/{model}/infer", "200"): 2,
        ("/v2/models/{model}", "404"): 1,
        ("other", "404"): 1,
    }
    assert metrics["gpen_backend_restorations_total"] == {("classical", "gpen-bfr-512"): 2}
    assert metrics["gpen_backend_faces_sum"] == {(): 2}
    assert metrics["gpen_backend_batch_size_count"] == {(): 2}
    assert metrics["gpen_backend_stage_seconds_count"][("network",)] == 2
    assert metrics["gpen_backend_body_bytes_sum"][("in",)] > 2 * 64 * 64 * 3
    assert metrics["gpen_backend_queue_depth"] == {(): 0}
    assert metrics["gpen_backend_queue_limit"] == {(): settings.max_queue}
    assert metrics["gpen_backend_model_ready"][("classical", "gpen-bfr-512")] == 1
    assert metrics["gpen_backend_process_resident_memory_bytes"][()] > 0
