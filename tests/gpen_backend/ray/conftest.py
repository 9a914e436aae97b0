"""A Ray cluster for these tests, started and deployed to with the commands of docs/deployment.md."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy" / "ray"
# Ray does not check whether they exist.
CPUS, GPUS = 8, 1


@pytest.fixture(scope="session")
def python_with_ray(python_with: Callable[..., Path]) -> Path:
    """An interpreter with the manifest's Ray and the tests' other packages."""
    version = re.search(r'rayVersion: "(.+)"', (DEPLOY / "rayservice.yaml").read_text())[1]
    return python_with(f"ray[serve]=={version}", ours=True)


@dataclass
class Cluster:
    """A Ray cluster and its deployment."""

    python: Path
    folder: Path
    haproxy: bool
    ports: dict[str, int]
    process: psutil.Process | None = None
    deployed: dict[str, Any] | None = None
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = self._environment()

    @property
    def url(self) -> str:
        """The backend's URL."""
        return f"http://127.0.0.1:{self.ports['serve']}"

    def deploy(self, env: dict[str, str] | None = None, running: int | None = None, **args: float) -> None:
        """Deploy deploy/ray/serve.yaml with other `args` and settings, and wait for its replicas.

        running: number of replicas to wait for; min_replicas if None. A different deployment is replaced.
        """
        config = yaml.safe_load((DEPLOY / "serve.yaml").read_text())
        config["http_options"] = {"host": "127.0.0.1", "port": self.ports["serve"]}
        (application,) = config["applications"]
        application["args"] |= {"num_cpus": 0.5, **args}
        application["runtime_env"]["env_vars"] |= {
            "GPEN_BACKEND_ENGINE": "classical",
            "GPEN_MODELS_DIR": str(self.folder),
            **(env or {}),
        }
        if config != self.deployed:
            httpx.delete(self._api("serve/applications/"), timeout=120)
            path = self.folder / "serve.yaml"
            path.write_text(yaml.safe_dump(config))
            address = f"http://127.0.0.1:{self.ports['dashboard']}"
            self._command("serve", "deploy", str(path), "--address", address)
            self.deployed = config
        expected = application["args"]["min_replicas"] if running is None else running
        self.until(lambda: len(self.replicas()) == expected and (not expected or self._answers()), 60)

    def replicas(self) -> set[int]:
        """Return the process ids of running replicas."""
        return {one["pid"] for one in self.all_replicas() if one["state"] == "RUNNING"}

    def all_replicas(self) -> list[dict[str, Any]]:
        """Return Ray's description of each replica, including those that wait for resources."""
        state = httpx.get(self._api("serve/applications/"), timeout=30).json()
        return state["applications"]["gpen"]["deployments"].get("gpen-backend", {}).get("replicas", [])

    def processes(self) -> list[psutil.Process]:
        """Return all processes of this cluster."""
        if self.process is None:
            return []
        return [self.process, *self.process.children(recursive=True)]

    def stored_bytes(self) -> int:
        """Return the bytes ever written to Ray's object store, up to a second ago."""
        (log,) = self.folder.glob("session_2*/logs/raylet.out")
        totals = re.findall(r"num bytes created total: (\d+)", log.read_text(errors="replace"))
        return int(totals[-1])

    def until(self, condition: Callable[[], bool], most_s: float) -> None:
        """Wait until `condition` holds; fail with Ray's state and logs after `most_s` seconds."""
        deadline = time.monotonic() + most_s
        while not self._holds(condition):
            if time.monotonic() > deadline:
                pytest.fail(self._state() + self._logs())
            time.sleep(0.2)

    def start(self) -> None:
        """Run `ray start` in the foreground."""
        command = [self.python.with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"]
        options = {
            "port": 0,
            "dashboard-port": self.ports["dashboard"],
            "dashboard-agent-listen-port": 0,
            "ray-client-server-port": self.ports["client"],
            "node-ip-address": "127.0.0.1",
            "num-cpus": CPUS,
            "num-gpus": GPUS,
            "object-store-memory": 200_000_000,
            "temp-dir": self.folder,
        }
        with (self.folder / "log").open("w") as log:
            self.process = psutil.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        self.until(lambda: httpx.get(self._api("version")).is_success, 60)

    def stop(self) -> None:
        """End the processes of this cluster only."""
        ending = self.processes()
        for process in ending:
            process.kill()
        psutil.wait_procs(ending, timeout=20)

    def _environment(self) -> dict[str, str]:
        ours = ("GATEWAY_", "GPEN_", "PYTHON", "RAY_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        haproxy = self.folder / "haproxy"
        return inherited | {
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "disabled",
            "RAY_event_stats_print_interval_ms": "1000",
            "RAY_SERVE_ENABLE_HA_PROXY": str(int(self.haproxy)),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.ports["metrics"]),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.ports["stats"]),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self.ports["fallback"]),
            # Shorter than the default tens of seconds.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        }

    def _command(self, name: str, *arguments: str) -> None:
        command = [self.python.with_name(name), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _api(self, path: str) -> str:
        return f"http://127.0.0.1:{self.ports['dashboard']}/api/{path}"

    def _state(self) -> str:
        """Return Ray's own description of its state."""
        try:
            return httpx.get(self._api("serve/applications/")).text
        except httpx.HTTPError as error:
            return f"Ray does not answer: {error!r}\n"

    def _answers(self) -> bool:
        return httpx.get(f"{self.url}/v2/health/ready").is_success

    def _holds(self, condition: Callable[[], bool]) -> bool:
        assert self.process is not None
        # psutil counts a zombie as running.
        assert self.process.poll() is None, self._logs()
        try:
            return condition()
        except (httpx.HTTPError, json.JSONDecodeError, KeyError):
            return False

    def _logs(self) -> str:
        paths = [self.folder / "log", *self.folder.glob("session_2*/logs/serve/*.log")]
        return "".join(f"\n{path}\n{path.read_text(errors='replace')[-2000:]}" for path in paths)


@pytest.fixture(scope="session", params=[False, True], ids=["ray-proxy", "haproxy"])
def cluster(
    request: pytest.FixtureRequest, python_with_ray: Path, free_ports: Callable[[int], list[int]]
) -> Iterator[Cluster]:
    """A Ray cluster with its own proxy, and one with HAProxy."""
    names = ("serve", "dashboard", "client", "metrics", "stats", "fallback")
    # Names of sockets are limited in length; pytest's folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = Cluster(
        python_with_ray, folder, request.param, dict(zip(names, free_ports(len(names)), strict=True))
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_replicas(cluster: Cluster) -> Cluster:
    """A cluster with two replicas, each with room for four requests."""
    cluster.deploy(min_replicas=2, max_replicas=2, env={"GPEN_BACKEND_MAX_QUEUE": "4"})
    return cluster
