"""What the overlays render into, and who reaches whom in the cluster that it makes."""

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
    """Whether a label selector of Kubernetes, of `matchLabels` alone, selects what is labelled so."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@dataclass(frozen=True)
class Pod:
    """A pod, of a manifest or made up. ports: numbers by name. inside: the labels of its namespace."""

    name: str
    labels: dict[str, str]
    spec: Manifest = field(default_factory=dict)
    namespace: str = "gpen"
    inside: dict[str, str] = field(default_factory=dict)

    def port(self, port: int | str) -> int:
        """The number of a port that a policy or a Service names."""
        named = {one.get("name"): one["containerPort"] for one in self.spec["containers"][0]["ports"]}
        return port if isinstance(port, int) else named[port]

    @property
    def space(self) -> dict[str, str]:
        """Its namespace's labels; Kubernetes itself sets the name."""
        return self.inside | {"kubernetes.io/metadata.name": self.namespace}


Peer = Pod | str
"""A pod, or the address of somebody outside."""


@dataclass
class Cluster:
    """Manifests as a cluster has them."""

    manifests: list[Manifest]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] in kinds]

    def config(self, name: str) -> dict[str, str]:
        """The data of the ConfigMap `name`, which kustomize gives a hash for an ending."""
        (found,) = (
            one for one in self.of_kind("ConfigMap") if one["metadata"]["name"].startswith(f"{name}-")
        )
        return found["data"]

    @property
    def pods(self) -> dict[str, Pod]:
        """One of each workload, under its name."""
        return {pod.name: pod for one in self.manifests for pod in _pods_of(one)}

    def selected(self, selector: Manifest) -> set[str]:
        """The names of the workloads whose pods are selected."""
        return {name for name, pod in self.pods.items() if selects(selector, pod.labels)}

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether the network policies let `source` connect to a port of `target`."""
        return self._lets(source, target, "egress", target, port, protocol) and self._lets(
            target, source, "ingress", target, port, protocol
        )

    def _lets(self, own: Peer, other: Peer, way: str, target: Peer, port: int, protocol: str) -> bool:
        if isinstance(own, str):
            return True
        policies = [
            one["spec"]
            for one in self.of_kind("NetworkPolicy")
            if one["metadata"]["namespace"] == own.namespace
            and selects(one["spec"]["podSelector"], own.labels)
            and way.title() in one["spec"]["policyTypes"]
        ]
        # A pod that no policy selects is open.
        return not policies or any(
            _is_peer(own.namespace, rule.get("to" if way == "egress" else "from"), other)
            and _is_port(rule.get("ports"), target, port, protocol)
            for policy in policies
            for rule in policy.get(way, ())
        )


def _is_peer(namespace: str, peers: list[Manifest] | None, other: Peer) -> bool:
    return peers is None or any(_is_one(namespace, peer, other) for peer in peers)


def _is_one(namespace: str, peer: Manifest, other: Peer) -> bool:
    if isinstance(other, str) or "ipBlock" in peer:
        return isinstance(other, str) and "ipBlock" in peer and _is_in(peer["ipBlock"], other)
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], other.space):
            return False
    elif other.namespace != namespace:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def _is_in(block: Manifest, address: str) -> bool:
    networks = map(ipaddress.ip_network, block.get("except", ()))
    asked = ipaddress.ip_address(address)
    return asked in ipaddress.ip_network(block["cidr"]) and not any(asked in network for network in networks)


def _is_port(ports: list[Manifest] | None, target: Peer, port: int, protocol: str) -> bool:
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
    """What kustomize makes of a folder."""
    yaml = pytest.importorskip("yaml")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    return lambda folder: list(yaml.safe_load_all(_rendered(folder)))


@pytest.fixture(scope="session")
def cluster(rendered: Callable[[Path], list[Manifest]]) -> Callable[[str], Cluster]:
    """`cluster(overlay)`: what docs/deployment.md has applied for it; with `ray`, the RayService too."""
    yaml = pytest.importorskip("yaml")

    def made(overlay: str) -> Cluster:
        manifests = rendered(DEPLOY / "kubernetes" / "overlays" / overlay)
        if overlay == "ray":
            for name in ("networkpolicy.yaml", "rayservice.yaml"):
                manifests.append(yaml.safe_load((DEPLOY / "ray" / name).read_text()))
        return Cluster(manifests)

    return made


@pytest.fixture
def somebody() -> Callable[..., Pod]:
    """`somebody(namespace, inside={}, **labels)`: a pod of others."""

    def made(
        namespace: str, labels: dict[str, str] | None = None, inside: dict[str, str] | None = None
    ) -> Pod:
        return Pod("somebody", labels or {}, {}, namespace, inside or {})

    return made
