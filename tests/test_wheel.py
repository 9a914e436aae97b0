"""The wheel works without the source tree."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from gateway import __version__
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the installed hatchling."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel and, without downloads, its dependencies."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    # A .pth file adds this environment's packages but not its .pth files, and so not the source tree.
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_contains_only_the_packages_and_their_type_markers(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "gateway",
        "gpen_common",
        "gpen_client",
        "gpen_backend",
        f"gpen_gateway-{__version__}.dist-info",
    }
    assert {
        "gateway/py.typed",
        "gpen_common/py.typed",
        "gpen_client/py.typed",
        "gpen_backend/py.typed",
    } <= set(names)
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("g*/**/*") if path.is_file()}
    assert {name for name in sources if "__pycache__" not in name} <= set(names)


def test_the_command_serves_and_enhances_from_any_folder(installed, server_process, astronaut, tmp_path):
    where = "import gateway, gpen_backend, gpen_client; print(gateway.__file__)"
    python = str(installed / "python")
    imported = subprocess.check_output([python, "-c", where], cwd=tmp_path, text=True).strip()
    assert imported.startswith(str(installed.parent))

    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(tmp_path),
    }
    command = [str(installed / "gpen-gateway"), "serve", "--port", "0"]
    with server_process(command, environment, tmp_path) as url:
        assert httpx.get(f"{url}/healthz").json()["version"] == __version__
        files = {"image": ("me.png", encode(astronaut, "png", 95))}
        answer = httpx.post(f"{url}/v1/enhance", files=files, data={"format": "png"}, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["X-Faces"] == "1"
    photo = decode(answer.content, PixelLimits(max_pixels=1_000_000, max_side=1000))
    assert (photo.width, photo.height) == (896, 896)
