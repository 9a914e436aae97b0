"""Rendered overlays are consistent: network access, selectors, sizes and references to the docs."""

import re
import shutil
from pathlib import Path

import pytest

from gateway.faces.weights import YUNET
from gateway.service.admission import SPARE_UPLOADS
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
# The podman overlay has no policies and no Services.
OVERLAYS = ("cpu", "gpu", "kserve", "ray")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@pytest.fixture(params=OVERLAYS)
def overlay(request) -> str:
    return request.param


@pytest.fixture
def whole(cluster, overlay):
    return cluster(overlay)


def backends(whole) -> list:
    """The backend pods, including Ray's head."""
    return [pod for name, pod in whole.pods.items() if name.startswith("gpen-backend")]


def size(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", quantity).groups()
    return int(number) * _UNITS[unit]


def test_each_network_policy_selects_only_its_own_pods(whole):
    own = {"gpen-gateway", "gpen-models"}
    expected = {name: {name} for name in own}
    ray = {name for name in whole.pods if name.startswith("gpen-backend-")}
    expected |= {"gpen-ray": ray} if ray else {"gpen-backend": {"gpen-backend"}}
    policies = whole.of_kind("NetworkPolicy")
    assert {
        one["metadata"]["name"]: whole.selected(one["spec"]["podSelector"]) for one in policies
    } == expected
    assert set.union(*expected.values()) == set(whole.pods)


def test_gateways_reach_only_dns_and_backends(whole, other_pod):
    gateway = whole.pods["gpen-gateway"]
    dns = other_pod("kube-system", {"k8s-app": "kube-dns"})
    assert all(whole.allows(gateway, dns, 53, protocol) for protocol in ("UDP", "TCP"))
    assert not whole.allows(gateway, dns, 443)
    assert not whole.allows(gateway, other_pod("other", {"k8s-app": "kube-dns"}), 53)
    for backend in backends(whole):
        assert whole.allows(gateway, backend, 8001)
        assert not whole.allows(gateway, backend, 8265)
    assert not whole.allows(gateway, other_pod("gpen"), 8001)
    assert not whole.allows(gateway, "203.0.113.7", 443)


def test_backends_are_reached_only_by_gateways_and_scrapers(whole, other_pod, overlay):
    scraped = 8080 if overlay == "ray" else 8001
    ingress = other_pod("ingress", namespace_labels={"gpen.io/may-call-gateway": "true"})
    prometheus = other_pod("monitoring", namespace_labels={"gpen.io/may-scrape": "true"})
    ours = other_pod("gpen", {"app.kubernetes.io/part-of": "gpen-gateway"})
    for backend in backends(whole):
        assert whole.allows(whole.pods["gpen-gateway"], backend, 8001)
        assert whole.allows(prometheus, backend, scraped)
        for one in (
            ingress,
            ours,
            other_pod("gpen"),
            other_pod("other"),
            whole.pods["gpen-models"],
            "203.0.113.7",
        ):
            assert not whole.allows(one, backend, 8001)
            assert not whole.allows(one, backend, scraped)


def test_gateways_are_reached_only_from_labelled_namespaces_and_pods(whole, other_pod):
    gateway, labelled = whole.pods["gpen-gateway"], {"gpen.io/may-call-gateway": "true"}
    assert whole.allows(other_pod("ingress", namespace_labels=labelled), gateway, 8000)
    assert whole.allows(other_pod("gpen", labelled), gateway, 8000)
    for one in (other_pod("gpen"), other_pod("other", labelled), *backends(whole), "203.0.113.7"):
        assert not whole.allows(one, gateway, 8000)


def test_the_job_reaches_public_addresses_and_is_unreachable(whole, other_pod):
    job = whole.pods["gpen-models"]
    assert whole.allows(job, "203.0.113.7", 443)
    assert whole.allows(job, other_pod("kube-system", {"k8s-app": "kube-dns"}), 53, "UDP")
    # A private mirror needs an additional rule.
    assert not whole.allows(job, "10.1.2.3", 443)
    assert not whole.allows(other_pod("gpen"), job, 443)


def test_backends_without_ray_have_no_egress(cluster, other_pod):
    for overlay in ("cpu", "gpu", "kserve"):
        whole = cluster(overlay)
        (backend,) = backends(whole)
        dns = other_pod("kube-system", {"k8s-app": "kube-dns"})
        assert not whole.allows(backend, dns, 53, "UDP")
        assert not whole.allows(backend, "203.0.113.7", 443)


def test_selectors_match_only_their_own_pods(whole):
    deployments = {one["metadata"]["name"]: one["spec"] for one in whole.of_kind("Deployment")}
    assert deployments
    for name, spec in deployments.items():
        assert whole.selected(spec["selector"]) == {name}
        spreads = spec["template"]["spec"]["topologySpreadConstraints"]
        assert len(spreads) == 2
        assert all(whole.selected(one["labelSelector"]) == {name} for one in spreads)
    for kind in ("Service", "PodDisruptionBudget"):
        assert {one["metadata"]["name"] for one in whole.of_kind(kind)} == set(deployments)
    for budget in whole.of_kind("PodDisruptionBudget"):
        assert whole.selected(budget["spec"]["selector"]) == {budget["metadata"]["name"]}
    for service in whole.of_kind("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        assert whole.selected({"matchLabels": spec["selector"]}) == {name}
        assert all(whole.pods[name].port(port["targetPort"]) for port in spec["ports"])


def test_autoscalers_scale_every_deployment_to_at_least_two_pods(whole):
    """A rollout of the gpu overlay stops one pod first: with one pod that is an outage."""
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in whole.of_kind("HorizontalPodAutoscaler")
    }
    assert set(scaled) == {one["metadata"]["name"] for one in whole.of_kind("Deployment")}
    assert all(spec["minReplicas"] >= 2 for spec in scaled.values())


def test_the_gateway_s_memory_limit_holds_all_admitted_requests(whole, monkeypatch):
    for name, value in whole.config("gateway-settings").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    limits = settings.limits
    bodies = (limits.workers + limits.queue + SPARE_UPLOADS) * limits.max_body_bytes
    pictures = limits.workers * limits.max_pixels * 3
    process = 300_000_000
    needed = bodies + pictures + settings.cache.cache_memory_bytes + process
    (container,) = whole.pods["gpen-gateway"].spec["containers"]
    assert needed <= size(container["resources"]["limits"]["memory"])


def test_tmp_holds_several_of_the_largest_batches(whole):
    largest = int(whole.config("gateway-settings")["GATEWAY_BATCH_MAX_BYTES"])
    (tmp,) = (one for one in whole.pods["gpen-gateway"].spec["volumes"] if one["name"] == "tmp")
    assert size(tmp["emptyDir"]["sizeLimit"]) >= 10 * largest
    yaml = pytest.importorskip("yaml")
    gateway = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text())["services"]["gateway"]
    assert gateway["tmpfs"] == ["/tmp:size=2g,mode=1777"]
    assert 4 * int(gateway["environment"]["GATEWAY_BATCH_MAX_BYTES"]) <= 2**31


def test_the_job_downloads_the_finder_that_gateways_require_first(whole):
    assert whole.config("gateway-settings")["GATEWAY_FACE_FINDER"] == "yunet"
    first, *_ = whole.pods["gpen-models"].spec["initContainers"]
    assert "YUNET.fetch" in first["command"][-1]
    mounted = {one["name"]: one["mountPath"] for one in first["volumeMounts"]}
    assert f'Path("{mounted["models"]}")' in first["command"][-1]
    assert whole.config("gateway-settings")["GPEN_MODELS_DIR"] == mounted["models"]
    assert YUNET.name in (ROOT / "docs" / "deployment.md").read_text()


def test_podman_s_gateway_requires_no_finder_from_a_job(cluster):
    assert cluster("podman").config("gateway-settings")["GATEWAY_FACE_FINDER"] == "auto"


@pytest.mark.parametrize("overlay", ["gpu", "ray"], indirect=True)
def test_no_container_with_a_gpu_falls_back_to_the_cpu(whole):
    with_gpu = [
        container
        for pod in whole.pods.values()
        for container in pod.spec["containers"]
        if "nvidia.com/gpu" in container["resources"]["limits"]
    ]
    assert with_gpu
    for container in with_gpu:
        assert {"name": "GPEN_BACKEND_DEVICE", "value": "cuda"} in container["env"]


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "kserve"], indirect=True)
def test_backends_verify_their_checkpoint_before_they_start(whole):
    (backend,) = backends(whole)
    (verify,), (serving,) = backend.spec["initContainers"], backend.spec["containers"]
    assert verify["command"][-1] == 'exec gpen-gateway models verify "$GPEN_BACKEND_DEFAULT_MODEL"'
    assert verify["image"] == serving["image"]
    assert verify["volumeMounts"] == serving["volumeMounts"]


def test_gateway_backend_and_job_use_the_same_model(whole):
    """docs/deployment.md lists the three names that must change together."""
    gateway = whole.config("gateway-settings").get("GATEWAY_DEFAULT_MODEL", "gpen-bfr-512")
    verify = whole.pods["gpen-models"].spec["containers"][0]
    assert {one["name"]: one["value"] for one in verify["env"]}["MODEL"] == gateway
    for pod in backends(whole):
        env = {one["name"]: one["value"] for one in pod.spec["containers"][0].get("env", ())}
        if "envFrom" in pod.spec["containers"][0]:
            env |= whole.config("backend-settings")
        assert env["GPEN_BACKEND_DEFAULT_MODEL"] == gateway


def test_the_gateway_calls_an_existing_service(whole, overlay):
    url = whole.config("gateway-settings")["GATEWAY_BACKEND_URL"]
    assert url == {
        "kserve": "http://gpen-backend-predictor.gpen.svc.cluster.local",
        "ray": "http://gpen-backend-serve-svc:8001",
    }.get(overlay, "http://gpen-backend:8001")
    if overlay in ("cpu", "gpu"):
        services = {one["metadata"]["name"]: one["spec"]["ports"] for one in whole.of_kind("Service")}
        assert [port["port"] for port in services["gpen-backend"]] == [8001]


def test_overlays_do_not_need_the_prometheus_operator(whole):
    assert not [one for one in whole.manifests if one["apiVersion"].startswith("monitoring.coreos.com/")]


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "kserve"])
def test_uncommenting_the_lines_adds_monitors_for_every_pod(overlay, rendered, cluster, tmp_path):
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    kustomization = tmp_path / "kubernetes" / "overlays" / overlay / "kustomization.yaml"
    text, lines = kustomization.read_text(), "# components:\n#   - ../../components/monitoring\n"
    assert lines in text
    kustomization.write_text(text.replace(lines, lines.replace("# ", "", 1).replace("#   ", "  ")))
    manifests = rendered(kustomization.parent)
    monitors = {one["metadata"]["name"]: one for one in manifests if one["kind"].endswith("Monitor")}
    assert set(monitors) == {"gpen-gateway", "gpen-backend"}
    assert [one["kind"] for one in manifests].count("PrometheusRule") == 1
    whole = cluster(overlay)
    (service,) = (one for one in whole.of_kind("Service") if one["metadata"]["name"] == "gpen-gateway")
    selector = monitors["gpen-gateway"]["spec"]["selector"]["matchLabels"].items()
    assert selector <= service["metadata"]["labels"].items()
    assert whole.selected(monitors["gpen-backend"]["spec"]["selector"]) == {"gpen-backend"}
    ports = {one["port"] for one in monitors["gpen-backend"]["spec"]["podMetricsEndpoints"]}
    (container,) = whole.pods["gpen-backend"].spec["containers"]
    assert len(ports & {port["name"] for port in container["ports"]}) == 1
    # Alerts and dashboard use these job names.
    for name, monitor in monitors.items():
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
        assert whole.pods[name].labels["app.kubernetes.io/name"] == name


def test_the_docs_build_every_image_of_the_manifests(whole):
    docs = (ROOT / "docs" / "deployment.md").read_text()
    images = {
        container["image"]
        for pod in whole.pods.values()
        for container in [*pod.spec["containers"], *pod.spec.get("initContainers", ())]
    }
    assert len(images) >= 2
    assert all(re.search(rf"-t {re.escape(image)}\s", docs) for image in images)


def test_the_documented_policy_allows_traces_from_every_server(whole, other_pod):
    yaml = pytest.importorskip("yaml")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    (text,) = re.findall(
        r"```yaml\n(apiVersion: networking.*?)```",
        (ROOT / "docs" / "observability.md").read_text(),
        re.DOTALL,
    )
    policy = yaml.safe_load(text)
    kubernetes_validate.validate(policy, "1.33", strict=True)
    collector = other_pod("observability")
    dns = other_pod("kube-system", {"k8s-app": "kube-dns"})
    servers = [whole.pods["gpen-gateway"], *backends(whole)]
    before = [whole.allows(one, collector, 4318) for one in servers]
    whole.manifests.append(policy)
    for one in servers:
        assert whole.allows(one, collector, 4318)
        assert whole.allows(one, dns, 53, "UDP")
        # Existing access is kept.
        assert one is servers[0] or whole.allows(servers[0], one, 8001)
    assert before[0] is False


def test_the_documented_scrape_jobs_are_those_of_the_alerts():
    yaml = pytest.importorskip("yaml")
    (text,) = re.findall(
        r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs" / "observability.md").read_text(), re.DOTALL
    )
    jobs = {one["job_name"] for one in yaml.safe_load(text)["scrape_configs"]}
    alerts = (ROOT / "deploy" / "observability" / "alerts.yml").read_text()
    assert jobs == set(re.findall(r'job="([\w-]+)"', alerts))
