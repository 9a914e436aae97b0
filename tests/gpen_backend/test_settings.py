"""Settings of the backend."""

import pytest
from pydantic import ValidationError

from gpen_backend.settings import BackendSettings

pytestmark = pytest.mark.anyio


def test_reads_settings_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_BACKEND_PORT", "9009")
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    settings = BackendSettings()
    assert (settings.port, settings.engine, settings.models_dir) == (9009, "auto", tmp_path)
    monkeypatch.delenv("GPEN_MODELS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(BackendSettings().models_dir) == "/somewhere/gpen-gateway/models"
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"models_mirror": "/srv/models"}, "starts with http"),
        ({"default_model": "gpen-inpainting-1024"}, "must be one of gpen-bfr-256, gpen-bfr-512"),
        ({"default_model": "gpen"}, "must be one of"),
        ({"port": -1}, "port"),
    ],
)
def test_rejects_invalid_settings(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        BackendSettings(**settings)
