"""Describes the machine of a bench, and writes its results to JSON and to the docs."""

import json
import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def hardware() -> dict[str, Any]:
    """Describe the machine: processor, memory, load, versions, GPU."""
    import torch

    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": [round(load, 1) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return machine


def keep(
    name: str,
    results: dict[str, Any],
    table: Sequence[Sequence[object]],
    machine: dict[str, Any],
    page: str = "performance.md",
) -> None:
    """Write out/bench/NAME.json, print the table, and replace the one between NAME's marks in a page of docs.

    table: rows of cells; the first row is the head.
    """
    folder = ROOT / "out" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"hardware": machine, **results}, indent=1) + "\n")
    text = markdown(table) + "\n" + caption(machine)
    print(text)
    path = ROOT / "docs" / page
    marked = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    path.write_text(marked.sub(lambda match: f"{match[1]}{text}{match[2]}", path.read_text()))


def markdown(table: Sequence[Sequence[object]]) -> str:
    head, *rows = ([str(cell) for cell in row] for row in table)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def caption(machine: dict[str, Any]) -> str:
    device = machine.get("gpu") or f"{machine['cores']} cores of {machine['cpu']}"
    return (
        f"Measured {machine['date']} on {device}, torch {machine['torch']}, "
        f"load {machine['load'][0]} at the start.\n"
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()
