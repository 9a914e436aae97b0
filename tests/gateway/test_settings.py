"""Settings are read from the environment and documented; gateway and backend share the models folder."""

import contextlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import (
    GROUPS,
    FaceSettings,
    LimitSettings,
    ServerSettings,
    Settings,
    UpstreamSettings,
)
from gpen_backend.settings import BackendSettings

ROOT = Path(__file__).parents[2]
ALL_GROUPS = (*GROUPS, BackendSettings)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for group in ALL_GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(f"{group.model_config['env_prefix']}{name}".upper(), raising=False)
    monkeypatch.delenv("GPEN_MODELS_DIR", raising=False)


@pytest.mark.parametrize("group", ALL_GROUPS)
def test_table_has_name_default_and_meaning_of_every_setting(group, generate):
    header, line, *rows = generate.settings_table((group,)).splitlines()
    assert header.count("|") == line.count("|") == 4
    assert len(rows) == len(group.model_fields)
    for row, (name, field) in zip(rows, group.model_fields.items(), strict=True):
        _, variable, default, meaning, _ = (cell.strip() for cell in row.split("|"))
        assert variable.strip("`").endswith(name.upper())
        assert variable.strip("`").startswith(("GATEWAY_", "GPEN_"))
        assert default
        assert len(meaning) > 10
        assert field.description


@pytest.mark.parametrize("groups", [GROUPS, (BackendSettings,)])
def test_documentation_has_the_current_table(groups, generate):
    """`./run docs` regenerates it."""
    assert generate.settings_table(groups) in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("group", ALL_GROUPS)
def test_reads_the_variables_of_the_table(group, monkeypatch, generate):
    """A strange value is either used or rejected, whatever the type of the setting."""
    before = group()
    rows = generate.settings_table((group,)).splitlines()[2:]
    for row, name in zip(rows, group.model_fields, strict=True):
        with monkeypatch.context() as environment:
            environment.setenv(row.split("`")[1], "7")
            with contextlib.suppress(ValidationError):
                assert getattr(group(), name) != getattr(before, name)


def test_treats_an_empty_variable_as_unset(monkeypatch):
    monkeypatch.setenv("GATEWAY_BACKEND_URL", "")
    monkeypatch.setenv("GATEWAY_PORT", "")
    assert UpstreamSettings().backend_url is None
    assert ServerSettings().port == 8000


@pytest.mark.parametrize(
    ("group", "variable", "value"),
    [
        (ServerSettings, "GATEWAY_PORT", "65536"),
        (ServerSettings, "GATEWAY_THREADS", "0"),
        (ServerSettings, "GATEWAY_LOG_LEVEL", "loud"),
        (LimitSettings, "GATEWAY_MAX_SIDE", "40000"),
        (LimitSettings, "GATEWAY_MAX_PIXELS", "many"),
        (FaceSettings, "GATEWAY_FACE_FINDER", "dlib"),
        (UpstreamSettings, "GATEWAY_BACKEND_URL", "not a url"),
        (UpstreamSettings, "GATEWAY_TIMEOUT_S", "0"),
        (UpstreamSettings, "GATEWAY_DEFAULT_MODEL", "gpen-bfr-64"),
        (BackendSettings, "GPEN_BACKEND_ENGINE", "magic"),
    ],
)
def test_rejects_an_invalid_value(group, variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError):
        group()


@pytest.mark.parametrize("group", GROUPS)
def test_settings_are_immutable(group):
    settings = group()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, next(iter(group.model_fields)), 1)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"GPEN_MODELS_DIR": "/weights"},
        {"GPEN_MODELS_DIR": "~/weights"},
        {"XDG_CACHE_HOME": "/cache"},
        {"XDG_CACHE_HOME": ""},
        {"XDG_CACHE_HOME": "relative/cache"},
        {"MODELS_DIR": "/of/another/program"},
    ],
    ids=str,
)
def test_gateway_and_backend_share_the_models_folder(environment, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert FaceSettings().models_dir == BackendSettings().models_dir
    assert FaceSettings().models_dir.is_absolute()
    assert FaceSettings().models_dir != Path("/of/another/program")


def test_reads_the_limits_for_decoding_from_the_environment(monkeypatch):
    monkeypatch.setenv("GATEWAY_MAX_PIXELS", "1000")
    monkeypatch.setenv("GATEWAY_MAX_SIDE", "50")
    pixels = Settings().limits.pixels
    assert (pixels.max_pixels, pixels.max_side) == (1000, 50)
