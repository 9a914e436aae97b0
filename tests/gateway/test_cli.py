"""The console command."""

import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from gateway import __version__
from gateway.cli import main

COMMAND = [sys.executable, "-m", "gateway"]


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command; returns its exit status and output."""
    outcome = CliRunner(env=environment).invoke(main, arguments)
    return outcome.exit_code, outcome.output


def test_prints_the_version():
    assert run("--version") == (0, f"gpen-gateway, version {__version__}\n")


@pytest.mark.parametrize("command", main.commands)
def test_every_command_has_help(command):
    for option in ("-h", "--help"):
        status, text = run(command, option)
        assert status == 0
        assert text.startswith(f"Usage: main {command}")
    assert command in run("--help")[1]


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        ("serve", "GATEWAY_PORT", "no"),
        ("serve", "GATEWAY_LOG_LEVEL", "loud"),
        ("serve", "GATEWAY_FACE_FINDER", "dlib"),
        ("serve", "GATEWAY_BACKEND_URL", "gpen:9000/"),
        ("serve", "GPEN_BACKEND_ENGINE", "magic"),
        ("backend", "GPEN_BACKEND_ENGINE", "magic"),
        ("backend", "GPEN_BACKEND_PORT", "-1"),
    ],
)
def test_invalid_setting_ends_the_command_with_its_name(command, variable, value):
    status, text = run(command, "--port", "0", **{variable: value})
    assert status == 2
    assert f"{variable}='{value}' is not valid" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "command", [["serve", "--port", "0"], ["enhance", "a.png", "-o", "out"], ["evaluate", ".", "-o", "out"]]
)
def test_missing_face_finder_model_ends_the_command_with_a_message(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture is looked at")
    # A proxy that refuses connections.
    status, text = run(
        *command,
        GATEWAY_FACE_FINDER="yunet",
        GPEN_MODELS_DIR=str(tmp_path / "none"),
        GPEN_BACKEND_ENGINE="classical",
        https_proxy="http://127.0.0.1:9",
    )
    assert status == 2
    assert "the face finder 'yunet' are missing" in text
    assert "GATEWAY_FACE_FINDER=auto" in text
    assert "Traceback" not in text


def test_rejects_an_invalid_port():
    status, text = run("serve", "--port", "70000")
    assert status == 2
    assert "70000" in text


def test_python_dash_m_runs_the_command():
    text = subprocess.check_output([*COMMAND, "--help"], text=True)
    assert text.startswith("Usage: gpen-gateway ")


def test_serves_a_backend_alone(server_process, tmp_path):
    environment = {"GPEN_BACKEND_ENGINE": "classical", "GPEN_MODELS_DIR": str(tmp_path)}
    with server_process([*COMMAND, "backend", "--port", "0"], environment, tmp_path) as url:
        assert httpx.get(f"{url}/v2/health/live").is_success


def test_options_override_the_environment(server_process, tmp_path):
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(tmp_path),
        "GATEWAY_HOST": "203.0.113.7",
        "GATEWAY_PORT": "1",
    }
    with server_process([*COMMAND, "serve", "--host", "127.0.0.1", "--port", "0"], environment) as url:
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok", "version": __version__}
