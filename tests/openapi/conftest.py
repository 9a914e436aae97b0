"""npm tools at pinned versions."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_PACKAGES = {
    "lint": {"@redocly/cli": "2.77.0"},
    "typescript": {
        "@types/node": "20.19.0",
        "openapi-fetch": "0.17.0",
        "openapi-typescript": "7.13.0",
        "typescript": "5.9.3",
    },
}


@pytest.fixture(scope="session")
def npm_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`npm_project(name)`: a folder with the npm packages of that name installed."""

    def install(name: str) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed")
        folder = tmp_path_factory.mktemp(name)
        (folder / "package.json").write_text(json.dumps({"type": "module", "dependencies": _PACKAGES[name]}))
        command = [npm, "install", "--silent", "--no-audit", "--no-fund"]
        if subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
            pytest.skip(f"npm cannot install {', '.join(_PACKAGES[name])}")
        return folder

    return install
