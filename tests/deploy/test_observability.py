"""Dashboard and alerts use existing metrics and labels."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.settings import CacheSettings, FaceSettings, Settings

OBSERVABILITY = Path(__file__).parents[2] / "deploy" / "observability"
_NAME = re.compile(r"\b(?:gateway|gpen_backend|process)_[a-z_]+\b")
_SELECTED = re.compile(r"\b((?:gateway|gpen_backend)_[a-z_]+)\{([^}]*(?:\{model\}[^}]*)?)\}")
# Prometheus adds these to every series.
_TARGET_LABELS = {"job", "instance"}


@pytest.fixture
async def exposed(
    astronaut_png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, set[str]]:
    """The labels of every sample of a gateway with an embedded backend after its first picture."""
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "classical")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    settings = Settings(
        cache=CacheSettings(cache="on", cache_dir=tmp_path / "cache"), faces=FaceSettings(face_finder="haar")
    )
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        headers = {"Content-Type": "image/png"}
        answer = await client.post("/v1/enhance", content=astronaut_png, headers=headers, timeout=60)
        assert answer.status_code == 200
        text = (await client.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.fixture
def astronaut_png(astronaut) -> bytes:
    from gateway.imaging.encoder import encode

    return encode(astronaut, "png", 95)


def expressions(name: str) -> list[str]:
    text = (OBSERVABILITY / name).read_text()
    if name.endswith(".json"):
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", ())]
    # A rule's expression is on its line or below it, until `for`.
    return re.findall(r"expr: (?:\|\n)?(.*?)\n\s+for:", text, re.DOTALL)


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "least"), [("alerts.yml", 9), ("dashboard.json", 20)])
async def test_every_metric_used_exists_with_its_labels(exposed, name, least):
    used = expressions(name)
    assert len(used) >= least
    # Remove label selectors and groupings.
    names = {found for one in used for found in _NAME.findall(re.sub(r"\{[^}]*\}|by \([^)]*\)", "", one))}
    assert names
    assert names <= set(exposed)
    for one in used:
        for metric, selectors in _SELECTED.findall(one):
            assert set(re.findall(r"(\w+)(?:=~|!=|=)", selectors)) <= exposed[metric] | _TARGET_LABELS


def test_dashboard_panels_do_not_overlap():
    panels = json.loads((OBSERVABILITY / "dashboard.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_alerts_pass_their_promtool_tests():
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=OBSERVABILITY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_firing_and_a_silent_test():
    alerts = re.findall(r"alert: (\w+)", (OBSERVABILITY / "alerts.yml").read_text())
    tests = (OBSERVABILITY / "alerts.test.yml").read_text()
    for alert in alerts:
        assert f"alertname: {alert}, eval_time" in tests
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels", tests)
