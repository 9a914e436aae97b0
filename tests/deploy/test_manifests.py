"""What deploy/ gives to clusters and container engines fits their schemas, and our settings."""

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

from gateway.settings import GROUPS, Settings, settings_table
from gpen_backend.settings import BackendSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RAY_SERVICE = DEPLOY / "ray" / "rayservice.yaml"
OVERLAYS = ("cpu", "gpu", "kserve", "podman", "ray")
# An older release that is still in use, and a new one.
VERSIONS = ("1.33", "1.36")
# Other projects' kinds, whose schemas no Kubernetes release has.
_FOREIGN = {"InferenceService"}
CHECKOV = "checkov==3.3.*"


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
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_into_what_kubernetes_takes(overlay, rendered):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = rendered(KUBERNETES / "overlays" / overlay)
    assert {"Deployment", "ConfigMap"} <= {one["kind"] for one in documents}
    for one in documents:
        if one["kind"] in _FOREIGN:
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
    for pod in _pods(documents):
        # Podman's volume is made beside the manifests.
        _check_pod(pod, _volumes(documents) | ({"gpen-models"} if overlay == "podman" else set()))


@pytest.fixture(scope="module")
def checkov(python_with: Callable[..., Path]) -> Path:
    """The policy checker."""
    return python_with(CHECKOV).with_name("checkov")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_policy_checker_finds_nothing_in_the_overlays_that_is_not_justified(checkov, tmp_path):
    for overlay in ("cpu", "gpu", "kserve", "ray"):
        rendered = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)])
        (tmp_path / f"{overlay}.yaml").write_bytes(rendered)
    _scan(checkov, tmp_path, "kubernetes")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_policy_checker_finds_nothing_in_the_dockerfiles_that_is_not_justified(checkov, tmp_path):
    shutil.copytree(DEPLOY / "docker", tmp_path / "docker")
    _scan(checkov, tmp_path, "dockerfile")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_policy_checker_finds_nothing_in_ray_s_pods_that_is_not_justified(checkov, tmp_path):
    yaml = pytest.importorskip("yaml")
    (tmp_path / "pods.yaml").write_text(yaml.safe_dump_all(_ray_pods()))
    shutil.copy(RAY_SERVICE.with_name("networkpolicy.yaml"), tmp_path)
    _scan(checkov, tmp_path, "kubernetes")


def _scan(checkov: Path, folder: Path, framework: str) -> None:
    command = [checkov, "--skip-download", "--compact", "--quiet", "--framework", framework, "-d", folder]
    # Its own packages and none of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed checks: 0" in done.stdout


def test_ray_s_pods_are_what_kubernetes_takes():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    pods = _ray_pods()
    assert len(pods) == 2
    for pod in pods:
        for version in VERSIONS:
            kubernetes_validate.validate(pod, version, strict=True)
        # The models are the overlays', and Ray's autoscaler asks Kubernetes for nodes.
        _check_pod(pod["spec"], {"gpen-models"}, asks_kubernetes=pod["metadata"]["name"] == "head")


def test_ray_s_policy_is_what_kubernetes_takes_and_opens_its_ports_to_its_operator_alone():
    """Who reaches whom besides, tests/deploy/test_rendered.py has."""
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


def test_the_container_that_kuberay_adds_is_one_that_the_namespace_takes():
    """Ray's autoscaler beside the head; it writes to /tmp, and its root is read-only."""
    cluster = _ray_service()["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    options = cluster["autoscalerOptions"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    beside = head | {"containers": [{"name": "autoscaler"} | options]}
    _check_pod(beside, {"gpen-models"}, asks_kubernetes=True)
    assert [mount["mountPath"] for mount in options["volumeMounts"]] == ["/tmp"]


def test_ray_s_pods_have_settings_that_are_valid_and_one_port_for_the_gateway(monkeypatch):
    """KubeRay's Service has the head's port named serve, which is the one that Ray Serve listens on."""
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
        # KubeRay's own probes are of a program that the image has not.
        assert {"httpGet"} < set(container["livenessProbe"]) & set(container["readinessProbe"])


def test_the_manifest_s_ray_is_one_that_the_extra_takes_and_the_one_that_the_image_gets():
    """The tests of tests/gpen_backend/ray install just that."""
    version = _ray_service()["spec"]["rayClusterConfig"]["rayVersion"]
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (extra,) = map(Requirement, project["optional-dependencies"]["ray"])
    assert extra.specifier.contains(version)
    assert f"ray=={version}" in (DEPLOY / "docker" / "constraints.txt").read_text().split()


def _ray_service() -> dict[str, Any]:
    return pytest.importorskip("yaml").safe_load(RAY_SERVICE.read_text())


def _ray_pods() -> list[dict[str, Any]]:
    """The templates that KubeRay makes pods of, as pods."""
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


def _check_pod(pod: dict, there: set[str], asks_kubernetes: bool = False) -> None:
    """It meets the restricted Pod Security Standard, and what it names is there."""
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
            assert source["configMapRef"]["name"] in there
        assert {mount["name"] for mount in container["volumeMounts"]} <= {
            one["name"] for one in pod["volumes"]
        }
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in there
        if "secret" in volume:
            assert volume["secret"]["secretName"] in there
