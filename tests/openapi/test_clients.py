"""Generated clients and every example of docs/clients.md work with a real gateway."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from gateway.imaging.encoder import encode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PYTHON_GENERATOR = "openapi-python-client==0.29.1"


@pytest.fixture(scope="module")
def url(server_process, tmp_path_factory):
    """The URL of a running gateway."""
    folder = tmp_path_factory.mktemp("gateway")
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(folder),
    }
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0"]
    with server_process(command, environment, folder) as url:
        yield url


@pytest.fixture
def folder(tmp_path, astronaut):
    """A folder with a photo and the OpenAPI document, in which the examples run."""
    (tmp_path / "portrait.jpg").write_bytes(encode(np.ascontiguousarray(astronaut[:400, :400]), "jpeg", 90))
    shutil.copy(ROOT / "docs" / "openapi.json", tmp_path)
    return tmp_path


@pytest.fixture
def examples(url):
    """The code blocks by language, in order, with the gateway's address."""
    text = (ROOT / "docs" / "clients.md").read_text().replace("http://127.0.0.1:8000", url)
    return {name: re.findall(rf"```{name}\n(.*?)```", text, re.DOTALL) for name in ("bash", "python", "ts")}


def run(*command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def has_result(folder):
    return (folder / "enhanced.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_curl_example_runs(folder, examples):
    run("bash", "-c", examples["bash"][0], folder=folder)
    assert has_result(folder)


def test_the_python_example_runs(folder, examples):
    assert run(sys.executable, "-c", examples["python"][0], folder=folder) == "gpen-bfr-512 1\n"
    assert has_result(folder)


def test_the_generated_python_client_runs(folder, examples):
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", PYTHON_GENERATOR]
    if subprocess.run(install, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip(f"pip cannot install {PYTHON_GENERATOR}")
    run("bash", "-c", f"venv/bin/{examples['bash'][1]}", folder=folder)
    output = run(python, "-W", "ignore", "-c", examples["python"][1], folder=folder)
    assert "inference_size None 512" in output


def test_the_generated_typescript_client_runs(folder, npm_project, examples):
    project = npm_project("typescript")
    for name in ("portrait.jpg", "openapi.json"):
        shutil.copy(folder / name, project)
    run("bash", "-c", examples["bash"][2], folder=project)
    (project / "enhance.ts").write_text(examples["ts"][0])
    compiler = project / "node_modules" / ".bin" / "tsc"
    run(compiler, "--strict", "--target", "es2022", "--module", "nodenext", "enhance.ts", folder=project)
    assert "auto_align" in run("node", "enhance.js", folder=project)
    assert has_result(project)
