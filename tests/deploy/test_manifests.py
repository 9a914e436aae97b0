"""What deploy/ gives to clusters and container engines fits their schemas, and our settings."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.settings import GROUPS, Settings, settings_table
from gpen_backend.settings import BackendSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("cpu", "gpu", "kserve", "podman")
# An older release that is still in use, and a new one.
VERSIONS = ("1.33", "1.36")
# Other projects' kinds, whose schemas no Kubernetes release has.
_FOREIGN = {"ServiceMonitor", "PrometheusRule", "InferenceService", "RayService"}


def read(folder: Path, *suffixes: str) -> dict[Path, str]:
    return {
        path: path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix in suffixes
    }


def known_variables() -> set[str]:
    return set(re.findall(r"^\| `(\w+)`", settings_table((*GROUPS, BackendSettings)), re.MULTILINE))


def test_every_variable_that_is_set_anywhere_in_deploy_is_a_setting():
    texts = read(DEPLOY, ".yaml", ".env", ".sh", ".gateway", ".backend", ".py")
    assert len(texts) > 30
    used = {
        (name, path.name)
        for path, text in texts.items()
        for name in re.findall(r"\b((?:GATEWAY|GPEN)_[A-Z][A-Z_]*)\b(?!\$)", text)
    }
    assert len(used) > 20
    unknown = {(name, path) for name, path in used if name not in known_variables()}
    assert not unknown


@pytest.mark.parametrize(("side", "make"), [("gateway", Settings), ("backend", BackendSettings)])
def test_the_config_maps_make_valid_settings(side, make, monkeypatch):
    for variable in known_variables():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in config(side).items():
        monkeypatch.setenv(variable, value)
    make()


def config(side: str) -> dict[str, str]:
    text = (KUBERNETES / "base" / side / "settings.env").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_a_pod_that_goes_has_the_time_that_its_requests_need():
    gateway = (KUBERNETES / "base" / "gateway" / "deployment.yaml").read_text()
    settings = {name: float(value) for name, value in config("gateway").items() if name.endswith("_S")}
    assert settings["GATEWAY_GRACE_S"] > settings["GATEWAY_TIMEOUT_S"]
    # Three seconds for what was cut off to unwind: gateway.service.server.
    needed = _slept(gateway) + settings["GATEWAY_DRAIN_S"] + settings["GATEWAY_GRACE_S"] + 3
    assert _granted(gateway) >= needed
    for path in (
        KUBERNETES / "base" / "backend" / "deployment.yaml",
        KUBERNETES / "overlays" / "kserve" / "inferenceservice.yaml",
    ):
        backend = path.read_text()
        assert _granted(backend) >= _slept(backend) + settings["GATEWAY_TIMEOUT_S"]


def _slept(manifest: str) -> float:
    return float(re.search(r"time\.sleep\((\d+)\)", manifest)[1])


def _granted(manifest: str) -> float:
    return float(re.search(r"terminationGracePeriodSeconds: (\d+)", manifest)[1])


def test_the_operator_s_rules_are_those_of_prometheus():
    rules = (KUBERNETES / "components" / "monitoring" / "prometheusrule.yaml").read_text()
    alerts = (DEPLOY / "observability" / "alerts.yml").read_text()
    indented = rules[rules.index("  groups:") :].splitlines()
    assert [line[2:] for line in indented] == alerts[alerts.index("groups:") :].splitlines()


def test_nobody_has_a_key_until_one_is_made():
    keys = KUBERNETES / "base" / "gateway" / "keys.json"
    assert keys.read_text() == '{"keys": []}\n'


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_into_what_kubernetes_takes(overlay):
    yaml = pytest.importorskip("yaml")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    rendered = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)])
    documents = list(yaml.safe_load_all(rendered))
    assert {"Deployment", "ConfigMap"} <= {one["kind"] for one in documents}
    for one in documents:
        if one["kind"] in _FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
    for pod in _pods(documents):
        # Podman's volume is made beside the manifests.
        _check_pod(pod, _volumes(documents) | ({"gpen-models"} if overlay == "podman" else set()))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.skipif(
    shutil.which("checkov") is None, reason="checkov is not installed (it wants its own venv)"
)
def test_the_policy_checker_finds_nothing_that_is_not_justified(tmp_path):
    for overlay in ("cpu", "gpu", "kserve"):
        rendered = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)])
        (tmp_path / f"{overlay}.yaml").write_bytes(rendered)
    shutil.copytree(DEPLOY / "docker", tmp_path / "docker")
    command = [
        "checkov",
        "--skip-download",
        "--compact",
        "--quiet",
        "--framework",
        "kubernetes",
        "dockerfile",
    ]
    done = subprocess.run([*command, "-d", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Failed checks: 0" in done.stdout


def _pods(documents: list[dict]) -> list[dict]:
    specs = [one["spec"]["template"]["spec"] for one in documents if one["kind"] in ("Deployment", "Job")]
    return specs + [one["spec"]["predictor"] for one in documents if one["kind"] == "InferenceService"]


def _volumes(documents: list[dict]) -> set[str]:
    kinds = ("ConfigMap", "Secret", "PersistentVolumeClaim")
    return {one["metadata"]["name"] for one in documents if one["kind"] in kinds}


def _check_pod(pod: dict, there: set[str]) -> None:
    """It meets the restricted Pod Security Standard, and what it names is there."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        for limits in (container["resources"]["requests"], container["resources"]["limits"]):
            assert {"cpu", "memory"} <= set(limits)
        for source in container.get("envFrom", ()):
            assert source["configMapRef"]["name"] in there
        assert {mount["name"] for mount in container["volumeMounts"]} <= {
            one["name"] for one in pod["volumes"]
        }
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in there
        if "secret" in volume:
            assert volume["secret"]["secretName"] in there
