"""Speed and accuracy of the network, compared with the published formulas.

./run bench network [--size 512] [--batch 1,4] [--rounds 5] [--device cpu]

Each implementation runs in its own process: the baseline (tests/bench/published.py, eager, float32) in a
plain environment, ours with the server's allocator settings, on a thread as in the server. They take turns,
so that other load on the machine affects all of them; medians of the rounds after the first. On a busy
machine the ratio of CPU time is more reliable than that of wall-clock time.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {256: (256, 1, 0.5), 512: (512, 2, 1), 1024: (1024, 2, 1), 2048: (2048, 2, 1)}
KINDS = ("published", "float32", "auto")
# Utilisation up to which the queue of a backend stays short.
BUSY = 0.7
# Environment variables that must not influence the baseline.
_ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_")


class Worker:
    """One implementation in its own process, which reads batch sizes from stdin, one a line."""

    def __init__(self, kind: str, size: int, device: str, folder: Path) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_ALLOCATOR)}
        command = [sys.executable, __file__, "--work", kind, str(size), device, str(folder / f"{kind}.npy")]
        self._process = subprocess.Popen(
            command, env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.info = json.loads(self._read())

    def run(self, batch: int) -> tuple[float, float]:
        """Run a batch. Returns wall-clock and CPU milliseconds.

        Medians of the runs needed for four faces: the first finds CPU caches that other workers have filled.
        """
        assert self._process.stdin
        runs = []
        for _ in range(max(1, 4 // batch)):
            print(batch, file=self._process.stdin, flush=True)
            runs.append(json.loads(self._read()))
        walls, processors = zip(*runs, strict=True)
        return statistics.median(walls), statistics.median(processors)

    def peak_mb(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker process ended unexpectedly")
        return line


def work(kind: str, size: int, device: str, path: str) -> None:
    """Main function of a Worker's process."""
    if kind != "published":
        from gpen_common.allocator import keep_large_buffers

        keep_large_buffers()
    import torch
    from published import generate, seeded

    from gpen_backend.engines.torch import TorchEngine, choose_dtype
    from gpen_backend.network.generator import Generator

    with torch.device("meta"):
        shapes = Generator(*SHAPES[size]).state_dict()
    state = seeded(shapes)
    dtype_name = "float32"
    if kind == "published":
        state = {name: tensor.to(device) for name, tensor in state.items()}

        def run(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
                return generate(state, pixels).cpu().numpy()
    else:
        dtype = choose_dtype(kind, device)  # type: ignore[arg-type]
        dtype_name = str(dtype).removeprefix("torch.")
        generator = Generator(*SHAPES[size])
        generator.load_state_dict(state)
        engine = TorchEngine(generator.requires_grad_(False), device, dtype)
        run = engine.output
    with ThreadPoolExecutor(1) as thread:
        np.save(path, thread.submit(run, faces(size, 1)).result())
        print(json.dumps({"dtype": dtype_name}), flush=True)
        for line in sys.stdin:
            images = faces(size, int(line))
            start, busy = time.perf_counter(), time.process_time()
            thread.submit(run, images).result()
            took = time.perf_counter() - start, time.process_time() - busy
            print(json.dumps([seconds * 1000 for seconds in took]), flush=True)


def faces(size: int, batch: int) -> np.ndarray:
    """Smooth colours with some noise, (batch, size, size, 3) uint8."""
    rng = np.random.default_rng(size)
    coarse = rng.uniform(0, 255, (batch, 9, 9, 3)).astype(np.float32)
    import cv2

    smooth = np.stack([cv2.resize(part, (size, size), interpolation=cv2.INTER_CUBIC) for part in coarse])
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def measure(size: int, batches: list[int], rounds: int, device: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        workers = {kind: Worker(kind, size, device, Path(folder)) for kind in KINDS}
        outputs = {kind: np.load(Path(folder) / f"{kind}.npy") for kind in KINDS}
        results = []
        for batch in batches:
            times: dict[str, list[float]] = {kind: [] for kind in KINDS}
            busy: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for number in range(rounds + 1):
                for kind, worker in workers.items():
                    took, processors = worker.run(batch)
                    if number:
                        times[kind].append(took)
                        busy[kind].append(processors)
                    print(f"{size} px, batch {batch}, round {number}: {kind} {took:.0f} ms", file=sys.stderr)
            for kind in KINDS:
                ratios = [base / own for base, own in zip(times["published"], times[kind], strict=True)]
                results.append(
                    {
                        "size": size, "batch": batch, "kind": kind, "dtype": workers[kind].info["dtype"],
                        "ms": times[kind], "median_ms": statistics.median(times[kind]),
                        "cpu_ms": busy[kind],
                        "cpu_ratio": statistics.median(busy["published"]) / statistics.median(busy[kind]),
                        "ratio": statistics.median(ratios), "ratios": ratios,
                        "peak_mb": workers[kind].peak_mb(), **error(outputs["published"], outputs[kind]),
                    }
                )  # fmt: skip
        for worker in workers.values():
            worker.close()
    return results


def error(expected: np.ndarray, output: np.ndarray) -> dict[str, float]:
    """Errors of the output in [-1, 1] and of the picture in 8-bit levels."""
    difference = np.abs(expected - output)
    levels = np.abs(pixels(expected) - pixels(output))
    return {
        "max_error": float(difference.max()), "mean_error": float(difference.mean()),
        "max_levels": float(levels.max()), "mean_levels": float(levels.mean()),
        "psnr_db": float(10 * np.log10(255**2 / max(1e-9, np.square(levels).mean()))),
        "output_std": float(expected.std()),
    }  # fmt: skip


def pixels(output: np.ndarray) -> np.ndarray:
    return np.rint((output + 1) * 127.5).clip(0, 255)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="256,512")
    parser.add_argument("--batch", default="1,4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()

    from results import hardware, keep

    machine = hardware()
    batches = [int(batch) for batch in options.batch.split(",")]
    results = []
    for size in map(int, options.size.split(",")):
        results += measure(size, batches, options.rounds, options.device)
    names = {"published": "published formulas", "float32": "ours", "auto": "ours"}
    table = [["network", "px", "batch", "ms", "faces/s", "times faster", "less CPU time", "peak MB", "error, largest (mean)", "levels of 255"]]  # fmt: skip  # noqa: E501
    for row in results:
        table.append(
            [
                f"{names[row['kind']]}, {row['dtype']}", row["size"], row["batch"], f"{row['median_ms']:.0f}",
                f"{row['batch'] * 1000 / row['median_ms']:.2f}", f"{row['ratio']:.1f}",
                f"{row['cpu_ratio']:.1f}", row["peak_mb"],
                f"{row['max_error']:.1e} ({row['mean_error']:.1e})",
                f"{row['max_levels']:.0f} ({row['mean_levels']:.2f})",
            ]
        )  # fmt: skip
    keep("network", {"results": results}, table, machine)
    keep("capacity", {}, capacity(results, machine), machine, page="deployment.md")


def capacity(results: list[dict[str, Any]], machine: dict[str, Any]) -> list[list[object]]:
    """Table of the faces a minute of one backend, and the backends needed for one face a second."""
    table: list[list[object]] = [
        [
            "one backend of",
            "px",
            "`t`, s a face",
            f"faces a minute at u = {BUSY}",
            "backends for 1 face a second",
        ]
    ]
    for row in results:
        # The smallest batch: the fastest per face on a CPU, the slowest on a GPU.
        if row["kind"] != "published" and row["batch"] == min(one["batch"] for one in results):
            seconds = row["median_ms"] / 1000 / row["batch"]
            on = machine.get("gpu") or f"{machine['cores']} cores"
            table.append(
                [f"{on}, {row['dtype']}", row["size"], f"{seconds:.2f}", f"{60 * BUSY / seconds:.0f}",
                 math.ceil(seconds / BUSY)]
            )  # fmt: skip
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        kind, size, device, path = sys.argv[2:]
        work(kind, int(size), device, path)
    else:
        main()
