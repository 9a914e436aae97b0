"""The files in deploy/ray fit Ray Serve's schema and the arguments of `build`."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from gpen_backend.settings import BackendSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEPLOY = Path(__file__).parents[3] / "deploy" / "ray"
# Ray ignores unknown keys, so compare what it read with the file.
CHECK = """
import json, sys
from ray.serve.schema import ServeDeploySchema
from ray._common.utils import import_attr
from gpen_backend.ray_serve import Scale

given = json.load(sys.stdin)
understood = ServeDeploySchema.model_validate(given).model_dump(mode="json", exclude_unset=True)
for application in understood["applications"]:
    Scale.model_validate(application["args"])
    assert callable(import_attr(application["import_path"]))
json.dump(understood, sys.stdout)
"""


def configs() -> dict[str, dict]:
    manifest = yaml.safe_load((DEPLOY / "rayservice.yaml").read_text())
    return {
        "serve.yaml": yaml.safe_load((DEPLOY / "serve.yaml").read_text()),
        "rayservice.yaml": yaml.safe_load(manifest["spec"]["serveConfigV2"]),
    }


@pytest.mark.parametrize("name", configs())
def test_ray_reads_every_key_and_build_every_argument(python_with_ray, name):
    config = configs()[name]
    done = subprocess.run(
        [python_with_ray, "-c", CHECK], input=json.dumps(config), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == config


def test_the_settings_of_its_replicas_are_valid(monkeypatch):
    (application,) = configs()["serve.yaml"]["applications"]
    for name, value in application["runtime_env"]["env_vars"].items():
        monkeypatch.setenv(name, value)
    assert BackendSettings().engine == "torch"
