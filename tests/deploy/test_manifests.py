"""The manifests in deploy/ are valid for their schemas and use valid settings."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from gateway.settings import Settings
from gpen_backend.settings import BackendSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RAY_SERVICE = DEPLOY / "ray" / "rayservice.yaml"
OVERLAYS = ("cpu", "gpu", "kserve", "podman", "ray")
# An older release that is still in use, and a recent one.
VERSIONS = ("1.33", "1.36")
# Kinds of other projects, whose schemas Kubernetes does not include.
_FOREIGN = {"InferenceService"}
CHECKOV = "checkov==3.3.*"


SETTINGS_PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def read(folder: Path, *suffixes: str) -> dict[Path, str]:
    return {
        path: path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix in suffixes
    }


def known_variables() -> set[str]:
    return set(re.findall(r"^\| `(\w+)`", SETTINGS_PAGE.read_text(), re.MULTILINE))


def test_every_variable_in_deploy_is_a_setting():
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
def test_config_maps_are_valid_settings(side, make, monkeypatch):
    for variable in known_variables():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in config(side).items():
        monkeypatch.setenv(variable, value)
    make()


def config(side: str) -> dict[str, str]:
    text = (KUBERNETES / "base" / side / "settings.env").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_the_termination_grace_period_covers_requests_in_flight():
    gateway = (KUBERNETES / "base" / "gateway" / "deployment.yaml").read_text()
    settings = {name: float(value) for name, value in config("gateway").items() if name.endswith("_S")}
    assert settings["GATEWAY_GRACE_S"] > settings["GATEWAY_TIMEOUT_S"]
    # Three seconds for cancelled requests to unwind: gateway.service.server.
    needed = _pre_stop_s(gateway) + settings["GATEWAY_DRAIN_S"] + settings["GATEWAY_GRACE_S"] + 3
    assert _grace_period_s(gateway) >= needed
    for path in (
        KUBERNETES / "base" / "backend" / "deployment.yaml",
        KUBERNETES / "overlays" / "kserve" / "inferenceservice.yaml",
    ):
        backend = path.read_text()
        assert _grace_period_s(backend) >= _pre_stop_s(backend) + settings["GATEWAY_TIMEOUT_S"]


def _pre_stop_s(manifest: str) -> float:
    return float(re.search(r"time\.sleep\((\d+)\)", manifest)[1])


def _grace_period_s(manifest: str) -> float:
    return float(re.search(r"terminationGracePeriodSeconds: (\d+)", manifest)[1])


def test_the_operator_s_rules_equal_the_prometheus_rules():
    rules = (KUBERNETES / "components" / "monitoring" / "prometheusrule.yaml").read_text()
    alerts = (DEPLOY / "observability" / "alerts.yml").read_text()
    indented = rules[rules.index("  groups:") :].splitlines()
    assert [line[2:] for line in indented] == alerts[alerts.index("groups:") :].splitlines()


def test_the_manifests_contain_no_api_key():
    keys = KUBERNETES / "base" / "gateway" / "keys.json"
    assert keys.read_text() == '{"keys": []}\n'


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rendered_overlays_are_valid_kubernetes_manifests(overlay, rendered):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = rendered(KUBERNETES / "overlays" / overlay)
    assert {"Deployment", "ConfigMap"} <= {one["kind"] for one in documents}
    for one in documents:
        if one["kind"] in _FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
    for pod in _pods(documents):
        # Podman's volume is not in the manifests.
        _check_pod(pod, _volumes(documents) | ({"gpen-models"} if overlay == "podman" else set()))


@pytest.fixture(scope="module")
def checkov(python_with: Callable[..., Path]) -> Path:
    """The policy checker."""
    return python_with(CHECKOV).with_name("checkov")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_checkov_reports_only_justified_findings_in_overlays(checkov, tmp_path):
    for overlay in ("cpu", "gpu", "kserve", "ray"):
        rendered = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)])
        (tmp_path / f"{overlay}.yaml").write_bytes(rendered)
    _scan(checkov, tmp_path, "kubernetes")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkov_reports_only_justified_findings_in_dockerfiles(checkov, tmp_path):
    shutil.copytree(DEPLOY / "docker", tmp_path / "docker")
    _scan(checkov, tmp_path, "dockerfile")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkov_reports_only_justified_findings_in_ray_pods(checkov, tmp_path):
    yaml = pytest.importorskip("yaml")
    (tmp_path / "pods.yaml").write_text(yaml.safe_dump_all(_ray_pods()))
    shutil.copy(RAY_SERVICE.with_name("networkpolicy.yaml"), tmp_path)
    _scan(checkov, tmp_path, "kubernetes")


def _scan(checkov: Path, folder: Path, framework: str) -> None:
    command = [checkov, "--skip-download", "--compact", "--quiet", "--framework", framework, "-d", folder]
    # Isolate checkov from our Python packages.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed checks: 0" in done.stdout


def test_ray_pods_are_valid_kubernetes_pods():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    pods = _ray_pods()
    assert len(pods) == 2
    for pod in pods:
        for version in VERSIONS:
            kubernetes_validate.validate(pod, version, strict=True)
        # The claim is in the overlay. Ray's autoscaler needs the Kubernetes API, to request nodes.
        _check_pod(pod["spec"], {"gpen-models"}, asks_kubernetes=pod["metadata"]["name"] == "head")


def test_the_ray_network_policy_is_valid_and_opens_ray_ports_only_to_the_operator():
    """tests/deploy/test_rendered.py tests all other connections."""
    yaml = pytest.importorskip("yaml")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    policy = yaml.safe_load(RAY_SERVICE.with_name("networkpolicy.yaml").read_text())
    for version in VERSIONS:
        kubernetes_validate.validate(policy, version, strict=True)
    ports = {
        port["port"]: rule["from"]
        for rule in policy["spec"]["ingress"]
        for port in rule.get("ports", ())
        if port["port"] not in (8001, 8080)
    }
    operator = {
        "namespaceSelector": {"matchLabels": {"gpen.io/may-run-ray": "true"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    assert ports == {port: [operator] for port in (8265, 52365)}


def test_the_autoscaler_sidecar_meets_the_pod_security_standard():
    """KubeRay adds it to the head. It writes to /tmp, and its root is read-only."""
    cluster = _ray_service()["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    options = cluster["autoscalerOptions"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    beside = head | {"containers": [{"name": "autoscaler"} | options]}
    _check_pod(beside, {"gpen-models"}, asks_kubernetes=True)
    assert [mount["mountPath"] for mount in options["volumeMounts"]] == ["/tmp"]


def test_ray_pods_have_valid_settings_and_a_serve_port_for_the_gateway(monkeypatch):
    """KubeRay's Service exposes the head's port named serve, on which Ray Serve listens."""
    yaml = pytest.importorskip("yaml")
    serve = yaml.safe_load(_ray_service()["spec"]["serveConfigV2"])["http_options"]
    for pod in _ray_pods():
        (container,) = pod["spec"]["containers"]
        for variable in known_variables():
            monkeypatch.delenv(variable, raising=False)
        for variable in container["env"]:
            monkeypatch.setenv(variable["name"], variable["value"])
        BackendSettings()
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["serve"] == serve["port"]
        assert f"gpen-backend-serve-svc:{ports['serve']}" in RAY_SERVICE.read_text()
        # KubeRay's own probes use wget, which the image lacks.
        assert {"httpGet"} < set(container["livenessProbe"]) & set(container["readinessProbe"])


def test_manifest_extra_and_image_agree_on_the_ray_version():
    """tests/gpen_backend/ray installs the same version."""
    version = _ray_service()["spec"]["rayClusterConfig"]["rayVersion"]
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (extra,) = map(Requirement, project["optional-dependencies"]["ray"])
    assert extra.specifier.contains(version)
    assert f"ray=={version}" in (DEPLOY / "docker" / "constraints.txt").read_text().split()


def _ray_service() -> dict[str, Any]:
    return pytest.importorskip("yaml").safe_load(RAY_SERVICE.read_text())


def _ray_pods() -> list[dict[str, Any]]:
    """KubeRay's pod templates, as pods."""
    cluster = _ray_service()["spec"]["rayClusterConfig"]
    groups = {"head": cluster["headGroupSpec"]} | {
        group["groupName"]: group for group in cluster["workerGroupSpecs"]
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "gpen", **group["template"].get("metadata", {})},
            "spec": group["template"]["spec"],
        }
        for name, group in groups.items()
    ]


def _pods(documents: list[dict]) -> list[dict]:
    specs = [one["spec"]["template"]["spec"] for one in documents if one["kind"] in ("Deployment", "Job")]
    return specs + [one["spec"]["predictor"] for one in documents if one["kind"] == "InferenceService"]


def _volumes(documents: list[dict]) -> set[str]:
    kinds = ("ConfigMap", "Secret", "PersistentVolumeClaim")
    return {one["metadata"]["name"] for one in documents if one["kind"] in kinds}


def _check_pod(pod: dict, existing: set[str], asks_kubernetes: bool = False) -> None:
    """Assert that `pod` meets the restricted Pod Security Standard and refers only to `existing` objects."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is asks_kubernetes
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        for limits in (container["resources"]["requests"], container["resources"]["limits"]):
            assert {"cpu", "memory"} <= set(limits)
        for source in container.get("envFrom", ()):
            assert source["configMapRef"]["name"] in existing
        assert {mount["name"] for mount in container["volumeMounts"]} <= {
            one["name"] for one in pod["volumes"]
        }
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in existing
        if "secret" in volume:
            assert volume["secret"]["secretName"] in existing
