"""Rendered overlays as a cluster, and the network connections that its policies allow."""

import ipaddress
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

Manifest = dict[str, Any]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a Kubernetes label selector (`matchLabels` only) selects `labels`."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@dataclass(frozen=True)
class Pod:
    """A pod of a manifest, or an invented one. namespace_labels: the labels of its namespace."""

    name: str
    labels: dict[str, str]
    spec: Manifest = field(default_factory=dict)
    namespace: str = "gpen"
    namespace_labels: dict[str, str] = field(default_factory=dict)

    def port(self, port: int | str) -> int:
        """The number of a port that a policy or a Service gives by number or name."""
        named = {one.get("name"): one["containerPort"] for one in self.spec["containers"][0]["ports"]}
        return port if isinstance(port, int) else named[port]

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """The labels of its namespace, with the name label that Kubernetes sets."""
        return self.namespace_labels | {"kubernetes.io/metadata.name": self.namespace}


Peer = Pod | str
"""A pod, or an address outside the cluster."""


@dataclass
class Cluster:
    """The manifests of a cluster."""

    manifests: list[Manifest]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] in kinds]

    def config(self, name: str) -> dict[str, str]:
        """The data of the ConfigMap `name`, to which kustomize appends a hash."""
        (found,) = (
            one for one in self.of_kind("ConfigMap") if one["metadata"]["name"].startswith(f"{name}-")
        )
        return found["data"]

    @property
    def pods(self) -> dict[str, Pod]:
        """One pod of each workload, by the workload's name."""
        return {pod.name: pod for one in self.manifests for pod in _pods_of(one)}

    def selected(self, selector: Manifest) -> set[str]:
        """The names of the workloads whose pods match `selector`."""
        return {name for name, pod in self.pods.items() if selects(selector, pod.labels)}

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether the network policies allow `source` to connect to a port of `target`."""
        return self._permits(source, target, "egress", target, port, protocol) and self._permits(
            target, source, "ingress", target, port, protocol
        )

    def _permits(
        self, own: Peer, other: Peer, direction: str, target: Peer, port: int, protocol: str
    ) -> bool:
        if isinstance(own, str):
            return True
        policies = [
            one["spec"]
            for one in self.of_kind("NetworkPolicy")
            if one["metadata"]["namespace"] == own.namespace
            and selects(one["spec"]["podSelector"], own.labels)
            and direction.title() in one["spec"]["policyTypes"]
        ]
        # Without a policy that selects the pod everything is allowed.
        return not policies or any(
            _matches_any_peer(own.namespace, rule.get("to" if direction == "egress" else "from"), other)
            and _matches_port(rule.get("ports"), target, port, protocol)
            for policy in policies
            for rule in policy.get(direction, ())
        )


def _matches_any_peer(namespace: str, peers: list[Manifest] | None, other: Peer) -> bool:
    return peers is None or any(_matches_peer(namespace, peer, other) for peer in peers)


def _matches_peer(namespace: str, peer: Manifest, other: Peer) -> bool:
    if isinstance(other, str) or "ipBlock" in peer:
        return isinstance(other, str) and "ipBlock" in peer and _block_contains(peer["ipBlock"], other)
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], other.all_namespace_labels):
            return False
    elif other.namespace != namespace:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def _block_contains(block: Manifest, address: str) -> bool:
    networks = map(ipaddress.ip_network, block.get("except", ()))
    ip = ipaddress.ip_address(address)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(ip in network for network in networks)


def _matches_port(ports: list[Manifest] | None, target: Peer, port: int, protocol: str) -> bool:
    return ports is None or any(
        one.get("protocol", "TCP") == protocol
        and (one["port"] if isinstance(target, str) or not target.spec else target.port(one["port"])) == port
        for one in ports
    )


def _pods_of(manifest: Manifest) -> Iterator[Pod]:
    name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
    match manifest["kind"]:
        case "Deployment" | "Job":
            template = spec["template"]
            yield Pod(name, template["metadata"]["labels"], template["spec"])
        case "InferenceService":
            yield Pod(name, spec["predictor"]["labels"], spec["predictor"])
        case "RayService":
            cluster = spec["rayClusterConfig"]
            groups = {"head": cluster["headGroupSpec"]} | {
                group["groupName"]: group for group in cluster["workerGroupSpecs"]
            }
            for group, has in groups.items():
                yield Pod(f"{name}-{group}", has["template"]["metadata"]["labels"], has["template"]["spec"])


@cache
def _rendered(folder: Path) -> str:
    return subprocess.check_output(["kubectl", "kustomize", str(folder)], text=True)


@pytest.fixture(scope="session")
def rendered() -> Callable[[Path], list[Manifest]]:
    """`rendered(folder)`: the manifests that kustomize renders from a folder."""
    yaml = pytest.importorskip("yaml")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    return lambda folder: list(yaml.safe_load_all(_rendered(folder)))


@pytest.fixture(scope="session")
def cluster(rendered: Callable[[Path], list[Manifest]]) -> Callable[[str], Cluster]:
    """`cluster(overlay)`: everything that docs/deployment.md applies for it; for `ray` the RayService too."""
    yaml = pytest.importorskip("yaml")

    def load(overlay: str) -> Cluster:
        manifests = rendered(DEPLOY / "kubernetes" / "overlays" / overlay)
        if overlay == "ray":
            for name in ("networkpolicy.yaml", "rayservice.yaml"):
                manifests.append(yaml.safe_load((DEPLOY / "ray" / name).read_text()))
        return Cluster(manifests)

    return load


@pytest.fixture
def other_pod() -> Callable[..., Pod]:
    """`other_pod(namespace, labels, namespace_labels)`: a pod that is not in our manifests."""

    def make(
        namespace: str, labels: dict[str, str] | None = None, namespace_labels: dict[str, str] | None = None
    ) -> Pod:
        return Pod("other", labels or {}, {}, namespace, namespace_labels or {})

    return make
